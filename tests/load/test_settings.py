"""Settings as users write them: types, spellings, names that mean the same."""

import math
from itertools import count
from typing import Annotated, Any, Literal, Optional

import pytest
import torch

from gptinit.errors import ConfigError
from gptinit.load.settings import (
    MISSING,
    claimed_tie,
    kinds_of,
    resolve,
    setting_called,
    sizes,
    typed,
)

NONE = type(None)


@pytest.mark.parametrize(
    ("hint", "default", "kinds"),
    [
        (int, MISSING, {int}),
        (int, 3, {int}),
        (int, None, {int, NONE}),
        (int | None, 3, {int, NONE}),
        (Optional[float], 3, {float, NONE}),  # noqa: UP045 # as older code writes it
        (int | str, 3, {int, str}),
        (bool | int | float | None | str, 3, {bool, int, float, NONE, str}),
        (Literal["a", "b"], "a", {str}),
        (Literal["a", 1] | None, "a", {str, int, NONE}),
        (Annotated[int, "positive"], 3, {int}),
        (Annotated[int | float, "positive"], 3, {int, float}),
        (list[int], None, set()),
        (int | list[int], None, set()),
        (torch.dtype, None, {torch.dtype, type(None)}),
        (torch.device, None, set()),
        (None, 3, {int}),
        (None, True, {bool}),
        (Any, "x", {str}),
        (None, None, set()),
        (None, [1], set()),
        (None, MISSING, set()),
    ],
    ids=count(),
)
def test_an_annotation_allows_plain_types_or_anything(
    hint: object, default: object, kinds: set[type]
) -> None:
    assert kinds_of(hint, default) == kinds


@pytest.mark.parametrize(
    ("value", "kinds", "made"),
    [
        ("12", {int}, 12),
        ("12", {float}, 12.0),
        (12, {float}, 12.0),
        (12, {int, float}, 12),
        ("12", {int, float}, 12),
        ("12", {str}, "12"),
        ("12", set(), 12),
        ("1e-5", set(), 1e-5),
        ("True", {bool}, True),
        ("false", set(), False),
        ("true", {int, bool}, True),
        ("true", {str}, "true"),
        ("None", {int, NONE}, None),
        ("null", set(), None),
        ("none", {str}, "none"),
        ("gelu", set(), "gelu"),
        ("[1, 2]", set(), [1, 2]),
        ('{"a": 1}', set(), {"a": 1}),
        ("[1, 2]", {str}, "[1, 2]"),
        ("torch.bfloat16", set(), torch.bfloat16),
        ("torch.bfloat16", {str}, "torch.bfloat16"),
        ("torch.nn", set(), "torch.nn"),
        ("torch.nothing", set(), "torch.nothing"),
        ([1], set(), [1]),
        (True, {bool}, True),
        ("inf", {float}, math.inf),
    ],
    ids=count(),
)
def test_a_value_gets_the_first_type_that_fits(
    value: object, kinds: set[type], made: object
) -> None:
    found = typed("x", value, frozenset(kinds))

    assert found == made
    assert type(found) is type(made)


@pytest.mark.parametrize(
    ("value", "kinds", "rule"),
    [
        ("many", {int}, "an integer, got 'many'"),
        ("1.5", {int}, "an integer, got '1.5'"),
        (True, {int}, "an integer, got True"),
        (1, {bool}, "true or false, got 1"),
        (3, {str}, "a text, got 3"),
        ("x", {float, NONE}, "a number or none, got 'x'"),
        ("x", {bool, int}, "true or false or an integer, got 'x'"),
        ("[1,", set(), r"valid JSON, got '\[1,'"),
    ],
)
def test_a_value_of_no_allowed_type_is_named(value: object, kinds: set[type], rule: str) -> None:
    with pytest.raises(ConfigError, match=rf"^width must be {rule}\.$"):
        typed("width", value, frozenset(kinds))


def test_sizes_are_the_first_positive_number_by_any_of_their_names() -> None:
    found = sizes(
        {"n_layer": 0, "num_layers": 3, "n_head": True, "num_heads": 2.0, "depth": 9, "tied": 1}
    )

    assert (found["n_layer"], found["n_head"], found["tied"]) == (3, None, None)
    assert sizes({"n_embd": 1, "dim": 2})["n_embd"] == 1
    assert sizes({"tie_weights": False})["tied"] is False


def test_a_setting_is_known_by_its_own_name_first() -> None:
    assert setting_called("dim", {"dim": 0, "n_embd": 64}) == 0
    assert setting_called("dim", {"n_embd": 64}) == 64
    assert setting_called("dim", {"n_embd": -1}) is MISSING
    assert setting_called("other", {"n_embd": 64}) is MISSING


def test_a_tie_is_what_a_configuration_says_in_any_words() -> None:
    class Config:
        tied = "yes"
        tie_weights = False

    assert claimed_tie(Config()) is False
    assert claimed_tie({"tied": None, "weight_tying": True}) is True
    assert claimed_tie({"tied": 1}) is None


def test_a_name_is_resolved_alone_before_that_of_an_inner_configuration() -> None:
    assert resolve("setting", "n_layer", ["text_config.n_layer", "depth"]) == "depth"
    assert resolve("setting", "n_layer", ["text_config.depth"]) == "text_config.depth"
    with pytest.raises(ConfigError, match="Did you mean"):
        resolve("setting", "wdth", ["width"])
    with pytest.raises(ConfigError, match="It takes no settings"):
        resolve("setting", "width", [])
