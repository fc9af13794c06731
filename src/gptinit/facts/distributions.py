"""The distributions a parameter can be drawn from: moments and names, no sampling."""

import math
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from gptinit.errors import ConfigError

__all__ = [
    "Constant",
    "Copy",
    "Distribution",
    "Fixed",
    "Measured",
    "Mixture",
    "Normal",
    "Orthogonal",
    "Piecewise",
    "Scaled",
    "TruncatedNormal",
    "Uniform",
    "Unset",
]


def _require(what: str, value: float, *, positive: bool = False) -> None:
    """Raise unless `value` is finite (and not negative, with `positive`)."""
    if not math.isfinite(value) or (positive and value < 0):
        rule = "finite and not negative" if positive else "finite"
        raise ConfigError(f"{what} must be {rule}, got {value!r}.")


@dataclass(frozen=True, slots=True)
class Normal:
    """Independent entries, normal with `mean` and standard deviation `std`."""

    kind: ClassVar[str] = "normal"
    mean: float
    std: float

    def __post_init__(self) -> None:
        _require("mean", self.mean)
        _require("std", self.std, positive=True)

    def __str__(self) -> str:
        return f"N({self.mean:.4g}, {self.std:.4g})"


@dataclass(frozen=True, slots=True)
class TruncatedNormal:
    """Independent entries, normal with `loc` and `scale`, redrawn until within [low, high].

    `scale` is the parameter before the cut; `std` is the realised standard deviation.

    Example:
        >>> round(TruncatedNormal(0.0, 1.0, -2.0, 2.0).std, 8)
        0.87962566
    """

    kind: ClassVar[str] = "truncated_normal"
    loc: float
    scale: float
    low: float
    high: float

    def __post_init__(self) -> None:
        _require("loc", self.loc)
        _require("scale", self.scale, positive=True)
        if not self.low <= self.loc <= self.high:
            raise ConfigError(
                f"loc must lie between low and high, got {self.low!r}, {self.loc!r}, {self.high!r}."
            )

    @property
    def mean(self) -> float:
        """Realised mean."""
        if self.scale == 0:
            return self.loc
        a, b, mass = self._cut()
        return self.loc + self.scale * (_pdf(a) - _pdf(b)) / mass

    @property
    def std(self) -> float:
        """Realised standard deviation."""
        if self.scale == 0:
            return 0.0
        a, b, mass = self._cut()
        shift = (_pdf(a) - _pdf(b)) / mass
        edge = (_edge(a) - _edge(b)) / mass
        return self.scale * math.sqrt(1 + edge - shift * shift)

    def _cut(self) -> tuple[float, float, float]:
        """The two bounds in units of `scale` and the probability between them."""
        a, b = (self.low - self.loc) / self.scale, (self.high - self.loc) / self.scale
        return a, b, 0.5 * (math.erf(b / math.sqrt(2)) - math.erf(a / math.sqrt(2)))

    def __str__(self) -> str:
        return f"TN({self.loc:.4g}, {self.scale:.4g}; {self.low:.4g} to {self.high:.4g})"


@dataclass(frozen=True, slots=True)
class Uniform:
    """Independent entries, uniform on [low, high).

    Example:
        >>> round(Uniform(-1.0, 1.0).std, 6)
        0.57735
    """

    kind: ClassVar[str] = "uniform"
    low: float
    high: float

    def __post_init__(self) -> None:
        _require("low", self.low)
        _require("high", self.high)
        if self.low > self.high:
            raise ConfigError(f"low must not exceed high={self.high!r}, got low={self.low!r}.")

    @property
    def mean(self) -> float:
        """Middle of the interval."""
        return (self.low + self.high) / 2

    @property
    def std(self) -> float:
        """Width of the interval over sqrt(12)."""
        return (self.high - self.low) / math.sqrt(12)

    def __str__(self) -> str:
        return f"U({self.low:.4g}, {self.high:.4g})"


@dataclass(frozen=True, slots=True)
class Constant:
    """Every entry equals `value`."""

    kind: ClassVar[str] = "constant"
    std: ClassVar[float] = 0.0
    value: float

    def __post_init__(self) -> None:
        _require("value", self.value)

    @property
    def mean(self) -> float:
        """The value itself."""
        return self.value

    def __str__(self) -> str:
        return f"{self.value:.4g}"


@dataclass(frozen=True, slots=True)
class Piecewise:
    """Row blocks of a matrix, each with a distribution of its own: a fused q, k, v.

    Attributes:
        pieces: (number of rows, distribution) from the first row on.

    Example:
        >>> str(Piecewise(((2, Normal(0.0, 0.02)), (4, Constant(0.0)))))
        'N(0, 0.02) | 0'
    """

    kind: ClassVar[str] = "piecewise"
    pieces: tuple[tuple[int, "Distribution"], ...]

    @property
    def mean(self) -> float:
        """Mean over all rows."""
        return _pooled_mean(self.pieces)

    @property
    def std(self) -> float:
        """Standard deviation over all rows, pooled."""
        return _pooled_std(self.pieces)

    def __str__(self) -> str:
        return " | ".join(str(d) for _, d in self.pieces)


