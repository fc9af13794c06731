"""Truncations that cut nothing: bounds that are absolute where units of the std were meant."""

import math
from collections.abc import Iterator

from gptinit.audit_rules.context import Context
from gptinit.audit_rules.grouping import Hit
from gptinit.facts.algebra import leaves
from gptinit.facts.distributions import TruncatedNormal
from gptinit.facts.vocabulary import Severity
from gptinit.results.program import ModelProgram, ParameterProgram

__all__ = ["truncation_without_effect"]

_NEVER = 6.0
"""Scales from the centre beyond which two in a billion entries of a normal lie."""

_DEFAULT = -2.0, 2.0
"""The bounds of torch's trunc_normal_ where none are given."""

_FAR_LESS = 0.1
"""Share of what the same bounds cut of a sibling below which they cut nothing that counts."""


def truncation_without_effect(program: ModelProgram, _: Context) -> Iterator[Hit]:
    """Truncated normals whose bounds are beyond all draws, or suit another std than their own.

    torch's default bounds are a note where most of the model's truncations have them: nobody chose
    them, and all is consistently normal.
    """
    drawn = [(p, law) for p in program.parameters for law in _truncated(p)]
    widest: dict[tuple[float, float], TruncatedNormal] = {}
    for _p, law in drawn:
        other = widest.setdefault((law.low, law.high), law)
        if law.scale > other.scale:
            widest[law.low, law.high] = law
    few_cut = 2 * sum(_cut(law) <= _NEVER for _, law in drawn) <= len(drawn)
    for p, law in drawn:
        why = _why_idle(law, widest[law.low, law.high])
        if why is not None:
            message = (
                f"A truncation must cut something, got {law}: its bounds are {_cut(law):.3g} std "
                f"from the mean, {why}. The bounds of trunc_normal_ are absolute, not in units of "
                "the std."
            )
            is_default = (law.low, law.high) == _DEFAULT
            severity: Severity = "note" if is_default and few_cut else "warning"
            yield Hit(p, severity, message, cause=(law.low, law.high))


def _why_idle(law: TruncatedNormal, widest: TruncatedNormal) -> str | None:
    """Why a truncation cuts nothing, beside the widest with its bounds; None where it cuts."""
    if _cut(law) > _NEVER:
        return "where not one entry in a hundred million is"
    if _tail(law) < _FAR_LESS * _tail(widest):
        return f"while others of std {widest.scale:.4g} have them at {_cut(widest):.3g}"
    return None


def _truncated(parameter: ParameterProgram) -> Iterator[TruncatedNormal]:
    """The first truncated normal of its distribution, if there is one with bounds."""
    laws = (leaf for leaf in leaves(parameter.distribution) if isinstance(leaf, TruncatedNormal))
    first = next(laws, None)
    if first is not None and first.scale > 0 and math.isfinite(first.high - first.low):
        yield first


def _cut(law: TruncatedNormal) -> float:
    """Distance of the nearer bound from the centre, in scales."""
    return min(law.high - law.loc, law.loc - law.low) / law.scale


def _tail(law: TruncatedNormal) -> float:
    """Share of the normal that the bounds cut off."""
    low, high = ((law.loc - law.low) / law.scale, (law.high - law.loc) / law.scale)
    return (math.erfc(low / math.sqrt(2)) + math.erfc(high / math.sqrt(2))) / 2
