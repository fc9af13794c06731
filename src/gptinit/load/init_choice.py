"""Which init a trainer runs after the constructor: the one that the user names, or the plain one.

A constructor may call an init, leave it to the trainer, or not have one. What happens is decided by
effect: the constructor runs under the trace, which takes no memory, and what it called is recorded.
Of what it left, methods with the name of an init come first; without any, what draws every matrix
that still is as torch's constructors left it is an init under another name. One that does is run,
of several none is guessed, and what draws less, or needs more, is told (`left_uncalled`).
"""

from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FunctionType
from typing import TypeAlias

from torch import nn

from gptinit.config import InitCall
from gptinit.errors import ConfigError, GptInitError, SubjectError, unknown_name
from gptinit.load.candidates import (
    draws_by_init,
    functions_beside,
    functions_in,
    is_of_library,
    methods_of,
    methods_of_parts,
    named_in_constructor,
)
from gptinit.load.configured import Target
from gptinit.load.factory import Built, Factory, TrainerInit, also, built
from gptinit.load.init_trial import Trial, drawing, left_by_torch, matrices, outer, tried
from gptinit.load.initialiser import (
    Initialiser,
    function_init,
    method_init,
)
from gptinit.load.loaded import load_function
from gptinit.load.unvalued import Unvalued
from gptinit.results.profile import Note

__all__ = ["NO_INIT", "InitChoice", "Uncalled", "left_uncalled", "plain_init", "with_init"]

InitChoice: TypeAlias = "str | Callable[..., object] | None"
"""What draws the weights after the constructor: a method or function by its name, path.py:FUNCTION,
package.module:FUNCTION, a function, "none", or None to find it."""

NO_INIT = "none"
"""What `--init` says where the constructor does it all."""


def with_init(factory: Factory, target: Target, choice: InitChoice = None) -> Factory:
    """The factory whose `build` is the constructor and the init that a trainer runs after it.

    Args:
        factory: the model as its constructor, or the function that builds it, leaves it.
        target: what builds it, and the code around that.
        choice: what the user says; None runs the only init that the class leaves to the trainer.

    Raises:
        ConfigError: if there is no such init, several would do, or one needs more than settings.
        SubjectError: if the model cannot be built, or its init fails.
    """

    def change(factory: Factory) -> Factory:
        functions = (i for i in functions_in(target.namespace) if i.is_named or target.kind)
        plain = replace(factory, init_functions=tuple(functions))
        return _found(plain, target) if choice is None else _named(plain, target, choice)

    return also(factory, change)


def _followed_by(factory: Factory, trial: Trial, chosen_by: str) -> Factory:
    """The factory whose `build` runs an init after the constructor."""
    call = trial.call(factory, chosen_by)
    draw = drawing(factory, trial.init)

    def build() -> nn.Module:
        module = factory.build()
        draw(module)
        return module

    def notes() -> tuple[Note, ...]:
        return (*factory.notes(), *(trial.init.unvalued or Unvalued()).notes())

    after = TrainerInit(call=call, draw=draw, constructed=factory.build)
    factory.spare[build] = trial.made
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


def left_uncalled(factory: Factory, made: Built) -> list[Uncalled]:
    """The inits that a model has, and that neither its code nor a choice of the user runs.

    Those that another one of them calls are left out. Under other names than those of inits, told
    are those that draw matrices which are as torch's constructors left them.

    Raises:
        SubjectError: if the model cannot be built.
    """
    module = made.module
    if factory.init is not None:
        return []
    candidates = [*methods_of(module), *factory.init_functions]
    candidates = [i for i in candidates if not is_of_library(i.function)]
    named = [init for init in candidates if init.is_named]
    known = factory.uncalled
    found = _told(factory, module, _uncalled(factory, made, named) if known is None else known)
    if found or not (left := left_by_torch(module)):
        return found
    others = [init for init in candidates if not init.is_named] + methods_of_parts(module)
    others = _uncalled(factory, made, others)
    found = _told(factory, module, others, left)
    if left.issuperset(matrices(module)):
        return found
    return [uncalled for uncalled in found if not uncalled.obstacle]  # what needs more is for later


def _told(
    factory: Factory,
    module: nn.Module,
    inits: Sequence[Initialiser],
    wanted: Set[str] | None = None,
) -> list[Uncalled]:
    """The inits that write parameters, or some of those that are wanted, else why they cannot."""
    trials, failed = [], []
    for init in inits:
        try:
            trials.append(tried(factory, init, inits, watch=False))
        except GptInitError as error:  # it is not called, so that its failure is no error
            if wanted is not None and not draws_by_init(init):
                continue
            call = init.facts(module, factory.settings, "found")
            failed.append(Uncalled(call=call, obstacle=str(error)))
    shown = [t for t in outer(trials) if wanted is None or wanted & t.written]
    run = [Uncalled(call=t.call(factory), module=t.made.module) for t in shown]
    return run or failed[:1]  # what needs more may be a part of what does not


