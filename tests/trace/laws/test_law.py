"""An affine map of a draw keeps the draw's name only where a factor is all that was changed."""

import pytest

from gptinit.facts.distributions import Constant, Uniform
from gptinit.trace.laws.law import Law, affine

DRAW = Law(Uniform(1.0, 2.0), ("draw", 7), 2.0, signs=True)
"""Twice a draw."""


@pytest.mark.parametrize(
    ("scale", "shift", "low", "high"),
    [
        (3.0, 0.0, 3.0, 6.0),
        (-3.0, 0.0, -6.0, -3.0),
        (3.0, 0.5, 3.5, 6.5),
        (-3.0, -0.5, -6.5, -3.5),
    ],
)
def test_an_affine_map_moves_the_distribution_and_multiplies_the_factor_on_the_draw(
    scale: float, shift: float, low: float, high: float
) -> None:
    found = affine(DRAW, scale, shift)

    assert found.distribution == Uniform(low, high)
    assert found.scale == 2.0 * scale
    assert not found.signs


@pytest.mark.parametrize("scale", [1.0, 0.5, -1.0])
def test_a_multiple_of_a_draw_keeps_its_name(scale: float) -> None:
    assert affine(DRAW, scale, 0.0).basis == DRAW.basis


def test_every_shifted_map_of_a_draw_has_a_name_of_its_own() -> None:
    maps = [(1.0, 1.0), (1.0, -1.0), (1.0, 2.0), (2.0, 1.0), (-1.0, 1.0), (1.0, 1e-3)]

    names = {DRAW.basis, *(affine(DRAW, *numbers).basis for numbers in maps)}

    assert None not in names
    assert len(names) == 1 + len(maps)


def test_the_same_shifted_map_of_the_same_draw_has_the_same_name() -> None:
    assert affine(DRAW, 3.0, 1.0).basis == affine(DRAW, 3.0, 1.0).basis
    assert (
        affine(DRAW, 3.0, 1.0).basis != affine(Law(Uniform(1.0, 2.0), ("draw", 8)), 3.0, 1.0).basis
    )


def test_what_no_single_draw_is_behind_has_no_name_after_a_map_either() -> None:
    assert affine(Law(Uniform(1.0, 2.0)), 3.0, 1.0).basis is None


def test_a_draw_times_zero_is_a_constant_of_no_draw() -> None:
    assert affine(DRAW, 0.0, 0.5) == Law(Constant(0.5))
