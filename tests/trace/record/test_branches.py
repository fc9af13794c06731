"""Which branches of init code are seen to be untaken, and what their conditions were asked."""

import ast
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from gptinit.trace.record.branches import Branch, _may_name, watched

pytestmark = pytest.mark.skipif(
    sys.gettrace() is not None, reason="lines are watched by someone else"
)
needs_columns = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="Python 3.10 knows lines and no columns"
)

KEYS = ("wo", "w2")
KIND: Any = int
PATTERN = re.compile("x|y")


def untaken(draw: Callable[..., object], *names: str) -> list[Branch]:
    """The branches that a function does not take when it is called with these names."""
    weight = nn.Linear(2, 2).weight
    with watched() as watch:
        for name in names:
            draw(weight.data, name)
    return watch.untaken


def draws(p, name):  # type: ignore[no-untyped-def]
    if name == "w":
        nn.init.normal_(p)
    if name == "v":
        nn.init.uniform_(p)


class Drawer:
    """Its method is indented in the source."""

    keys = ("a", "b")

    def draw(self, p, name):  # type: ignore[no-untyped-def]
        """Draw for two names."""
        if name in self.keys:
            nn.init.normal_(p)


def test_an_untaken_branch_has_its_line_and_what_it_was_asked() -> None:
    (branch,) = untaken(draws, "u", "w", "w")

    assert (branch.file, branch.test) == ("tests/trace/record/test_branches.py", "name == 'v'")
    assert branch.line == draws.__code__.co_firstlineno + 3
    (condition,) = branch.conditions
    assert {(asked.own, asked.around) for asked in condition.asked} == {
        ((("name.", (name,)),), frozenset({name})) for name in "uw"
    }
    assert sys.gettrace() is None


def test_texts_are_read_in_attributes_and_collections() -> None:
    (branch,) = untaken(Drawer().draw, "z")

    (asked,) = branch.conditions[0].asked
    assert dict(asked.own) == {"name.": ("z",), "self.keys": ("a", "b")}
    assert untaken(Drawer().draw, "z", "b") == []


def one_line(p, name):  # type: ignore[no-untyped-def]
    if name == "w": nn.init.normal_(p)  # fmt: skip # noqa: E701


def expression(p, name):  # type: ignore[no-untyped-def]
    nn.init.normal_(p, 0, 1 if name == "w" else 2)


def swapped(p, name):  # type: ignore[no-untyped-def]
    std = 2 if name != "w" else 1
    nn.init.normal_(p, 0, std)


def pattern(p, name):  # type: ignore[no-untyped-def]
    if re.match("w$", name):
        p.mul_(2)


def compiled(p, name):  # type: ignore[no-untyped-def]
    if PATTERN.fullmatch(name) or name == "w":
        p.mul_(2)


def skips(p, name):  # type: ignore[no-untyped-def]
    for other in (name,):
        if other != "w":
            continue
        p.mul_(2)


def cases(p, name):  # type: ignore[no-untyped-def]
    match name.split("."):
        case [*_, "w"]:
            p.mul_(2)


def element(p, name):  # type: ignore[no-untyped-def]
    return [p.mul_(2) for other in (name,) if other == "w"]


def generator(p, name):  # type: ignore[no-untyped-def]
    if any(key in name for key in ("w", *KEYS)):
        p.mul_(2)


def flag(p, name):  # type: ignore[no-untyped-def]
    is_out = name.endswith("w")
    if is_out and p.ndim == 2:
        p.mul_(2)


def inner(p, name):  # type: ignore[no-untyped-def]
    def draw(other):  # type: ignore[no-untyped-def]
        if other == "w":
            p.mul_(2)

    draw(name)  # type: ignore[no-untyped-call]


WAYS = [
    one_line, expression, swapped, pattern, compiled, skips, cases, element, generator, flag, inner,
]  # fmt: skip


@needs_columns
@pytest.mark.parametrize("draw", WAYS)
def test_a_branch_is_seen_whatever_its_form(draw: Callable[..., object]) -> None:
    (branch,) = untaken(draw, "u", "v")

    seen = {text for c in branch.conditions for a in c.asked for text in a.around}
    assert {"u", "v"} <= seen
    assert untaken(draw, "u", "w") == []


def of_a_type(p, name):  # type: ignore[no-untyped-def]
    if isinstance(p, KIND) and name == "w":
        p.mul_(2)


def of_a_type_too(p, name):  # type: ignore[no-untyped-def]
    if name == "w" and isinstance(p, KIND):
        p.mul_(2)


def of_either(p, name):  # type: ignore[no-untyped-def]
    if name == "w" or isinstance(p, KIND):
        p.mul_(2)


@needs_columns
@pytest.mark.parametrize(
    ("draw", "names", "is_to_blame"),
    [
        (of_a_type, "uw", False),  # the name was never asked for
        (of_a_type_too, "uv", True),
        (of_a_type_too, "uw", False),  # the name was right, and the type was not
        (of_either, "uv", False),  # it may be for the type
    ],
)
def test_a_condition_on_a_name_is_to_blame_only_if_it_was_asked_and_said_no(
    draw: Callable[..., object], names: str, is_to_blame: bool
) -> None:
    tests = [ast.unparse(c.test) for b in untaken(draw, *names) for c in b.conditions]

    assert tests in ([["name == 'w'"]] if is_to_blame else [[], ["isinstance(p, KIND)"]])


@pytest.mark.parametrize(
    ("test", "if_true", "if_false"),
    [
        ("n == 'w'", True, False),
        ("n in names", True, False),
        ("n.endswith('w')", True, False),
        ("(m := f(n))", True, False),
        ("n != 'w'", False, True),
        ("n not in names", False, True),
        ("not n == 'w'", False, True),
        ("p.ndim == 2", False, False),
        ("p.ndim > 2", False, False),
        ("n is None", False, False),
        ("isinstance(m, Linear)", False, False),
        ("flag", False, False),
        ("flag and n == 'w'", True, False),
        ("flag or n == 'w'", False, False),
        ("flag or n != 'w'", False, True),
        ("n == 'w' or n == 'v'", True, False),
    ],
)
def test_only_tests_of_what_something_is_called_are_watched(
    test: str, if_true: bool, if_false: bool
) -> None:
    condition = ast.parse(test, mode="eval").body

    assert _may_name(condition, wanted=True) is if_true
    assert _may_name(condition, wanted=False) is if_false


def test_every_call_is_noted_whether_or_not_someone_else_watches() -> None:
    def inner() -> None: ...

    def never() -> None: ...

    def tracer(*_: object) -> None: ...

    for other in (None, tracer):
        sys.settrace(other)
        with watched() as watch:
            (lambda renamed: renamed())(inner)
        kept = sys.gettrace()
        sys.settrace(None)

        assert kept is other
        assert id(inner.__code__) in watch.codes
        assert id(never.__code__) not in watch.codes
