"""Softmax of Gaussian scores: quadrature against sampling, tables against quadrature, limits."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.softmax_tables import gain, log_sum, log_sum_gain, overlap, participation
from gptinit.theory.grids import CORRELATIONS, COUNTS, STDS
from gptinit.theory.tables import _tables, entropy_deficit, softmax_rows

Floats = npt.NDArray[np.float64]

CASES = [(2, 0.5, 0.0), (16, 1.0, 0.6), (64, 2.0, 0.3), (200, 4.9, 0.8), (64, 8.0, 0.5)]
SAMPLES = 20_000


def softmax(scores: Floats) -> Floats:
    weights: Floats = np.exp(scores - scores.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    return weights


def within(value: float, sample: Floats, errors: float = 4.5) -> bool:
    """Whether a value lies within so many standard errors of a sample's mean (p = 7e-6)."""
    return abs(value - float(sample.mean())) < errors * float(sample.std()) / math.sqrt(len(sample))


@pytest.mark.parametrize(("count", "std", "correlation"), CASES)
def test_integrals_agree_with_sampled_rows(count: int, std: float, correlation: float) -> None:
    rng = np.random.default_rng(1)
    one = std * rng.standard_normal((SAMPLES, count))
    fresh = std * rng.standard_normal((SAMPLES, count))
    other = correlation * one + math.sqrt(1 - correlation**2) * fresh
    logs = np.log(np.exp(one - one.max(1, keepdims=True)).sum(1)) + one.max(1)

    assert within(participation(count, std), (softmax(one) ** 2).sum(1))
    assert within(log_sum(count, std), logs)
    assert within(overlap([count], std, correlation)[0], (softmax(one) * softmax(other)).sum(1))


@pytest.mark.parametrize(("count", "std", "correlation"), CASES)
def test_interpolated_rows_agree_with_sampled_ones(
    count: int, std: float, correlation: float
) -> None:
    rng = np.random.default_rng(2)
    weights = softmax(std * rng.standard_normal((SAMPLES, count)))
    lacking = math.log(count) + (weights * np.log(np.maximum(weights, 1e-300))).sum(1)
    rows = softmax_rows(np.array([float(count)]), np.array([std]))
    deficit = float(entropy_deficit(np.array([float(count)]), np.array([std]))[0])

    # Beside sampling: linear interpolation between the points of the tables, 0.5 % at most here.
    sampled = (weights**2).sum(1)
    error = 4.5 * float(sampled.std()) / math.sqrt(SAMPLES)
    assert abs(float(rows.participation[0]) - sampled.mean()) < error + 0.005 * sampled.mean()
    error = 4.5 * float(lacking.std()) / math.sqrt(SAMPLES)
    assert abs(deficit - lacking.mean()) < error + 0.005 * lacking.mean()


def test_the_polynomial_in_the_correlation_meets_the_overlap() -> None:
    rows = softmax_rows(np.array([64.0]), np.array([2.0]))
    powers = 0.7 ** np.arange(len(rows.coefficients))
    polynomial = float(rows.coefficients[:, 0] @ powers)
    predicted = 1 / 64 + 4 * 0.7 * (1 - 1 / 64) / 64 * polynomial

    # 64 keys and std 2 are points of the tables. Correlation 0 is filled in at 0.02, where the gain
    # is 1 % larger: between points some 1e-3 of that is left.
    assert predicted == pytest.approx(overlap([64], 2.0, 0.7)[0], rel=1e-3)


@pytest.mark.parametrize(("i", "j", "k"), [(3, 5, 2), (8, 15, 4), (16, 19, 6), (20, 11, 1)])
def test_the_shipped_tables_are_those_that_the_script_computes(i: int, j: int, k: int) -> None:
    std, count, r = STDS[i], COUNTS[j], CORRELATIONS[k]
    log_gain, log_sums = _tables()
    overlapped = participation(count, std) if r == 1 else overlap([count], std, r)[0]

    # Grids follow the largest count asked for, and the file is float32.
    assert math.exp(log_gain[i, j, k]) == pytest.approx(
        float(gain(overlapped, count, std, r)), rel=1e-4
    )
    assert log_sums[i, j] == pytest.approx(log_sum_gain(log_sum(count, std), count, std), rel=1e-4)


def test_equal_scores_give_uniform_weights() -> None:
    counts = np.array([1.0, 2.0, 300.0])
    rows = softmax_rows(counts, np.zeros(3))

    assert rows.participation[1:] == pytest.approx(1 / counts[1:])
    assert participation(4, 0.0) == pytest.approx(0.25, abs=1e-12)
    assert log_sum(8, 0.0) == pytest.approx(math.log(8), abs=5e-5)
    assert np.allclose(rows.coefficients.sum(0), 1)
    assert np.allclose(entropy_deficit(counts, np.zeros(3)), 0)


def test_very_different_scores_put_all_weight_on_one_key() -> None:
    counts, stds = np.array([2.0, 16.0, 500.0]), np.full(3, 1e6)

    # At the last point of the tables, std 32, some weight still is on a second key.
    assert np.all(softmax_rows(counts, stds).participation > 0.85)
    assert np.all(entropy_deficit(counts, stds) > 0.85 * np.log(counts))


def test_queries_of_few_entries_differ_in_size() -> None:
    counts, stds = np.array([64.0]), np.array([1.0])
    normal, mixed = (float(entropy_deficit(counts, stds, hs)[0]) for hs in (0, 8))

    # The deficit is concave in the variance of the scores, which differs between heads: it falls.
    assert 0.8 * normal < mixed < normal
