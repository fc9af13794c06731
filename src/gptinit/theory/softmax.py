"""Quadrature for a sum Z of exponentials of Gaussian scores: grids, and E ln Z from E exp(-u Z).

A row has N independent scores s ~ N(0, c^2). Integrals are taken over t = ln u and over the scores
by the trapezoidal rule, which converges exponentially for these functions: they are analytic in a
strip of half-width pi/2 around the real line.
"""

import math

import numpy as np

from gptinit.theory.arrays import Floats

__all__ = ["expected_log", "log_grid", "normal_grid"]


_REACH = 8.0  # standard deviations of a score that are summed over


def expected_log(t: Floats, transform: Floats) -> float:
    """E ln Z of a positive Z from E exp(-e^t Z) on an even grid of t that covers its fall.

    With E1 a standard exponential, P(ln E1 - ln Z > t) is the transform, and E ln E1 = -gamma.

    Shape:
        t, transform: (n,).
    """
    step = t[1] - t[0]
    mean = t[0] + step * (np.sum(transform) - transform[0] / 2)
    return float(-np.euler_gamma - mean)


def normal_grid(std: float) -> tuple[Floats, Floats]:
    """Points of a standard normal and their weights, fine enough for e^{-u e^{std z}}."""
    step = min(0.1, 0.8 / max(std, 1e-9))
    z = np.arange(-_REACH, _REACH + step, step)
    return z, np.exp(-(z**2) / 2) * step / math.sqrt(2 * math.pi)


def log_grid(count: float, std: float, *, least: float | None = None) -> Floats:
    """Values of t = ln u that cover where e^{-u Z} falls, for `least` to `count` keys."""
    largest = math.log(count) + min(std**2 / 2, std * math.sqrt(2 * math.log(count)))
    low = -largest - 6 * std - 12
    high = -math.log(least or count) + _REACH * std + 6
    return np.arange(low, high, 0.3 if std < 6 else 0.5)
