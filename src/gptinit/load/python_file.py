"""A model in Python code: a class or function in a file or an importable module."""

import difflib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FunctionType, ModuleType

from torch import nn

from gptinit.errors import ConfigError, SubjectError
from gptinit.load.configured import Target, configured_factory
from gptinit.load.factory import Factory
from gptinit.load.init_choice import Code, InitChoice, with_init
from gptinit.load.initialiser import Initialiser, function_init, names_in
from gptinit.load.isolation import blamed_on, isolated
from gptinit.load.script import Script, read_script
from gptinit.load.signature import required_parameters
from gptinit.load.stand_ins import StandIns
from gptinit.load.surroundings import Surroundings, execute, importable, loading
from gptinit.results.profile import Note

__all__ = ["file_factory", "init_outside", "module_factory"]


def file_factory(
    path: str | Path,
    name: str | None,
    overrides: Mapping[str, object],
    init: InitChoice = None,
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
        init: what draws the weights after the constructor, see `InitChoice`.
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
    loaded = _load(file, StandIns.of(stubs))
    return _factory(loaded, _only_model(loaded) if name is None else name, overrides, init)


def module_factory(
    module: str,
    name: str,
    overrides: Mapping[str, object],
    init: InitChoice = None,
    *,
    stubs: Sequence[str] = (),
) -> Factory:
    """The factory called `name` in an importable module; the working folder is importable.

    Args:
        module: the dotted name of the module.
        name: a model class, or a function that returns a model.
        overrides: settings to replace, see `configured_factory`.
        init: what draws the weights after the constructor, see `InitChoice`.
        stubs: modules for which inert stand-ins are imported.

    Raises:
        ConfigError: if there is no such module, or a setting cannot be used.
        SubjectError: if the module fails, or has no such name.
    """
    return _factory(_import(module, "model", StandIns.of(stubs)), name, overrides, init)


def init_outside(text: str, beside: "_Loaded | None" = None) -> Initialiser:
    """The init function that "path.py:FUNCTION" or "package.module:FUNCTION" names.

    Args:
        text: which function of which file or module.
        beside: the model's code: both see the same classes, and the same stand-ins.

    Raises:
        ConfigError: if there is no such file or function.
        SubjectError: if the file fails.
    """
    place, _, name = text.rpartition(":")
    stand_ins = beside.stand_ins if beside else StandIns()
    if place.endswith(".py") or Path(place).is_file():
        if not Path(place).is_file():
            raise ConfigError(f"init must name a file that exists, got {text!r}. Check the path.")
        loaded = _load(Path(place), stand_ins, beside.around if beside else None)
    else:
        loaded = _import(place, "init", stand_ins)
    with loaded.within(), blamed_on(place, "load without an error"):
        call = loaded.find(name)
    if not isinstance(call, FunctionType):
        raise ConfigError(f"init must name a function of {place}, got {name!r}. Check the name.")
    return replace(function_init(name, call), within=loaded.within)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """A module, its name in errors, where it comes from, and the context that its code needs."""

    module: ModuleType
    place: str
    source: str
    within: Callable[[], AbstractContextManager[None]]
    stand_ins: StandIns
    around: Surroundings | None = None
    script: Script | None = None

    def find(self, name: str) -> object:
        """What the module calls `name`; None if it is not there."""
        namespace = vars(self.module)
        if name not in namespace and self.script:
            self.script.provide(name, namespace)
        return namespace.get(name)

    def notes(self) -> tuple[Note, ...]:
        """How it was loaded, if not simply."""
        of_script = self.script.notes() if self.script else ()
        return (*of_script, *(self.around or self.stand_ins).notes())


def _load(file: Path, stand_ins: StandIns, beside: Surroundings | None = None) -> _Loaded:
    """A Python file, run in its surroundings, or in those and the ones of another file.

    Raises:
        SubjectError: if it fails.
    """
    here = file.resolve()
    around = Surroundings.of(here, stand_ins)
    around = around.joined(beside) if beside else around
    script = read_script(here, around.entered)
    with around.entered(), loading(file.name, stand_ins, around.paths, here):
        module = execute(here, around.package, script)
    return _Loaded(
        module=module, place=file.name, source=str(file), within=around.building,
        stand_ins=stand_ins, around=around, script=script,
    )  # fmt: skip


def _import(module: str, what: str, stand_ins: StandIns) -> _Loaded:
    """An importable module, loaded.

    Raises:
        ConfigError: if there is none of that name.
        SubjectError: if it fails.
    """
    here = str(Path.cwd())

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
                    f"{what} must be a module that can be imported, got {module!r}. "
                    "Name a file as path/model.py:NAME."
                ) from error
            raise
    return _Loaded(
        module=imported, place=module, source=f"module {module}", within=within,
        stand_ins=stand_ins,
    )  # fmt: skip


def _factory(
    loaded: _Loaded, name: str, overrides: Mapping[str, object], init: InitChoice
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
    return with_init(configured_factory(target, overrides), code, init)


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
            names |= names_in(function.__code__)
    return names
