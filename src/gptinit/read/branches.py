"""Branches of the init code that ask for names and never found one."""

import ast
import re
from collections.abc import Collection, Iterable, Iterator, Set

from gptinit.results.program import NameBranch
from gptinit.trace.record.branches import Branch, Condition

__all__ = ["never_taken"]

_OF_ALL = frozenset({"weight", "bias"})
"""Names that say nothing of which module is meant."""

_IS_PATTERN = re.compile(r"[\\^$*+?()\[{|]")


def never_taken(branches: Iterable[Branch], names: Iterable[str]) -> tuple[NameBranch, ...]:
    """The branches that were never taken for the sake of conditions on names of the model.

    Args:
        branches: of the init code, whose test ran and whose code did not.
        names: of every parameter and module of the model.
    """
    known = [name for name in names if name]
    endings = {ending for name in known for ending in _endings(name)}
    found = []
    for branch in branches:
        asked = [_asked(condition, endings) for condition in branch.conditions]
        if all(texts and about for texts, about in asked):
            meant = {n for texts, about in asked for n in about if any(_has(n, t) for t in texts)}
            special = {text for texts, _ in asked for text in texts} - _OF_ALL
            found.append(
                NameBranch(
                    file=branch.file,
                    line=branch.line,
                    test=branch.test,
                    asked=len({name for _, about in asked for name in about}),
                    meant=tuple(sorted(meant)),
                    missed=tuple(n for n in known if any(_has(n, text) for text in special)),
                )
            )
    return tuple(found)


def _asked(condition: Condition, endings: Set[str]) -> tuple[set[str], set[str]]:
    """The texts that a condition compares with, and the names of the model that it was asked about.

    A name that is asked about varies; what it is compared with is a constant, or does not. Where
    only a part of a name is compared, as in `name.split(".")[0] == "wte"`, the name is among the
    function's other variables. What an f-string was is not known: it compares with no text.
    """
    if any(isinstance(part, ast.FormattedValue) for part in ast.walk(condition.test)):
        return set(), set()
    values: dict[str, set[tuple[str, ...]]] = {}
    for asked in condition.asked:
        for name, texts in asked.own:
            values.setdefault(name, set()).add(texts)
    varying = {name for name, found in values.items() if len(found) > 1}
    varying = varying or {n for n, found in values.items() if all(len(t) == 1 for t in found)}
    fixed = {t for n, found in values.items() if n not in varying for texts in found for t in texts}
    about = set[str]()
    for asked in condition.asked:
        parts = {text for name, texts in asked.own if name in varying for text in texts}
        whole = {n for n in asked.around & endings if any(_has_part(n, part) for part in parts)}
        longest = {n for n in whole if not any(_has_part(other, n) for other in whole - {n})}
        about |= longest or parts & endings
    return {*_constants(condition.test), *fixed}, about


def _constants(test: ast.expr) -> Iterator[str]:
    for part in ast.walk(test):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def _endings(name: str) -> Collection[str]:
    path = name.split(".")
    return [".".join(path[i:]) for i in range(len(path))]


def _has_part(name: str, text: str) -> bool:
    return bool(text) and f".{text}." in f".{name}."


def _has(name: str, text: str) -> bool:
    """Whether a name has a text as one of its parts, or as several that follow each other.

    A pattern of `re` counts where it would match, were the name to begin at one of its parts.
    """
    if _has_part(name, text.strip(".")):
        return True
    if not _IS_PATTERN.search(text):
        return False
    try:
        pattern = re.compile(text)
    except re.error:
        return False
    return any(pattern.match(ending) for ending in _endings(name))
