"""A model in Python code: a class or function in a file or an importable module."""

import ast
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

from torch import nn

from gptinit.errors import ConfigError, SubjectError
from gptinit.load.configured import Target, configured_factory, required_parameters
from gptinit.load.factory import Factory
from gptinit.load.init_choice import Code, InitChoice, with_init
from gptinit.load.initialiser import Initialiser, function_init
from gptinit.load.isolation import blamed_on, is_installed, isolated

__all__ = ["file_factory", "init_outside", "module_factory"]


def file_factory(
    path: str | Path,
    name: str | None,
    overrides: Mapping[str, object],
    init: InitChoice = None,
) -> Factory:
    """The factory called `name` in a Python file.

    The file runs once. Its folder is importable then, and whenever the model is built; outside of
    these times neither the folder nor the modules imported from it affect other files.

    Args:
        path: the file.
        name: a model class, or a function that returns a model; None for the only model class
            that no other class of the file uses.
        overrides: settings to replace, see `configured_factory`.
        init: what draws the weights after the constructor, see `InitChoice`.

    Raises:
        ConfigError: if there is no such file, or a setting cannot be used.
        SubjectError: if the file fails, or has no such name.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"model must be a file that exists, got {str(path)!r}. Check the path.")
    if file.suffix != ".py":
        raise ConfigError(f"model must be a Python file ending in .py, got {str(path)!r}.")
    loaded = _load(file)
    return _factory(loaded, _only_model(loaded) if name is None else name, overrides, init)


def module_factory(
    module: str, name: str, overrides: Mapping[str, object], init: InitChoice = None
) -> Factory:
    """The factory called `name` in an importable module; the working folder is importable.

    Args:
        module: the dotted name of the module.
        name: a model class, or a function that returns a model.
        overrides: settings to replace, see `configured_factory`.
        init: what draws the weights after the constructor, see `InitChoice`.

    Raises:
        ConfigError: if there is no such module, or a setting cannot be used.
        SubjectError: if the module fails, or has no such name.
    """
    return _factory(_import(module, "model"), name, overrides, init)


def _import(module: str, what: str) -> "_Loaded":
    """An importable module, loaded.

    Raises:
        ConfigError: if there is none of that name.
        SubjectError: if it fails.
    """
    here = str(Path.cwd())

    @contextmanager
    def within() -> Iterator[None]:
        with _importable((here,)), isolated(module):
            yield

    with within():
        importlib.invalidate_caches()
        with blamed_on(module, "load without an error"):
            try:
                imported = importlib.import_module(module)
            except ModuleNotFoundError as error:
                if error.name and f"{module}.".startswith(f"{error.name}."):
                    raise ConfigError(
                        f"{what} must be a module that can be imported, got {module!r}. "
                        "Name a file as path/model.py:NAME."
                    ) from error
                raise
    return _Loaded(module=imported, place=module, source=f"module {module}", within=within)


def init_outside(text: str, beside: "_Surroundings | None" = None) -> Initialiser:
    """The init function that "path.py:FUNCTION" or "package.module:FUNCTION" names.

    Args:
        text: which function of which file or module.
        beside: the surroundings of the model's file, so that both see the same classes.

    Raises:
        ConfigError: if there is no such file or function.
        SubjectError: if the file fails.
    """
    place, _, name = text.rpartition(":")
    if place.endswith(".py") or Path(place).is_file():
        if not Path(place).is_file():
            raise ConfigError(f"init must name a file that exists, got {text!r}. Check the path.")
        loaded = _load(Path(place), beside)
    else:
        loaded = _import(place, "init")
    call = getattr(loaded.module, name, None)
    if not isinstance(call, FunctionType):
        raise ConfigError(f"init must name a function of {place}, got {name!r}. Check the name.")
    return replace(function_init(name, call), within=loaded.within)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Surroundings:
    """The folders of a file and the modules imported from them: two files may have a utils.py each.

    Attributes:
        program: the file, as its code sees sys.argv[0].
        paths: folders in which its imports are looked up.
        package: folders, outermost first, that its relative imports go through.
        modules: modules imported from these folders so far.
    """

    program: str
    paths: tuple[str, ...]
    package: tuple[Path, ...]
    modules: dict[str, ModuleType] = field(default_factory=dict)

    @classmethod
    def of(cls, file: Path) -> "_Surroundings":
        folders = list(file.parents)
        depth = 0
        while (folders[depth] / "__init__.py").is_file():
            depth += 1
        depth = min(max(depth, _relative_level(file)), len(folders) - 1)
        paths = dict.fromkeys(
            [str(folders[0]), str(folders[depth])] if depth else [str(folders[0])]
        )
        package = tuple(reversed(folders[:depth]))
        return cls(program=str(file), paths=tuple(paths), package=package)

    def joined(self, other: "_Surroundings") -> "_Surroundings":
        """These surroundings with the folders and the modules of another file besides."""
        both = tuple(dict.fromkeys((*self.paths, *other.paths)))
        return replace(self, paths=both, modules=other.modules)

    @contextmanager
    def entered(self) -> Iterator[None]:
        with isolated(self.program):
            # Two models may both import a `utils`: each sees that of its own folder.
            aside = {name: sys.modules.pop(name) for name in self._colliding()}
            present = set(sys.modules)
            sys.modules.update(self.modules)
            try:
                with _importable(self.paths):
                    yield
            finally:
                self.modules.update(self._found(present))
                for name in self.modules.keys() - present:
                    sys.modules.pop(name, None)
                sys.modules.update(aside)

    def _colliding(self) -> list[str]:
        """Modules of the caller that imports would find instead of those in these folders."""
        tops = {p.stem for folder in self.paths for p in Path(folder).glob("*.py")} | {
            p.parent.name for folder in self.paths for p in Path(folder).glob("*/__init__.py")
        }
        return [
            name
            for name, module in list(sys.modules.items())
            if name != "__main__"
            and name.partition(".")[0] in tops
            and (origin := _origin(module))
            and not is_installed(origin)
        ]

    def _found(self, present: set[str]) -> dict[str, ModuleType]:
        return {
            name: module
            for name, module in list(sys.modules.items())
            if name.partition(".")[0] not in present
            and (origin := _origin(module))
            and not is_installed(origin)
            and any(Path(origin).is_relative_to(folder) for folder in self.paths)
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    """A module, its name in errors, where it comes from, and the context that its code needs."""

    module: ModuleType
    place: str
    source: str
    within: Callable[[], AbstractContextManager[None]]
    around: _Surroundings | None = None


@contextmanager
def _importable(folders: tuple[str, ...]) -> Iterator[None]:
    """Look imports up in `folders` first inside the block, and write no compiled files there."""
    path, quiet = list(sys.path), sys.dont_write_bytecode
    sys.path[:0] = folders
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.path[:] = path
        sys.dont_write_bytecode = quiet


def _origin(module: ModuleType) -> str | None:
    names = getattr(module, "__dict__", {})
    return names.get("__file__") or next(iter(names.get("__path__", ())), None)


def _relative_level(file: Path) -> int:
    """Number of folders that the relative imports of a file go up."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return 0  # running it gives a better error
    return max(
        (node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)), default=0
    )


