"""A foreign model with another init: the same module, every role drawn as a scheme says."""

from dataclasses import replace

from gptinit.facts.distributions import Distribution, Piecewise
from gptinit.facts.schemes import Scheme
from gptinit.measure.subject import Subject
from gptinit.results.program import ParameterProgram

__all__ = ["reinit"]

_KEPT = frozenset({"norm_weight", "norm_bias", "other"})
"""Roles that stay as they are: what a norm computes decides what its neutral weight is."""


def reinit(subject: Subject, scheme: Scheme) -> Subject:
    """`subject` drawn by `scheme`; norms and what plays no role of a scheme stay as they are.

    Args:
        subject: a traced model.
        scheme: the init.

    Raises:
        ConfigError: if a formula fails at this shape.
    """
    program = tuple(_redrawn(p, subject, scheme) for p in subject.program)
    kept = {p.name for p, q in zip(subject.program, program, strict=True) if p is q}
    recipes = {name: r for name, r in subject.recipes.items() if name in kept}
    return replace(
        subject,
        scheme=scheme.slug,
        program=program,
        recipes=recipes,
        own=None,
        theory=subject.theory_of(program) if subject.theory_of else None,
    )


def _redrawn(parameter: ParameterProgram, subject: Subject, scheme: Scheme) -> ParameterProgram:
    """One parameter as the scheme draws it."""
    if parameter.role in _KEPT:
        return parameter
    if parameter.role != "qkv":
        found = _distribution(parameter, parameter.role, subject, scheme)
        return parameter if found is None else _drawn_from(parameter, found)
    parts = [_distribution(parameter, role, subject, scheme) for role in ("q", "k", "v")]
    known = [d for d in parts if d is not None]
    if len(known) < 3:
        return parameter
    return _drawn_from(parameter, _fused(parameter, known))


def _drawn_from(parameter: ParameterProgram, law: Distribution) -> ParameterProgram:
    """The same, drawn on its own."""
    return replace(parameter, distribution=law, is_entangled=False)


def _fused(parameter: ParameterProgram, parts: list[Distribution]) -> Distribution:
    """q, k and v in one matrix: blocks of rows where they differ and it is stored that way."""
    rows = parameter.shape[0]
    is_by_rows = rows == parameter.fan_out and rows % 3 == 0
    if len(set(parts)) == 1 or not is_by_rows:
        return parts[0]
    return Piecewise(tuple((rows // 3, part) for part in parts))


def _distribution(
    parameter: ParameterProgram, role: str, subject: Subject, scheme: Scheme
) -> Distribution | None:
    """What the scheme draws a role from at this matrix's fans; None where it has no rule."""
    fan_out = parameter.fan_out
    if parameter.role == "qkv" and fan_out is not None:
        fan_out = fan_out // 3
    return scheme.expected(
        role,
        subject.facts,
        layer=parameter.layer,
        fan_in=parameter.fan_in,
        fan_out=fan_out,
    )
