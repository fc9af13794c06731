"""Results as JSON documents: full precision, fixed keys in a fixed order, no nulls for gaps."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, TypeAlias

from gptinit.config import GPTConfig, ModelFacts
from gptinit.facts.distributions import Copy, Distribution, Mixture, Piecewise
from gptinit.facts.schemes import RoleRule, Scheme
from gptinit.facts.vocabulary import STATISTICS, ParameterRole
from gptinit.gate.engine_agreement import Agreement, engine_agreement
from gptinit.gate.judge import BoundResult, CheckReport
from gptinit.report.numbers import counted
from gptinit.results.audit import Audit, AuditedParameter, ClosestScheme
from gptinit.results.profile import (
    WEIGHT_GRAD_NUMBERS,
    Comparison,
    Finding,
    Place,
    Profile,
    WeightGrad,
    worst_first,
)
from gptinit.results.rule import Rule
from gptinit.version import __version__

__all__ = [
    "SCHEMA_VERSION",
    "Document",
    "audit_document",
    "check_document",
    "comparison_document",
    "profile_document",
    "render_json",
    "rule_document",
    "schemes_document",
]

SCHEMA_VERSION = 1
"""Rises when a key changes its name or meaning; new keys leave it."""

Document: TypeAlias = dict[str, Any]
"""What `json.dumps` takes: dicts, lists, texts and numbers."""

_ORDER: Mapping[str, int] = {name: i for i, name in enumerate(STATISTICS)}


def profile_document(profile: Profile) -> Document:
    """A profile as in profile.schema.json.

    Numbers that were not measured, are undefined or not finite are absent (`nonfinite` counts NaN
    and infinity), and so are unknown facts of the model. Standard errors are absent with one seed.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "gptinit": __version__,
        "torch": profile.torch,
        "model": _model(profile.model),
        "scheme": profile.scheme,
        "run": asdict(profile.run),
        "embedding": _place(profile.embedding),
        "layers": [{"layer": i, **_place(place)} for i, place in enumerate(profile.layers)],
        "final": _place(profile.final),
        "whole": _place(profile.whole),
        "findings": [_finding(finding) for finding in profile.findings],
        "notes": [asdict(note) for note in profile.notes],
        **({"cost": asdict(profile.cost)} if profile.cost else {}),
    }


def comparison_document(comparison: Comparison) -> Document:
    """A comparison as in compare.schema.json: whole profiles, and a ranking if there is one."""
    ranking = comparison.ranking
    agreement = [_agreement(found) for found in engine_agreement(comparison)]
    return {
        "schema_version": SCHEMA_VERSION,
        "gptinit": __version__,
        "axis": comparison.axis,
        "labels": list(comparison.labels),
        "profiles": [profile_document(profile) for profile in comparison.profiles],
        **({"ranking": {"by": ranking.by, "order": list(ranking.order)}} if ranking else {}),
        **({"agreement": agreement} if agreement else {}),
    }


def _agreement(found: Agreement) -> Document:
    known = asdict(found) | {"agrees": found.agrees}
    return {name: value for name, value in known.items() if value not in {None, math.inf}}


def check_document(report: CheckReport) -> Document:
    """A check as in check.schema.json; a result without a value is one that is not finite."""
    return {
        "schema_version": SCHEMA_VERSION,
        **(
            {"inits": {name: asdict(i) for name, i in report.inits.items()}} if report.inits else {}
        ),
        "results": [_result(result) for result in report.results],
        "findings": [_finding(finding) for finding in report.findings],
    }


def audit_document(audit: Audit) -> Document:
    """An audit as in audit.schema.json: every parameter and buffer, findings, notes.

    What is not known or not finite is absent; only `claim` and `closest_scheme` may be null.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "gptinit": __version__,
        "torch": audit.torch,
        "model": _model(audit.model),
        "build": audit.build,
        "claim": audit.claim,
        "closest_scheme": _closest(audit.closest) if audit.closest else None,
        "parameters": [_parameter(audited) for audited in audit.parameters],
        "findings": [_finding(finding) for finding in worst_first(audit.findings)],
        "notes": [asdict(note) for note in audit.notes],
    }


def _closest(closest: ClosestScheme) -> Document:
    """The closest scheme; without the factor and the truncation that it is used with, if none."""
    found = asdict(closest) | {"differs": list(closest.differs)}
    left_out = {"factor": 1.0, "cut": None}
    return {k: v for k, v in found.items() if k not in left_out or v != left_out[k]}


def rule_document(rule: Rule) -> Document:
    """The documentation of an audit rule: its texts by the names of `Rule`."""
    names = ("name", "severity", "title", "what", "why", "bug", "fix")
    return {
        "schema_version": SCHEMA_VERSION,
        "gptinit": __version__,
        "rule": {name: getattr(rule, name) for name in names},
    }


def schemes_document(
    schemes: Iterable[Scheme],
    *,
    shape: GPTConfig | None = None,
    values: Mapping[str, Mapping[str, Sequence[Distribution]]] | None = None,
) -> Document:
    """Schemes as in schemes.schema.json, with their values at a shape where those are given.

    Args:
        schemes: the schemes.
        shape: the shape that `values` belong to.
        values: slug to role to its distributions at `shape`: one, or those of the first and the
            last layer where they differ.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "gptinit": __version__,
        **({"shape": asdict(shape)} if shape else {}),
        "schemes": [_scheme(scheme, (values or {}).get(scheme.slug, {})) for scheme in schemes],
    }


