"""Which parts of init code stand behind a test: however it is written, and only what draws."""

import ast
from textwrap import dedent

import pytest

from gptinit.trace.record.arms import arms


def found(text: str) -> list[tuple[str, bool, str]]:
    """(test, what it must say, first line of the code) of every arm."""
    made = arms(ast.parse(dedent(text)))
    return [(ast.unparse(a.test), a.wanted, ast.unparse(a.code[0]).split("\n")[0]) for a in made]


@pytest.mark.parametrize(
    ("text", "test", "wanted", "code"),
    [
        ("if n == 'w':\n  p.normal_()", "n == 'w'", True, "p.normal_()"),
        ("if n == 'w': p.normal_()", "n == 'w'", True, "p.normal_()"),
        ("if n != 'w': pass\nelse: p.normal_()", "n != 'w'", False, "p.normal_()"),
        (
            "for n, p in x:\n  if n != 'w': continue\n  p.normal_()",
            "n != 'w'", False, "p.normal_()",
        ),
        (
            "def f(n, p):\n  if n != 'w':\n    return\n  p.normal_()",
            "n != 'w'", False, "p.normal_()",
        ),
        ("n == 'w' and p.normal_()", "n == 'w'", True, "p.normal_()"),
        ("a and n == 'w' and p.normal_()", "a and n == 'w'", True, "p.normal_()"),
        ("n != 'w' or p.normal_()", "n != 'w'", False, "p.normal_()"),
        ("[p.normal_() for n, p in x if n == 'w']", "n == 'w'", True, "p.normal_()"),
        ("{n: p.normal_() for n, p in x if a if b}", "a and b", True, "n"),
        ("match n:\n  case 'w' | 'v':\n    p.normal_()", "n in ('w', 'v')", True, "p.normal_()"),
        ("match n:\n  case 'w' if a: p.mul_(2)", "n in ('w',) and a", True, "p.mul_(2)"),
        ("is_out = n == 'w'\nif is_out: p.normal_()", "n == 'w'", True, "p.normal_()"),
        ("is_out = n == 'w'\nif a and not is_out: p.normal_()", "a and (not n == 'w')", True,
         "p.normal_()"),
        ("a = n == 'w'\na = 1\nif a: p.normal_()", "a", True, "p.normal_()"),
    ],
)  # fmt: skip
def test_an_arm_is_found_however_its_test_is_written(
    text: str, test: str, wanted: bool, code: str
) -> None:
    assert found(text) == [(test, wanted, code)]


@pytest.mark.parametrize(
    "text",
    [
        "std = 1 if n == 'w' else 2\ninit.normal_(p, std=std)",
        "init.normal_(p, 0, 1 if n == 'w' else 2)",
        "std = 3\nstd *= 1 if n == 'w' else 2\ninit.normal_(p, std=std)",
    ],
)
def test_both_sides_of_an_expression_that_a_draw_is_given_are_arms(text: str) -> None:
    assert found(text) == [("n == 'w'", True, "1"), ("n == 'w'", False, "2")]


@pytest.mark.parametrize(
    ("body", "counts"),
    [
        ("init.normal_(p)", True),
        ("normal_(p)", True),
        ("if x:\n        init.normal_(p)", True),
        ("p.mul_(2)", True),
        ("p *= 2", True),
        ("p /= 2", True),
        ("p += 2", True),
        ("std = std * 2", True),
        ("std: float = std / 2", True),
        ("std = 2", True),
        ("std += 2", True),
        ("other = std * 2", False),
        ("self.std = std * 2", False),
        ("x = 1 if std else 2", False),
        ("print(p)", False),
        ("pass", False),
    ],
)
def test_counted_is_what_draws_scales_or_sets_what_a_draw_is_given(body: str, counts: bool) -> None:
    tests = {test for test, _, _ in found(f'if name == "w":\n    {body}\ninit.normal_(p, std=std)')}

    assert ("name == 'w'" in tests) is counts
