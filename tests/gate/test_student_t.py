"""Quantiles of Student's t against closed forms and scipy."""

import math

import pytest
from scipy import stats

from gptinit.errors import ConfigError
from gptinit.gate.student_t import student_quantile

TAILS = (0.4, 0.1, 0.025, 1e-3, 1e-4, 1e-6, 1e-9, 1e-12, 1e-15)


@pytest.mark.parametrize("dof", [*range(1, 21), 47, 100, 200, 1000, 9999])
def test_quantiles_agree_with_scipy_far_into_the_tail(dof: int) -> None:
    for p in TAILS:
        assert student_quantile(p, dof) == pytest.approx(float(stats.t.isf(p, dof)), rel=1e-9)


@pytest.mark.parametrize("p", [*TAILS, 1e-100, 1e-300])
def test_one_degree_of_freedom_is_the_cauchy_distribution(p: float) -> None:
    # the upper tail of the Cauchy distribution is atan(1 / t) / pi
    assert student_quantile(p, 1) == pytest.approx(1 / math.tan(math.pi * p), rel=1e-12)


@pytest.mark.parametrize("p", [*TAILS, 1e-60])
def test_two_degrees_of_freedom_have_a_closed_form(p: float) -> None:
    # the upper tail is (1 - t / sqrt(2 + t^2)) / 2, so t = (1 - 2p) / sqrt(2p (1 - p))
    expected = (1 - 2 * p) / math.sqrt(2 * p * (1 - p))

    assert student_quantile(p, 2) == pytest.approx(expected, rel=1e-12)


def test_near_the_median_the_quantile_is_the_distance_over_the_density() -> None:
    # density of t with 4 degrees of freedom at 0: 3/8
    assert student_quantile(0.5 - 1e-6, 4) == pytest.approx(1e-6 * 8 / 3, rel=1e-8)
    assert student_quantile(0.5, 4) == 0.0


def test_quantiles_above_one_half_are_those_below_with_a_minus() -> None:
    assert student_quantile(0.75, 7) == -student_quantile(0.25, 7)


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, math.nan])
def test_a_tail_that_is_no_probability_is_refused(p: float) -> None:
    with pytest.raises(ConfigError, match="tail probability must be between 0 and 1, got"):
        student_quantile(p, 5)


def test_no_degrees_of_freedom_are_refused() -> None:
    with pytest.raises(ConfigError, match="degrees of freedom must be at least 1, got 0"):
        student_quantile(0.1, 0)
