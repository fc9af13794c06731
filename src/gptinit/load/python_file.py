"""A model in Python code: a class or function in a file or an importable module."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FunctionType, ModuleType

from torch import nn

from gptinit.errors import SubjectError
from gptinit.load.configured import Target, configured_factory
from gptinit.load.factory import Factory
from gptinit.load.forward_function import Forward, called_by
from gptinit.load.init_choice import InitChoice, with_init
from gptinit.load.initialiser import names_in
from gptinit.load.isolation import blamed_on
from gptinit.load.loaded import Loaded, load
from gptinit.load.signature import required_parameters
from gptinit.load.stand_ins import StandIns

__all__ = ["code_factory"]


def code_factory(  # noqa: PLR0913 - what the user says, by keyword
    place: str | Path,
    name: str | None,
    overrides: Mapping[str, object],
    *,
    init: InitChoice = None,
    forward: str | Forward | None = None,
    stubs: Sequence[str] = (),
) -> Factory:
    """The factory called `name` in a Python file or an importable module.

    A file runs once; of a training script, only what it defines (see `script`). Its folder (of a
    module: the working folder) is importable then, and whenever the model is built; outside of
    these times neither the folder nor the modules imported from it affect other files.

    Args:
        place: the file, or the dotted name of the module.
        name: a model class, or a function that returns a model; None for the only model class
            that no other class of the file uses.
        overrides: settings to replace, see `configured_factory`.
        init: as of `find_factory`, like what follows.
        forward: how to call it.
        stubs: modules that are missing.

    Raises:
        ConfigError: if there is no such file or module, or a setting cannot be used.
        SubjectError: if the code fails, or has no such name.
    """
    loaded = load(place, "model", StandIns.of(stubs))
    target = _target(loaded, _only_model(loaded) if name is None else name)
    made = with_init(configured_factory(target, overrides), target, init)
    return called_by(made, forward, loaded)


def _target(loaded: Loaded, name: str) -> Target:
    label = f"{loaded.place}:{name}"
    with loaded.within(), blamed_on(label, "load without an error"):
        call = loaded.find(name)
    if call is None:
        names = [*_models(loaded.module), *_functions(loaded.module)]
        near = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        defined = f"only {', '.join(names)}" if names else "no model class and no function"
        raise SubjectError(f"{loaded.place} must define {name!r}, got {defined}.{hint}")
    if isinstance(call, nn.Module) or not callable(call):
        raise SubjectError(
            f"{label} must be a model class or a function that returns a model, "
            f"got an object of type {type(call).__name__}."
        )
    return Target(
        call=call, label=label, source=loaded.source, namespace=vars(loaded.module),
        within=loaded.within, notes=loaded.notes, beside=loaded,
    )  # fmt: skip


def _only_model(loaded: Loaded) -> str:
    """The model class that no other class of the module uses."""
    models = _models(loaded.module)
    parts = {n for name, kind in models.items() for n in _mentioned(kind) if n != name}
    whole = [name for name in models if name not in parts]
    if len(whole) == 1:
        return whole[0]
    names = whole or [*models, *_functions(loaded.module)]
    raise SubjectError(
        f"{loaded.place} must be given with the name of its model, got "
        f"{'several: ' + ', '.join(names) if names else 'no model class in it'}. "
        f"Write {loaded.place}:{names[0] if names else 'NAME'}."
    )


def _models(module: ModuleType) -> dict[str, type]:
    return {
        name: kind
        for name, kind in vars(module).items()
        if isinstance(kind, type)
        and issubclass(kind, nn.Module)
        and kind.__module__ == module.__name__
    }


def _functions(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, FunctionType)
        and value.__module__ == module.__name__
        and not name.startswith("_")
        and not required_parameters(value)
    ]


def _mentioned(kind: type) -> set[str]:
    names = {base.__name__ for base in kind.__bases__}
    for value in vars(kind).values():
        function = getattr(value, "__func__", value)
        if isinstance(function, FunctionType):
            names |= names_in(function.__code__)
    return names
