"""Which functions the init code called, and which branches on text it came to and never took.

While a factory runs, Python reports every step of those functions that could matter: they call
something that draws or scales. A step is a place in the source, by line and column, so that it does
not matter how a branch is written (`arms`): its code ran if a step lies in it. Of the conditions of
its test is kept which texts their variables had whenever they were asked.

Python 3.10 knows the lines of steps and not their columns: there, a branch on one line with its
test is not watched, and a test of several conditions counts only where all are on text. Where a
debugger or a coverage tool watches the lines already, only calls are watched here.
"""

import ast
import dis
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any, TypeAlias

from gptinit.trace.record.arms import DRAWS, Arm, arms
from gptinit.trace.record.calls import profiled
from gptinit.trace.record.provenance import is_of_user, shown_file

__all__ = ["Asked", "Branch", "Condition", "Watch", "watched"]

_HAS_COLUMNS = sys.version_info >= (3, 11)
_LINE = 1 << 20
"""Places are numbers, line by line: this is more than a line has columns."""

_Tracer: TypeAlias = Callable[[FrameType, str, Any], Any]
_Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a condition saw, once or more often.

    Attributes:
        own: the texts of each of its variables, by name.
        around: the texts in the function's other variables.
    """

    own: tuple[tuple[str, tuple[str, ...]], ...]
    around: frozenset[str]


@dataclass(eq=False, slots=True)
class Condition:
    """A condition without `and`, `or` and `not`.

    Attributes:
        test: the expression.
        variables: (name, attribute) of its variables; the attribute is "" of a plain one.
        asked: what it saw.
    """

    test: ast.expr
    variables: tuple[tuple[str, str], ...]
    asked: set[Asked] = field(default_factory=set)

    def note(self, frame: FrameType) -> None:
        """Keep what it is asked about now."""
        local = frame.f_locals
        own = [(f"{n}.{a}", _texts(n, a, local, frame.f_globals)) for n, a in self.variables]
        around = frozenset(value for value in local.values() if isinstance(value, str))
        self.asked.add(Asked(tuple((n, t) for n, t in own if t), around))


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """Code that draws or scales, and never ran although its test did.

    Attributes:
        file: as users know it.
        line: of the test.
        test: the test, as Python writes it.
        conditions: those that kept the code from running, each by itself or all together.
    """

    file: str
    line: int
    test: str
    conditions: tuple[Condition, ...]


@dataclass(slots=True)
class Watch:
    """What ran while code was watched.

    Attributes:
        codes: the code of every function that was called, by its id.
        untaken: the branches that it came to and did not take; known at the end.
    """

    codes: dict[int, CodeType] = field(default_factory=dict)
    untaken: list[Branch] = field(default_factory=list)


@contextmanager
def watched() -> Iterator[Watch]:
    """Watch which functions the code inside the block calls, and which branches it takes."""
    watch = Watch()
    codes = watch.codes  # by id: a code object's own hash takes longer than the call
    if sys.gettrace() is not None:
        with profiled(lambda frame, *_: codes.setdefault(id(frame.f_code), frame.f_code)):
            yield watch
        return
    functions: list[_Watched] = []
    tracers: dict[int, _Tracer] = {}

    def enter(frame: FrameType, event: str, _: Any) -> _Tracer | None:
        code = frame.f_code
        if id(code) not in codes:
            codes[id(code)] = code  # kept alive, so that no other code has its id
            function = None if id(code) in tracers else _watched(code)
            if function is not None:
                functions.append(function)
                tracers.update({id(c): function.tracer(c) for c in _codes(code)})
        tracer = tracers.get(id(code))
        if tracer is not None:
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return tracer

    sys.settrace(enter)
    try:
        yield watch
    finally:
        sys.settrace(None)
        watch.untaken += [branch for function in functions for branch in function.untaken()]


@dataclass(slots=True, kw_only=True)
class _Watched:
    """A function with arms, and the steps of it and of functions inside it that ran.

    Attributes:
        file: as users know it.
        waiting: the arms that did not run yet.
        conditions: of their tests.
        ran: the places in the source of all steps.
    """

    file: str
    waiting: list[Arm]
    conditions: Mapping[ast.expr, Condition]
    ran: set[_Span] = field(default_factory=set)

    def tracer(self, code: CodeType) -> _Tracer:
        """What Python calls for each step of a function, until it has seen every arm run."""
        spans = _spans(code)
        asks = [(c, _first(spans, c.test)) for c in self.conditions.values()]
        at = {offset: [c for c, o in asks if o == offset] for _, offset in asks}

        def step(frame: FrameType, event: str, _: Any) -> _Tracer | None:
            offset = frame.f_lasti
            if event == "opcode" and offset in spans and spans[offset] not in self.ran:
                self.ran.add(spans[offset])
                self.waiting = [arm for arm in self.waiting if not any(map(self._ran, arm.code))]
            if not self.waiting:
                frame.f_trace_opcodes = False
                return None
            if event == "opcode":
                for condition in at.get(offset, ()):
                    condition.note(frame)
            return step

        return step

    def untaken(self) -> Iterator[Branch]:
        """The arms whose test ran, and that did not run."""
        for arm in self.waiting:
            if self._ran(arm.test):
                conditions = self._unmet(arm.test, wanted=arm.wanted)
                if conditions:
                    yield Branch(
                        file=self.file,
                        line=arm.test.lineno,
                        test=ast.unparse(arm.test),
                        conditions=tuple(conditions),
                    )

    def _unmet(self, test: ast.expr, *, wanted: bool) -> list[Condition] | None:
        """The conditions that kept a test from saying `wanted`; None if one asks for a *not*.

        Nobody misses what is not called something.
        """
        match test:
            case ast.UnaryOp(op=ast.Not(), operand=inner):
                return self._unmet(inner, wanted=not wanted)
            case ast.BoolOp(op=op, values=values):
                if isinstance(op, ast.And) is wanted and _HAS_COLUMNS:  # the first that never was
                    ran = [value for value in values if self._ran(value)]
                    return self._unmet(ran[-1], wanted=wanted)
                found = [self._unmet(value, wanted=wanted) for value in values]
                known = [conditions for conditions in found if conditions]
                return [c for cs in known for c in cs] if len(known) == len(found) else None
        return [self.conditions[test]] if _may_name(test, wanted=wanted) else None

    def _ran(self, node: ast.AST) -> bool:
        return any(_is_in(span, node) for span in self.ran)


def _watched(code: CodeType) -> _Watched | None:
    """A function with the arms that are worth watching; None if it has none that can be seen."""
    if code.co_name == "<module>" or not is_of_user(code.co_filename):
        return None
    if not any(DRAWS.search(name) for c in _codes(code) for name in c.co_names):
        return None
    try:
        lines, first = inspect.getsourcelines(code)
        is_indented = lines[0][:1].isspace()
        tree = ast.parse("".join(["if True:\n", *lines] if is_indented else lines))
    except (OSError, TypeError, SyntaxError):
        return None
    ast.increment_lineno(tree, first - 1 - is_indented)
    found = [a for a in arms(tree) if _may_name(a.test, wanted=a.wanted)]
    found = [a for a in found if _HAS_COLUMNS or _is_below(a)]
    tests = (test for arm in found for test in _conditions(arm.test))
    conditions = {test: Condition(test, tuple(dict.fromkeys(_variables(test)))) for test in tests}
    file = shown_file(code.co_filename)
    return _Watched(file=file, waiting=found, conditions=conditions) if found else None


def _may_name(test: ast.expr, *, wanted: bool) -> bool:
    """Whether a test may ask what something is called, and say `wanted` of it."""
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            return _may_name(inner, wanted=not wanted)
        case ast.BoolOp(op=op, values=values):
            enough = any if isinstance(op, ast.And) is wanted else all
            return enough(_may_name(value, wanted=wanted) for value in values)
        case ast.Compare(ops=[op], comparators=[right]):
            is_number = isinstance(right, ast.Constant) and not isinstance(right.value, str)
            asks = (ast.Eq, ast.In) if wanted else (ast.NotEq, ast.NotIn)
            return isinstance(op, asks) and not is_number
        case ast.Call(func=ast.Name(id="isinstance" | "issubclass" | "hasattr" | "callable")):
            return False
    return wanted and isinstance(test, ast.Call | ast.NamedExpr)


def _is_below(arm: Arm) -> bool:
    return bool(arm.code) and arm.code[0].lineno > (arm.test.end_lineno or 0)  # type: ignore[attr-defined]


def _conditions(test: ast.expr) -> Iterator[ast.expr]:
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            yield from _conditions(inner)
        case ast.BoolOp(values=values):
            for value in values:
                yield from _conditions(value)
        case _:
            yield test


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code of a function and of all functions inside it."""
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _codes(inner)


