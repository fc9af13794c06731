"""Hits of one rule as findings: those on one parameter of many layers become one finding."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from gptinit.facts.names import layer_pattern, ranges
from gptinit.facts.vocabulary import Severity
from gptinit.results.profile import Finding
from gptinit.results.program import ModelProgram, ParameterProgram

__all__ = ["Hit", "grouped", "grouped_findings"]

Hit = tuple[ParameterProgram | None, Severity, str]
"""A parameter (None: the whole model), a severity and a message."""


def grouped(rule: str, hits: Iterable[Hit], program: ModelProgram) -> Iterator[Finding]:
    """One finding for each pattern of names and severity, with the message of the first hit."""
    groups: dict[tuple[str, Severity], list[tuple[ParameterProgram, str]]] = {}
    for parameter, severity, message in hits:
        if parameter is None:
            yield Finding(rule=rule, severity=severity, where="*", fact=message)
        else:
            groups.setdefault((_pattern(parameter), severity), []).append((parameter, message))
    if not groups:
        return
    whole = Counter(map(_pattern, (*program.parameters, *program.buffers)))
    for (pattern, severity), members in groups.items():
        message = " ".join([members[0][1], *_extent(members, whole[pattern], program)])
        where = pattern if len(members) > 1 else members[0][0].name
        yield Finding(rule=rule, severity=severity, where=where, fact=message)


def grouped_findings(found: Iterable[Finding], program: ModelProgram) -> Iterator[Finding]:
    """Findings that each name one parameter, grouped by rule as `grouped` does."""
    by_name = {p.name: p for p in (*program.parameters, *program.buffers)}
    hits: dict[str, list[Hit]] = {}
    for finding in found:
        hit = by_name[finding.where], finding.severity, finding.fact
        hits.setdefault(finding.rule, []).append(hit)
    for rule, members in hits.items():
        yield from grouped(rule, members, program)


def _pattern(parameter: ParameterProgram) -> str:
    return layer_pattern(parameter.name, parameter.layer, experts=True)


def _extent(
    members: Sequence[tuple[ParameterProgram, str]], whole: int, program: ModelProgram
) -> list[str]:
    """Which layers, unless it is all of them or the only one; and whether numbers vary."""
    said = []
    layers = {p.layer for p, _ in members if p.layer is not None}
    if len({message for _, message in members}) > 1:
        said.append(f"(Numbers of {members[0][0].name}; they vary.)")
    if len(members) == whole or not layers:
        return said
    plural = "Layers" if len(layers) > 1 else "Layer"
    return [*said, f"{plural} {ranges(layers)} of {program.facts.n_layer}."]
