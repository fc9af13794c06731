"""A training script, read for what it defines: its main body does not run.

Scripts hold a model and, at module level, the code that trains it: `python train.py` downloads a
data set and starts. A file is a script if statements at module level (those under `if __name__ ==
"__main__"` aside, which nobody imports) train, download, load a checkpoint or read the command
line, themselves or through functions of the file that they call, or if one ends the program or is
a `while` loop. Every other file runs as it is.

Of a script run, in their order:

- imports, functions and classes;
- assignments of constants: values made without a call, such as numbers, strings, dicts, lambdas;
- `if` and `try` statements that hold nothing else, and changes of `sys.path`.

All other statements wait. When the code that builds or runs the model asks for a name that one of
them sets (`config = GPTConfig()`, a mask, a device), the statements that set that name run then, in
their order, and so on for the names that those need: a function finds it where it would find a
built-in. What trains or downloads never runs, nor does a loop: a name that only such a statement
sets is an error that names the line. A note says that the main body did not run, and which lines
of it did.
"""

import ast
import builtins
import codeop
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import torch
from torch.utils._python_dispatch import _disable_current_modes

from gptinit.load.isolation import blamed_on
from gptinit.results.profile import Note

__all__ = ["Script", "main_guard_notes", "read_script", "source_tree"]

_FORBIDDEN = frozenset(
    {
        ".backward", "load_dataset", ".load_dataset", "urlretrieve", ".urlretrieve", "urlopen",
        ".urlopen", "snapshot_download", "hf_hub_download", ".Popen", ".check_call",
        ".check_output", "os.system", "subprocess.run", "subprocess.call", "requests.get",
    }
)  # fmt: skip
"""Calls that train, download, or start a process that may: never made on behalf of a model.

`f` is a function, `x.f` that of a name, `.f` that of anything.
"""

_TELLING = _FORBIDDEN | {
    ".parse_args", "init_process_group", ".init_process_group", "torch.load", "torch.save",
}  # fmt: skip
"""Calls that only a program makes at module level."""

_EXITS = frozenset({"sys.exit", "exit", "quit", "SystemExit"})
"""Calls that end a program; under a condition or in `except`, a module makes them too."""

_IN_PLACE = re.compile(
    r"(normal|uniform|xavier|kaiming|orthogonal|zeros|ones|constant|eye|sparse|fill)\w*_$"
)
"""Functions that draw or fill a tensor that is there."""

_IMPORTS = (ast.Import, ast.ImportFrom)
_DEFINITIONS = (*_IMPORTS, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.AugAssign)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)


@dataclass(slots=True, kw_only=True)
class Script:
    """A file whose main body waits.

    Attributes:
        file: the file.
        first: the statements that run when it loads.
        waiting: those that run when a name that they set is asked for, and not before.
        refused: those of them that never run.
        within: the context that its code needs.
        drawing: the first line of the main body that draws weights; 0 where none does.
        ran: lines of waiting statements that ran, first and last.
    """

    file: Path
    first: list[ast.stmt]
    waiting: list[ast.stmt]
    refused: list[ast.stmt]
    within: Callable[[], AbstractContextManager[None]]
    drawing: int = 0
    ran: list[tuple[int, int]] = field(default_factory=list)
    _compile: codeop.Compile = field(default_factory=codeop.Compile)  # keeps `from __future__`

    def run(self, module: ModuleType) -> None:
        """Run the statements that define, in the namespace of a module."""
        namespace = vars(module)
        namespace["__builtins__"] = _Names(self, namespace)
        self._execute(self.first, namespace)

    def provide(self, name: str, namespace: dict[str, object]) -> bool:
        """Run the waiting statements that set a name, and return whether it is there then.

        Raises:
            NameError: if only a loop, or what trains or downloads, sets it.
        """
        setting = [stmt for stmt in self.waiting if name in _set_by(stmt)]
        allowed = [stmt for stmt in setting if stmt not in self.refused]
        if setting and not allowed:
            raise NameError(
                f"name {name!r} is set by the main body of a training script alone, which does not "
                f"run ({self.file.name}:{setting[0].lineno})"
            )
        for stmt in allowed:
            if stmt in self.waiting:
                self.waiting.remove(stmt)  # before it runs: it may ask for the name itself
                self.ran.append((stmt.lineno, stmt.end_lineno or stmt.lineno))
                self._run_late(stmt, namespace)
        return name in namespace

    def _run_late(self, stmt: ast.stmt, namespace: dict[str, object]) -> None:
        """Run a statement as when the file loaded: no tensor of it belongs to the model."""
        place = self.file.name
        rule = f"run line {stmt.lineno} of its main body, since the model needs what that sets"
        with (
            self.within(), blamed_on(place, rule), _disable_current_modes(), torch.device("cpu")
        ):  # fmt: skip
            self._execute([stmt], namespace)

    def notes(self) -> tuple[Note, ...]:
        """A note that the main body did not run, with the lines of it that the model asked for."""
        lines = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in sorted(self.ran))
        message = (
            f"{self.file.name} is a training script: it was read for its imports, classes, "
            "functions and constants, and its main body did not run"
        )
        but = f", but for what the model needs of it (lines {lines})." if lines else "."
        read = Note(kind="engine", where="script", message=message + but)
        return (read, *_drawn_in(self.file, self.drawing))

    def _execute(self, statements: Sequence[ast.stmt], namespace: dict[str, object]) -> None:
        tree = ast.Module(body=list(statements), type_ignores=[])
        # It takes trees too, as `compile` does.
        exec(self._compile(tree, str(self.file), "exec"), namespace)  # type: ignore[arg-type]