def _found(factory: Factory, target: Target) -> Factory:
    """The factory with the init that its class leaves to the trainer, if there is one."""
    kind = target.kind
    if kind is None or is_of_library(kind):
        return factory
    try:
        made = built(factory, factory.build, watch=True)
    except SubjectError as error:
        return replace(factory, build=_raising(error))  # whoever builds it is told
    factory.spare[factory.build] = made
    candidates = _uncalled(factory, made, [*methods_of(made.module), *factory.init_functions])
    named = [init for init in candidates if init.is_named]
    declined = named_in_constructor(kind)
    allowed = [init for init in candidates if init.name not in declined]
    plain = plain_init(factory, made.module, [init for init in allowed if init.is_named])
    if not named:
        plain = _under_another_name(factory, made.module, allowed)
    if plain:
        file = getattr(target.beside and target.beside.module, "__file__", None)
        rivals = functions_beside(Path(file)) if file else []
        if rivals:  # a method for want of better, as litgpt's, beside what its trainer runs
            raise _several(factory, [plain[0].call(factory).call, *rivals])
        return _followed_by(factory, plain[0], "found")
    settings = factory.settings
    left = (i for i in named if i.name in declined or i.missing(made.module, settings))
    return replace(factory, uncalled=tuple(left))


def _raising(error: SubjectError) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        raise error

    return build


def _uncalled(
    factory: Factory, made: Built, candidates: Sequence[Initialiser]
) -> list[Initialiser]:
    """Those of some inits that building the model did not call."""
    watch = made.watch
    if candidates and watch is None:
        watch = built(factory, factory.build, watch=True).watch
    codes = watch.codes if watch else {}
    return [init for init in candidates if id(init.function.__code__) not in codes]


def _under_another_name(
    factory: Factory, module: nn.Module, candidates: Sequence[Initialiser]
) -> list[Trial]:
    """The init that draws all matrices that torch's constructors left, if those are most of all."""
    left, settings = left_by_torch(module), factory.settings
    if 2 * len(left) <= len(matrices(module)):
        return []
    usable = [init for init in candidates if not init.missing(module, settings)]
    trials = []
    for init in usable:
        with suppress(GptInitError):  # told as an init that nothing calls, if it may be one
            trials.append(tried(factory, init, usable))
    found = [trial for trial in outer(trials) if left <= trial.written]
    if len(found) > 1:
        raise _several(factory, [trial.call(factory).call for trial in found])
    return found


def _named(factory: Factory, target: Target, choice: str | Callable[..., object]) -> Factory:
    """The factory with the init that the user names."""
    if choice == NO_INIT:
        return factory
    if callable(choice):
        init = function_init(getattr(choice, "__name__", "init"), choice)
    elif ":" in choice:
        call, loaded = load_function(choice, "init", target.beside, FunctionType)
        init = replace(function_init(choice.rpartition(":")[2], call), within=loaded.within)
    else:
        init = _by_name(factory, target, choice)
    if init.takes and not init.is_applied:
        init = replace(init, unvalued=Unvalued())
    trial = tried(factory, init, [init])
    made = _followed_by(factory, trial, "--init")
    if trial.written:
        return made
    message = f"{trial.call(factory).call}, named by --init, changed no parameter."
    note = Note(kind="approximate", where="init", message=message)
    return replace(made, notes=lambda: (*made.notes(), note))


def _by_name(factory: Factory, target: Target, name: str) -> Initialiser:
    """The init that the user calls NAME, or CLASS.NAME where modules inside the model have it."""
    module = built(factory, factory.build, watch=False).module
    found = method_init(type(module), name)
    if found is None and callable(target.namespace.get(name)):
        found = function_init(name, target.namespace[name])
    parts = {} if found else {init.name: init for init in methods_of_parts(module)}
    if found or name in parts:
        return found or parts[name]
    candidates = [*methods_of(module), *factory.init_functions]
    known = [i.name for i in candidates if i.is_named] or [i.name for i in candidates] or [*parts]
    raise unknown_name(
        f"init of {factory.name}",
        name,
        known,
        remedy=f"Known: {', '.join([*known, NO_INIT, 'path.py:FUNCTION'])}.",
    )


def plain_init(
    factory: Factory, module: nn.Module, candidates: Sequence[Initialiser]
) -> list[Trial]:
    """The one among some inits that a trainer could mean; none if none is.

    It needs nothing but settings, writes parameters, and no other such init calls it.

    Raises:
        ConfigError: if several would do.
        SubjectError: if one of them fails.
    """
    settings = factory.settings
    usable = [i for i in candidates if not i.missing(module, settings)]
    try:
        plain = outer([tried(factory, init, usable) for init in usable])
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
