"""A distribution, together with which random numbers it is made of."""

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol

from gptinit.facts.distributions import (
    Constant,
    Distribution,
    Fixed,
    Measured,
    Mixture,
    Normal,
    Orthogonal,
    Piecewise,
    Scaled,
    TruncatedNormal,
    Uniform,
    Unset,
)
from gptinit.trace.graph import Read
from gptinit.trace.laws.moments import moments_only
from gptinit.trace.replay.replay import Replay

__all__ = ["Basis", "Known", "Law", "affine", "affine_distribution", "is_alike"]

Basis = tuple[object, ...] | None
"""Names the random numbers behind every entry in order; equal bases give equal values."""


@dataclass(frozen=True, slots=True)
class Law:
    """A distribution and which draw it is an affine map of.

    Attributes:
        distribution: of the entries.
        basis: names the draw, entry for entry; None where it is no map of a single draw.
        scale: factor on the draw.
        signs: whether every entry is +1 or -1.
    """

    distribution: Distribution
    basis: Basis = None
    scale: float = 1.0
    signs: bool = False


class Known(Protocol):
    """What a rule may ask: the laws of what an operator read."""

    replay: Replay

    def argument(self, value: Any) -> Law | None:
        """The law of an operand: a tensor that was read, a real one, or a number."""
        ...

    def read(self, read: Read) -> Law:
        """The law of a view."""
        ...


def is_alike(d: Distribution) -> bool:
    """Whether any part of such a tensor has the law of the whole."""
    return isinstance(d, Normal | TruncatedNormal | Uniform | Constant)


def affine(law: Law, scale: float, shift: float) -> Law:
    """The law of scale * x + shift."""
    made = affine_distribution(law.distribution, scale, shift)
    if isinstance(made, Constant):
        return Law(made)
    basis = law.basis if shift == 0 or law.basis is None else (law.basis, law.scale * scale, shift)
    return replace(law, distribution=made, basis=basis, scale=law.scale * scale, signs=False)


def affine_distribution(d: Distribution, scale: float, shift: float) -> Distribution:
    """The distribution of scale * x + shift, of the same kind where it has one."""
    if not math.isfinite(scale) or not math.isfinite(shift):
        return Fixed(mean=math.nan, std=math.nan, low=-math.inf, high=math.inf)
    if isinstance(d, Constant):
        return Constant(scale * d.value + shift)
    if isinstance(d, Unset):
        return d
    return Constant(shift) if scale == 0 else _moved(d, scale, shift)


def _moved(  # noqa: PLR0911 - one case a kind
    d: Distribution, scale: float, shift: float
) -> Distribution:
    """As `affine_distribution`, for a scale other than 0."""
    match d:
        case Normal(mean=mean, std=std):
            return Normal(scale * mean + shift, abs(scale) * std)
        case TruncatedNormal():
            return TruncatedNormal(
                scale * d.loc + shift, abs(scale) * d.scale, *_ends(d, scale, shift)
            )
        case Uniform():
            return Uniform(*_ends(d, scale, shift))
        case Fixed():
            return Fixed(scale * d.mean + shift, abs(scale) * d.std, *_ends(d, scale, shift))
        case Orthogonal(gain=gain) if shift == 0:
            return Orthogonal(gain * abs(scale), d.longest)
        case Scaled() if shift == 0:
            return Scaled(d.base, d.factor * scale)
        case Piecewise():
            return Piecewise(tuple((n, affine_distribution(p, scale, shift)) for n, p in d.pieces))
        case Mixture():
            return Mixture(tuple((n, affine_distribution(p, scale, shift)) for n, p in d.parts))
        case Measured():
            low, high = _ends(d, scale, shift)
            return Measured(
                mean=scale * d.mean + shift, std=abs(scale) * d.std,
                mean_stderr=abs(scale) * d.mean_stderr, std_stderr=abs(scale) * d.std_stderr,
                low=low, high=high, kurtosis=d.kurtosis, count=d.count,
            )  # fmt: skip
    return moments_only(scale * d.mean + shift, abs(scale) * d.std)


def _ends(
    d: TruncatedNormal | Uniform | Fixed | Measured, scale: float, shift: float
) -> tuple[float, float]:
    """The least and the greatest value after the map."""
    low, high = sorted((scale * d.low + shift, scale * d.high + shift))
    return low, high
