"""Draws that a low precision spoils."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from gptinit.audit_rules.context import Context
from gptinit.audit_rules.grouping import Hit
from gptinit.facts.distributions import Measured
from gptinit.results.program import ModelProgram

__all__ = ["dtype_rounding"]

_SMALLEST_NORMAL: Mapping[str, float] = MappingProxyType({"float16": 2.0**-14})
"""Below it values lose their digits; bfloat16 has the exponents of float32."""

_LOW = ("float16", "bfloat16")
_HEAVY = 30.0  # a kurtosis that no init distribution has (a normal: 3)
_ONE_SIDE = 5.0  # times as far from the mean as the other end: a normal's two ends are alike
_ATOM = 10.0  # stds: further than a normal reaches, and where trunc_normal_'s bound of 2 lies


def dtype_rounding(program: ModelProgram, _: Context) -> Iterator[Hit]:
    """Draws that their dtype cannot hold, or that were spoilt by being made in it."""
    for p in (p for p in program.parameters if p.dtype in _LOW):
        drawn, smallest = p.distribution, _SMALLEST_NORMAL.get(p.dtype, 0.0)
        if 0 < drawn.std < smallest:
            message = (
                f"Values must be above {smallest:.3g} to keep their digits in {p.dtype}, got "
                f"{drawn}: most are rounded, some to 0."
            )
            yield Hit(p, "warning", message)
        elif isinstance(drawn, Measured) and _is_spoilt(drawn):
            message = (
                f"A draw must follow its distribution, got values in {p.dtype} with std "
                f"{drawn.std:.4g}, mean {drawn.mean:.2g}, kurtosis {drawn.kurtosis:.0f} and a "
                f"least value of {drawn.low:.4g}: the inverse of the normal distribution was "
                "rounded, and its end values stand on the bound."
            )
            yield Hit(p, "error", message)


def _is_spoilt(drawn: Measured) -> bool:
    """Whether some values lie far off on one side: torch's former trunc_normal_ left them there.

    It drew by the inverse error function, which rounds to its bound in low precision.
    """
    near, far = sorted((abs(drawn.low - drawn.mean), abs(drawn.high - drawn.mean)))
    return drawn.kurtosis > _HEAVY and far > _ATOM * drawn.std and far > _ONE_SIDE * near
