"""A model in Python code: a class or function in a file or an importable module."""

import difflib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from torch import nn

from gptinit.errors import ConfigError, SubjectError
from gptinit.load.configured import Target, configured_factory
from gptinit.load.factory import Factory
from gptinit.load.isolation import blamed_on, isolated
from gptinit.load.script import Script, read_script
from gptinit.load.signature import required_parameters
from gptinit.load.stand_ins import StandIns
from gptinit.load.surroundings import Surroundings, execute, importable, loading
from gptinit.results.profile import Note

__all__ = ["file_factory", "module_factory"]


def file_factory(
    path: str | Path,
    name: str | None,
    overrides: Mapping[str, object],
    *,
    stubs: Sequence[str] = (),
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
        stubs: modules for which inert stand-ins are imported.

    Raises:
        ConfigError: if there is no such file, or a setting cannot be used.
        SubjectError: if the file fails, or has no such name.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"model must be a file that exists, got {str(path)!r}. Check the path.")
    if file.suffix != ".py":
        raise ConfigError(f"model must be a Python file ending in .py, got {str(path)!r}.")
    here = file.resolve()
    surroundings = Surroundings.of(here, StandIns.of(stubs))
    script = read_script(here, surroundings.entered)
    stand_ins = surroundings.stand_ins
    with surroundings.entered(), loading(file.name, stand_ins, surroundings.paths, here):
        module = execute(here, surroundings.package, script)
    loaded = _Loaded(
        module=module, place=file.name, source=str(path), within=surroundings.building,
        stood_in=surroundings.notes, script=script,
    )  # fmt: skip
    return _factory(loaded, _only_model(loaded) if name is None else name, overrides)


def module_factory(
    module: str, name: str, overrides: Mapping[str, object], *, stubs: Sequence[str] = ()
) -> Factory:
    """The factory called `name` in an importable module; the working folder is importable.

    Args:
        module: the dotted name of the module.
        name: a model class, or a function that returns a model.
        overrides: settings to replace, see `configured_factory`.
        stubs: modules for which inert stand-ins are imported.

    Raises:
        ConfigError: if there is no such module, or a setting cannot be used.
        SubjectError: if the module fails, or has no such name.
    """
    here = str(Path.cwd())
    stand_ins = StandIns.of(stubs)

    @contextmanager
    def within() -> Iterator[None]:
        with importable((here,)), isolated(module), stand_ins.imported():
            yield

    with within(), loading(module, stand_ins, (here,)):
        importlib.invalidate_caches()
        try:
            imported = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name and f"{module}.".startswith(f"{error.name}."):
                raise ConfigError(
                    f"model must be a module that can be imported, got {module!r}. "
                    "Name a file as path/model.py:NAME."
                ) from error
            raise
    loaded = _Loaded(
        module=imported, place=module, source=f"module {module}", within=within,
        stood_in=stand_ins.notes,
    )  # fmt: skip
    return _factory(loaded, name, overrides)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """A module, its name in errors, where it comes from, and the context that its code needs."""

    module: ModuleType
    place: str
    source: str
    within: Callable[[], AbstractContextManager[None]]
    stood_in: Callable[[], Sequence[Note]]
    script: Script | None = None

    def find(self, name: str) -> object:
        """What the module calls `name`; None if it is not there."""
        namespace = vars(self.module)
        if name not in namespace and self.script:
            self.script.provide(name, namespace)
        return namespace.get(name)

    def notes(self) -> tuple[Note, ...]:
        """How it was loaded, if not simply."""
        return (*(self.script.notes() if self.script else ()), *self.stood_in())


def _factory(loaded: _Loaded, name: str, overrides: Mapping[str, object]) -> Factory:
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
    return configured_factory(target, overrides)


def _only_model(loaded: _Loaded) -> str:
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
            names |= _names_in(function.__code__)
    return names


def _names_in(code: CodeType) -> set[str]:
    inner = (c for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*(_names_in(c) for c in inner))
