"""Attention between keys: its averages against sums over four indices, its rows against tables."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from support.predictions import base

from gptinit.theory.arrays import Gram
from gptinit.theory.mixing import _shift, mix, rotary_kernel
from gptinit.theory.model import TheoryModel
from gptinit.theory.tables import Rows, softmax_rows

Floats = npt.NDArray[np.float64]
T = 6
U = np.tril(np.ones((T, T))) / np.arange(1, T + 1)[:, None]
PER, FLOOR = 2.0, 0.6  # variance of keys per unit of R, and what all keys share
TURN = rotary_kernel(T, 4, base=10.0)


def gram(seed: int) -> npt.NDArray[np.float32]:
    x = np.random.default_rng(seed).standard_normal((T, 4))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return (0.6 * x @ x.T + 0.4 * np.eye(T)).astype(np.float32)


def of_width(width: int) -> TheoryModel:
    return replace(base(), n_embd=width)


def correlation(queries: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    size = np.sqrt(np.diag(queries))
    found: npt.NDArray[np.float32] = queries / np.outer(size, size)
    return found


def spread_of(keys: Floats, values: Floats) -> Floats:
    """sum_jj' U_ij U_i'j' S~_jj' R_jj', S~ centred over the keys of row i and over those of i'."""
    once, average = U @ keys, U @ keys @ U.T
    centred = keys - once[:, None, None, :] - once[None, :, :, None] + average[:, :, None, None]
    found: Floats = np.einsum("ij,kl,ikjl,jl->ik", U, U, centred, values)
    return found


def test_keys_that_are_turned_share_a_bias_that_is_turned_with_them() -> None:
    R, queries = gram(0), np.float32(0.01) * gram(1)
    keys = TURN.astype(np.float64) * (R + FLOOR / PER)

    found = mix(R, queries, (PER, FLOOR), of_width(10**9), TURN)

    assert found.average == pytest.approx(U @ R @ U.T, abs=1e-6)
    assert found.squares == pytest.approx(U @ R**2 @ U.T, abs=1e-6)
    assert found.keys == pytest.approx(keys, abs=1e-6)
    assert found.spread == pytest.approx(TURN * spread_of(keys, R.astype(np.float64)), abs=1e-6)
    # Of the scores of one row: sum_j U_ij S_jj - (U S U^T)_ii keys apart, times q_ii.
    varied = (U @ np.diag(keys)) - np.diag(U @ keys @ U.T)
    assert found.score_variance == pytest.approx(np.diag(queries) * PER * varied, abs=1e-6)
    # Two queries turned by their distance: what they keep of their correlation.
    assert found.correlation == pytest.approx(np.clip(correlation(queries) * TURN, 0, 1), abs=1e-6)
    assert not found.shift.any()  # the scores hardly vary


def test_keys_without_positions_know_no_bias() -> None:
    R = gram(0)

    with_bias, without = (mix(R, gram(1), (PER, f), of_width(10**9), None) for f in (FLOOR, 0.0))

    for name in ("average", "keys", "spread", "shift", "correlation", "score_variance"):
        assert np.array_equal(getattr(with_bias, name), getattr(without, name)), name
    assert with_bias.shift.any()  # scores of std 1


def test_keys_that_are_all_bias_are_turned_by_nothing_else() -> None:
    still = mix(gram(0), gram(1), (0.0, FLOOR), of_width(10**9), TURN)

    assert still.keys == pytest.approx(TURN * gram(0), abs=1e-6)


def test_vectors_of_few_channels_overlap_by_one_over_their_number() -> None:
    """E (x . x')^2 = r^2 + (1 - r^2)^2 / C."""
    R = gram(0)
    squared = R**2 + (1 - R**2) ** 2 / 5

    found = mix(R, gram(1), (PER, 0.0), of_width(5), None)

    assert found.squares == pytest.approx(U @ squared @ U.T, abs=1e-6)


@pytest.mark.parametrize("common", [0.0, 0.4])
@pytest.mark.parametrize("std", [0.3, 1.5, 4.0])
def test_keys_of_one_mutual_correlation_act_as_so_many_independent_ones(
    common: float, std: float
) -> None:
    """Centred they are independent, of variance 1 - common: a random energy model."""
    R: Gram = np.full((T, T), common, dtype=np.float32)
    np.fill_diagonal(R, 1)
    queries: Gram = np.float32(std**2 / PER) * R

    rows = mix(R, queries, (PER, 0.0), of_width(10**9), None).rows

    stds = np.full(T, std * (1 - common) ** 0.5)
    expected = softmax_rows(np.arange(1.0, T + 1), stds, 32)
    # A row of one key, which has all the weight, has no scores to speak of.
    assert rows.participation[1:] == pytest.approx(expected.participation[1:], rel=1e-4)
    assert rows.coefficients[:, 1:] == pytest.approx(expected.coefficients[:, 1:], rel=1e-3)
    assert rows.participation[0] == pytest.approx(1.0, abs=0.05)


def test_the_shift_of_a_row_falls_with_what_its_largest_weights_leave() -> None:
    """As 1 - participation does: none where one key has all the weight, all where they are even."""
    R = gram(0)
    once = (R @ U.T).astype(np.float32)
    averages = once, (U @ once).astype(np.float32)
    counts = np.arange(1, T + 1)

    def shifted(participation: npt.ArrayLike, scale: float = 1.0) -> Gram:
        rows = Rows(coefficients=np.zeros((1, T)), participation=np.asarray(participation))
        queries: Gram = np.float32(scale) * np.eye(T, dtype=np.float32)
        return _shift(averages, averages, queries, rows)

    even = shifted(1 / counts)
    assert abs(even).max() > 0.01
    assert shifted(1 / counts, 3.0) == pytest.approx(3 * even, rel=1e-5)
    assert shifted((1 + 1 / counts) / 2) == pytest.approx(even / 2, rel=1e-5)
    assert not shifted(np.ones(T)).any()
    # Tables are rounded: what they have beyond the ends is not taken further.
    assert shifted(np.full(T, 1.01)) == pytest.approx(np.zeros((T, T)))
    beyond = shifted(np.where(counts > 1, 0.9 / counts, 1.0))
    assert beyond == pytest.approx(even, rel=1e-5)


def test_the_gain_of_two_rows_is_that_of_the_later_one() -> None:
    mixing = mix(gram(0), gram(1), (PER, 0.0), of_width(10**9), None)
    coefficients, r = mixing.rows.coefficients, mixing.correlation
    powers = np.arange(len(coefficients))

    for i, j in ((0, 0), (2, 5), (5, 2), (3, 3)):
        later = coefficients[:, max(i, j)]
        terms = later * r[i, j] ** powers
        assert mixing.gain()[i, j] == pytest.approx(terms.sum(), rel=1e-5)
        # Of r times the gain, which the first order is multiplied with: its derivative.
        assert mixing.slope()[i, j] == pytest.approx((terms * (powers + 1)).sum(), rel=1e-5)
