"""Causal attention between Gaussian keys: the Gram of its output, and the transposed map.

With U the uniform causal average, R the Gram of the normed stream and scores of covariance
E[s_ij s_i'j'] = q_ii' S_jj', to first order in q the weights of rows i and i' have the covariance
U_ij U_i'j' q_ii' S~_jj', S~ being S centred over the keys of either row. So the output's Gram is
U R U^T + q_ii' Q_ii', Q_ii' = sum_jj' U_ij U_i'j' S~_jj' R_jj', and what the means of the weights
shift (`_shift`). Beyond first order the term is
multiplied by the gain of independent Gaussian scores (`tables`), for as many keys as the spectrum
of S~ has effective directions, N_eff - 1 = (tr S~)^2 / tr S~^2: exact for keys with one mutual
correlation, which are what a random energy model has.

Letters in shapes: T positions. Grams are float32.

References:
    Giorlandino & Goldt 2025, arXiv 2505.24333: attention as a random energy model.
    Cowsik et al. 2024, arXiv 2403.02579: the geometry of tokens and gradients at initialisation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from gptinit.theory.arrays import Floats, Gram
from gptinit.theory.averages import (
    average_back,
    both_averages,
    causal_average,
    transposed,
    transposed_average,
    uniform_matrix,
)
from gptinit.theory.model import TheoryModel
from gptinit.theory.tables import Rows, softmax_rows

__all__ = ["Mixing", "mix", "rotary_kernel"]


_LEAST_SHIFTED = 0.25
"""Variance of the scores below which the weights' mean shifts are left out: they add 0.2 % to what
attention adds at 0.1, and their product of matrices would cost as much as all the rest."""


def rotary_kernel(
    T: int, head_dim: int, *, base: float, rotary_dim: int = 0, angles: Sequence[float] = ()
) -> Gram:
    """Mean over pairs of entries of cos(angle) between rotations of positions j and j'.

    It is the correlation that two equal keys' scores keep at a distance.

    Args:
        T: positions.
        head_dim: entries of a head.
        base: of the geometric series of frequencies.
        rotary_dim: entries that are rotated, the others standing still; 0 means all.
        angles: by which every pair turns per position, in place of base and rotary_dim.

    Shape:
        result: (T, T).

    References:
        Su et al. 2021, "RoFormer", arXiv 2104.09864, section 3.2.
    """
    rotated = head_dim if angles else rotary_dim or head_dim
    frequencies = np.asarray(angles or base ** (-np.arange(0, rotated, 2) / rotated))
    share = rotated / head_dim
    turned = np.arange(T)[:, None] * frequencies
    by_distance = share * np.cos(turned).mean(1) + (1 - share)  # (T,)
    distance = np.abs(np.arange(T)[:, None] - np.arange(T))
    kernel: Gram = by_distance[distance].astype(np.float32)
    return kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """One attention layer's averages over keys.

    Attributes:
        average: U R U^T. Shape: (T, T).
        keys: S, the Gram of the keys' variable part. Shape: (T, T).
        keys_once: S U^T. Shape: (T, T).
        keys_average: U S U^T. Shape: (T, T).
        spread: Q, to be multiplied by the queries' covariance. Shape: (T, T).
        shift: what the means of the weights add, keys that are alike sharing theirs; to be
            multiplied by the scale of the keys only. Shape: (T, T).
        squares: U (R o R) U^T. Shape: (T, T).
        correlation: of the scores of two rows. Shape: (T, T).
        rows: the softmax of every row.
        score_variance: of the scores within each row. Shape: (T,).
    """

    average: Gram
    keys: Gram
    keys_once: Gram
    keys_average: Gram
    spread: Gram
    shift: Gram
    squares: Gram
    correlation: Gram
    rows: Rows
    score_variance: Floats

    def gain(self) -> Gram:
        """What multiplies the first order of the output's Gram. Shape: (T, T)."""
        return _gain(self.rows.coefficients, self.correlation)

    def slope(self) -> Gram:
        """What multiplies the first order of its derivative in the covariance. Shape: (T, T)."""
        powers = np.arange(1.0, len(self.rows.coefficients) + 1)
        return _gain(self.rows.coefficients * powers[:, None], self.correlation)

    def back_through_weights(self, covariance: Gram) -> Gram:
        """sum_ii' U_ij U_i'j' e_ii' S~_jj': what the spread of the weights sends back.

        Shape:
            covariance: e, (T, T), symmetric; result: (T, T).
        """
        once = transposed_average(covariance)  # U^T e
        sums = transposed_average(transposed(once))  # U^T e U
        cross = transposed_average(transposed(self.keys_once * once))
        constant = average_back(covariance * self.keys_average)
        result: Gram = self.keys * sums - cross - transposed(cross) + constant
        return result


