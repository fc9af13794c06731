"""The known scheme that explains a program best, judged together with what the rules found."""

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace

from gptinit.audit_rules.context import SURE, make_context
from gptinit.audit_rules.matching import Expectations, expectations, ratio_of, varied
from gptinit.audit_rules.residual import (
    residual_scaling_missing,
    residual_scaling_wrong_tensor,
    scaled_twice,
)
from gptinit.facts.algebra import simplified
from gptinit.facts.distributions import Distribution, TruncatedNormal
from gptinit.facts.schemes import Scheme, load_schemes
from gptinit.facts.vocabulary import ROLES, Role
from gptinit.results.audit import ClosestScheme
from gptinit.results.program import ModelProgram, ParameterProgram

__all__ = ["closest_scheme", "differing_roles"]

_WORST = math.log(1e6)  # a ratio that is undefined or infinite counts as this

_MOST = 0.5
"""Share of the matrices that must match for a scheme to be close."""

_SEVERAL = 3
"""Roles that must share a ratio for it to be a factor of the whole scheme."""

_VECTORS = frozenset({"norm_weight", "norm_bias", "linear_bias"})
_INPUTS = frozenset({"q", "k", "v"})


def closest_scheme(
    program: ModelProgram, schemes: Mapping[str, Scheme] | None = None
) -> ClosestScheme | None:
    """The scheme with the fewest exceptions, then the smallest sum of |ln ratio|.

    A role that differs is no exception where a rule found an error in it and expects what the
    scheme does; a role that agrees is one where a rule expects something else. So the scheme and
    the findings tell the same. One factor on all stds, or one truncation of all normals, is one
    exception.

    Returns:
        None if no scheme has a rule for any role of the model.
    """
    table = load_schemes() if schemes is None else schemes
    few = {by_layer: _representatives(program, by_layer=by_layer) for by_layer in (True, False)}
    meant = _meant_stds(program)
    ranked: list[tuple[tuple[float, ...], int, tuple[Expectations, float, float | None]]] = []
    for scheme in table.values():
        part = few[_asks_layer(scheme)]
        held = expectations(scheme, part)
        for cut in _cuts(part):
            for factor in _factors(part, varied(held, part, cut=cut)):
                found = varied(held, part, factor=factor, cut=cut)
                variations = (factor != 1.0) + (cut is not None)
                rank = _rank(part, found, meant, variations)
                if rank is not None:
                    ranked.append((rank, len(ranked), (found, factor, cut)))
    return _described(part, *min(ranked)[2]) if ranked else None


def _described(
    program: ModelProgram, held: Expectations, factor: float, cut: float | None
) -> ClosestScheme:
    differs = tuple(differing_roles(program, held))
    return ClosestScheme(
        name=held.scheme.slug,
        exact=not differs and factor == 1.0 and cut is None,
        differs=differs,
        is_close=_share_of_matrices(program, held, differs) > _MOST,
        factor=factor,
        cut=cut,
    )


def _share_of_matrices(
    program: ModelProgram, held: Expectations, differs: Collection[str]
) -> float:
    """Share of the matrices' roles that match; q, k and v count as one, as they are alike."""
    spoken = {p.role for p in program.parameters if p.name in held.expected} - _VECTORS
    weights = {role: 1 / len(spoken & _INPUTS) if role in _INPUTS else 1.0 for role in spoken}
    whole = sum(weights.values())
    return sum(w for role, w in weights.items() if role not in differs) / whole if whole else 1.0


def _cuts(program: ModelProgram) -> list[float | None]:
    """No truncation, and the one in stds that most truncated normals of a program have."""
    cuts = [
        float(f"{(law.high - law.loc) / law.scale:.4g}")
        for law in (simplified(p.distribution) for p in program.parameters)
        if isinstance(law, TruncatedNormal) and law.scale > 0
    ]
    return [None, *(cut for cut, _ in Counter(cuts).most_common(1))]


