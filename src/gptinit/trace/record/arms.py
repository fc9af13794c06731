"""The parts of a function that draw or scale and run only if a test allows it, by its source.

Such a part is the body of an `if`, an `else` or a `case`, what follows `if ...: continue`, either
side of a conditional expression that a draw is given, what follows `and` or `or`, or the element of
a comprehension with an `if`.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

__all__ = ["DRAWS", "Arm", "arms"]

DRAWS = re.compile(r"(normal|uniform|xavier|glorot|kaiming|orthogonal|mul|div)\w*_$|^rand")
"""Names of functions that draw, or scale in place."""

_SCALES = (ast.Mult, ast.Div)
_LEAVES = (ast.Continue, ast.Break, ast.Return, ast.Raise)
_ASSIGNMENTS = (ast.Assign, ast.AnnAssign, ast.NamedExpr)

_Kind = TypeVar("_Kind", bound=ast.AST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Code behind a test.

    Attributes:
        test: the test; that of a `case` asks whether its subject is one of its constants, and a
            variable that is set once is the expression that it is set to.
        wanted: what the test must say for the code to run.
        code: the nodes that run then.
    """

    test: ast.expr
    wanted: bool
    code: Sequence[ast.AST]


def arms(tree: ast.AST) -> Iterator[Arm]:
    """The arms of a function that draw, scale in place, or set what a draw is given.

    Example:
        >>> (arm,) = arms(ast.parse("name == 'w' and weight.normal_()"))
        >>> ast.unparse(arm.test), arm.wanted, ast.unparse(arm.code[0])
        ("name == 'w'", True, 'weight.normal_()')
    """
    nodes = list(ast.walk(tree))
    drawing = [node for node in nodes if isinstance(node, ast.Call) and _draws(node)]
    given = {p.id for part in _arguments(drawing) for p in _within([part], ast.Name)}
    changing = {node for node in nodes if _changes(node, given)}
    fed = {e for part in _arguments(drawing) for e in _within([part], ast.IfExp)}
    fed |= {e for c in changing - {*drawing} for e in _within([c], ast.IfExp)}
    known = _set_once(nodes)
    for node in nodes:
        for arm in (*_arms_of(node), *_after_guards(node)):
            if node in fed or any(part in changing for c in arm.code for part in ast.walk(c)):
                yield replace(arm, test=_written_out(arm.test, known))


def _arms_of(node: ast.AST) -> Iterator[Arm]:
    """The arms of one statement or expression, whatever they do."""
    match node:
        case ast.If(test=test, body=body, orelse=orelse):
            yield Arm(test=test, wanted=True, code=body)
            yield Arm(test=test, wanted=False, code=orelse)
        case ast.IfExp(test=test, body=then, orelse=other):
            yield Arm(test=test, wanted=True, code=[then])
            yield Arm(test=test, wanted=False, code=[other])
        case ast.BoolOp(op=op, values=values):
            for i in range(1, len(values)):
                test = _all(values[:i], op)
                yield Arm(test=test, wanted=isinstance(op, ast.And), code=[values[i]])
        case ast.Match(subject=subject, cases=cases):
            for case in cases:
                yield Arm(test=_of_case(subject, case), wanted=True, code=case.body)
        case ast.ListComp(elt=element) | ast.SetComp(elt=element) | ast.GeneratorExp(elt=element):
            yield from _of_comprehension(node.generators, [element])
        case ast.DictComp(key=key, value=value):
            yield from _of_comprehension(node.generators, [key, value])


def _of_comprehension(
    generators: Iterable[ast.comprehension], elements: Sequence[ast.expr]
) -> Iterator[Arm]:
    tests = [test for generator in generators for test in generator.ifs]
    if tests:
        yield Arm(test=_all(tests, ast.And()), wanted=True, code=elements)


def _after_guards(node: ast.AST) -> Iterator[Arm]:
    """What follows each `if ...: continue`, or another way to leave, in a block."""
    block: Any = getattr(node, "body", None)
    for i, inner in enumerate(block if isinstance(block, list) else ()):
        if isinstance(inner, ast.If) and isinstance(inner.body[-1], _LEAVES):
            yield Arm(test=inner.test, wanted=False, code=block[i + 1 :])


def _set_once(nodes: Iterable[ast.AST]) -> dict[str, ast.expr]:
    """The variables of a function that one statement sets, and what it sets them to."""
    found: dict[str, list[ast.expr]] = {}
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.setdefault(node.id, []).append(node)
    plain = {
        node.targets[0]: node.value
        for node in nodes
        if isinstance(node, ast.Assign) and len(node.targets) == 1
    }
    return {n: plain[at[0]] for n, at in found.items() if len(at) == 1 and at[0] in plain}


def _written_out(test: ast.expr, known: Mapping[str, ast.expr]) -> ast.expr:
    """A test with the expressions of its variables in their place."""
    match test:
        case ast.Name(id=name) if name in known:
            return known[name]
        case ast.UnaryOp(op=ast.Not() as op, operand=inner):
            made: ast.expr = ast.UnaryOp(op=op, operand=_written_out(inner, known))
        case ast.BoolOp(op=op, values=values):
            made = ast.BoolOp(op=op, values=[_written_out(value, known) for value in values])
        case _:
            return test
    return ast.copy_location(made, test)


def _all(values: list[ast.expr], op: ast.boolop) -> ast.expr:
    joined = ast.copy_location(ast.BoolOp(op=op, values=values), values[0])
    return joined if len(values) > 1 else values[0]


def _of_case(subject: ast.expr, case: ast.match_case) -> ast.expr:
    """The test of a case as an expression, at the place of its pattern."""
    constants = ast.Tuple(elts=[*_within([case.pattern], ast.Constant)], ctx=ast.Load())
    asked = ast.Compare(left=subject, ops=[ast.In()], comparators=[constants])
    test = ast.copy_location(asked, case.pattern)
    return _all([test, case.guard], ast.And()) if case.guard else test


def _within(nodes: Iterable[ast.AST], kind: type[_Kind]) -> list[_Kind]:
    return [part for node in nodes for part in ast.walk(node) if isinstance(part, kind)]


def _arguments(calls: Iterable[ast.Call]) -> Iterator[ast.expr]:
    for call in calls:
        yield from (*call.args, *(keyword.value for keyword in call.keywords))


def _draws(call: ast.Call) -> bool:
    called = call.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return bool(DRAWS.search(name))


def _changes(node: ast.AST, given: set[str]) -> bool:
    """Whether a node draws, scales in place, or sets what a draw is given."""
    if isinstance(node, ast.Call):
        return _draws(node)
    if isinstance(node, ast.AugAssign):
        named = isinstance(node.target, ast.Name) and node.target.id in given
        return named or isinstance(node.op, _SCALES)
    if isinstance(node, _ASSIGNMENTS):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return any(isinstance(t, ast.Name) and t.id in given for t in targets)
    return False