def mix(
    R: Gram, queries: Gram, key: tuple[float, float], shape: TheoryModel, rotary: Gram | None
) -> Mixing:
    """The averages of one attention layer.

    Args:
        R: Gram of the normed stream.
        queries: covariance of the queries, times the score scale: a score's covariance is
            queries_ii' times that of the keys.
        key: variance of a key's entries per unit of R, and what all keys share (a bias).
        shape: the model. In n_embd dimensions random vectors overlap, by 1 / n_embd in the mean
            square; in head_dim dimensions the squares of queries differ.
        rotary: `rotary_kernel`, or None.

    Shape:
        R, queries, rotary: (T, T).
    """
    key_scale, key_floor = key
    once, average = both_averages(R)
    squared = _squares(R, shape.n_embd)
    _, squares = both_averages(squared)
    if rotary is None:
        keys, keys_once, keys_average = R, once, average
        spread = _spread(squares, once, once, average, average)
        own = spread
    else:
        floor = key_floor / key_scale if key_scale else 0.0
        keys = rotary * (R + np.float32(floor))
        keys_once, keys_average = both_averages(keys)
        product = both_averages(rotary * (squared + np.float32(floor) * R))[1]
        spread = rotary * _spread(product, keys_once, once, keys_average, average)
        own = _spread(
            both_averages(keys * keys)[1], keys_once, keys_once, keys_average, keys_average
        )
    varied = _varied(keys, keys_average)
    score_variance = np.maximum(queries.diagonal() * key_scale * varied, 0.0)
    rows = _effective_rows(varied, own, score_variance, shape.head_dim)
    shift = np.zeros_like(R)
    if float(queries.diagonal().max()) * key_scale >= _LEAST_SHIFTED:
        shift = _shift((keys_once, keys_average), (once, average), queries, rows)
    return Mixing(
        average=average,
        keys=keys,
        keys_once=keys_once,
        keys_average=keys_average,
        spread=spread,
        squares=squares,
        correlation=_correlations(queries, rotary),
        rows=rows,
        shift=shift,
        score_variance=score_variance,
    )


def _squares(R: Gram, width: int) -> Gram:
    """E of the squared product of two normed vectors, which overlap in few dimensions; (T, T)."""
    squared: Gram = R * R
    # 1 behind a norm, less where its eps is not small compared to the stream.
    most = np.float32(max(float(R.diagonal().mean()) ** 2, 1e-30))
    squared += np.square(most - squared) / (most * np.float32(width))
    return squared


def _spread(product: Gram, s_once: Gram, r_once: Gram, s_average: Gram, r_average: Gram) -> Gram:
    """sum_jj' U_ij U_i'j' S~_jj' R_jj' from U (S o R) U^T and the averages of S and R."""
    cross = causal_average(s_once * r_once)
    spread = s_average * r_average
    spread += product
    spread -= cross
    spread -= transposed(cross)
    return spread


def _shift(keys: tuple[Gram, Gram], values: tuple[Gram, Gram], queries: Gram, rows: Rows) -> Gram:
    """What the means of the weights add: sum_j (E A_ij - U_ij) (R U^T)_ji', and its transpose.

    To first order E A_ij - U_ij is U_ij q_ii / 2 times what S~_jj is above its mean over keys,
    which is twice what (S U^T)_ji is below its own. Beyond, it falls as 1 - participation does.
    """
    (keys_once, keys_average), (once, average) = keys, values
    T = len(once)
    weighted = transposed(keys_once)
    weighted *= uniform_matrix(T)
    shift = keys_average.diagonal()[:, None] * average - weighted @ once
    counts = np.arange(1, T + 1)
    softened = (1 - rows.participation) / np.maximum(1 - 1 / counts, 0.5)
    shift *= (queries.diagonal() * np.clip(softened, 0, 1)).astype(np.float32)[:, None]
    shift += transposed(shift)
    return shift


def _varied(keys: Gram, keys_average: Gram) -> Floats:
    """Tr S~ / N_i of every row i. Shape: (T,)."""
    counts = np.arange(1, len(keys) + 1)
    mean_square = np.cumsum(keys.diagonal().astype(np.float64)) / counts
    varied: Floats = np.maximum(mean_square - keys_average.diagonal(), 1e-12)
    varied[0] = 0.0  # one key has all the weight
    return varied


def _effective_rows(varied: Floats, own: Gram, score_variance: Floats, head_dim: int) -> Rows:
    """The rows as if their scores were independent, with as many keys as act like that."""
    counts = np.arange(1, len(varied) + 1)
    square = np.maximum(own.diagonal().astype(np.float64), 1e-12)
    effective = np.clip(1 + varied**2 / square, 1.05, np.maximum(counts, 1.05))
    return softmax_rows(effective, np.sqrt(score_variance / (1 - 1 / effective)), head_dim)


def _correlations(queries: Gram, rotary: Gram | None) -> Gram:
    """Correlation of the scores of two rows, 0 to 1. Shape: (T, T)."""
    square = np.maximum(queries.diagonal(), np.float32(1e-30))
    root = np.reciprocal(np.sqrt(square))
    r: Gram = queries * root[:, None] * root
    if rotary is not None:
        r *= rotary
    np.clip(r, 0, 1, out=r)
    return r


def _gain(coefficients: Floats, r: Gram) -> Gram:
    """A polynomial in r with the coefficients of the later of the two rows. Shape: (T, T)."""
    highest, *lower = coefficients[::-1].astype(np.float32)
    gain = np.repeat(highest[:, None], len(r), axis=1)
    for coefficient in lower:
        gain *= r
        gain += coefficient[:, None]
    np.copyto(gain, transposed(gain), where=_later(len(r)))
    return gain


@cache
def _later(T: int) -> npt.NDArray[np.bool_]:
    """Where the column is later than the row. Shape: (T, T)."""
    return np.triu(np.ones((T, T), dtype=np.bool_), 1)
