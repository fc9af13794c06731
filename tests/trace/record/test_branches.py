"""Which `if`s of init code are watched, at which lines, and what is seen of them."""

import ast
import sys
from textwrap import dedent

import pytest
from torch import nn

from gptinit.trace.record.branches import _branches, watched_branches

pytestmark = pytest.mark.skipif(
    sys.gettrace() is not None, reason="lines are watched by someone else"
)


def found(text: str) -> list[tuple[int, tuple[str, ...], tuple[str, ...], range]]:
    tree = ast.parse(dedent(text))
    return [(b.line, b.texts, b.variables, b.body) for b in _branches(tree, "model.py")]


def test_a_branch_has_its_texts_its_names_and_the_lines_of_its_body() -> None:
    text = """\
    for name, p in items:
        if name.endswith("w2") or "wo" in name and kind == "w2":
            std = 1
            init.normal_(
                p
            )
        else:
            other()
    """

    assert found(text) == [(2, ("w2", "wo"), ("name", "kind"), range(3, 7))]


@pytest.mark.parametrize(
    ("body", "is_watched"),
    [
        ("init.normal_(p)", True),
        ("normal_(p)", True),
        ("if x:\n        init.normal_(p)", True),
        ("p.mul_(2)", True),
        ("p *= 2", True),
        ("p /= 2", True),
        ("p += 2", False),
        ("std = std * 2", True),
        ("std = std / 2", True),
        ("std = a * 2", True),
        ("std = 2", False),
        ("std = std + 2", False),
        ("other = std * 2", False),
        ("self.std = std * 2", False),
        ("print(p)", False),
        ("pass", False),
    ],
)
def test_watched_are_branches_that_draw_or_scale_what_is_drawn_with(
    body: str, is_watched: bool
) -> None:
    text = f'if name == "w":\n    {body}\ninit.normal_(p, std=std)\n'

    assert bool(found(text)) is is_watched


@pytest.mark.parametrize(
    "text",
    [
        'if name == "w": init.normal_(p)',  # on one line with its test
        "if name == other:\n    init.normal_(p)",  # no text
        'if "a" == "b":\n    init.normal_(p)',  # no name
        'while name == "w":\n    init.normal_(p)',
    ],
)
def test_other_statements_are_not_watched(text: str) -> None:
    assert found(text) == []


def draws(model: nn.Linear, name: str) -> None:
    if name == "w":
        nn.init.normal_(model.weight)
    if name == "v":
        nn.init.uniform_(model.weight)


class Drawer:
    """Its method is indented in the source."""

    def draw(self, model: nn.Linear, name: str) -> None:
        """Draw for two names."""
        if name in ("x", "y"):
            nn.init.normal_(model.weight)


def test_what_runs_is_seen_with_the_texts_that_were_asked_for() -> None:
    model = nn.Linear(2, 2)

    with watched_branches() as reached:
        for name in ("u", "w", "w"):
            draws(model, name)
        Drawer().draw(model, "z")
        Drawer().draw(model, "y")

    first = draws.__code__.co_firstlineno
    method = Drawer.draw.__code__.co_firstlineno
    assert [(b.line, b.is_taken, b.asked) for b in reached] == [
        (first + 1, True, {(("name", "u"),), (("name", "w"),)}),
        (first + 3, False, {(("name", "u"),), (("name", "w"),)}),
        (method + 2, True, {(("name", "z"),), (("name", "y"),)}),
    ]
    assert {b.file for b in reached} == {"tests/trace/record/test_branches.py"}
    assert sys.gettrace() is None
