"""Which init a trainer runs after the constructor: the one that the user names, or the plain one.

A constructor may call an init, leave it to the trainer, or not have one. What happens is decided by
effect: the constructor runs under the trace, which takes no memory, and which init ran is recorded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FunctionType
from typing import Any, TypeAlias

import torch
from torch import nn

from gptinit.config import InitCall
from gptinit.errors import ConfigError, GptInitError, SubjectError, unknown_name
from gptinit.load.factory import Factory, TrainerInit
from gptinit.load.initialiser import (
    Calls,
    Initialiser,
    calls_of,
    function_init,
    functions_beside,
    functions_in,
    method_init,
    methods_of,
    names_in,
)
from gptinit.load.unvalued import Unvalued
from gptinit.results.profile import Note
from gptinit.trace.record.tensor import TracedTensor
from gptinit.trace.record.tracing import trace

__all__ = ["NO_INIT", "Code", "InitChoice", "Uncalled", "left_uncalled", "redrawing", "with_init"]

InitChoice: TypeAlias = "str | Callable[..., object] | None"
"""What draws the weights after the constructor: a method or function by its name, path.py:FUNCTION,
package.module:FUNCTION, a function, "none", or None to find it."""

NO_INIT = "none"
"""What `--init` says where the constructor does it all."""

_WITH_RULES = "transformers"
"""A library whose models are initialised by their constructor, whatever methods they have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """The code around a model.

    Attributes:
        kind: the class that the factory calls; None where a function builds the model, which says
            itself how it is initialised.
        namespace: the names of its file.
        file: the file; None for what is no file.
        outside: from "path.py:FUNCTION" to that function.
    """

    kind: type | None = None
    namespace: Mapping[str, object] = field(default_factory=dict)
    file: Path | None = None
    outside: Callable[[str], Initialiser]


def with_init(factory: Factory, code: Code, choice: InitChoice = None) -> Factory:
    """The factory whose `build` is the constructor and the init that a trainer runs after it.

    Args:
        factory: the model as its constructor, or the function that builds it, leaves it.
        code: the code around it.
        choice: what the user says; None runs the only init that the class leaves to the trainer.

    Raises:
        ConfigError: if there is no such init, several would do, or one needs more than settings.
        SubjectError: if the model cannot be built, or its init fails.
    """
    plain = replace(factory, init_functions=tuple(functions_in(code.namespace)))
    made = _found(plain, code) if choice is None else _named(plain, code, choice)
    before = factory.with_settings
    if before is None:
        return made
    return replace(made, with_settings=lambda more: with_init(before(more), code, choice))


