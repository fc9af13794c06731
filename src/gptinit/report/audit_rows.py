"""The rows of an audit's table: parameters of one role and distribution share a row."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gptinit.facts.distributions import Distribution, Measured
from gptinit.facts.names import layer_pattern, ranges
from gptinit.facts.vocabulary import ROLES, SEVERITIES
from gptinit.report.numbers import span
from gptinit.report.origins import is_about
from gptinit.results.audit import Audit, AuditedParameter
from gptinit.results.profile import Finding

__all__ = ["Row", "pattern_of", "rows_of", "shown_parameters"]

_STDERRS = 5.0
"""Measured parameters share a row if they differ by at most so many standard errors."""

_AGREES = 0.01
"""A ratio this near to one counts as matching when rows are grouped; rules have other limits."""

_FOLD = 3
"""A role with more distributions than this, one per layer, is shown as a range."""

_LONGEST = 11
"""A longer list of layers is shown as a count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Some parameters in one line; every cell but `count` is finished text, empty where unknown.

    Attributes:
        role: their role.
        count: number of tensors.
        layers: their layers, such as "0-47" or "0-2, 5".
        names: their name, or the pattern that covers them.
        drawn: their distribution.
        std: its standard deviation, or the range.
        expected: their distribution under the claimed or closest scheme.
        ratio: actual over expected RMS, or the range.
        hint: the likely cause of a known ratio.
        severity: of the worst finding about any of them; empty where there is none.
    """

    role: str
    count: int
    layers: str
    names: str
    drawn: str
    std: str
    expected: str
    ratio: str
    hint: str
    severity: str


def rows_of(audit: Audit, *, each: bool = False, buffers: bool = False) -> list[Row]:
    """The rows of an audit, in the order of roles.

    Args:
        audit: the result of an audit.
        each: whether to give every parameter its own row, in the order of the model.
        buffers: whether to show buffers without findings too.
    """
    shown = shown_parameters(audit, buffers=buffers)
    if each:
        return [_row((audited,), audit) for audited in shown]
    groups = _folded(_grouped(shown))
    return [_row(group, audit) for group in sorted(groups, key=_role_order)]


def shown_parameters(audit: Audit, *, buffers: bool = False) -> list[AuditedParameter]:
    """Every parameter, and those buffers that a finding is about (with `buffers`: all)."""
    return [
        audited
        for audited in audit.parameters
        if buffers
        or audited.program.kind != "buffer"
        or any(is_about(finding, audited.program) for finding in audit.findings)
    ]


def pattern_of(audited: AuditedParameter) -> str:
    """A parameter's name with its layer as a wildcard: "transformer.h.*.attn.c_proj.weight"."""
    program = audited.program
    return layer_pattern(program.name, program.layer, block=program.block)


def _grouped(shown: Iterable[AuditedParameter]) -> list[list[AuditedParameter]]:
    """Groups of equal role, distribution, hint and agreement with the expectation."""
    groups: dict[tuple[object, ...], list[AuditedParameter]] = {}
    measured: dict[tuple[object, ...], list[list[AuditedParameter]]] = {}
    for audited in shown:
        key = (audited.program.role, audited.program.kind, audited.hint, _agrees(audited))
        drawn = audited.program.distribution
        if isinstance(drawn, Measured):
            alike = measured.setdefault((*key, pattern_of(audited)), [])
            group = next((g for g in alike if _alike(g[0].program.distribution, drawn)), None)
            if group is None:
                alike.append([audited])
            else:
                group.append(audited)
        else:
            # repr and not the value: NaN is not equal to itself.
            groups.setdefault((*key, repr(drawn)), []).append(audited)
    return [*groups.values(), *(group for alike in measured.values() for group in alike)]


def _folded(groups: Iterable[list[AuditedParameter]]) -> list[list[AuditedParameter]]:
    """The groups; where a role has one for each of many layers, they are joined."""
    families: dict[tuple[object, ...], list[list[AuditedParameter]]] = {}
    for group in groups:
        first = group[0]
        kind = (first.program.role, first.program.kind, first.program.distribution.kind)
        names = tuple(dict.fromkeys(map(pattern_of, group)))
        families.setdefault((*kind, names, first.hint, _agrees(first)), []).append(group)
    folded: list[list[AuditedParameter]] = []
    for family in families.values():
        many = len(family) > _FOLD
        folded += [[audited for group in family for audited in group]] if many else family
    return folded


def _alike(first: Distribution, second: Measured) -> bool:
    """Whether two measured distributions are equal within their standard errors."""
    if not isinstance(first, Measured):
        return False
    pairs = (
        (first.mean - second.mean, first.mean_stderr, second.mean_stderr),
        (first.std - second.std, first.std_stderr, second.std_stderr),
    )
    return all(abs(gap) <= _STDERRS * math.hypot(a, b) for gap, a, b in pairs)


def _agrees(audited: AuditedParameter) -> bool | None:
    return None if audited.ratio is None else abs(audited.ratio - 1) <= _AGREES


def _row(group: Sequence[AuditedParameter], audit: Audit) -> Row:
    programs = [audited.program for audited in group]
    expected = [str(audited.expected) for audited in group if audited.expected is not None]
    return Row(
        role=programs[0].role,
        count=len(group),
        layers=_layers({p.layer for p in programs if p.layer is not None}),
        names=programs[0].name if len(group) == 1 else _names(group),
        drawn=_ends([str(p.distribution) for p in programs]),
        std=_span([p.distribution.std for p in programs]),
        expected=_ends(expected),
        ratio=_span([audited.ratio for audited in group if audited.ratio is not None]),
        hint=group[0].hint or "",
        severity=_worst(group, audit.findings),
    )


def _layers(layers: set[int]) -> str:
    """Layers as ranges: "0-2, 5"; as a count where that is long."""
    text = ranges(layers)
    return text if len(text) <= _LONGEST else f"{len(layers)} layers"


def _names(group: Sequence[AuditedParameter]) -> str:
    """The pattern that covers the names of a group; several where they have nothing in common."""
    patterns: dict[int, list[str]] = {}
    for pattern in dict.fromkeys(map(pattern_of, group)):
        parts = pattern.split(".")
        seen = patterns.setdefault(len(parts), parts)
        patterns[len(parts)] = [a if a == b else "*" for a, b in zip(seen, parts, strict=True)]
    return ", ".join(".".join(parts) for parts in patterns.values())


def _ends(texts: Sequence[str]) -> str:
    """One text where all are the same, else the first and the last."""
    if not texts:
        return ""
    alike = len(set(texts)) == 1 or texts[0] == texts[-1]
    return texts[0] if alike else f"{texts[0]} to {texts[-1]}"


def _span(values: Iterable[float]) -> str:
    """The range of the finite values; empty without any."""
    finite = [value for value in values if math.isfinite(value)]
    return span(finite) if finite else ""


def _worst(group: Sequence[AuditedParameter], findings: Iterable[Finding]) -> str:
    """Severity of the worst finding on a group; empty without one."""
    found = {f.severity for f in findings if any(is_about(f, a.program) for a in group)}
    return next((severity for severity in SEVERITIES if severity in found), "")


def _role_order(group: Sequence[AuditedParameter]) -> tuple[bool, int]:
    """The place of a group in a table: roles in their order, then other ones, then buffers."""
    program = group[0].program
    place = len(ROLES) if program.role == "other" else ROLES.index(program.role)
    return program.kind == "buffer", place