class _Names(dict[str, object]):
    """The built-in names of a script, and after them those that its waiting statements set."""

    def __init__(self, script: Script, namespace: dict[str, object]) -> None:
        super().__init__(vars(builtins))
        self._script, self._namespace = script, namespace

    def __missing__(self, name: str) -> object:
        if self._script.provide(name, self._namespace):
            return self._namespace[name]
        raise KeyError(name)


def source_tree(file: Path, naming: str = "") -> ast.Module:
    """A file's syntax tree; an empty one where it cannot be read, or does not match `naming`."""
    try:
        text = file.read_bytes()
        return ast.parse(text if re.search(naming.encode(), text) else "")
    except (OSError, SyntaxError, ValueError):  # running it gives a better error
        return ast.parse("")


def read_script(file: Path, within: Callable[[], AbstractContextManager[None]]) -> Script | None:
    """A file as a script; None if it is an ordinary module."""
    tree = source_tree(file)
    body = [stmt for part in tree.body for stmt in _imported_part(part)]
    loose = [stmt for stmt in body if not isinstance(stmt, _DEFINITIONS)]
    makers = list(_makers(tree))
    telling = _reaching(makers, _TELLING)
    if not any(_calls(stmt) & telling or _is_of_program(stmt) for stmt in loose):
        return None
    forbidden = _reaching(makers, _FORBIDDEN)
    waiting = _waiting(loose, _imported(tree))
    return Script(
        file=file,
        first=[stmt for stmt in body if stmt not in waiting],
        waiting=waiting,
        refused=[s for s in waiting if isinstance(s, _LOOPS) or _calls(s) & forbidden],
        within=within,
        drawing=_first_drawing(tree, [*waiting, *_guarded(tree)]),
    )


def _is_of_program(stmt: ast.stmt) -> bool:
    """Whether a statement ends the program, or goes on until something happens."""
    is_exit = isinstance(stmt, ast.Expr | ast.Raise) and bool(_calls(stmt) & _EXITS)
    return is_exit or isinstance(stmt, ast.While)


def _never_runs(test: ast.expr) -> bool:
    """Whether a condition is that of a type checker, or of a file that is run and not imported."""
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return True
        case ast.BoolOp(op=ast.And()):
            return any(map(_never_runs, test.values))
        case ast.BoolOp(op=ast.Or()):
            return all(map(_never_runs, test.values))
        case ast.Compare(ops=[ast.Eq() | ast.In()]):
            parts = list(ast.walk(test))
            is_of_name = any(isinstance(n, ast.Name) and n.id == "__name__" for n in parts)
            return is_of_name and any(
                isinstance(n, ast.Constant) and "__main__" in str(n.value) for n in parts
            )
        case _:
            return False


def _imported_part(stmt: ast.stmt) -> list[ast.stmt]:
    """What of a statement at module level can run where the file is imported."""
    return stmt.orelse if isinstance(stmt, ast.If) and _never_runs(stmt.test) else [stmt]


def main_guard_notes(file: Path) -> tuple[Note, ...]:
    """A note where an ordinary module draws weights under `if __name__ == "__main__"`."""
    tree = source_tree(file, "__main__")
    return _drawn_in(file, _first_drawing(tree, _guarded(tree)))


def _drawn_in(file: Path, line: int) -> tuple[Note, ...]:
    if not line:
        return ()
    message = (
        f"The main body of {file.name} draws or fills tensors ({file.name}:{line}), which did not "
        "happen: if they are weights, write a function that takes the model and does it, and name "
        "that with --init."
    )
    return (Note(kind="approximate", where="script", message=message),)


def _guarded(tree: ast.Module) -> list[ast.stmt]:
    guards = (s for s in tree.body if isinstance(s, ast.If) and _never_runs(s.test))
    return [stmt for guard in guards for stmt in guard.body]


def _first_drawing(tree: ast.Module, statements: Sequence[ast.stmt]) -> int:
    """The line of the first statement that draws in place, itself or by own functions; else 0.

    Constructors are left out, and so is what is assigned: a new tensor, or the model itself.
    """
    classes = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    makers = [(name, calls) for name, calls in _makers(tree) if name not in classes]
    direct = frozenset(c for _, calls in makers for c in calls if _IN_PLACE.search(c))
    drawing = _reaching(makers, direct)
    for stmt in statements:
        nodes = list(_run_by(stmt))
        assigned = {part for n in nodes if isinstance(n, ast.Assign) for part in ast.walk(n)}
        for node in nodes:
            if isinstance(node, ast.Call) and node not in assigned:
                passed = {arg.id for arg in node.args if isinstance(arg, ast.Name)}
                called = _called(node) | passed
                if called & drawing or any(map(_IN_PLACE.search, called)):
                    return node.lineno
    return 0


