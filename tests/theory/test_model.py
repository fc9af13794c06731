"""Which parameters theory can do with: those drawn around 0, as far as their mean matters."""

import math

import pytest

from gptinit.facts.distributions import Measured, Normal
from gptinit.theory.model import Moments, centred


def measured(mean: float, std: float = 1.0, stderr: float = 0.01) -> Measured:
    """Values of this mean, known to a standard error."""
    return Measured(
        mean=mean, std=std, mean_stderr=stderr, std_stderr=stderr,
        low=-4.0, high=4.0, kurtosis=3.0, count=10_000,
    )  # fmt: skip


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("role", "fan_in", "std", "limit"),
    [
        # A row of n weights around m, times inputs that are all 1, has the square (n m)^2 beside
        # n std^2: the mean may have 1/1000 of it, which is |m| = std / sqrt(1000 n).
        ("mlp_up", 10, 1.0, 0.01),
        ("mlp_up", 1000, 1.0, 0.001),
        ("mlp_up", 1000, 0.02, 2e-5),
        ("lm_head", 40, 1.0, 0.005),
        # One entry of a bias or a row of a table meets one channel: n = 1, whatever the fans.
        ("linear_bias", 1000, 1.0, 0.0316228),
        ("tok_emb", 1000, 2.0, 0.0632456),
        ("pos_emb", 1000, 1.0, 0.0316228),
    ],
)
def test_a_mean_is_refused_from_a_thousandth_of_a_row_s_squared_output(
    role: str, fan_in: int, std: float, limit: float, sign: int
) -> None:
    below, above = sign * 0.99 * limit, sign * 1.01 * limit

    kept, enough = centred(role, Normal(below, std), fan_in)
    _, why = centred(role, Normal(above, std), fan_in)

    assert (kept, enough) == (Moments(below, std), "")
    assert why == (
        f"theory needs weights drawn around 0, and {role} has mean {above:.3g} (std {std:.3g})."
    )


@pytest.mark.parametrize("mean", [0.0, 0.03, 1.0, -30.0])
@pytest.mark.parametrize("role", ["norm_weight", "norm_bias"])
def test_norms_may_have_any_mean(role: str, mean: float) -> None:
    assert centred(role, Normal(mean, 0.1), 1000) == (Moments(mean, 0.1), "")
    assert centred(role, measured(mean, 0.1), 1000) == (Moments(mean, 0.1), "")


@pytest.mark.parametrize(
    ("mean", "kept"),
    # Known to 0.01, a mean within 0.04 is the draw's; what is farther off is the distribution's.
    [(0.0399, 0.0), (-0.0399, 0.0), (0.0401, None), (-0.0401, None)],
)
def test_a_measured_mean_within_four_standard_errors_is_none(
    mean: float, kept: float | None
) -> None:
    moments, why = centred("mlp_up", measured(mean), 1000)

    assert moments == Moments(mean if kept is None else kept, 1.0)
    assert bool(why) is (kept is None)


def test_a_distribution_of_a_small_mean_is_not_excused_as_a_draw_is() -> None:
    assert centred("mlp_up", measured(0.03), 1000)[1] == ""
    assert centred("mlp_up", Normal(0.03, 1.0), 1000)[1] != ""


def test_a_constant_that_is_not_zero_is_refused_and_zeros_are_not() -> None:
    assert centred("mlp_up", Normal(0.0, 0.0), 1000) == (Moments(), "")
    assert "has mean 1e-09 (std 0)" in centred("linear_bias", Normal(1e-9, 0.0), 1)[1]


@pytest.mark.parametrize("role", ["mlp_up", "norm_weight"])
@pytest.mark.parametrize("unknown", [measured(math.nan), measured(0.0, std=math.nan)])
def test_values_that_are_not_known_are_refused(role: str, unknown: Measured) -> None:
    assert centred(role, unknown, 10)[1] == f"the values of {role} are not known."
