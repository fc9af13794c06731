"""The slopes of the second half of the layers, in closed form."""

import math

import pytest

from gptinit.results.exponents import angle_exponent, gradient_exponent


@pytest.mark.parametrize(
    ("logs", "slope"),
    [
        # The second half alone counts; of an odd number the middle is in it.
        ([9.0, -9.0, 1.0, 3.0], 2.0),
        ([9.0, -9.0, 1.0, 3.0, 5.0], 2.0),
        ([0.0, 0.0, 0.0, 1.0, 0.0, 5.0], 2.0),  # least squares: (5 - 1) / 2
        ([0.0] * 4 + [0.0, 1.0, 0.0, 1.0], 0.2),  # sum of x y over that of x^2: 1 / 5
    ],
)
def test_an_exponent_is_the_slope_over_the_later_layers(logs: list[float], slope: float) -> None:
    cosines = [1 - math.exp(y - 10) for y in logs]
    rms = [math.exp(y / 2) for y in logs]

    assert angle_exponent(cosines) == pytest.approx(slope, rel=1e-9)
    assert gradient_exponent(rms) == pytest.approx(-slope, rel=1e-9)


@pytest.mark.parametrize(
    "rms", [[1.0, 2.0, 3.0], [0.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, math.inf], []]
)
def test_few_layers_and_values_without_a_logarithm_have_no_exponent(rms: list[float]) -> None:
    assert gradient_exponent(rms) is None
    assert angle_exponent([1 - r for r in rms]) is None
