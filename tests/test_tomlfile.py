"""Values of a table, taken by key and type."""

from collections.abc import Callable

import pytest

from gptinit.errors import ConfigError
from gptinit.tomlfile import Table

FIELDS = {"a": 1, "b": "x", "c": ["x", "y"], "d": " ", "e": 2.5, "f": True, "g": [1], "h": 10**400}


def fields(sign: str = " ") -> Table:
    return Table(FIELDS, "file.toml", sign=sign)


def test_values_are_taken_by_type_or_by_default() -> None:
    table = fields()

    assert (table.text("b"), table.text("z", "y"), table.words("b")) == ("x", "y", "x")
    assert (table.texts("b", []), table.texts("c", []), table.texts("z", [])) == (
        ("x",),
        ("x", "y"),
        (),
    )
    assert (table.number("a"), table.number("e"), table.number("z")) == (1, 2.5, None)
    assert (table.setting("a"), table.setting("b"), table.setting("f")) == (1, "x", True)
    assert list(table.tables("z")) == []
    assert list(table.tables("g")) == [(1, "file.toml [[g]] 1")]
    assert ("a" in table, "z" in table) == (True, False)


@pytest.mark.parametrize(
    ("take", "message"),
    [
        (lambda t: t.text("a"), r"file\.toml a must be a text, got 1\."),
        (lambda t: t.text("z"), r"file\.toml z must be a text, got None\."),
        (lambda t: t.words("d"), r"file\.toml d must not be blank, got ' '\."),
        (lambda t: t.texts("a", []), r"file\.toml a must be a list of texts, got 1\."),
        (lambda t: t.texts("g", []), r"file\.toml g must be a text, got 1\."),
        (lambda t: t.number("b"), r"file\.toml b must be a number, got 'x'\."),
        (lambda t: t.number("f"), r"file\.toml f must be a number, got True\."),
        (lambda t: t.number("h"), r"file\.toml h must be below 1e308, got more\."),
        (lambda t: t.setting("e"), r"file\.toml e must be an integer, a text, true or false"),
        (lambda t: t.tables("b"), r"file\.toml b must be tables under \[\[b\]\], got 'x'\."),
        (lambda t: t.require("a", "z"), r"file\.toml must have a z, got none\."),
    ],
)
def test_another_type_is_refused_by_table_and_key(
    take: Callable[[Table], object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        take(fields())


def test_keys_of_a_table_in_a_table_have_a_dot() -> None:
    with pytest.raises(ConfigError, match=r"file\.toml\.a must be a text"):
        fields(sign=".").text("a")


def test_a_table_has_known_keys_only() -> None:
    with pytest.raises(ConfigError, match=r"file\.toml must be a table, got 3\."):
        Table(3, "file.toml")
    with pytest.raises(ConfigError, match=r"file\.toml key must be one of a, bb, got 'b'"):
        Table({"b": 1}, "file.toml", known=("a", "bb"))
