"""Distributions taken apart, put into their simplest form, shifted and scaled."""

import math
from collections.abc import Iterator

from gptinit.facts.distributions import (
    Constant,
    Copy,
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

__all__ = [
    "FAR_CUT",
    "affine_distribution",
    "is_iid",
    "is_random",
    "leaves",
    "moments_only",
    "one_value",
    "row_blocks",
    "simplified",
]

FAR_CUT = 5.0
"""A bound so many scales away takes 6e-7 of the mass: the normal is as good as not truncated."""


def is_iid(d: Distribution) -> bool:
    """Whether entries are independent and alike, so that any part is distributed as the whole."""
    return isinstance(d, Normal | TruncatedNormal | Uniform | Constant)


def is_random(d: Distribution) -> bool:
    """Whether another seed would change any entry.

    Example:
        >>> is_random(Copy("a", Normal(0.0, 0.02))), is_random(Copy("a", Constant(1.0)))
        (True, False)
    """
    return any(
        not isinstance(leaf, Constant | Fixed | Unset) and leaf.std != 0 for leaf in leaves(d)
    )


def leaves(d: Distribution) -> Iterator[Distribution]:
    """Every simple distribution that `d` is put together from."""
    match d:
        case Piecewise(pieces=parts) | Mixture(parts=parts):
            for _, part in parts:
                yield from leaves(part)
        case Copy(source=inner) | Scaled(base=inner):
            yield from leaves(inner)
        case _:
            yield d


def row_blocks(d: Distribution) -> Iterator[Distribution]:
    """The distribution of every block of rows; `d` itself where all rows have one."""
    if isinstance(d, Piecewise):
        for _, piece in d.pieces:
            yield from row_blocks(piece)
    else:
        yield d


def one_value(d: Distribution) -> float | None:
    """The value that every entry has; None where they differ, or are drawn.

    Example:
        >>> one_value(Piecewise(((2, Constant(0.5)), (3, Constant(0.5)))))
        0.5
    """
    simple = simplified(d)
    if isinstance(simple, Measured):
        return simple.low if simple.low == simple.high else None
    return simple.value if isinstance(simple, Constant) else None


def simplified(d: Distribution) -> Distribution:
    """The same entries in their simplest form: no copies, no far cuts, no equal pieces.

    Example:
        >>> str(simplified(Copy("a", TruncatedNormal(0.0, 0.02, -2.0, 2.0))))
        'N(0, 0.02)'
    """
    simple: Distribution
    match d:
        case Copy(source=source):
            simple = simplified(source)
        case Scaled(base=base, factor=factor):
            base = simplified(base)
            # A bounded distribution stays scaled: its factor, and so its bounds, vary by seed.
            keeps_kind = isinstance(base, Normal | Constant | Orthogonal)
            simple = affine_distribution(base, factor, 0.0) if keeps_kind else Scaled(base, factor)
        case Piecewise(pieces=parts) | Mixture(parts=parts):
            simple = _joined(d, parts)
        case TruncatedNormal(loc=loc, scale=scale, low=low, high=high) if (
            min(high - loc, loc - low) >= FAR_CUT * scale
        ):
            simple = Normal(loc, scale)
        case _:
            simple = d
    return Constant(simple.mean) if is_iid(simple) and simple.std == 0 else simple


def _joined(
    whole: Piecewise | Mixture, parts: tuple[tuple[int, Distribution], ...]
) -> Distribution:
    """One distribution where all parts have it; else the parts, each simplified."""
    simple = tuple((n, simplified(d)) for n, d in parts if n > 0)
    if simple and all(d == simple[0][1] for _, d in simple):
        return simple[0][1]
    return Piecewise(simple) if isinstance(whole, Piecewise) else Mixture(simple)


def affine_distribution(d: Distribution, scale: float, shift: float) -> Distribution:
    """The distribution of scale * x + shift, of the same kind where it has one.

    Example:
        >>> str(affine_distribution(Uniform(0.0, 1.0), -2.0, 1.0))
        'U(-1, 1)'
    """
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


def moments_only(mean: float, std: float) -> Measured:
    """Exact moments of entries that no distribution here describes: dependent ones, mostly."""
    return Measured(
        mean=mean, std=std, mean_stderr=0.0, std_stderr=0.0,
        low=-math.inf, high=math.inf, kurtosis=3.0, count=1,
    )  # fmt: skip
