"""A traced program into an audit: findings of every rule, expectations, ratios and hints."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from gptinit.audit_rules import RULES, findings, make_context
from gptinit.audit_rules.closest import closest_scheme
from gptinit.audit_rules.hints import hint_of
from gptinit.audit_rules.matching import (
    STANDARD_ERRORS,
    expectations,
    ratio_of,
    relative_error,
    without_padding,
)
from gptinit.facts.architectures import KNOWN_CLAIMS
from gptinit.facts.distributions import Distribution
from gptinit.facts.schemes import Scheme, load_schemes
from gptinit.results.audit import Audit, AuditedParameter, ClosestScheme
from gptinit.results.profile import Finding, Note, worst_first
from gptinit.results.program import ModelProgram, ParameterProgram

__all__ = ["audit_program", "findings_of"]

_SAME_BASE = 0.01
"""How near the std of the embedding is to a documented one where it is the same."""


def audit_program(
    program: ModelProgram,
    *,
    torch: str,
    claim: Scheme | None = None,
    extra: Sequence[Finding] = (),
    notes: Sequence[Note] = (),
) -> Audit:
    """What a model is drawn from, beside the claim or the closest scheme, and what is wrong.

    Args:
        program: what the trace found.
        torch: version that traced it.
        claim: the scheme that the model is held to, if any.
        extra: findings that one program cannot show (other builds, settings, processes).
        notes: how the program came to be known.
    """
    closest = closest_scheme(program)
    against = claim or _documented(program) or _scheme_of(closest)
    return Audit(
        torch=torch,
        model=program.facts,
        build=program.build,
        claim=claim.slug if claim else None,
        closest=closest,
        against=against.slug if against else None,
        parameters=_audited(program, against),
        findings=worst_first([*findings_of(program, claim), *extra]),
        notes=tuple(notes),
    )


def findings_of(program: ModelProgram, claim: Scheme | None = None) -> tuple[Finding, ...]:
    """What every rule finds, worst first, without the effects of what is found besides."""
    context = make_context(program, claim)
    found = list(findings(program, context))
    return worst_first(_without_effects(found, program))


def _documented(program: ModelProgram) -> Scheme | None:
    """What the architecture is documented to be drawn by."""
    known = KNOWN_CLAIMS.get(program.architecture or "")
    if known is None:
        return None
    scheme = load_schemes()[known.scheme]
    expected = expectations(scheme, program)
    # Its base std is a setting of the model: beside another one the scheme says nothing.
    embedding = next((p for p in program.parameters if p.role == "tok_emb"), None)
    if embedding is None or embedding.name not in expected:
        return None
    ratio = ratio_of(embedding.distribution, expected[embedding.name])
    return scheme if ratio is not None and abs(ratio - 1) < _SAME_BASE else None


def _scheme_of(closest: ClosestScheme | None) -> Scheme | None:
    """The scheme that was found closest."""
    return load_schemes()[closest.name] if closest else None


def _audited(program: ModelProgram, scheme: Scheme | None) -> tuple[AuditedParameter, ...]:
    """Every parameter and buffer beside what `scheme` expects."""
    expected = expectations(scheme, program) if scheme else {}
    everything = (*program.parameters, *program.buffers)
    return tuple(_beside(p, expected.get(p.name), program) for p in everything)


def _beside(
    parameter: ParameterProgram, expected: Distribution | None, program: ModelProgram
) -> AuditedParameter:
    """One parameter beside its expectation."""
    if expected is None:
        return AuditedParameter(program=parameter)
    if parameter.role == "norm_weight" and parameter.gain is not None:
        # Its effect counts: a weight of 0 is 1 where the norm computes 1 + weight.
        return AuditedParameter(program=parameter, expected=expected, ratio=parameter.gain)
    law = without_padding(parameter, program)
    ratio = ratio_of(law, expected)
    error = STANDARD_ERRORS * relative_error(law)
    in_blocks = parameter.layer is not None or parameter.role != "pos_emb"
    spread = expected.std > 0 and ratio is not None and in_blocks
    hint = hint_of(ratio or 1.0, program.facts, expected.std, error) if spread else None
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
    """Every parameter that a finding is about."""
    names = (p.name for p in (*program.parameters, *program.buffers))
    return frozenset(name for name in names if fnmatchcase(name, finding.where))
