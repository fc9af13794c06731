"""Branches of the init code that ask for names and never found one."""

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence

from gptinit.results.program import NameBranch
from gptinit.trace.record.branches import Branch

__all__ = ["never_taken"]


def never_taken(branches: Iterable[Branch], names: Iterable[str]) -> tuple[NameBranch, ...]:
    """The branches that were asked about names of the model and were true of none.

    A branch that some name satisfies, but not its other conditions (a type, a shape), is left out.

    Args:
        branches: that the init code came to.
        names: of every parameter and module of the model.
    """
    paths = [name.split(".") for name in names if name]
    endings = {".".join(path[i:]) for path in paths for i in range(len(path))}
    found = []
    for branch in branches:
        asked = [dict(pairs) for pairs in branch.asked]
        texts = {text for values in asked for text in values.values()}
        are_names = texts & endings
        if branch.is_taken or not are_names or _is_negative(branch.test):
            continue
        if any(_may_hold(branch, values) for values in asked):
            continue
        meant = {text for text in are_names if any(_has(text, t) for t in branch.texts)}
        found.append(
            NameBranch(
                file=branch.file,
                line=branch.line,
                test=ast.unparse(branch.test),
                asked=len(are_names),
                meant=tuple(sorted(meant)),
            )
        )
    return tuple(found)


def _is_negative(test: ast.expr) -> bool:
    """Whether a test asks what something is *not* called: nobody then misses what is."""
    return any(isinstance(part, ast.Not | ast.NotIn | ast.NotEq) for part in ast.walk(test))


def _has(name: str, text: str) -> bool:
    """Whether a name has a text as one of its parts, or as several that follow each other."""
    return f".{text.strip('.')}." in f".{name}."


def _may_hold(branch: Branch, values: Mapping[str, str]) -> bool:
    """Whether these names satisfy a branch, so that another condition kept it from being taken."""
    answer = _holds(branch.test, values)
    return bool(answer) or (answer is None and not _is_only_text(branch.test, values))


def _holds(test: ast.expr, values: Mapping[str, str]) -> bool | None:
    """What a test says of these texts; None where that depends on more, or cannot be told."""
    match test:
        case ast.BoolOp(op=op, values=parts):
            answers = [_holds(part, values) for part in parts]
            settles = isinstance(op, ast.Or)
            return settles if settles in answers else None if None in answers else not settles
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _compared(op, _texts(left, values), _texts(right, values), right)
        case ast.Call(
            func=ast.Attribute(value=of, attr="endswith" | "startswith" as how), args=[a]
        ):
            whole, ends = _texts(of, values), _texts(a, values)
            if not whole or ends is None:
                return None
            return any(getattr(whole[0], how)(end) for end in ends)
    return None


def _compared(
    op: ast.cmpop, left: Sequence[str] | None, right: Sequence[str] | None, where: ast.expr
) -> bool | None:
    if left is None or right is None or not left:
        return None
    is_container = isinstance(where, ast.Tuple | ast.List | ast.Set)
    is_in = left[0] in right if is_container else bool(right) and left[0] in right[0]
    match op:
        case ast.In():
            return is_in
        case ast.Eq():
            return left == right
    return None


def _texts(part: ast.expr, values: Mapping[str, str]) -> list[str] | None:
    """The texts that an expression stands for; None where it is neither a name nor constants."""
    match part:
        case ast.Constant(value=str() as text):
            return [text]
        case ast.Name(id=name) if name in values:
            return [values[name]]
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts):
            inner = [_texts(p, values) for p in parts]
            known = [texts for texts in inner if texts is not None]
            return [t for texts in known for t in texts] if len(known) == len(inner) else None
    return None


def _is_only_text(test: ast.expr, values: Mapping[str, str]) -> bool:
    """Whether every condition of a test compares text, so that it was false of all names."""
    return all(
        any(isinstance(p, ast.Constant) and isinstance(p.value, str) for p in ast.walk(part))
        and any(isinstance(p, ast.Name) and p.id in values for p in ast.walk(part))
        for part in _conditions(test)
    )


def _conditions(test: ast.expr) -> Iterator[ast.expr]:
    if isinstance(test, ast.BoolOp):
        for part in test.values:
            yield from _conditions(part)
    else:
        yield test
