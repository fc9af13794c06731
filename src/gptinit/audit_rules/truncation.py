"""Truncations that cut nothing: bounds that are absolute where units of the std were meant."""

import math
from collections.abc import Iterator

from gptinit.audit_rules.context import Context
from gptinit.audit_rules.grouping import Hit
from gptinit.facts.algebra import leaves
from gptinit.facts.distributions import TruncatedNormal
from gptinit.results.program import ModelProgram, ParameterProgram

__all__ = ["truncation_without_effect"]

_NEVER = 6.0
"""Scales from the centre beyond which two in a billion entries of a normal lie."""

_FAR_LESS = 0.1
"""Share of what the same bounds cut of a sibling below which they cut nothing that counts."""


def truncation_without_effect(program: ModelProgram, _: Context) -> Iterator[Hit]:
    """Truncated normals whose bounds are beyond all draws, or suit another std than their own."""
    drawn = [(p, law) for p in program.parameters for law in _truncated(p)]
    widest: dict[tuple[float, float], TruncatedNormal] = {}
    for _p, law in drawn:
        other = widest.setdefault((law.low, law.high), law)
        if law.scale > other.scale:
            widest[law.low, law.high] = law
    for p, law in drawn:
        sibling = widest[law.low, law.high]
        if _cut(law) > _NEVER:
            why = "not one entry in a hundred million is cut"
        elif _tail(law) < _FAR_LESS * _tail(sibling):
            why = f"they suit the std of others, {sibling.scale:.4g}, which they cut at "
            why += f"{_cut(sibling):.3g}"
        else:
            continue
        message = (
            f"A truncation must cut something, got {law}: its bounds are {_cut(law):.3g} std from "
            f"the mean, {why}. The bounds of trunc_normal_ are absolute, not in units of the std."
        )
        yield Hit(p, "warning", message, cause=(law.low, law.high, _cut(law) > _NEVER))


def _truncated(parameter: ParameterProgram) -> Iterator[TruncatedNormal]:
    """The first truncated normal of its distribution, if there is one."""
    laws = (leaf for leaf in leaves(parameter.distribution) if isinstance(leaf, TruncatedNormal))
    first = next(laws, None)
    if first is not None and first.scale > 0:
        yield first


def _cut(law: TruncatedNormal) -> float:
    """Distance of the nearer bound from the centre, in scales."""
    return min(law.high - law.loc, law.loc - law.low) / law.scale


def _tail(law: TruncatedNormal) -> float:
    """Share of the normal that the bounds cut off."""
    low, high = ((law.loc - law.low) / law.scale, (law.high - law.loc) / law.scale)
    return (math.erfc(low / math.sqrt(2)) + math.erfc(high / math.sqrt(2))) / 2
