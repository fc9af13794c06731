"""Statistics of attention scores against sums over all pairs of scores."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from support.predictions import base

from gptinit.theory import Moments
from gptinit.theory.arrays import Gram
from gptinit.theory.blocks import attend, normed
from gptinit.theory.mixing import rotary_kernel
from gptinit.theory.scores import score_statistics
from gptinit.theory.tables import entropy_deficit

T, C, HEADS = 5, 64, 8
ONE = Moments(1.0, 0.0)


def drawn(std: float) -> Moments:
    """Weights around 0."""
    return Moments(0.0, std)


MODEL = replace(base(), n_head=HEADS, n_kv_head=HEADS, head_dim=C // HEADS, n_embd=C)
LAYER = replace(MODEL.layers[0], q=drawn(0.125), k=drawn(0.1), q_bias=drawn(0.4), k_bias=drawn(0.5))


def stream(seed: int) -> Gram:
    """Positions that are alike to different degrees, of one size."""
    x = np.abs(np.random.default_rng(seed).standard_normal((T, 3)))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return (0.7 * x @ x.T + 0.3 * np.eye(T)).astype(np.float32)


@pytest.mark.parametrize("is_rotary", [False, True])
@pytest.mark.parametrize("rows", [[0, 1, 2, 3, 4], [2, 4], [0]])
def test_the_std_of_scores_is_that_of_all_pairs_of_them(rows: list[int], is_rotary: bool) -> None:
    """Scores s_ij of rows i and keys j <= i have the covariance q_ii' (per r_jj' + floor) turned.

    E s^2 is that at equal scores, of which their grand mean over rows, keys and heads is taken
    off. Squares of the covariances count the overlap of C channels, (1 - r^2)^2 / C without and
    turned^2 (1 - r^2) / C with rotary positions.
    """
    R = stream(0)
    turn = rotary_kernel(T, 4, base=10.0) if is_rotary else np.ones((T, T), dtype=np.float32)
    x = normed(R, ONE, Moments(), 0.0)
    attention = attend(x, LAYER, MODEL, turn if is_rotary else None)

    found = score_statistics(x, attention, MODEL, np.array(rows), turn if is_rotary else None)

    q = 1.0 * R + 0.4**2  # C std(q)^2 = 1
    per, floor = C * 0.1**2, 0.5**2
    scores = [(i, j) for i in rows for j in range(i + 1)]
    pairs: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for (i, j), (k, m) in product(scores, scores):
        r, turned = float(R[j, m]), float(turn[abs((i - j) - (k - m)), 0])
        overlap = turned**2 * (1 - r**2) / C if is_rotary else (1 - r**2) ** 2 / C
        first = q[i, k] * (per * r + floor) * turned
        second = first**2 + q[i, k] ** 2 * per**2 * overlap
        pairs[i == k].append((first, second))
    top = float(np.diag(q)[rows].mean()) * (per + floor)
    mean, square = np.array(pairs[True] + pairs[False]).mean(0) / (top, top**2)
    # s^2 is a chi-square of so many degrees of freedom: E ln s^2 is ln E s^2 - 1 / freedom.
    freedom = (HEADS - mean) / square
    std = math.sqrt(top * (1 - mean / HEADS)) * math.exp(-0.5 / freedom)
    assert freedom > 2
    assert found["attn_score_std"] == pytest.approx(std, rel=1e-5)


def test_few_of_many_rotary_rows_stand_for_all() -> None:
    """All positions hold one vector and are turned by nothing: every pair of scores is the same."""
    many = 20
    K, still = (np.ones((many, many), dtype=np.float32) for _ in range(2))
    x = normed(K, ONE, Moments(), 0.0)
    attention = attend(x, LAYER, MODEL, still)

    found = score_statistics(x, attention, MODEL, np.arange(many), still)

    top = (1 + 0.4**2) * (C * 0.1**2 + 0.5**2)
    std = math.sqrt(top * (1 - 1 / HEADS)) * math.exp(-0.5 / (HEADS - 1))
    assert found["attn_score_std"] == pytest.approx(std, rel=1e-5)


def test_the_entropy_of_orthogonal_keys_is_that_of_independent_scores() -> None:
    K = np.eye(T, dtype=np.float32)
    layer = replace(LAYER, q_bias=Moments(), k=drawn(0.25))
    x = normed(K, ONE, Moments(), 0.0)
    attention = attend(x, layer, MODEL, None)

    found = score_statistics(x, attention, MODEL, np.array([0, 1, 3]), None)

    counts = np.array([2.0, 4.0])  # a row of one key has no entropy
    deficit = entropy_deficit(counts, np.full(2, 2.0), C // HEADS)  # std C 0.125 0.25
    assert found["attn_entropy"] == pytest.approx(1 - (deficit / np.log(counts)).mean(), rel=1e-5)


def test_queries_of_zero_have_equal_scores_and_one_row_of_one_key_no_entropy() -> None:
    layer = replace(LAYER, q=Moments(), q_bias=Moments())
    x = normed(stream(0), ONE, Moments(), 0.0)
    attention = attend(x, layer, MODEL, None)

    found = score_statistics(x, attention, MODEL, np.arange(T), None)

    assert found == {"attn_score_std": 0.0, "attn_entropy": 1.0}
    assert set(score_statistics(x, attention, MODEL, np.array([0]), None)) == {"attn_score_std"}


def test_two_heads_that_share_all_their_draws_have_the_bias_of_few() -> None:
    """One score a head: 2 degrees of freedom at most, of which one is the mean's."""
    model = replace(MODEL, n_head=2, n_kv_head=2, head_dim=C // 2)
    x = normed(stream(0), ONE, Moments(), 0.0)
    attention = attend(x, LAYER, model, None)

    found = score_statistics(x, attention, model, np.array([0]), None)

    top = (1 + 0.4**2) * (C * 0.1**2 + 0.5**2)
    assert found["attn_score_std"] == pytest.approx(math.sqrt(top / 2) * math.exp(-0.25), rel=1e-5)