@dataclass(frozen=True, slots=True)
class Mixture:
    """Entries of several kinds, interleaved: columns, heads, or a sparse pattern.

    Attributes:
        parts: (number of entries, distribution).

    Example:
        >>> str(Mixture(((3, Constant(0.0)), (1, Normal(0.0, 2.0)))))
        '75% 0 + 25% N(0, 2)'
    """

    kind: ClassVar[str] = "mixture"
    parts: tuple[tuple[int, "Distribution"], ...]

    @property
    def mean(self) -> float:
        """Mean over all entries."""
        return _pooled_mean(self.parts)

    @property
    def std(self) -> float:
        """Standard deviation over all entries, pooled."""
        return _pooled_std(self.parts)

    def __str__(self) -> str:
        total = sum(n for n, _ in self.parts)
        return " + ".join(f"{100 * n / total:.3g}% {d}" for n, d in self.parts)


@dataclass(frozen=True, slots=True)
class Orthogonal:
    """`gain` times a matrix with orthonormal rows or columns, uniform (Haar) over them all.

    Attributes:
        gain: factor; every singular value equals it.
        longest: the longer side of the matrix: the mean square of the entries is gain^2 / longest.

    Example:
        >>> Orthogonal(2.0, 400).std
        0.1
    """

    kind: ClassVar[str] = "orthogonal"
    mean: ClassVar[float] = 0.0
    gain: float
    longest: int

    @property
    def std(self) -> float:
        """Standard deviation of an entry."""
        return abs(self.gain) / math.sqrt(self.longest)

    def __str__(self) -> str:
        return f"orthogonal({self.gain:.4g})"


@dataclass(frozen=True, slots=True)
class Fixed:
    """Entries that no seed changes and that are not all equal: a table of angles, an identity."""

    kind: ClassVar[str] = "fixed"
    mean: float
    std: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"fixed, {self.low:.4g} to {self.high:.4g}"


@dataclass(frozen=True, slots=True)
class Copy:
    """The very values of another parameter, drawn once for both.

    Attributes:
        of: name of the other, or of the parameter itself where one of its blocks is copied.
        source: what that one is drawn from (already scaled, where the copy is).
        block: number of the block of rows that is copied (a piece of `of`); None for all of it.

    Example:
        >>> str(Copy("w", Normal(0.0, 0.02), block=3))
        'copy of w[3]'
    """

    kind: ClassVar[str] = "copy"
    of: str
    source: "Distribution"
    block: int | None = None

    @property
    def mean(self) -> float:
        """Mean of the source."""
        return self.source.mean

    @property
    def std(self) -> float:
        """Standard deviation of the source."""
        return self.source.std

    @property
    def origin(self) -> str:
        """What is copied, for a person: the name, with the number of the block."""
        return self.of if self.block is None else f"{self.of}[{self.block}]"

    def __str__(self) -> str:
        return f"copy of {self.origin}"


@dataclass(frozen=True, slots=True)
class Scaled:
    """A distribution times one factor that was computed from drawn values, such as 1 / norm."""

    kind: ClassVar[str] = "scaled"
    base: "Distribution"
    factor: float

    @property
    def mean(self) -> float:
        """Mean at the factor that was seen."""
        return self.factor * self.base.mean

    @property
    def std(self) -> float:
        """Standard deviation at the factor that was seen."""
        return abs(self.factor) * self.base.std

    def __str__(self) -> str:
        return f"{self.factor:.4g} x {self.base}"


@dataclass(frozen=True, slots=True)
class Unset:
    """Read from memory that nothing wrote: anything at all. Its moments are NaN."""

    kind: ClassVar[str] = "unset"
    mean: ClassVar[float] = math.nan
    std: ClassVar[float] = math.nan

    def __str__(self) -> str:
        return "never written"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Known from values alone: a live parameter, or a program that no formula describes.

    Attributes:
        mean, std, low, high: of the values.
        mean_stderr, std_stderr: standard errors of the first two.
        kurtosis: fourth central moment over the squared variance (3 for a normal).
        count: how many values were looked at.
    """

    kind: ClassVar[str] = "measured"
    mean: float
    std: float
    mean_stderr: float
    std_stderr: float
    low: float
    high: float
    kurtosis: float
    count: int

    def __str__(self) -> str:
        return f"measured {self.mean:.3g}, {self.std:.4g} ± {self.std_stderr:.1g}"


Distribution: TypeAlias = (
    Normal
    | TruncatedNormal
    | Uniform
    | Constant
    | Piecewise
    | Mixture
    | Orthogonal
    | Fixed
    | Copy
    | Scaled
    | Unset
    | Measured
)
"""Any of them; each has `kind`, `mean` and `std`."""


def _pooled_mean(parts: tuple[tuple[int, "Distribution"], ...]) -> float:
    return sum(n * d.mean for n, d in parts) / sum(n for n, _ in parts)


def _pooled_std(parts: tuple[tuple[int, "Distribution"], ...]) -> float:
    total, mean = sum(n for n, _ in parts), _pooled_mean(parts)
    second = sum(n * (d.std**2 + d.mean**2) for n, d in parts) / total
    return math.sqrt(max(second - mean**2, 0.0))  # in this order NaN stays NaN


def _pdf(x: float) -> float:
    return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _edge(x: float) -> float:
    """Point times density of the standard normal there: 0 at infinity."""
    return 0.0 if math.isinf(x) else x * _pdf(x)
