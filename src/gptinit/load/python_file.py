"""A model in Python code: a class or function in a file or an importable module."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FunctionType, ModuleType

from torch import nn

from gptinit.errors import ConfigError, SubjectError
from gptinit.load.configured import Target, configured_factory
from gptinit.load.factory import Factory, called_by
from gptinit.load.forward_function import Forward, forward_function
from gptinit.load.init_choice import Code, InitChoice, with_init
from gptinit.load.initialiser import Initialiser, function_init, names_in
from gptinit.load.isolation import blamed_on
from gptinit.load.loaded import Loaded, load_file, load_function, load_module
from gptinit.load.signature import required_parameters
from gptinit.load.stand_ins import StandIns

__all__ = ["Ways", "file_factory", "init_outside", "module_factory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """What the user says about a model besides its name and its settings.

    Attributes:
        init: what draws the weights after the constructor, see `InitChoice`.
        forward: how to call it, see `forward_function`; None tries the usual ways.
        stubs: modules for which inert stand-ins are imported.
    """

    init: InitChoice = None
    forward: str | Forward | None = None
    stubs: Sequence[str] = ()


def file_factory(
    path: str | Path,
    name: str | None,
    overrides: Mapping[str, object],
    ways: Ways | None = None,
) -> Factory:
    """The factory called `name` in a Python file.

    The file runs once; of a training script, only what it defines (see `script`). Its folder is
    importable then, and whenever the model is built; outside of these times neither the folder
    nor the modules imported from it affect other files.

    Args:
        path: the file.
        name: a model class, or a function that returns a model; None for the only model class
            that no other class of the file uses.
        overrides: settings to replace, see `configured_factory`.
        ways: what the user says about its init, its forward pass and its imports.

    Raises:
        ConfigError: if there is no such file, or a setting cannot be used.
        SubjectError: if the file fails, or has no such name.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"model must be a file that exists, got {str(path)!r}. Check the path.")
    if file.suffix != ".py":
        raise ConfigError(f"model must be a Python file ending in .py, got {str(path)!r}.")
    ways = ways or Ways()
    loaded = load_file(file, StandIns.of(ways.stubs))
    return _factory(loaded, _only_model(loaded) if name is None else name, overrides, ways)


def module_factory(
    module: str,
    name: str,
    overrides: Mapping[str, object],
    ways: Ways | None = None,
) -> Factory:
    """The factory called `name` in an importable module; the working folder is importable.

    Args:
        module: the dotted name of the module.
        name: a model class, or a function that returns a model.
        overrides: settings to replace, see `configured_factory`.
        ways: what the user says about its init, its forward pass and its imports.

    Raises:
        ConfigError: if there is no such module, or a setting cannot be used.
        SubjectError: if the module fails, or has no such name.
    """
    ways = ways or Ways()
    loaded = load_module(module, "model", StandIns.of(ways.stubs))
    return _factory(loaded, name, overrides, ways)


def init_outside(text: str, beside: Loaded | None = None) -> Initialiser:
    """The init function that "path.py:FUNCTION" or "package.module:FUNCTION" names.

    Arguments and errors are those of `load_function`.
    """
    call, loaded = load_function(text, "init", beside, FunctionType)
    return replace(function_init(text.rpartition(":")[2], call), within=loaded.within)


def _factory(
    loaded: Loaded,
    name: str,
    overrides: Mapping[str, object],
    ways: Ways,
) -> Factory:
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
    namespace = vars(loaded.module)
    target = Target(
        call=call, label=label, source=loaded.source, namespace=namespace, within=loaded.within,
        notes=loaded.notes,
    )  # fmt: skip
    code = Code(
        kind=call if isinstance(call, type) else None,
        namespace=namespace,
        file=Path(namespace["__file__"]) if namespace.get("__file__") else None,
        outside=lambda text: init_outside(text, loaded),
    )
    made = with_init(configured_factory(target, overrides), code, ways.init)
    return made if ways.forward is None else called_by(made, forward_function(ways.forward, loaded))


def _only_model(loaded: Loaded) -> str:
    """The model class that no other class of the module uses.

    Raises:
        SubjectError: if there is none, or more than one.
    """
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
