"""What softmax rows of Gaussian scores do, read from `softmax_tables.npz`.

The file is made by benchmarks/softmax_tables.py; between its points values are interpolated
linearly in the logarithm of the number of keys and in the standard deviation of the scores.
"""

import math
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from gptinit.theory.arrays import Floats, Positions
from gptinit.theory.grids import CORRELATIONS, COUNTS, STDS

__all__ = ["Rows", "entropy_deficit", "softmax_rows"]


_STD_POINTS, _COUNT_POINTS = np.array(STDS), np.log(COUNTS)
_COARSE = (0, 3, 6)  # correlations 0, 1/2 and 1
_MILD = 0.6  # scores below this std: the gain is close to a parabola in the correlation


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Softmax rows over N_i keys with scores of std c_i.

    Attributes:
        coefficients: of a polynomial in the correlation r of two rows: the gain of their overlap,
            E sum_k A_k A'_k = 1/N + (c^2 r (1 - 1/N) / N) gain(r). Shape: (degree + 1, rows).
        participation: E sum_k A_k^2. Shape: (rows,).
    """

    coefficients: Floats
    participation: Floats


def softmax_rows(counts: Floats, stds: Floats, head_dim: int = 0) -> Rows:
    """Rows by their (effective) number of keys, at least 1, and the std of their scores.

    Args:
        counts: numbers of keys.
        stds: of the scores, over keys and heads.
        head_dim: entries of a query, whose square is a chi-square: scores are normal in one row
            of one head, and their variance differs between heads. 0 means that it does not.

    Shape:
        counts, stds: (rows,).

    Example:
        >>> rows = softmax_rows(np.array([4.0]), np.array([0.0]))
        >>> rows.participation.tolist()
        [0.25]
    """
    counts = np.clip(counts, COUNTS[0], COUNTS[-1])
    is_mild = float(stds.max()) < _MILD
    gain = np.zeros((len(counts), len(CORRELATIONS)))
    for part, share in _parts(0 if is_mild else head_dim):
        gain += part * share * _gain(counts, stds * part**0.5)
    participation = 1 / counts + stds**2 * (1 - 1 / counts) / counts * gain[:, -1]
    chosen = _COARSE if is_mild else tuple(range(len(CORRELATIONS)))
    return Rows(coefficients=_fit(chosen) @ gain[:, chosen].T, participation=participation)


def _gain(counts: Floats, stds: Floats) -> Floats:
    """The gain at CORRELATIONS. Shape: (rows,), (rows,) to (rows, correlations)."""
    held, beyond = _held(stds)
    gain: Floats = np.exp(_interpolate(_tables()[0], counts, held)) / beyond[:, None] ** 2
    return gain


def _parts(head_dim: int) -> tuple[tuple[float, float], ...]:
    """(value, probability) of two points with the mean and variance of a chi-square over its mean.

    The variance is 2 / head_dim.
    """
    if head_dim < 3:
        return ((1.0, 1.0),)
    spread = math.sqrt(2 / head_dim)
    return ((1 - spread, 0.5), (1 + spread, 0.5))


def entropy_deficit(counts: Floats, stds: Floats, head_dim: int = 0) -> Floats:
    """What the entropy of softmax rows lacks of ln N, over N independent scores, in nats.

    Arguments as of `softmax_rows`.

    Shape:
        counts, stds, result: (rows,).

    Example:
        >>> entropy_deficit(np.array([4.0, 4.0]), np.array([0.0, 1e9])).round(4).tolist()
        [0.0, 1.3863]
    """
    counts = np.clip(counts, COUNTS[0], COUNTS[-1])
    deficit = np.zeros(len(counts))
    for part, share in _parts(0 if float(stds.max()) < _MILD / 2 else head_dim):
        deficit += share * _deficit(counts, stds * part**0.5)
    return np.clip(deficit, 0, np.log(counts))


def _deficit(counts: Floats, stds: Floats) -> Floats:
    """`entropy_deficit` of normal scores. Shape: (rows,)."""
    held, beyond = _held(stds)
    weight, log_sum = _tables()
    gain = np.exp(_interpolate(weight[..., -1:], counts, held)[:, 0])
    first = held**2 * (1 - 1 / counts)
    # By parts, E sum A s = c^2 (1 - participation), of which E ln Z is taken off.
    held_back = held**2 * (1 - 1 / counts - first / counts * gain)
    deficit = held_back - first / 2 * _interpolate(log_sum[..., None], counts, held)[:, 0]
    lacking: Floats = (
        np.log(counts) - (np.log(counts) - deficit) / beyond
    )  # entropy falls as 1 / std
    return lacking


def _held(stds: Floats) -> tuple[Floats, Floats]:
    """Stds inside the tables, and by how much they are beyond, where they no longer matter."""
    beyond = np.maximum(stds / STDS[-1], 1.0)
    return stds / beyond, beyond


@cache
def _tables() -> tuple[Floats, Floats]:
    """Logarithm of the gain, (stds, counts, correlations), and that of E ln Z, (stds, counts)."""
    with (
        resources.as_file(resources.files("gptinit.theory") / "softmax_tables.npz") as path,
        np.load(path) as file,
    ):
        return np.log(file["gain"].astype(np.float64)), file["log_sum_gain"].astype(np.float64)


def _interpolate(table: Floats, counts: Floats, stds: Floats) -> Floats:
    """A table, (stds, counts, n), at every row: (rows, n)."""
    i, x = _locate(_STD_POINTS, stds)
    j, y = _locate(_COUNT_POINTS, np.log(counts))
    x, y = x[:, None], y[:, None]
    low = (1 - y) * table[i, j] + y * table[i, j + 1]
    high = (1 - y) * table[i + 1, j] + y * table[i + 1, j + 1]
    value: Floats = (1 - x) * low + x * high
    return value


def _locate(points: Floats, values: Floats) -> tuple[Positions, Floats]:
    """The interval of each value and where in it the value lies, 0 to 1."""
    i = np.clip(np.searchsorted(points, values) - 1, 0, len(points) - 2)
    return i, (values - points[i]) / (points[i + 1] - points[i])


@cache
def _fit(chosen: tuple[int, ...]) -> Floats:
    """From values at some of CORRELATIONS to coefficients of the polynomial through them."""
    points = np.array([CORRELATIONS[k] for k in chosen])
    inverse: Floats = np.linalg.inv(np.vander(points, increasing=True))
    return inverse
