"""Patterns of parameter names, ranges of numbers, labels of models."""

import pytest

from gptinit.facts.names import layer_pattern, model_label, number_pattern, ranges

EXPERT = "model.layers.11.mlp.experts.3.up_proj.weight"


def test_every_number_between_dots_is_left_out_of_a_number_pattern() -> None:
    assert number_pattern(EXPERT) == "model.layers.*.mlp.experts.*.up_proj.weight"
    assert number_pattern("h.0.fc1.weight") == "h.*.fc1.weight"
    assert number_pattern("0.weight") == "0.weight"  # a name of its own, not one of a list's


@pytest.mark.parametrize(
    ("name", "layer", "experts", "pattern"),
    [
        (EXPERT, 11, True, "model.layers.*.mlp.experts.*.up_proj.weight"),
        (EXPERT, 11, False, "model.layers.*.mlp.experts.3.up_proj.weight"),
        ("h.3.mlp.0.weight", 3, True, "h.*.mlp.0.weight"),
        ("h.3.mlp.3.weight", 3, False, "h.*.mlp.3.weight"),  # the first of two equal numbers
        ("decoder.h.0.w", 12, False, "decoder.h.*.w"),  # the block runs as the 13th
        ("wte.weight", None, True, "wte.weight"),
        ("heads.0.weight", None, True, "heads.0.weight"),
    ],
)
def test_a_layer_pattern_keeps_the_numbers_that_are_no_layer(
    name: str, layer: int | None, experts: bool, pattern: str
) -> None:
    assert layer_pattern(name, layer, experts=experts) == pattern


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([4], "4"), ([1, 0], "0-1"), ([0, 1, 2, 5], "0-2, 5"), ([7, 7, 9], "7, 9")],
)
def test_neighbours_are_written_as_a_range(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text


def test_a_label_has_the_settings_as_a_person_types_them() -> None:
    assert model_label("gpt2", {}) == "gpt2"
    assert model_label("gpt2", {"n_layer": 48, "tied": False}) == "gpt2, n_layer=48, tied=false"
    assert model_label("gpt2", {"bias": True}, separator=" ") == "gpt2 bias=true"
