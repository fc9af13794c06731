"""What a low precision does to a draw."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from gptinit.audit_rules.context import Context
from gptinit.audit_rules.grouping import Hit, grouped
from gptinit.facts.distributions import Measured
from gptinit.results.profile import Finding
from gptinit.results.program import ModelProgram, ParameterProgram

__all__ = ["dtype_rounding"]

_SMALLEST_NORMAL: Mapping[str, float] = MappingProxyType({"float16": 2.0**-14})
"""Below it values lose their digits; bfloat16 has the exponents of float32."""

_LOW = ("float16", "bfloat16")
_HEAVY = 30.0  # kurtosis that no law of an init has (a normal: 3)
_ONE_SIDE = 5.0  # times as far as the other end, which is where a normal ends
_ATOM = 10.0  # stds: where a normal never reaches, and a cut at +-2 absolute stands


def dtype_rounding(program: ModelProgram, _: Context) -> Iterator[Finding]:
    """Draws that their dtype cannot hold, or that were spoilt by being made in it."""
    hits = (hit for p in program.parameters if p.dtype in _LOW for hit in _rounded(p))
    yield from grouped("dtype-rounding", hits, program)


def _rounded(p: ParameterProgram) -> Iterator[Hit]:
    """The hit, if there is one."""
    std, law = p.distribution.std, p.distribution
    smallest = _SMALLEST_NORMAL.get(p.dtype, 0.0)
    if 0 < std < smallest:
        message = (
            f"Values must be above {smallest:.3g} to keep their digits in {p.dtype}, got {law}: "
            "most are rounded, some to 0."
        )
        yield p, "warning", message
    elif isinstance(law, Measured) and _spoilt(law):
        message = (
            f"A draw must follow its law, got values in {p.dtype} with std {law.std:.4g}, mean "
            f"{law.mean:.2g}, kurtosis {law.kurtosis:.0f} and a least value of {law.low:.4g}: the "
            "inverse of the normal distribution was rounded, and its end values stand on the bound."
        )
        yield p, "error", message


def _spoilt(law: Measured) -> bool:
    """Whether values stand far off, on one side, as an inverse rounded to 0 leaves them."""
    near, far = sorted((abs(law.low - law.mean), abs(law.high - law.mean)))
    return law.kurtosis > _HEAVY and far > _ATOM * law.std and far > _ONE_SIDE * near
