"""Compute the tables of `softmax_tables.npz`: `python -m gptinit.theory.build_tables`, a minute."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gptinit.theory.grids import CORRELATIONS, COUNTS, STDS
from gptinit.theory.softmax import log_sum, overlap, participation

__all__ = ["build_tables", "gain", "log_sum_gain", "main"]


_LEAST = 0.02  # stands for correlation 0, where the gain is a ratio of two zeros


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
    """Write the file beside this module, or where the first argument says."""
    default = Path(__file__).with_name("softmax_tables.npz")
    tables = build_tables()
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    np.savez(target, gain=tables["gain"], log_sum_gain=tables["log_sum_gain"])


if __name__ == "__main__":
    main()
