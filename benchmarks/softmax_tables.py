"""Compute `theory/softmax_tables.npz`: `python -m benchmarks.softmax_tables`, a minute.

A row has N independent scores s ~ N(0, c^2) and weights A_k = e^{s_k} / Z: Derrida's random
energy model at temperature 1/c. Every expectation of a power of 1/Z becomes an integral over u > 0
by Z^-n = integral u^(n-1) e^{-uZ} du / (n-1)!, in which the N scores factorise.

References:
    Derrida 1981, "Random-energy model: An exactly solvable model of disordered systems",
    Physical Review B 24, 2613.
"""

import math
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gptinit.theory import tables
from gptinit.theory.grids import CORRELATIONS, COUNTS, STDS
from gptinit.theory.softmax import expected_log, log_grid, normal_grid

__all__ = ["build_tables", "gain", "log_sum", "log_sum_gain", "main", "overlap", "participation"]

Floats = npt.NDArray[np.float64]

_LEAST = 0.02  # stands for correlation 0, where the gain is a ratio of two zeros


def participation(count: float, std: float) -> float:
    """E sum_k A_k^2 of a softmax over `count` independent scores of standard deviation `std`.

    Between 1/count (uniform weights) and 1 (all weight on one key).

    Example:
        >>> round(participation(4, 0.0), 12)
        0.25
    """
    if std == 0:
        return 1.0 / count
    z, weight = normal_grid(std)
    t = log_grid(count, std)
    tilted = t[:, None] + std * z[None, :]  # ln(u e^s), (t, z)
    decay = np.exp(-np.exp(np.minimum(tilted, 50.0)))
    squared = (np.exp(2 * np.minimum(tilted, 50.0)) * decay) @ weight  # u^2 E[e^{2s} e^{-u e^s}]
    rest = _power(decay @ weight, count - 1)
    return float(count * (t[1] - t[0]) * np.sum(squared * rest))


def log_sum(count: float, std: float) -> float:
    """E ln sum_k e^{s_k} over `count` independent scores of standard deviation `std`, in nats.

    Example:
        >>> round(log_sum(8, 0.0), 4)  # ln 8
        2.0794
    """
    t = log_grid(count, std)
    z, weight = normal_grid(std)
    decay = np.exp(-np.exp(np.minimum(t[:, None] + std * z[None, :], 50.0)))
    return expected_log(t, _power(decay @ weight, count))


def overlap(counts: npt.ArrayLike, std: float, correlation: float) -> Floats:
    """E sum_k A_k A'_k of two softmax rows whose scores of one key have the given correlation.

    Args:
        counts: numbers N of keys, all answered from one pair of grids.
        std: of a score.
        correlation: of the two scores of one key; below 1 (at 1 it is the participation).

    Shape:
        counts: (n,); result: (n,).
    """
    counts = np.asarray(counts, dtype=np.float64)
    z, _ = normal_grid(std)
    step_z = z[1] - z[0]
    apart = 1 - correlation**2
    exponent = -(z[:, None] ** 2 - 2 * correlation * z[:, None] * z + z**2) / (2 * apart)
    weight = np.exp(exponent) * step_z**2 / (2 * math.pi * math.sqrt(apart))  # (z, z')
    t = log_grid(float(counts.max()), std, least=float(counts.min()))
    tilted = np.minimum(t[:, None] + std * z[None, :], 50.0)
    decay = np.exp(-np.exp(tilted))
    one = np.exp(tilted) * decay
    both = one @ weight @ one.T  # u u' E[e^s e^s' e^{-u e^s - u' e^s'}], (t, t')
    log_rest = np.log(np.maximum(decay @ weight @ decay.T, 1e-300))
    step_t = t[1] - t[0]
    return np.array(
        [n * step_t**2 * np.sum(both * np.exp((n - 1) * log_rest)) for n in counts.tolist()]
    )


def _power(base: Floats, exponent: float) -> Floats:
    """`base` to the power `exponent`, without underflow on the way."""
    powered: Floats = np.exp(exponent * np.log(np.maximum(base, 1e-300)))
    return powered


def gain(
    overlapped: npt.ArrayLike, count: npt.ArrayLike, std: float, correlation: float
) -> npt.NDArray[np.float64]:
    """Overlap beyond that of uniform weights, over what it is to first order in std^2."""
    count = np.asarray(count)
    first = std**2 * correlation * (1 - 1 / count) / count
    return np.asarray((np.asarray(overlapped) - 1 / count) / first)


def log_sum_gain(log_sum: float, count: float, std: float) -> float:
    """E ln Z - ln N over what it is to first order in std^2."""
    return (log_sum - math.log(count)) / (std**2 / 2 * (1 - 1 / count))


def build_tables() -> Mapping[str, npt.NDArray[np.float32]]:
    """Gain of the overlap, (stds, counts, correlations), and `log_sum_gain`, (stds, counts)."""
    gains = np.ones((len(STDS), len(COUNTS), len(CORRELATIONS)))  # of scores that are all equal
    logs = np.ones((len(STDS), len(COUNTS)))
    counts = np.array(COUNTS)
    for i, std in enumerate(STDS[1:], start=1):
        for k, correlation in enumerate(CORRELATIONS[:-1]):
            r = max(correlation, _LEAST)
            gains[i, :, k] = gain(overlap(counts, std, r), counts, std, r)
        for j, count in enumerate(COUNTS):
            gains[i, j, -1] = gain(participation(count, std), count, std, 1.0)
            logs[i, j] = log_sum_gain(log_sum(count, std), count, std)
    return {"gain": gains.astype(np.float32), "log_sum_gain": logs.astype(np.float32)}


def main() -> None:
    """Write the file that theory reads, or the one that the first argument names."""
    default = Path(tables.__file__).with_name("softmax_tables.npz")
    built = build_tables()
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    np.savez(target, gain=built["gain"], log_sum_gain=built["log_sum_gain"])


if __name__ == "__main__":
    main()
