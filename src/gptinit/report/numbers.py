"""Numbers as text: three significant digits in all tables."""

import math
from collections.abc import Iterable

from gptinit.facts.vocabulary import STATISTICS

__all__ = ["ROUNDING", "cell", "counted", "large", "plural", "short", "span", "with_error"]

ROUNDING = (
    "Numbers are rounded to 3 significant digits; with a standard error (±), to its second digit."
)
"""The rounding that every table states."""

_FIXED = range(-4, 6)
"""Powers of ten that are written without an exponent: 1e-4 up to below 1e6."""

_TOO_EXACT = 7
"""A value this many powers of ten above its error is not written down to that error."""


def short(value: float | None) -> str:
    """`value` to 3 significant digits; an `int` in full, None as nothing.

    Zeros at the end stay, so that columns align; an exponent only below 1e-4 and from 1e6 on.

    Args:
        value: a float, an exact count as `int`, or None where nothing was measured.

    Example:
        >>> [short(x) for x in (0.000803, 0.0889, 9.53, 0.5, 11943.0, 0.0)]
        ['0.000803', '0.0889', '9.53', '0.500', '11900', '0']
        >>> [short(x) for x in (0.0000123, 1234567.0, 1234567, None, float("inf"))]
        ['1.23e-05', '1.23e+06', '1234567', '', 'inf']
    """
    if value is None:
        return ""
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    return _significant(value, 3)


def with_error(value: float | None, stderr: float | None) -> str:
    """`value` ± its standard error: the error to 2 significant digits, the value as far.

    Without an error, as `short`.

    Args:
        value: a mean over seeds.
        stderr: its standard error, in the same unit, or None with one seed.

    Example:
        >>> with_error(0.08893, 0.00131), with_error(11943.0, 120.0), with_error(9.53, None)
        ('0.0889 ± 0.0013', '11940 ± 120', '9.53')
        >>> with_error(1234567.0, 23456.0)
        '(1.235 ± 0.023)e+06'
    """
    if value is None or stderr is None:
        return short(value)
    if not (math.isfinite(value) and math.isfinite(stderr)) or stderr == 0:
        return f"{short(value)} ± {short(stderr)}"
    top, low = _exponent(value, 3), _exponent(stderr, 2)
    if value != 0 and top - low >= _TOO_EXACT:
        return f"{short(value)} ± {_significant(stderr, 2)}"
    power = max(top, low) if value != 0 else low
    if power in _FIXED:
        return f"{_rounded(value, 1 - low)} ± {_rounded(stderr, 1 - low)}"
    scaled = (_rounded(x / 10.0**power, 1 - low + power) for x in (value, stderr))
    return f"({' ± '.join(scaled)})e{power:+03d}"


def cell(stat: str, value: float | None, stderr: float | None = None) -> str:
    """`value` of the statistic called `stat`, as a table shows it: a whole count in full.

    Example:
        >>> cell("nonfinite", 12345.0), cell("logit_std", 0.5), cell("logit_std", 0.5, 0.012)
        ('12345', '0.500', '0.500 ± 0.012')
    """
    known = counted(stat, value)
    return str(known) if isinstance(known, int) and not stderr else with_error(value, stderr)


def counted(stat: str, value: float | None) -> float | None:
    """A value of a statistic; a count that is whole as an integer.

    Example:
        >>> counted("nonfinite", 2.0), counted("logit_std", 2.0)
        (2, 2.0)
    """
    if value is None or STATISTICS[stat].unit != "count" or not float(value).is_integer():
        return value
    return int(value)


def span(values: Iterable[float]) -> str:
    """The range of some values; one number where three digits do not tell them apart.

    Example:
        >>> span([0.02, 0.5, 0.1]), span([0.02, 0.020001])
        ('0.0200 to 0.500', '0.0200')
    """
    values = tuple(values)
    low, high = short(min(values)), short(max(values))
    return low if low == high else f"{low} to {high}"


def plural(count: int, thing: str) -> str:
    """A count of things.

    Example:
        >>> plural(1, "head"), plural(12, "head")
        ('1 head', '12 heads')
    """
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def large(number: int) -> str:
    """A large count in T, B or M.

    Example:
        >>> large(124439808), large(999)
        ('124.4 M', '999')
    """
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.4g} {letter}"
    return str(number)


def _significant(value: float, digits: int) -> str:
    """A finite `value` to so many significant digits."""
    if value == 0:
        return "0"
    exponent = _exponent(value, digits)
    if exponent in _FIXED:
        return _rounded(value, digits - 1 - exponent)
    return f"{value:.{digits - 1}e}"


def _exponent(value: float, digits: int) -> int:
    """Power of ten of the first digit, after rounding to so many significant digits."""
    return int(f"{value:.{digits - 1}e}".split("e")[1])


def _rounded(value: float, decimals: int) -> str:
    """`value` to so many decimals; tens and hundreds when negative; never minus zero."""
    text = f"{round(value, decimals):.{max(0, decimals)}f}"
    return text.lstrip("-") if float(text) == 0 else text