def _spans(code: CodeType) -> dict[int, _Span]:
    """Offset of each step of a function to the part of the source that it belongs to."""
    if not _HAS_COLUMNS:  # the first step of each line
        starts = ((offset, line or 0) for offset, line in dis.findlinestarts(code))
        return {offset: (line * _LINE, line * _LINE) for offset, line in starts}
    found = {}
    for number, (line, end_line, column, end_column) in enumerate(code.co_positions()):
        if line and end_line:
            start, end = line * _LINE + (column or 0), end_line * _LINE + (end_column or 0)
            found[2 * number] = start, end  # a step is two bytes
    return found


def _first(spans: Mapping[int, _Span], node: ast.AST) -> int:
    return min((offset for offset, span in spans.items() if _is_in(span, node)), default=-1)


def _is_in(span: _Span, node: ast.AST) -> bool:
    start, end = node.lineno * _LINE, node.end_lineno * _LINE  # type: ignore[attr-defined]
    if _HAS_COLUMNS:
        start, end = start + node.col_offset, end + node.end_col_offset  # type: ignore[attr-defined]
    return bool(start <= span[0] and span[1] <= end)


def _variables(test: ast.expr) -> Iterator[tuple[str, str]]:
    for part in ast.walk(test):
        match part:
            case ast.Name(id=name):
                yield name, ""
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                yield name, attribute


def _texts(
    name: str, attribute: str, local: Mapping[str, object], around: Mapping[str, object]
) -> tuple[str, ...]:
    """The texts in a variable, or in an attribute of one."""
    value: Any = local[name] if name in local else around.get(name)
    value = inspect.getattr_static(value, attribute, None) if attribute else value
    if isinstance(value, str):
        return (value,)
    if isinstance(value, re.Pattern):
        return (str(value.pattern),)
    is_plain = isinstance(value, list | tuple | set | frozenset | dict)
    if is_plain and all(isinstance(entry, str) for entry in value):
        return tuple(sorted(value) if isinstance(value, set | frozenset) else value)
    return ()
