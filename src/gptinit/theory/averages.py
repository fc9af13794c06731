"""Averages over all earlier positions: the uniform causal matrix U, U_ij = 1 / (i + 1) for j <= i.

Letters in shapes: T positions. float32.
"""

from functools import cache

import numpy as np

from gptinit.theory.arrays import Gram

__all__ = [
    "average_back",
    "both_averages",
    "causal_average",
    "transposed",
    "transposed_average",
    "uniform_matrix",
]


def causal_average(x: Gram) -> Gram:
    """U x: row i is the mean of rows 0 to i.

    Shape:
        x, result: (T, S).
    """
    average = _running_sum(x)
    average *= _inverse_counts(len(x))[:, None]
    return average


def transposed_average(x: Gram) -> Gram:
    """U^T x: row j is the sum over i >= j of row i over i + 1.

    Shape:
        x, result: (T, S).
    """
    weighted = x * _inverse_counts(len(x))[:, None]
    return _running_sum(np.ascontiguousarray(weighted[::-1]))[::-1]


def average_back(x: Gram) -> Gram:
    """U^T x U: what uniform averages send back of x.

    Shape:
        x, result: (T, T).
    """
    once = transposed_average(x)
    return transposed(transposed_average(transposed(once)))


_BLOCK = 16
_BELOW: Gram = np.tri(_BLOCK, dtype=np.float32)


def _running_sum(x: Gram) -> Gram:
    """Sums of rows 0 to i: three times as fast as numpy.cumsum along the first axis.

    Rows are summed inside blocks of 16, by a product with ones, and the blocks' sums carried on.

    Shape:
        x, result: (T, S), contiguous.
    """
    T, S = x.shape
    whole = T - T % _BLOCK
    result: Gram = np.empty_like(x)
    blocks = result[:whole].reshape(-1, _BLOCK, S)
    np.matmul(_BELOW, x[:whole].reshape(-1, _BLOCK, S), out=blocks)
    blocks[1:] += np.cumsum(blocks[:-1, -1], axis=0)[:, None]
    for i in range(whole, T):
        result[i] = x[i] + result[i - 1] if i else x[i]
    return result


_STRIP = 32


def transposed(x: Gram) -> Gram:
    """A contiguous transpose, strip by strip: whole, rows 2^n bytes apart share cache lines.

    Shape:
        x: (T, S); result: (S, T).
    """
    result = np.empty(x.shape[::-1], dtype=np.float32)
    for i in range(0, len(x), _STRIP):
        result[:, i : i + _STRIP] = x[i : i + _STRIP].T
    return result


@cache
def _inverse_counts(T: int) -> Gram:
    """1 / N_i for N_i = i + 1 keys. Shape: (T,)."""
    return (1 / np.arange(1, T + 1)).astype(np.float32)


def both_averages(x: Gram) -> tuple[Gram, Gram]:
    """X U^T and U x U^T of a symmetric x."""
    once = transposed(causal_average(x))
    return once, causal_average(once)


@cache
def uniform_matrix(T: int) -> Gram:
    """U. Shape: (T, T)."""
    return np.tril(np.repeat(_inverse_counts(T)[:, None], T, axis=1))