def _followed_by(factory: Factory, trial: "_Trial", chosen_by: str) -> Factory:
    """The factory whose `build` runs an init after the constructor."""
    call = trial.call(factory, chosen_by)
    draw = _drawing(factory, trial.init)

    def build() -> nn.Module:
        module = factory.build()
        draw(module)
        return module

    def notes() -> tuple[Note, ...]:
        return (*factory.notes(), *(trial.init.unvalued or Unvalued()).notes())

    after = TrainerInit(call=call, draw=draw, constructed=factory.build)
    return replace(factory, build=build, init=after, notes=notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncalled:
    """An init that nothing runs, tried.

    Attributes:
        call: the call that would run it.
        module: the model after it, under the trace; None where it could not be run.
        obstacle: why not.
    """

    call: InitCall
    module: nn.Module | None = None
    obstacle: str = ""


def left_uncalled(factory: Factory, module: nn.Module) -> list[Uncalled]:
    """The inits that a model has, and that neither its code nor a choice of the user runs.

    Those that another one of them calls are left out.

    Args:
        factory: the model.
        module: one build of it.

    Raises:
        SubjectError: if the model cannot be built.
    """
    if factory.init is not None:
        return []
    left = factory.uncalled
    if left is None:
        methods = [i for i in methods_of(type(module)) if not _is_of_library(i.function.__module__)]
        left = tuple(_built(factory, [*methods, *factory.init_functions]).uncalled)
    trials, found = [], []
    for init in left:
        try:
            trials.append(_tried(factory, init, left))
        except GptInitError as error:  # it is not called, so that its failure is no error
            call = init.facts(module, factory.settings, "found")
            found.append(Uncalled(call=call, obstacle=str(error)))
    run = [Uncalled(call=t.call(factory), module=t.module) for t in _outer(trials)]
    return run or found[:1]  # what needs more may be a part of what does not


def redrawing(factory: Factory) -> tuple[str, Callable[[nn.Module], None]]:
    """What draws all weights of a model again, in words and as a function.

    That is the init after its constructor, else those that its own code calls, else the only one
    that nobody calls, else `reset_parameters` of every module.

    Raises:
        ConfigError: if several would do.
        SubjectError: if the model cannot be built.
    """
    if factory.init is not None:
        return factory.init.call.call, factory.init.draw
    kind = type(trace(factory.build))
    built = _built(factory, [*methods_of(kind), *factory.init_functions])
    called = [i for f in built.calls.outermost for i in built.watched if i.function is f]
    settings = factory.settings
    inits = [i for i in called if not i.missing(built.module, settings)]
    inits = inits or [trial.init for trial in _plain(factory, built, built.uncalled)]
    if not inits:
        return "reset_parameters() of every module", _reset_all

    def draw(module: nn.Module) -> None:
        for init in inits:
            _drawing(factory, init)(module)

    return " and ".join(i.facts(built.module, settings, "found").call for i in inits), draw


def _reset_all(module: nn.Module) -> None:
    with torch.no_grad():
        for child in module.modules():
            reset = method_init(type(child), "reset_parameters")
            if reset is not None and not reset.missing(child, {}):
                reset.run(child, {})


def _found(factory: Factory, code: Code) -> Factory:
    """The factory with the init that its class leaves to the trainer, if there is one.

    Raises:
        ConfigError: if several would do.
    """
    kind = code.kind
    if kind is None or any(_is_of_library(base.__module__) for base in kind.__mro__):
        return factory
    built = _built(factory, [*methods_of(kind), *factory.init_functions])
    declined = _named_in_constructor(kind)
    plain = _plain(factory, built, [i for i in built.uncalled if i.name not in declined])
    if plain:
        rivals = functions_beside(code.file) if code.file else []
        if rivals:  # a method for want of better, as litgpt's, beside what its trainer runs
            raise _several(factory, [plain[0].call(factory).call, *rivals])
        return _followed_by(factory, plain[0], "found")
    settings = factory.settings
    left = (i for i in built.uncalled if i.name in declined or i.missing(built.module, settings))
    return replace(factory, uncalled=tuple(left))


def _named_in_constructor(kind: type) -> set[str]:
    """The names in the code of a model's constructor: what it calls, under some settings or all.

    Of an init among them that did not run it has decided itself that another one draws the weights.
    """
    constructors = [vars(base).get("__init__") for base in kind.__mro__ if base is not nn.Module]
    code = (c.__code__ for c in constructors if isinstance(c, FunctionType))
    return set[str]().union(*map(names_in, code))


def _named(factory: Factory, code: Code, choice: str | Callable[..., object]) -> Factory:
    """The factory with the init that the user names.

    Raises:
        ConfigError: if there is none of that name.
    """
    if choice == NO_INIT:
        return factory
    if callable(choice):
        init = function_init(getattr(choice, "__name__", "init"), choice)
    elif ":" in choice:
        init = code.outside(choice)
    else:
        init = _by_name(factory, code, choice)
    if init.takes and not init.is_applied:
        init = replace(init, unvalued=Unvalued())
    return _followed_by(factory, _tried(factory, init, [init]), "--init")


def _by_name(factory: Factory, code: Code, name: str) -> Initialiser:
    kind = code.kind or type(trace(factory.build))
    found = method_init(kind, name)
    if found is None and callable(code.namespace.get(name)):
        found = function_init(name, code.namespace[name])
    if found is not None:
        return found
    known = [i.name for i in (*methods_of(kind), *factory.init_functions)]
    raise unknown_name(
        f"init of {factory.name}",
        name,
        known,
        remedy=f"Known: {', '.join([*known, NO_INIT, 'path.py:FUNCTION'])}.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Built:
    """A model under the trace, and which of the inits that were watched its constructor ran."""

    module: nn.Module
    watched: Sequence[Initialiser]
    calls: Calls

    @property
    def uncalled(self) -> list[Initialiser]:
        return [i for i in self.watched if i.function not in self.calls.all]


def _built(factory: Factory, watched: Sequence[Initialiser]) -> _Built:
    if not watched:
        return _Built(module=nn.Module(), watched=(), calls=Calls())
    with calls_of(watched) as calls:
        module = trace(factory.build)
    return _Built(module=module, watched=watched, calls=calls)


def _plain(factory: Factory, built: _Built, candidates: Sequence[Initialiser]) -> "list[_Trial]":
    """The one among some inits that a trainer could mean; none if none is.

    It needs nothing but settings, writes parameters, and no other such init calls it.

    Raises:
        ConfigError: if several would do.
        SubjectError: if one of them fails.
    """
    settings = factory.settings
    usable = [i for i in candidates if not i.missing(built.module, settings)]
    try:
        plain = _outer([_tried(factory, init, usable) for init in usable])
    except SubjectError as error:
        raise SubjectError(
            f"{error} The constructor does not call it: name what the trainer runs with --init "
            f"NAME (or --init {NO_INIT})."
        ) from error
    if len(plain) > 1:
        raise _several(factory, [trial.call(factory).call for trial in plain])
    return plain


def _several(factory: Factory, names: Sequence[str]) -> ConfigError:
    return ConfigError(
        f"the init of {factory.name} must be one, got {', '.join(names)}, none of which its "
        f"constructor calls. Name what the trainer runs with --init NAME (or --init {NO_INIT})."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """An init that ran under the trace: whether it wrote parameters, and what else it called."""

    init: Initialiser
    module: nn.Module
    writes: bool
    calls: Calls

    def call(self, factory: Factory, chosen_by: str = "found") -> InitCall:
        return self.init.facts(self.module, factory.settings, chosen_by)


def _outer(trials: Sequence[_Trial]) -> list[_Trial]:
    """Those that wrote parameters and that no other one of these called."""
    writing = [t for t in trials if t.writes]
    return [
        t for t in writing if not any(t.init.function in o.calls.all for o in writing if o is not t)
    ]


def _tried(factory: Factory, init: Initialiser, watched: Sequence[Initialiser]) -> _Trial:
    """Run an init; a function that does nothing to the whole model is applied to its modules.

    Raises:
        ConfigError: if nothing says what it needs.
        SubjectError: if the model cannot be built, or the init fails.
    """
    trial = _trial(factory, init, watched)
    is_function = init.takes is not None and not init.is_applied
    if trial.writes or not is_function:
        return trial
    applied = _trial(factory, replace(init, is_applied=True), watched)
    return applied if applied.writes else trial


def _trial(factory: Factory, init: Initialiser, watched: Sequence[Initialiser]) -> _Trial:
    found: dict[str, Any] = {}

    def build() -> nn.Module:
        module = factory.build()
        before = _contents(module)
        with calls_of(watched) as found["calls"]:
            _drawing(factory, init)(module)
        found["writes"] = _contents(module) != before
        return module

    return _Trial(init=init, module=trace(build), **found)


def _drawing(factory: Factory, init: Initialiser) -> Callable[[nn.Module], None]:
    def draw(module: nn.Module) -> None:
        with (init.within or factory.within)():
            init.run(module, factory.settings)

    return draw


def _contents(module: nn.Module) -> dict[str, object]:
    """What every parameter holds, so that a change shows."""
    return {
        name: p.read() if isinstance(p, TracedTensor) else (id(p), p._version)
        for name, p in module.named_parameters()
    }


def _is_of_library(module: str | None) -> bool:
    return (module or "").partition(".")[0] == _WITH_RULES
