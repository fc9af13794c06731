"""Softmax of Gaussian scores by quadrature: participation, overlap of two rows, log of the sum.

A row has N independent scores s ~ N(0, c^2) and weights A_k = e^{s_k} / Z: Derrida's random
energy model at temperature 1/c. Every expectation of a power of 1/Z becomes an integral over u > 0
by Z^-n = integral u^(n-1) e^{-uZ} du / (n-1)!, in which the N scores factorise. All integrals are
taken over t = ln u and over the scores by the trapezoidal rule, which converges exponentially for
these functions: they are analytic in a strip of half-width pi/2 around the real line.

References:
    Derrida 1981, "Random-energy model: An exactly solvable model of disordered systems",
    Physical Review B 24, 2613.
"""

import math

import numpy as np
import numpy.typing as npt

__all__ = ["expected_log", "log_grid", "log_sum", "normal_grid", "overlap", "participation"]

Floats = npt.NDArray[np.float64]

_REACH = 8.0  # standard deviations of a score that are summed over


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


def expected_log(t: Floats, transform: Floats) -> float:
    """E ln Z of a positive Z from E exp(-e^t Z) on an even grid of t that covers its fall.

    With E1 a standard exponential, P(ln E1 - ln Z > t) is the transform, and E ln E1 = -gamma.

    Shape:
        t, transform: (n,).
    """
    step = t[1] - t[0]
    mean = t[0] + step * (np.sum(transform) - transform[0] / 2)
    return float(-np.euler_gamma - mean)


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
