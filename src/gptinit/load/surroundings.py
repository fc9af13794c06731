"""Where a file is loaded and built: its folders, the modules of these, and what stands in."""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType

import torch

from gptinit.errors import GptInitError, SubjectError
from gptinit.load.isolation import blamed_on, isolated
from gptinit.load.missing import (
    MissingModulesError,
    missing_behind,
)
from gptinit.load.no_cuda import CpuForCuda
from gptinit.load.script import Script, source_tree
from gptinit.load.stand_ins import StandIns
from gptinit.results.profile import Note
from gptinit.user_code import failed_module, is_installed, one_line, place_of, remedy_for

__all__ = ["Surroundings", "execute", "importable", "loading"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The folders of a file and the modules imported from them: two files may have a utils.py each.

    Attributes:
        program: the file, as its code sees sys.argv[0].
        paths: folders in which its imports are looked up.
        package: folders, outermost first, that its relative imports go through.
        stand_ins: imported in place of missing modules.
        cpu: in place of a GPU that is missing.
        modules: modules imported from these folders so far.
    """

    program: str
    paths: tuple[str, ...]
    package: tuple[Path, ...]
    stand_ins: StandIns
    cpu: CpuForCuda | None = None
    modules: dict[str, ModuleType] = field(default_factory=dict)

    @classmethod
    def of(cls, file: Path, stand_ins: StandIns, also: Sequence[str] = ()) -> "Surroundings":
        """Those of a file, with further folders in which imports are looked up last."""
        folders = list(file.parents)
        depth = 0
        while (folders[depth] / "__init__.py").is_file():
            depth += 1
        # Inside a package, absolute imports begin at its root: `clip` is not clip/clip.py there.
        inside = depth > 0
        depth = min(max(depth, _relative_level(file)), len(folders) - 1)
        order = (folders[depth], folders[0]) if inside else (folders[0], folders[depth])
        paths = dict.fromkeys([*map(str, order), *also])
        package = tuple(reversed(folders[:depth]))
        # Others are not slowed down.
        needs_cpu = not torch.cuda.is_available() and b"cuda" in file.read_bytes()
        return cls(
            program=str(file), paths=tuple(paths), package=package, stand_ins=stand_ins,
            cpu=CpuForCuda() if needs_cpu else None,
        )  # fmt: skip

    @classmethod
    def here(cls, module: str, stand_ins: StandIns) -> "Surroundings":
        """Those of an importable module: the working folder."""
        return cls(program=module, paths=(str(Path.cwd()),), package=(), stand_ins=stand_ins)

    def joined(self, other: "Surroundings") -> "Surroundings":
        """These surroundings with the folders and the modules of another file besides."""
        both = tuple(dict.fromkeys((*self.paths, *other.paths)))
        return replace(self, paths=both, modules=other.modules)

    def notes(self) -> tuple[Note, ...]:
        """What stood in for what, so far."""
        return (*(self.cpu.notes() if self.cpu else ()), *self.stand_ins.notes())

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Run code of the file inside the block; the caller's modules stay as they were."""
        with isolated(self.program), self.stand_ins.imported(), self.cpu or nullcontext():
            # Two models may both import a `utils`: each sees that of its own folder.
            aside = {name: sys.modules.pop(name) for name in self._colliding()}
            present = set(sys.modules)
            sys.modules.update(self.modules)
            try:
                with importable(self.paths):
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
        """The modules of these folders, and of packages that hold stand-ins, imported since."""
        takers = {name.partition(".")[0] for name in self.stand_ins.takers}
        return {
            name: module
            for name, module in list(sys.modules.items())
            if name.partition(".")[0] not in present
            and (origin := _origin(module))
            and (name.partition(".")[0] in takers or self._is_here(origin))
        }

    def _is_here(self, origin: str) -> bool:
        return not is_installed(origin) and any(map(Path(origin).is_relative_to, self.paths))


@contextmanager
def loading(
    place: str, stand_ins: StandIns, folders: Sequence[str], file: Path | None = None
) -> Iterator[None]:
    """Load code inside the block, and say of a module that is missing how to go on without it.

    Raises:
        SubjectError: if the code fails.
    """
    with blamed_on(place, "load without an error"), stand_ins.loading():
        try:
            yield
        except GptInitError:
            raise
        except Exception as error:
            missing = missing_behind(error, folders)
            if missing and not stand_ins.covers(missing[1]):
                failing, name = missing
                raise MissingModulesError(place, place_of(failing), [name]) from error
            failed, where = failed_module(error)
            own = place.removesuffix(".py").rpartition(".")[2]
            is_own = failed.rpartition(".")[2].rstrip("_") in ("", own.rstrip("_"))
            is_around = where.name == "__init__.py" and where.parent in (file or where).parents
            remedies = []
            if asked := stand_ins.asked:
                remedies.append(
                    f"Before that, it asked {asked}, and a stand-in says no to everything: "
                    f"install {asked.partition('.')[0]} if that is why."
                )
            if not (is_own or is_around):
                remedies.append(f"If the model does not need {failed}, add --stub {failed}.")
            if not remedies or remedy_for(error):
                raise
            raise SubjectError(
                f"{place} must load without an error, got {one_line(error)}. {' '.join(remedies)}"
            ) from error


@contextmanager
def importable(folders: tuple[str, ...]) -> Iterator[None]:
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
    folders = names.get("__path__", ())
    # A namespace package's path is looked up in its parent whenever it is read, and where an
    # import failed there is no parent left; what was found last is kept beside it.
    return names.get("__file__") or next(iter(getattr(folders, "_path", folders)), None)


def _relative_level(file: Path) -> int:
    """Number of folders that the relative imports of a file go up."""
    nodes = ast.walk(source_tree(file))
    return max((node.level for node in nodes if isinstance(node, ast.ImportFrom)), default=0)


def execute(file: Path, package: tuple[Path, ...], script: Script | None) -> ModuleType:
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
    try:
        if script:
            script.run(module)
        else:
            spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)  # as Python does: half a module must not be found again
        raise
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
