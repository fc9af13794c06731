"""Compare distributions: whether two are the same, their ratio, and the errors of both."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType

from gptinit.facts.algebra import FAR_CUT, affine_distribution, leaves, simplified
from gptinit.facts.apply_scheme import apply_scheme
from gptinit.facts.distributions import (
    Constant,
    Distribution,
    Measured,
    Normal,
    Piecewise,
    TruncatedNormal,
    Uniform,
)
from gptinit.facts.schemes import Scheme
from gptinit.results.program import ModelProgram, ParameterProgram

__all__ = [
    "STANDARD_ERRORS",
    "Expectations",
    "agrees",
    "expectations",
    "ratio_of",
    "relative_error",
    "rms",
    "row_of",
    "same_law",
    "same_moments",
    "tolerance_of",
    "varied",
    "without_padding",
]

STANDARD_ERRORS = 5.0
"""A measured moment differs when it is further off: by chance once in 1.7 million."""

_ROUNDING: Mapping[str, float] = MappingProxyType(
    {"bfloat16": 2.0**-8, "float16": 2.0**-10, "float64": 1e-9}
)
_FLOAT32 = 1e-6  # some ten operations, each rounded to 24 bits
_GAIN = 0.02  # a norm's gain is read from a forward that has an epsilon


def tolerance_of(dtype: str) -> float:
    """Relative difference that rounding to `dtype` can make in a moment.

    Example:
        >>> tolerance_of("bfloat16")
        0.00390625
    """
    return _ROUNDING.get(dtype, _FLOAT32)


def rms(distribution: Distribution) -> float:
    """Root mean square of the entries; NaN where they are not known.

    Example:
        >>> rms(Normal(3.0, 4.0))
        5.0
    """
    return math.hypot(distribution.mean, distribution.std)


def ratio_of(actual: Distribution, expected: Distribution) -> float | None:
    """RMS of `actual` over that of `expected`; None where undefined.

    Example:
        >>> ratio_of(Normal(0.0, 0.02), Normal(0.0, 0.01))
        2.0
    """
    below = rms(expected)
    if not below > 0:
        return None
    ratio = rms(actual) / below
    return ratio if math.isfinite(ratio) else None


def relative_error(distribution: Distribution) -> float:
    """Standard error of the std over the std; 0 for a traced distribution."""
    errors = [
        leaf.std_stderr / leaf.std
        for leaf in leaves(distribution)
        if isinstance(leaf, Measured) and leaf.std > 0
    ]
    return max(errors, default=0.0)


def same_moments(actual: Distribution, expected: Distribution, dtype: str = "float32") -> bool:
    """Whether mean and std agree within rounding, or within standard errors if measured."""
    rounding = tolerance_of(dtype) * rms(expected)
    mean_error = std_error = 0.0
    if isinstance(actual, Measured):
        mean_error = STANDARD_ERRORS * actual.mean_stderr
        std_error = STANDARD_ERRORS * actual.std_stderr
    return (
        abs(actual.mean - expected.mean) <= rounding + mean_error
        and abs(actual.std - expected.std) <= rounding + std_error
    )


def same_law(actual: Distribution, expected: Distribution, dtype: str = "float32") -> bool:
    """Whether two distributions are the same: kind and parameters, piece by piece.

    A measured one is compared by mean, std and kurtosis within five standard errors.

    Example:
        >>> same_law(Uniform(-1.0, 1.0), Normal(0.0, 1 / 3**0.5))
        False
    """
    actual, expected = simplified(actual), simplified(expected)
    if isinstance(actual, Piecewise) or isinstance(expected, Piecewise):
        pairs = _aligned(actual, expected)
        return bool(pairs) and all(same_law(a, b, dtype) for a, b in pairs)
    if isinstance(actual, Measured):
        return same_moments(actual, expected, dtype) and _same_shape(actual, expected)
    if actual.kind != expected.kind or not same_moments(actual, expected, dtype):
        return False
    return _same_bounds(actual, expected, tolerance_of(dtype))


def _same_bounds(actual: Distribution, expected: Distribution, tolerance: float) -> bool:
    """Whether two truncated normals have the same bounds; true of other kinds."""
    if not isinstance(actual, TruncatedNormal) or not isinstance(expected, TruncatedNormal):
        return True
    room = tolerance * expected.scale * FAR_CUT
    return abs(actual.low - expected.low) <= room and abs(actual.high - expected.high) <= room


def _aligned(a: Distribution, b: Distribution) -> list[tuple[Distribution, Distribution]]:
    """Pairs of the distributions of the same rows; empty if the numbers of rows differ."""
    if not isinstance(a, Piecewise):
        return [(a, d) for _, d in b.pieces] if isinstance(b, Piecewise) else [(a, b)]
    if not isinstance(b, Piecewise):
        return [(d, b) for _, d in a.pieces]
    ends = [list(accumulate(rows for rows, _ in whole.pieces)) for whole in (a, b)]
    if ends[0][-1] != ends[1][-1]:
        return []
    return [(row_of(a, end - 1), row_of(b, end - 1)) for end in sorted({*ends[0], *ends[1]})]


def row_of(whole: Piecewise, row: int) -> Distribution:
    """The distribution of one row."""
    ends = accumulate(rows for rows, _ in whole.pieces)
    return next(law for end, (_, law) in zip(ends, whole.pieces, strict=True) if row < end)


def _same_shape(actual: Measured, expected: Distribution) -> bool:
    """Whether a measured kurtosis is that of the expected distribution, where that is known."""
    kurtosis = _kurtosis(expected)
    if kurtosis is None or actual.count < _ENOUGH or actual.std == 0:
        return True
    return abs(actual.kurtosis - kurtosis) <= STANDARD_ERRORS * math.sqrt(24 / actual.count)


_ENOUGH = 1000  # below, the error of a kurtosis is far from normal


def _kurtosis(law: Distribution) -> float | None:
    """Fourth central moment over squared variance, where known in closed form."""
    match law:
        case Normal():
            return 3.0
        case Uniform():
            return 1.8
        case TruncatedNormal(loc=loc, scale=scale, low=low, high=high) if math.isclose(
            high - loc, loc - low, rel_tol=1e-6
        ):
            cut = (high - loc) / scale
            edge = 2 * math.exp(-cut * cut / 2) / math.sqrt(2 * math.pi)
            edge /= math.erf(cut / math.sqrt(2))
            second = 1 - cut * edge
            return (3 * second - cut**3 * edge) / second**2
        case _:
            return None


def without_padding(parameter: ParameterProgram, program: ModelProgram) -> Distribution:
    """Its distribution, without a padding row that is zero as it should be."""
    row, law = program.padding.get(parameter.name), parameter.distribution
    if row is None or not isinstance(law, Piecewise):
        return law
    ends = accumulate(rows for rows, _ in law.pieces)
    padding = (row % parameter.shape[0] + 1, (1, Constant(0.0)))
    kept = [p for end, p in zip(ends, law.pieces, strict=True) if (end, p) != padding]
    return simplified(Piecewise(tuple(kept))) if kept else law


def agrees(parameter: ParameterProgram, expected: Distribution, program: ModelProgram) -> bool:
    """Whether a parameter matches what a scheme expects; a norm by its gain where that is known."""
    if parameter.role == "norm_weight" and isinstance(expected, Constant):
        if parameter.gain is not None:
            return abs(parameter.gain - expected.value) <= _GAIN * max(1.0, abs(expected.value))
        if parameter.distribution == Constant(0.0):
            return True  # without its gain, a norm that computes w x looks like one of (1 + w) x
    return same_law(without_padding(parameter, program), expected, parameter.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """What a scheme expects of one program, worked out once.

    Attributes:
        scheme: the scheme.
        expected: parameter to what the scheme draws it from; those are absent of which the scheme
            does not say.
        agreed: names of the parameters that are drawn so.
    """

    scheme: Scheme
    expected: Mapping[str, Distribution]
    agreed: frozenset[str]


def expectations(scheme: Scheme, program: ModelProgram) -> Expectations:
    """What `scheme` expects of a program, and which parameters match it."""
    return _matched(scheme, apply_scheme(scheme, program.parameters, program.facts), program)


def varied(
    held: Expectations, program: ModelProgram, *, factor: float = 1.0, cut: float | None = None
) -> Expectations:
    """The same for other stds or a truncation.

    Args:
        held: what a scheme expects.
        program: the model.
        factor: what every std of the scheme is multiplied by.
        cut: number of stds at which every normal of the scheme is truncated; None for nowhere.
    """
    expected = {name: _varied(d, factor, cut) for name, d in held.expected.items()}
    return _matched(held.scheme, expected, program)


def _matched(
    scheme: Scheme, expected: Mapping[str, Distribution], program: ModelProgram
) -> Expectations:
    agreed = frozenset(
        p.name
        for p in program.parameters
        if p.name in expected and agrees(p, expected[p.name], program)
    )
    return Expectations(scheme=scheme, expected=expected, agreed=agreed)


def _varied(law: Distribution, factor: float, cut: float | None) -> Distribution:
    if law.std > 0 and factor != 1.0:
        law = affine_distribution(law, factor, (1 - factor) * law.mean)
    if isinstance(law, Normal) and cut is not None:
        reach = cut * law.std
        return TruncatedNormal(law.mean, law.std, law.mean - reach, law.mean + reach)
    return law