def _reaching(
    makers: Sequence[tuple[str, frozenset[str]]], calls: frozenset[str]
) -> frozenset[str]:
    """The calls, with those of the functions, methods and classes of a file that make one."""
    reaching, before = calls, frozenset[str]()
    while reaching != before:
        before = reaching
        reaching |= {name for name, made in makers if made & reaching}
    return reaching


def _makers(tree: ast.Module) -> Iterator[tuple[str, frozenset[str]]]:
    """How every function, method and class of a file is called, and what it calls then."""
    methods = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, _FUNCTIONS):
                    methods.add(method)
                    name = node.name if method.name == "__init__" else f".{method.name}"
                    yield name, _calls(*method.body)
        elif isinstance(node, _FUNCTIONS) and node not in methods:
            yield node.name, _calls(*node.body)


def _calls(*statements: ast.stmt) -> frozenset[str]:
    """What statements call, but for definitions in them."""
    nodes = (node for stmt in statements for node in _run_by(stmt))
    return frozenset[str]().union(*(_called(node) for node in nodes if isinstance(node, ast.Call)))


def _called(call: ast.Call) -> frozenset[str]:
    """The call's names: "f" of f(), ".f" and "x.f" of x.f()."""
    match call.func:
        case ast.Name(id=name):
            return frozenset({name})
        case ast.Attribute(value=ast.Name(id=owner), attr=name):
            return frozenset({f".{name}", f"{owner}.{name}"})
        case ast.Attribute(attr=name):
            return frozenset({f".{name}"})
    return frozenset()


def _run_by(stmt: ast.stmt) -> Iterator[ast.AST]:
    """The nodes of a statement that run with it: none inside functions and classes in it."""
    waiting: list[ast.AST] = [stmt]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (*_DEFINITIONS, ast.Lambda)):
            waiting += ast.iter_child_nodes(node)


def _imported(tree: ast.Module) -> frozenset[str]:
    return frozenset(
        (alias.asname or alias.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, _IMPORTS)
        for alias in node.names
    )


def _waiting(loose: Sequence[ast.stmt], imported: frozenset[str]) -> list[ast.stmt]:
    """The statements that do not define, and all others that set or read a name that those set."""
    waiting = [stmt for stmt in loose if isinstance(stmt, ast.Raise) or not _defines(stmt)]
    before = -1
    while before != len(waiting):
        before = len(waiting)
        names = frozenset[str]().union(*map(_set_by, waiting)) - imported
        waiting += [s for s in loose if s not in waiting and (_set_by(s) | _read_by(s)) & names]
    return sorted(waiting, key=lambda stmt: stmt.lineno)


def _read_by(stmt: ast.stmt) -> frozenset[str]:
    """Names that a statement reads when it runs: nothing inside functions that it defines."""
    return frozenset(node.id for node in _run_by(stmt) if isinstance(node, ast.Name))


def _defines(stmt: ast.stmt) -> bool:
    """Whether a statement only imports, defines, or sets constants."""
    if isinstance(stmt, (*_DEFINITIONS, ast.Pass, ast.Raise)):
        return True
    if isinstance(stmt, ast.Expr):
        return isinstance(stmt.value, ast.Constant) or _changes_search_path(stmt.value)
    if isinstance(stmt, _ASSIGNMENTS):
        return stmt.value is None or not any(
            isinstance(node, ast.Call | ast.Subscript | ast.Await) for node in ast.walk(stmt.value)
        )
    if isinstance(stmt, ast.If | ast.Try):
        inner = [*stmt.body, *stmt.orelse]
        if isinstance(stmt, ast.Try):
            inner += [*stmt.finalbody, *(s for handler in stmt.handlers for s in handler.body)]
        return all(map(_defines, inner))
    return False


def _set_by(stmt: ast.stmt) -> frozenset[str]:
    """Names that a statement sets or changes: x of `x = 1`, `x[0] = 1`, `x.a = 1`, `x.add(1)`."""
    found: set[str] = set()
    for node in _run_by(stmt):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.add(node.name)
            case ast.Name(ctx=ast.Store()) | ast.Attribute(ctx=ast.Store()):
                found.add(_root(node))
            case ast.Subscript(ctx=ast.Store()):
                found.add(_root(node))
            case ast.Expr(value=ast.Call(func=ast.Attribute() as method)):
                found.add(_root(method))
            case _:
                pass
    return frozenset(found - {""})


def _root(node: ast.expr) -> str:
    """The name that attributes and items are taken of; "" for another expression."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _changes_search_path(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and ast.unparse(value.func).startswith("sys.path.")
