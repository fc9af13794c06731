"""Which modules a file needs that this machine lacks: all of them at once, before it runs."""

import ast
import importlib.util
import re
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

from gptinit.load.script import never_runs

__all__ = ["missing_modules", "missing_name"]

_GUARDS = ("ImportError", "ModuleNotFoundError", "Exception", "BaseException")


def missing_modules(file: Path, folders: Sequence[str]) -> list[str]:
    """Names of modules that a file, or one of the same folders that it imports, cannot import.

    Counted are imports that run whenever the file loads: none inside a function, in a `try` that
    expects them to fail, or for type checkers only.

    Args:
        file: the file.
        folders: where its imports are looked up before the installed packages.
    """
    missing: dict[str, None] = {}
    around = [folder / "__init__.py" for folder in file.parents]
    inside = takewhile(Path.is_file, around)  # packages that are imported before the file
    waiting = [file, *inside]
    seen = set(waiting)
    while waiting:
        here = waiting.pop()
        for module, names, level in _imports(here):
            found, is_whole = _local(module, names, level, here, folders)
            waiting += [path for path in found if path not in seen]
            seen |= set(found)
            whole = _absolute(module, level, here, folders)
            top = whole.partition(".")[0]
            if not is_whole and (found or level or not _is_there(top, folders)):
                missing.setdefault(whole if found or level else top)
    return list(missing)


def missing_name(error: ImportError, folders: Sequence[str]) -> str:
    """What could not be imported: a module, or one inside a module that is there."""
    name = error.name or ""
    if not isinstance(error, ModuleNotFoundError):
        # A folder of that name without code is not the module that is meant.
        return f"{name}.{_not_in(error)}" if error.path else name
    top = name.partition(".")[0]
    return name if _is_there(top, folders) else top


def _not_in(error: ImportError) -> str:
    """The name that a module lacks; Python keeps it since 3.12, and says it in any version."""
    found = re.search(r"cannot import name '(\w+)'", str(error))
    return getattr(error, "name_from", None) or (found[1] if found else "")


def _imports(file: Path) -> Iterator[tuple[str, list[str], int]]:
    """(module, names from it, level) for every import that runs when a file loads."""
    try:
        waiting: list[ast.AST] = [*ast.parse(file.read_bytes()).body]
    except (SyntaxError, ValueError, OSError):
        return  # running it gives a better error
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.Import):
            yield from ((alias.name, [], 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", [alias.name for alias in node.names], node.level
        elif isinstance(node, ast.If) and never_runs(node.test):
            waiting = [*node.orelse, *waiting]
        elif isinstance(node, ast.Try) and any(map(_expects_a_failure, node.handlers)):
            waiting = [*node.finalbody, *waiting]
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting = [*ast.iter_child_nodes(node), *waiting]


def _expects_a_failure(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    return any(isinstance(n, ast.Name) and n.id in _GUARDS for n in ast.walk(handler.type))


def _local(
    module: str, names: Sequence[str], level: int, file: Path, folders: Sequence[str]
) -> tuple[list[Path], bool]:
    """Files of the same folders that an import runs, and whether its module is among them."""
    parts = module.split(".") if module else []
    roots = [file.parents[level - 1]] if level else [Path(folder) for folder in folders]
    for root in roots:
        steps = [root.joinpath(*parts[: i + 1]) for i in range(len(parts))] or [root]
        inner = [steps[-1] / name for name in names if name != "*"]
        found = [path for step in (*steps, *inner) for path in _files(step)]
        if found:
            return found, bool(_files(steps[-1])) or steps[-1].is_dir()
    return [], False


def _absolute(module: str, level: int, file: Path, folders: Sequence[str]) -> str:
    """The full name of a module that a file imports."""
    around = file.parents[level - 1] if level else None
    inside = [around.relative_to(f).parts for f in folders if around and around.is_relative_to(f)]
    return ".".join([*max(inside, key=len, default=()), module])


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
