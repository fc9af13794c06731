"""The points of `softmax_tables.npz`."""

import math

__all__ = ["CORRELATIONS", "COUNTS", "STDS"]

COUNTS: tuple[float, ...] = (
    1.05, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512,
    724, 1024, 2048, 4096, 8192, 16384, 65536,
)  # fmt: skip
"""Numbers of keys; fractions are effective numbers, for which the integrals hold as they stand."""

STDS: tuple[float, ...] = (
    0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0,
    8.0, 10.0, 12.0, 16.0, 24.0, 32.0,
)  # fmt: skip
"""Standard deviations of the scores."""

CORRELATIONS: tuple[float, ...] = tuple(0.5 - 0.5 * math.cos(math.pi * k / 6) for k in range(7))
"""Correlations of the scores of two rows: Chebyshev points of [0, 1]."""
