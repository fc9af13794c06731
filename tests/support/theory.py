"""Theory of the built-in GPT, straight from a shape and a scheme."""

from gptinit.config import GPTConfig, RunConfig
from gptinit.facts.presets import model_facts
from gptinit.facts.schemes import Scheme
from gptinit.results.gpt_program import gpt_program
from gptinit.results.profile import Note, Profile
from gptinit.theory import TheoryModel, model_of_program, predicted_profile
from gptinit.tokens import tokens_of_run


def read_theory(config: GPTConfig, scheme: Scheme) -> TheoryModel | Note:
    """What theory knows of the built-in GPT under a scheme, or why it has no formula."""
    return model_of_program(
        model_facts(config, name="gpt", source="test"), gpt_program(config, scheme)
    )


def theory_model(config: GPTConfig, scheme: Scheme) -> TheoryModel:
    """What theory knows of the built-in GPT under a scheme."""
    found = read_theory(config, scheme)
    assert isinstance(found, TheoryModel)
    return found


def theory_profile(config: GPTConfig, scheme: Scheme, run: RunConfig) -> Profile:
    """The profile of the built-in GPT by theory alone."""
    tokens, run = tokens_of_run(
        run, None, vocab_size=config.vocab_size, block_size=config.block_size
    )
    facts = model_facts(config, name="gpt", source="test")
    model = theory_model(config, scheme)
    return predicted_profile(model, facts, run, tokens, scheme=scheme.slug)