def render_json(document: Document) -> str:
    """A document as text: indented by 2, full precision, one newline at the end."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finding(finding: Finding) -> Document:
    document = {
        "rule": finding.rule,
        "severity": finding.severity,
        "where": finding.location,
        "also": list(finding.locations[1:]),
        "message": finding.message,
    }
    return {key: value for key, value in document.items() if value}


def _model(model: ModelFacts) -> Document:
    return {key: value for key, value in asdict(model).items() if value is not None}


def _parameter(audited: AuditedParameter) -> Document:
    program = audited.program
    numbers = _finite({"ratio": audited.ratio, "gain": program.gain})
    return {
        "name": program.name,
        "shape": list(program.shape),
        "role": program.role,
        **({} if program.layer is None else {"layer": program.layer}),
        "kind": program.kind,
        "dtype": program.dtype,
        "distribution": _distribution(program.distribution),
        **({} if audited.expected is None else {"expected": _distribution(audited.expected)}),
        **(
            {}
            if program.constructed is None
            else {"constructed": _distribution(program.constructed)}
        ),
        **numbers,
        **({} if audited.hint is None else {"hint": audited.hint}),
        "provenance": list(map(str, program.provenance)),
        **({"aliases": list(program.aliases)} if program.aliases else {}),
    }


def _distribution(drawn: Distribution) -> Document:
    """A distribution by its kind, moments and own fields; what is not finite is left out."""
    moments = _finite({"mean": drawn.mean, "std": drawn.std})
    if isinstance(drawn, Piecewise):
        return {"kind": drawn.kind, **moments, "pieces": _counted("rows", drawn.pieces)}
    if isinstance(drawn, Mixture):
        return {"kind": drawn.kind, **moments, "parts": _counted("entries", drawn.parts)}
    if isinstance(drawn, Copy):
        source = _distribution(drawn.source)
        return {"kind": drawn.kind, **moments, "of": drawn.origin, "source": source}
    own = {f.name: getattr(drawn, f.name) for f in fields(drawn) if f.name not in moments}
    written = {name: _field(value) for name, value in own.items()}
    return {"kind": drawn.kind, **moments} | {k: v for k, v in written.items() if v is not None}


def _counted(unit: str, parts: Iterable[tuple[int, Distribution]]) -> list[Document]:
    """The parts of a distribution with the number of rows or entries of each."""
    return [{unit: count, **_distribution(drawn)} for count, drawn in parts]


def _field(value: Any) -> Any:
    """A field of a distribution, which may be one itself; None where it is not finite."""
    if isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _distribution(value)


def _place(place: Place) -> Document:
    """The numbers of one place; parts that are empty are left out."""
    parts = {
        "stderr": _numbers(place.stderr),
        "predicted": _numbers(place.predicted),
        "weight_grad": _weight_grads(place.weight_grad),
    }
    return _numbers(place.values) | {name: part for name, part in parts.items() if part}


def _numbers(values: Mapping[str, float]) -> Document:
    """Finite statistics, in the order of the vocabulary."""
    names = sorted(values, key=_ORDER.__getitem__)
    return {name: counted(name, values[name]) for name in names if math.isfinite(values[name])}


def _weight_grads(grads: Mapping[ParameterRole, WeightGrad]) -> Document:
    """Role to its finite numbers; roles without any are left out."""
    found: Document = {}
    for role, grad in grads.items():
        named = {n: getattr(grad, n) for n in WEIGHT_GRAD_NUMBERS}
        numbers, stderr = _finite(named), _finite(grad.stderr)
        if numbers:
            found[role] = numbers | ({"stderr": stderr} if stderr else {})
    return found


def _finite(numbers: Mapping[str, float | None]) -> dict[str, float]:
    """The numbers that are known and finite."""
    return {k: v for k, v in numbers.items() if v is not None and math.isfinite(v)}


def _result(result: BoundResult) -> Document:
    numbers = _finite({name: getattr(result, name) for name in ("value", "stderr", "min", "max")})
    return {
        "model": result.model,
        "stat": result.stat,
        "where": result.where,
        **{name: counted(result.stat, number) for name, number in numbers.items()},
        "verdict": result.verdict,
        "why": result.why,
    }


def _scheme(scheme: Scheme, values: Mapping[str, Sequence[Distribution]]) -> Document:
    return {
        "name": scheme.slug,
        "title": scheme.title,
        "aliases": list(scheme.aliases),
        **({} if scheme.year is None else {"year": scheme.year}),
        "source": list(scheme.source),
        "verified": scheme.verified,
        "notes": scheme.notes,
        "roles": {role: _rule(rule, values.get(role, ())) for role, rule in scheme.rules.items()},
    }


def _rule(rule: RoleRule, values: Sequence[Distribution]) -> Document:
    moments = [{"kind": d.kind, "mean": d.mean, "std": d.std} for d in values]
    return {"dist": rule.dist, **rule.formulas, **({"values": moments} if moments else {})}
