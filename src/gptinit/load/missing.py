"""Which modules code needs that this machine lacks, and where around a file they may be."""

import ast
import importlib.util
import re
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from gptinit.errors import SubjectError
from gptinit.load.script import source_tree
from gptinit.user_code import is_installed

__all__ = ["MissingModulesError", "failed_import", "folders_with", "is_guarded", "missing_behind"]

_GUARDS = ("ImportError", "ModuleNotFoundError", "Exception", "BaseException")
_EXITS = ("exit", "quit", "_exit")


class MissingModulesError(SubjectError):
    """Code that needs modules that this machine lacks."""

    def __init__(self, place: str, line: str, names: Sequence[str]) -> None:
        super().__init__(
            f"{place} must import modules that are installed, got none named {', '.join(names)} "
            f"({line}). Install what the model needs, and add --stub {','.join(names)} for what "
            "it does not."
        )
        self.place, self.line, self.names = place, line, tuple(names)


def failed_import(error: BaseException | None) -> ImportError | None:
    """The import of a module by its name that an error is about, or came of; None if none is.

    Example:
        >>> try:
        ...     try:
        ...         import nowhere
        ...     except ImportError as error:
        ...         raise RuntimeError("pip install nowhere") from error
        ... except RuntimeError as error:
        ...     failed_import(error).name
        'nowhere'
    """
    while error is not None and not (isinstance(error, ImportError) and error.name):
        error = error.__cause__ or error.__context__
    return error


def folders_with(names: Sequence[str], file: Path) -> list[str]:
    """Folders around a file, or their src, that hold modules that it lacks: it is run from there.

    Args:
        names: of modules that are not found.
        file: the file, whose other imports show too from where it is run.
    """
    outside = [f for f in file.parents[:-1] if not (f / "__init__.py").is_file()]
    around = [place for folder in outside for place in (folder, folder / "src")]
    imported = _imported(file)
    lacking = [module for module in imported if not _is_there(module.partition(".")[0], ())]
    found: dict[str, None] = {}
    for top in dict.fromkeys(name.partition(".")[0] for name in (*names, *lacking)):
        # All of it: a folder may be called like a package that is meant and not there.
        inside = {module for module in imported if module.partition(".")[0] == top} or {top}
        paths = ["/".join(module.split(".")) for module in inside]
        holding = (str(p) for p in around if all(_has_code(p / path) for path in paths))
        found |= dict.fromkeys([folder for folder in [next(holding, "")] if folder])
    return list(found)


def _has_code(stem: Path) -> bool:
    return bool(_files(stem)) or any(stem.glob("*.py")) or any(stem.glob("*/*.py"))


@cache
def _guarded_lines(file: str) -> tuple[range, ...]:
    return tuple(
        range(node.body[0].lineno, (node.body[-1].end_lineno or 0) + 1)
        for node in ast.walk(source_tree(Path(file)))
        if isinstance(node, ast.Try) and any(map(_expects_a_failure, node.handlers))
    )


def is_guarded(file: str, line: int) -> bool:
    """Whether a line stands in a `try` that goes on where an import fails."""
    return any(line in lines for lines in _guarded_lines(file))


def missing_behind(error: BaseException, folders: Sequence[str]) -> tuple[ImportError, str] | None:
    """The import that an error came of, and what to install for it; None if there is none.

    Args:
        error: of the user's code.
        folders: in which imports are looked up.
    """
    failed = failed_import(error)
    name = _missing_name(failed, folders) if failed else ""
    return (failed, name) if failed and name else None


def _missing_name(error: ImportError, folders: Sequence[str]) -> str:
    """What could not be imported: a module, or one inside a module that is there.

    It is "" for a name that Python's own modules or the user's lack: nothing is to be installed.
    """
    name = error.name or ""
    top = name.partition(".")[0]
    if isinstance(error, ModuleNotFoundError):
        return name if _is_there(top, folders) else top
    if not error.path:  # a folder of that name without code is not the module that is meant
        return name
    file = Path(error.path)
    # What a package of the user's lacks may be a module of it, such as one to be compiled.
    is_of_user = not is_installed(file) and file.name != "__init__.py"
    return "" if top in sys.stdlib_module_names or is_of_user else f"{name}.{_not_in(error)}"


def _not_in(error: ImportError) -> str:
    """The name that a module lacks; Python keeps it since 3.12, and says it in any version."""
    found = re.search(r"cannot import name '(\w+)'", str(error))
    return getattr(error, "name_from", None) or (found[1] if found else "")


def _imported(file: Path) -> list[str]:
    """The modules that a file imports by their whole names, wherever in it."""
    found = []
    for node in ast.walk(source_tree(file)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.append(node.module or "")
    return found


def _expects_a_failure(handler: ast.ExceptHandler) -> bool:
    """Whether an import may fail that it handles: it neither raises again nor ends the program."""
    caught = ast.walk(handler.type) if handler.type else ()
    is_guard = handler.type is None or any(getattr(n, "id", "") in _GUARDS for n in caught)
    match handler.body[-1]:
        case ast.Raise():
            return False
        case ast.Expr(value=ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name))):
            return is_guard and name not in _EXITS
        case _:
            return is_guard


def _files(stem: Path) -> list[Path]:
    candidates = (stem / "__init__.py", stem.with_name(f"{stem.name}.py"))
    return [path for path in candidates if path.is_file()]


def _is_there(top: str, folders: Sequence[str]) -> bool:
    if any((Path(folder) / top).is_dir() for folder in folders):  # a package without __init__
        return True
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):  # such as a module that has no spec
        return True
