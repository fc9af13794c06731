"""Which branches on text the init code came to, and which of them it took.

While a factory runs, Python reports the lines of those functions that could matter: they call
something that draws or scales. In these, an `if` that compares text, and whose body draws or
scales, is watched: which texts it was asked about, and whether a line of its body ran. Where a
debugger or a coverage tool watches the lines already, nothing is watched here.
"""

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any, TypeAlias

from gptinit.trace.record.provenance import is_of_user, shown_file

__all__ = ["Branch", "watched_branches"]

_DRAWS = re.compile(r"(normal|uniform|xavier|glorot|kaiming|orthogonal|mul|div)\w*_$|^rand")
_SCALES = (ast.Mult, ast.Div)
_Tracer: TypeAlias = Callable[[FrameType, str, Any], Any]


@dataclass(eq=False, slots=True, kw_only=True)
class Branch:
    """One `if` of init code that compares text, with a body that draws or scales.

    Attributes:
        file: as users know it.
        line: of the `if`.
        test: the expression.
        texts: what it compares with.
        variables: its variables.
        body: lines of its body.
        asked: the texts that its variables had, as pairs (variable, text), each time it was run.
        is_taken: whether a line of its body ran.
    """

    file: str
    line: int
    test: ast.expr
    texts: tuple[str, ...]
    variables: tuple[str, ...]
    body: range
    asked: set[tuple[tuple[str, str], ...]] = field(default_factory=set)
    is_taken: bool = False


@contextmanager
def watched_branches() -> Iterator[list[Branch]]:
    """Collect the branches on text that the code inside the block comes to."""
    reached: list[Branch] = []
    if sys.gettrace() is not None:
        yield reached
        return
    # By id, with the code kept alive: a code object's own hash takes longer than the call.
    known: dict[int, tuple[CodeType, _Tracer | None]] = {}

    def enter(frame: FrameType, event: str, _: Any) -> _Tracer | None:
        code = frame.f_code
        if id(code) not in known:
            branches = _branches_of(code)
            known[id(code)] = code, _tracer(branches, reached) if branches else None
        return known[id(code)][1]

    sys.settrace(enter)
    try:
        yield reached
    finally:
        sys.settrace(None)


def _tracer(branches: list[Branch], reached: list[Branch]) -> _Tracer:
    """What Python calls for each line of a function with these branches."""
    at_test: dict[int, list[Branch]] = {}
    in_body: dict[int, list[Branch]] = {}
    for branch in branches:
        at_test.setdefault(branch.line, []).append(branch)
        for number in branch.body:
            in_body.setdefault(number, []).append(branch)

    def line(frame: FrameType, event: str, _: Any) -> _Tracer:
        for branch in in_body.get(frame.f_lineno, ()) if event == "line" else ():
            branch.is_taken = True
        for branch in at_test.get(frame.f_lineno, ()) if event == "line" else ():
            if not any(branch is other for other in reached):
                reached.append(branch)
            known = ((name, frame.f_locals.get(name)) for name in branch.variables)
            branch.asked.add(tuple((n, v) for n, v in known if isinstance(v, str)))
        return line

    return line


def _branches_of(code: CodeType) -> list[Branch]:
    """The branches of a function that are worth watching; none where its source is not known."""
    could_matter = any(_DRAWS.search(name) for name in code.co_names)
    if not could_matter or code.co_name == "<module>" or not is_of_user(code.co_filename):
        return []
    try:
        lines, first = inspect.getsourcelines(code)
        is_indented = lines[0][:1].isspace()
        tree = ast.parse("".join(["if True:\n", *lines] if is_indented else lines))
    except (OSError, TypeError, SyntaxError):
        return []
    ast.increment_lineno(tree, first - 1 - is_indented)
    return list(_branches(tree, shown_file(code.co_filename)))


def _branches(tree: ast.AST, file: str) -> Iterator[Branch]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _draws(node)]
    given = {part.id for call in calls for part in ast.walk(call) if isinstance(part, ast.Name)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.If) or node.body[0].lineno <= (node.test.end_lineno or 0):
            continue  # on one line with its test: whether it ran cannot be seen
        parts = list(ast.walk(node.test))
        texts = [p.value for p in parts if isinstance(p, ast.Constant) and isinstance(p.value, str)]
        names = [p.id for p in parts if isinstance(p, ast.Name)]
        inside = (part for statement in node.body for part in ast.walk(statement))
        if texts and names and any(_changes(part, given) for part in inside):
            yield Branch(
                file=file,
                line=node.lineno,
                test=node.test,
                texts=tuple(dict.fromkeys(texts)),
                variables=tuple(dict.fromkeys(names)),
                body=range(node.body[0].lineno, (node.body[-1].end_lineno or 0) + 1),
            )


def _draws(call: ast.Call) -> bool:
    called = call.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return bool(_DRAWS.search(name))


def _changes(part: ast.AST, given: set[str]) -> bool:
    """Whether a part of a body draws, scales in place, or scales what a draw is given."""
    if isinstance(part, ast.Call):
        return _draws(part)
    if isinstance(part, ast.AugAssign):
        return isinstance(part.op, _SCALES)
    if isinstance(part, ast.Assign):
        targets = {t.id for t in part.targets if isinstance(t, ast.Name)}
        scales = any(isinstance(p, ast.BinOp) and isinstance(p.op, _SCALES) for p in ast.walk(part))
        return bool(targets & given) and scales
    return False