def _execute(file: Path, package: tuple[Path, ...]) -> ModuleType:
    """Run a file as a module under its own name, with underscores if that name is taken."""
    importlib.invalidate_caches()  # files may be newer than what Python has listed
    name = ".".join([*_packages(package), file.stem.replace(".", "_")])
    while name in sys.modules and _origin(sys.modules[name]) != str(file):
        name += "_"
    if name in sys.modules:  # its own package has imported it
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec
    assert spec.loader  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def _packages(folders: tuple[Path, ...]) -> list[str]:
    """Import the packages around a file, outermost first; a plain folder becomes a package."""
    names: list[str] = []
    for folder in folders:
        names.append(folder.name.replace(".", "_"))
        dotted = ".".join(names)
        if (folder / "__init__.py").is_file():
            importlib.import_module(dotted)
            continue
        while dotted in sys.modules:
            dotted += "_"
        names = dotted.split(".")
        sys.modules[dotted] = module = ModuleType(dotted)
        module.__path__ = [str(folder)]
    return names


def _load(file: Path, beside: _Surroundings | None = None) -> _Loaded:
    """A Python file, run in its surroundings, or in those and the ones of another file.

    Raises:
        SubjectError: if it fails.
    """
    around = _Surroundings.of(file.resolve())
    around = around.joined(beside) if beside else around
    with around.entered(), blamed_on(file.name, "load without an error"):
        module = _execute(file.resolve(), around.package)
    return _Loaded(
        module=module, place=file.name, source=str(file), within=around.entered, around=around
    )


def _factory(
    loaded: _Loaded, name: str, overrides: Mapping[str, object], init: InitChoice
) -> Factory:
    call = getattr(loaded.module, name, None)
    label = f"{loaded.place}:{name}"
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
        call=call, label=label, source=loaded.source, namespace=namespace, within=loaded.within
    )
    code = Code(
        kind=call if isinstance(call, type) else None,
        namespace=namespace,
        outside=lambda text: init_outside(text, loaded.around),
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
            names |= _names_in(function.__code__)
    return names


def _names_in(code: CodeType) -> set[str]:
    inner = (c for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*(_names_in(c) for c in inner))
