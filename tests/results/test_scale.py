"""Logarithms of what scatters by factors."""

import math

import pytest

from gptinit.results.scale import Scale


def test_errors_of_logarithms_are_relative() -> None:
    assert Scale(log=True).error(4.0, 0.5) == 0.125
    assert Scale(log=False).error(4.0, 0.5) == 0.5
    assert Scale(log=True).at(math.e) == pytest.approx(1.0)
    assert Scale(log=False).at(-2.0) == -2.0
    assert Scale(log=True).at(0.0) == Scale(log=True).at(-1.0) == -math.inf


@pytest.mark.parametrize(
    ("values", "log", "found"),
    [
        ([1.0, 2.0], True, True),
        ([1.0, 2.0], False, False),
        ([1.0, 0.0], True, False),
        ([-1.0, 2.0], True, False),
    ],
)
def test_logarithms_are_taken_where_all_values_have_one(
    values: list[float], log: bool, found: bool
) -> None:
    assert Scale.of(values, log=log).log is found