def _factors(program: ModelProgram, held: Expectations) -> list[float]:
    """1, and the ratio to what is expected that several roles share."""
    ratios = {
        (p.role, float(f"{ratio:.6g}")): ratio
        for p in program.parameters
        if p.name in held.expected and p.role not in _VECTORS
        and (ratio := ratio_of(p.distribution, held.expected[p.name]))
    }  # fmt: skip
    shared = Counter(ratio for _, ratio in ratios)
    common = [r for r, count in shared.most_common(1) if r != 1.0 and count >= _SEVERAL]
    return [1.0, *(next(ratios[key] for key in ratios if key[1] == r) for r in common)]


def _meant_stds(program: ModelProgram) -> dict[str, float]:
    """Name of each parameter in which a rule finds an error -> the std that it should have."""
    context = make_context(program)
    rules = residual_scaling_missing, residual_scaling_wrong_tensor, scaled_twice
    hits = (hit for rule in rules for hit in rule(program, context))
    return {
        hit.parameter.name: hit.meant
        for hit in hits
        if hit.parameter is not None and hit.meant is not None and hit.severity == "error"
    }


def _is_exception(parameter: ParameterProgram, held: Expectations, meant: float | None) -> bool:
    """Whether a scheme expects something else than what is there, or than what a rule wants."""
    if meant is None:
        return parameter.name not in held.agreed
    return not math.isclose(held.expected[parameter.name].std, meant, rel_tol=SURE)


def _asks_layer(scheme: Scheme) -> bool:
    return any("layer" in rule.variables for rule in scheme.rules.values())


def differing_roles(program: ModelProgram, held: Expectations) -> dict[Role, float]:
    """Worst |ln ratio| of each role that is not as expected, in the order of ROLES."""
    found: dict[str, float] = {}
    for parameter in program.parameters:
        if parameter.name in held.expected and parameter.name not in held.agreed:
            distance = _distance(parameter, held.expected[parameter.name])
            found[parameter.role] = max(distance, found.get(parameter.role, 0.0))
    return {role: found[role] for role in ROLES if role in found}


def _rank(
    program: ModelProgram, held: Expectations, meant: Mapping[str, float], variations: int
) -> tuple[float, ...] | None:
    """What schemes are ordered by, least first; None for one that says nothing of the model."""
    spoken = {p.role for p in program.parameters if p.name in held.expected}
    if not spoken:
        return None
    differs = differing_roles(program, held)
    distance = round(sum(differs.values()), 9)  # equal distances stay equal
    exceptions = {
        p.role
        for p in program.parameters
        if p.name in held.expected and _is_exception(p, held, meant.get(p.name))
    }
    agreed, is_claim = len(spoken) - len(differs), held.scheme.verified == "claim"
    return len(exceptions) + variations, len(differs) + variations, -agreed, distance, is_claim


def _distance(parameter: ParameterProgram, law: Distribution) -> float:
    """|ln ratio| of a parameter to what is expected."""
    ratio = ratio_of(parameter.distribution, law)
    return abs(math.log(ratio)) if ratio else _WORST


def _representatives(program: ModelProgram, *, by_layer: bool) -> ModelProgram:
    """The program with one parameter of each set that any scheme treats alike, such as experts."""
    matrices = {p.name: p for p in program.parameters}
    seen: dict[tuple[object, ...], ParameterProgram] = {}
    for parameter in program.parameters:
        if parameter.role not in ROLES:
            continue
        p = _with_fans(parameter, matrices)
        padded = p.name if p.name in program.padding else None
        layer = p.layer if by_layer else None
        key = (p.role, layer, p.shape, p.fan_in, p.fan_out, p.distribution, p.gain, p.dtype)
        seen.setdefault((*key, padded), p)
    return replace(program, parameters=tuple(seen.values()))


def _with_fans(
    parameter: ParameterProgram, matrices: Mapping[str, ParameterProgram]
) -> ParameterProgram:
    """A bias with the fans of its matrix; other parameters unchanged."""
    if parameter.role != "linear_bias" or parameter.fan_in is not None:
        return parameter
    matrix = matrices.get(f"{parameter.name.removesuffix('bias')}weight")
    if matrix is None:
        return parameter
    return replace(parameter, fan_in=matrix.fan_in, fan_out=matrix.fan_out)
