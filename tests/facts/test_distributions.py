"""Moments of distributions against samples and closed forms."""

import math

import numpy as np
import pytest

from gptinit.errors import ConfigError
from gptinit.facts.distributions import (
    Constant,
    Copy,
    Distribution,
    Fixed,
    Measured,
    Mixture,
    Normal,
    Orthogonal,
    Piecewise,
    Scaled,
    TruncatedNormal,
    Uniform,
    Unset,
)


@pytest.mark.parametrize(
    ("distribution", "mean", "std"),
    [
        (Normal(0.5, 0.02), 0.5, 0.02),
        (Uniform(-1.0, 3.0), 1.0, 4 / math.sqrt(12)),
        (Constant(2.0), 2.0, 0.0),
        # variance 1 - 2 c phi(c) / (2 Phi(c) - 1) at c = 2 and 3
        (TruncatedNormal(0.0, 1.0, -2.0, 2.0), 0.0, 0.87962566),
        (TruncatedNormal(0.0, 1.0, -3.0, 3.0), 0.0, 0.98657839),
        (TruncatedNormal(1.0, 0.0, 0.0, 2.0), 1.0, 0.0),
        # half normal: mean sqrt(2/pi), variance 1 - 2/pi
        (
            TruncatedNormal(0.0, 1.0, 0.0, math.inf),
            math.sqrt(2 / math.pi),
            math.sqrt(1 - 2 / math.pi),
        ),
        # half the rows N(0, 1), half N(0, 3): the variances average
        (Piecewise(((2, Normal(0.0, 1.0)), (2, Normal(0.0, 3.0)))), 0.0, math.sqrt(5.0)),
        (Piecewise(((1, Constant(0.0)), (3, Constant(4.0)))), 3.0, math.sqrt(3.0)),
    ],
)
def test_moments_are_those_of_the_closed_form(
    distribution: Normal | TruncatedNormal | Uniform | Constant | Piecewise, mean: float, std: float
) -> None:
    assert distribution.mean == pytest.approx(mean, abs=1e-12)
    assert distribution.std == pytest.approx(std, abs=1e-8)


def test_skewed_truncation_matches_a_sample() -> None:
    distribution = TruncatedNormal(0.2, 1.0, -0.5, 2.0)
    rng = np.random.default_rng(0)
    sample = 0.2 + rng.standard_normal(400_000)
    sample = sample[(sample >= -0.5) & (sample <= 2.0)]

    # standard error of the mean: std / sqrt(n); k = 4
    assert abs(sample.mean() - distribution.mean) < 4 * distribution.std / math.sqrt(sample.size)
    # standard error of the std: at most sqrt(kurtosis - 1) / 2 of std / sqrt(n), kurtosis < 3
    assert abs(sample.std() - distribution.std) < 4 * distribution.std / math.sqrt(2 * sample.size)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Normal(0.0, -1.0), "std must be finite and not negative, got -1.0"),
        (lambda: Normal(math.nan, 1.0), "mean must be finite, got nan"),
        (lambda: Uniform(1.0, -1.0), "low must not exceed high=-1.0, got low=1.0"),
        (lambda: TruncatedNormal(3.0, 1.0, -2.0, 2.0), "loc must lie between low and high"),
        (lambda: Constant(math.inf), "value must be finite, got inf"),
    ],
)
def test_impossible_parameters_are_refused(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("distribution", "mean", "std", "text"),
    [
        # A quarter at N(0, 2), the rest 0: variance 4 / 4.
        (Mixture(((3, Constant(0.0)), (1, Normal(0.0, 2.0)))), 0.0, 1.0, "75% 0 + 25% N(0, 2)"),
        # Means 0 and 4 in equal parts: variance 4 beside the parts' own 1.
        (Mixture(((2, Normal(0.0, 1.0)), (2, Normal(4.0, 1.0)))), 2.0, math.sqrt(5.0), None),
        # Rows of length gain: mean square gain^2 / longest.
        (Orthogonal(2.0, 400), 0.0, 0.1, "orthogonal(2)"),
        (Orthogonal(-1.0, 4), 0.0, 0.5, None),
        (Fixed(0.5, 0.25, 0.0, 1.0), 0.5, 0.25, "fixed, 0 to 1"),
        (Copy("a.weight", Normal(1.0, 0.5)), 1.0, 0.5, "copy of a.weight"),
        (Scaled(Normal(1.0, 0.5), -2.0), -2.0, 1.0, "-2 x N(1, 0.5)"),
        (
            Piecewise(((1, Mixture(((1, Constant(0.0)), (1, Constant(2.0))))), (1, Constant(1.0)))),
            1.0,
            math.sqrt(0.5),
            None,
        ),
    ],
    ids=str,
)
def test_moments_and_words_of_what_a_trace_finds(
    distribution: Distribution, mean: float, std: float, text: str | None
) -> None:
    assert distribution.mean == pytest.approx(mean)
    assert distribution.std == pytest.approx(std)
    if text:
        assert str(distribution) == text


def test_what_nothing_wrote_has_no_moments() -> None:
    assert math.isnan(Unset().mean)
    assert math.isnan(Unset().std)
    assert str(Unset()) == "never written"


def test_what_was_measured_says_how_well() -> None:
    law = Measured(
        mean=0.001, std=0.0201, mean_stderr=0.0001, std_stderr=0.00007, low=-0.1, high=0.1,
        kurtosis=3.0, count=1000,
    )  # fmt: skip

    assert str(law) == "measured 0.001, 0.0201 ± 7e-05"


def test_each_kind_has_a_name_of_its_own() -> None:
    kinds = [
        k.kind for k in (
            Normal, TruncatedNormal, Uniform, Constant, Piecewise, Mixture, Orthogonal, Fixed,
            Copy, Scaled, Unset, Measured,
        )
    ]  # fmt: skip

    assert len(set(kinds)) == len(kinds)
