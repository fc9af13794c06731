"""A traced program into an audit: findings of every rule, expectations, ratios and hints."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from gptinit.audit_rules import RULES, findings, make_context
from gptinit.audit_rules.closest import closest_scheme
from gptinit.audit_rules.hints import Comparison, hint_of
from gptinit.audit_rules.matching import (
    STANDARD_ERRORS,
    Expectations,
    expectations,
    ratio_of,
    relative_error,
    varied,
    without_padding,
)
from gptinit.facts.schemes import load_schemes
from gptinit.results.audit import Audit, AuditedParameter, ClosestScheme
from gptinit.results.profile import Finding, Note, worst_first
from gptinit.results.program import ModelProgram, ParameterProgram

__all__ = ["audit_program", "findings_of"]


def audit_program(
    program: ModelProgram,
    *,
    torch: str,
    claim: Expectations | None = None,
    extra: Sequence[Finding] = (),
    notes: Sequence[Note] = (),
) -> Audit:
    """The audit of a program: its distributions against a scheme's, and what is wrong.

    Args:
        program: what the trace found.
        torch: version that traced it.
        claim: what the scheme that the model is audited against expects of it, if any.
        extra: findings that one program cannot show (other builds, settings, processes).
        notes: how the program came to be known.
    """
    closest = closest_scheme(program)
    held = claim or _of_closest(closest, program)
    return Audit(
        torch=torch,
        model=program.facts,
        build=program.build,
        builder=program.builder,
        claim=claim.scheme.slug if claim else None,
        closest=closest,
        parameters=_audited(program, held),
        findings=worst_first([*findings_of(program, claim), *extra]),
        notes=tuple(notes),
    )


def findings_of(program: ModelProgram, claim: Expectations | None = None) -> tuple[Finding, ...]:
    """The findings of every rule, worst first, without those that another one explains."""
    context = make_context(program, claim)
    found = list(findings(program, context))
    return worst_first(_without_effects(found, program))


def _of_closest(closest: ClosestScheme | None, program: ModelProgram) -> Expectations | None:
    if closest is None or not closest.is_close:
        return None
    scheme = load_schemes()[closest.name]
    held = expectations(scheme, program)
    return varied(held, program, factor=closest.factor, cut=closest.cut)


def _audited(program: ModelProgram, held: Expectations | None) -> tuple[AuditedParameter, ...]:
    everything = (*program.parameters, *program.buffers)
    return tuple(_beside(p, held, program) for p in everything)


def _beside(
    parameter: ParameterProgram, held: Expectations | None, program: ModelProgram
) -> AuditedParameter:
    """One parameter with its expectation, their ratio, and what that ratio hints at."""
    expected = held.expected.get(parameter.name) if held else None
    if held is None or expected is None:
        return AuditedParameter(program=parameter)
    if parameter.role == "norm_weight" and parameter.gain is not None:
        # Its effect counts: a weight of 0 is 1 where the norm computes 1 + weight.
        return AuditedParameter(program=parameter, expected=expected, ratio=parameter.gain)
    law = without_padding(parameter, program)
    ratio = ratio_of(law, expected)
    in_blocks = parameter.layer is not None or parameter.role != "pos_emb"
    hint = None
    if expected.std > 0 and ratio is not None and in_blocks:
        by_depth = held.scheme.by_depth(parameter.role)
        compared = Comparison(
            role=parameter.role, drawn=law, expected=expected, by_depth=by_depth,
            facts=program.facts, fan_in=parameter.fan_in,
        )  # fmt: skip
        hint = hint_of(compared, ratio, STANDARD_ERRORS * relative_error(law))
    return AuditedParameter(program=parameter, expected=expected, ratio=ratio, hint=hint)


def _without_effects(found: Sequence[Finding], program: ModelProgram) -> list[Finding]:
    """The findings, but for those on parameters that a finding of their cause names too."""
    named = [_names(finding, program) for finding in found]
    return [
        finding
        for finding, names in zip(found, named, strict=True)
        if not any(
            cause.rule in RULES[finding.rule].silenced_by and names and names <= others
            for cause, others in zip(found, named, strict=True)
        )
    ]


def _names(finding: Finding, program: ModelProgram) -> frozenset[str]:
    names = (p.name for p in (*program.parameters, *program.buffers))
    return frozenset(n for n in names if any(fnmatchcase(n, place) for place in finding.places))
