"""A Python file or an importable module, loaded as its code expects, and the functions in one."""

import importlib
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from gptinit.errors import ConfigError, GptInitError, SubjectError
from gptinit.load.isolation import blamed_on
from gptinit.load.missing import (
    MissingModulesError,
    folders_with,
    missing_behind,
)
from gptinit.load.script import Script, main_guard_notes, read_script
from gptinit.load.stand_ins import StandIns
from gptinit.load.surroundings import Surroundings, execute, loading
from gptinit.results.profile import Note

__all__ = ["Loaded", "load", "load_file", "load_function"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A module, its name in errors, where it comes from, and what is around it."""

    module: ModuleType
    place: str
    source: str
    around: Surroundings
    script: Script | None = None

    def find(self, name: str) -> object:
        """What the module calls `name`; None if it is not there."""
        namespace = vars(self.module)
        if name not in namespace and self.script:
            self.script.provide(name, namespace)
        return namespace.get(name)

    @contextmanager
    def within(self) -> Iterator[None]:
        """The context that its code needs; an import that fails in it says what to do.

        Raises:
            SubjectError: if one does.
        """
        with self.around.entered():
            try:
                yield
            except SubjectError as error:
                names = self._missing(error)
                if not names:
                    raise
                raise SubjectError(
                    f"{error} Install what the model needs, and add --stub {','.join(names)} for "
                    "what it does not."
                ) from error.__cause__

    def _missing(self, error: SubjectError) -> list[str]:
        """The modules that code which ran needs and that are missing; none if that is no cause."""
        missing = missing_behind(error, self.around.paths)
        if missing is None or self.around.stand_ins.covers(missing[1]):
            return []
        cause, name = missing
        # More may be missing behind it in the package that was imported.
        frames = [frame for frame, _ in traceback.walk_tb(cause.__traceback__)]
        imported = [f.f_globals["__name__"] for f in frames if f.f_code.co_name == "<module>"]
        try:
            if imported:
                _load_module(imported[0], "", StandIns.of([*self.around.stand_ins.names, name]))
        except MissingModulesError as more:
            return [name, *more.names]
        except GptInitError:  # which the user will see once this one is there
            pass
        return [name]

    def notes(self) -> tuple[Note, ...]:
        """How it was loaded, if not simply."""
        file = getattr(self.module, "__file__", None)
        of_module = main_guard_notes(Path(file)) if file else ()
        return (*(self.script.notes() if self.script else of_module), *self.around.notes())


def load(
    place: str | Path, what: str, stand_ins: StandIns, beside: Surroundings | None = None
) -> Loaded:
    """A Python file or an importable module, loaded.

    Args:
        place: the path of a file, or the dotted name of a module.
        what: what names it, in errors: "model".
        stand_ins: for modules that are missing.
        beside: the surroundings of another file, which it shares.

    Raises:
        ConfigError: if there is no such file or module.
        SubjectError: if it fails.
    """
    file, text = Path(place), str(place)
    if not (file.suffix == ".py" or "/" in text or file.is_file()):
        return _load_module(text, what, stand_ins)
    if not file.is_file():
        raise ConfigError(f"{what} must be a file that exists, got {text!r}. Check the path.")
    if file.suffix != ".py":
        raise ConfigError(f"{what} must be a Python file ending in .py, got {text!r}.")
    return load_file(file, stand_ins, beside)


def load_file(file: Path, stand_ins: StandIns, beside: Surroundings | None = None) -> Loaded:
    """A Python file, run in its surroundings, or in those and the ones of another file.

    Raises:
        SubjectError: if it fails.
    """
    here = file.resolve()

    def once(stand_ins: StandIns, also: Sequence[str]) -> Loaded:
        around = Surroundings.of(here, stand_ins, also)
        around = around.joined(beside) if beside else around
        script = read_script(here, around.entered)
        with around.entered(), loading(file.name, stand_ins, around.paths, here):
            module = execute(here, around.package, script)
        return Loaded(
            module=module, place=file.name, source=str(file), around=around, script=script
        )

    return _with_all_missing_named(once, stand_ins, here)


def _load_module(module: str, what: str, stand_ins: StandIns) -> Loaded:
    """An importable module, loaded; the working folder is importable."""

    def once(stand_ins: StandIns, _: Sequence[str]) -> Loaded:
        around = Surroundings.here(module, stand_ins)
        with around.entered(), loading(module, stand_ins, around.paths):
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
        return Loaded(module=imported, place=module, source=f"module {module}", around=around)

    return _with_all_missing_named(once, stand_ins)


def _with_all_missing_named(
    load: Callable[[StandIns, Sequence[str]], Loaded], stand_ins: StandIns, file: Path | None = None
) -> Loaded:
    """What `load` loads; an error names all modules that are missing, and not the first one only.

    Python stops at the first: what comes after is found by going on with stand-ins.

    Args:
        load: takes stand-ins, and folders in which imports are looked up last.
        stand_ins: those that the user asked for.
        file: the file, if it is one: a module that is missing may be in a folder around it.
    """
    first: MissingModulesError | None = None
    missing: list[str] = []
    also: list[str] = []
    while True:
        try:
            asked = StandIns.of([*stand_ins.names, *missing]) if missing else stand_ins
            loaded = load(asked, also)
        except MissingModulesError as error:
            near = folders_with(error.names, file) if file else []
            new = [folder for folder in near if folder not in also]
            also += new
            if not new:
                first = first or error
                missing += error.names
            continue
        except GptInitError:  # with stand-ins: which the user will see once the modules are there
            if first is None:
                raise
        else:
            if first is None:
                return loaded
        raise MissingModulesError(first.place, first.line, missing) from first


def load_function(
    text: str, what: str, beside: Loaded | None = None, kind: type = object
) -> tuple[Callable[..., object], Loaded]:
    """The function that "path.py:FUNC" or "package.module:FUNC" names, and where it was loaded.

    Args:
        text: which function of which file or module.
        what: what names it, in errors: "init".
        beside: the model's code: both see the same classes, and the same stand-ins.
        kind: what the function must be an instance of.

    Raises:
        ConfigError: if there is no such file or function.
        SubjectError: if the file fails.
    """
    place, _, name = text.rpartition(":")
    if not place or not name.isidentifier():
        raise ConfigError(f"{what} must be path.py:FUNC or package.module:FUNC, got {text!r}.")
    stand_ins = beside.around.stand_ins if beside else StandIns()
    loaded = load(place, what, stand_ins, beside.around if beside else None)
    with loaded.within(), blamed_on(place, "load without an error"):
        call = loaded.find(name)
    if not callable(call) or not isinstance(call, kind):
        raise ConfigError(f"{what} must name a function of {place}, got {name!r}. Check the name.")
    return call, loaded
