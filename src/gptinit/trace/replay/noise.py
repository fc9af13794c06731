"""Random numbers by position: entry i of a draw is a function of the draw's key and i alone.

So any entries of a tensor of any size can be computed, in any order and as often as needed.
exact for: the 53 bits of a uniform; approximate for: nothing that a statistic of 1e5 entries sees.

References:
    Steele, Lea & Flood 2014, "Fast Splittable Pseudorandom Number Generators" (the mixer).
"""

import math
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from gptinit.facts.distributions import Constant, Distribution, Normal, TruncatedNormal, Uniform

__all__ = ["draw_at"]

_Words: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.uint64]]"
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def draw_at(law: Distribution, key: int, positions: Tensor) -> Tensor:
    """Entries of a draw, in float64.

    Shape:
        positions: (M,) int64, flat indices; result: (M,).

    Raises:
        AssertionError: if the law is not one of independent entries.

    Example:
        >>> twice = torch.tensor([5, 5])
        >>> bool(torch.equal(*draw_at(Normal(0.0, 1.0), 7, twice).split(1)))
        True
    """
    match law:
        case Constant(value=value):
            return torch.full(positions.shape, value, dtype=torch.float64)
        case Uniform(low=low, high=high):
            return low + (high - low) * _uniform(key, positions)
        # By inverting distribution functions: one uniform an entry, whereas rejection would use a
        # number of them that depends on the values.
        case Normal(mean=mean, std=std):
            z: Tensor = torch.special.ndtri(_uniform(key, positions))
            return mean + std * z
        case TruncatedNormal(loc=loc, scale=0.0):
            return torch.full(positions.shape, loc, dtype=torch.float64)
        case TruncatedNormal(loc=loc, scale=scale, low=low, high=high):
            a, b = _cdf((low - loc) / scale), _cdf((high - loc) / scale)
            u = a + (b - a) * _uniform(key, positions)
            inside: Tensor = loc + scale * torch.special.ndtri(u)
            return inside.clamp(low, high)
    raise AssertionError(law)


def _uniform(key: int, positions: Tensor) -> Tensor:
    """Uniform on (0, 1), never 0 or 1; (M,) float64."""
    state = positions.numpy().astype(np.uint64)
    with np.errstate(over="ignore"):
        mixed = _mix(state * _GOLDEN + _mix(np.full(1, key & (2**64 - 1), dtype=np.uint64)))
    # The upper 53 bits, as many as a float64 holds; the half keeps ndtri finite.
    return torch.from_numpy(((mixed >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53)


def _mix(x: _Words) -> _Words:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))
