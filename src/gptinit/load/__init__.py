"""From a MODEL argument to a `Factory`, which can build the model any number of times.

argument.py          which of these a MODEL argument is
factory.py           what they all give: how to build the model, and what its configuration says
python_file.py       path/model.py:NAME or package.module:NAME: finds what builds the model in it
loaded.py            a file or module, loaded, and a function that is named of one
surroundings.py      where a file runs: its folders importable, the caller's modules as they were
script.py            a training script, of which only what it defines runs
missing.py           the modules that a file imports and this machine lacks
stand_ins.py         imports inert stand-ins for them
stand_in.py          such a stand-in: anything, without a value
configured.py        a class or function, with some of its settings replaced
configuration.py     the configuration that it takes, whether a class, an object or a dict
signature.py         the parameters of a call, and what its source reads of them
huggingface.py       a config.json, as transformers builds it, never with a download
settings.py          values as a person types them, sizes under the names that others give them
initialiser.py       a method or function that could draw a model's weights, and how it is run
candidates.py        which ones a model's code has, by their names and by what they call
init_trial.py        one of them, run under the trace to see what it writes
unvalued.py          the arguments of an init that nothing gives, which stand-ins stand for
forward_function.py  the user's way to call a model
init_choice.py       which of them its trainer runs: those that the constructor ran are recorded
isolation.py         runs other people's code: state restored, errors in one line
meta_build.py        the same factory, built on meta as sharded trainers do

This is the only package that knows other people's words: what leaves it speaks of n_layer, n_head
and n_embd, and every error of their code leaves it as a SubjectError.
"""
