"""Hits of one rule as findings: those on one parameter of many layers become one finding."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from gptinit.facts.names import layer_pattern, ranges
from gptinit.facts.vocabulary import Severity
from gptinit.results.profile import Finding
from gptinit.results.program import ModelProgram, ParameterProgram

__all__ = ["Hit", "grouped", "grouped_findings", "named", "pattern_of"]

_SHOWN = 3
"""Further places of a finding that its message names; all are in the finding itself."""


class Hit(NamedTuple):
    """One parameter at which a rule is broken.

    Attributes:
        parameter: the parameter; None for the whole model.
        severity: of the finding.
        message: what is wrong, in one or two sentences.
        cause: equal for hits of one rule that have one cause and make one finding; None where each
            pattern of names is a cause of its own.
        meant: the std that it should have, where the rule says so.
    """

    parameter: ParameterProgram | None
    severity: Severity
    message: str
    cause: object = None
    meant: float | None = None


def grouped(rule: str, hits: Iterable[Hit], program: ModelProgram) -> Iterator[Finding]:
    """One finding for each cause and severity, with the message of the first hit.

    Parameters of one name in many layers share a cause, unless the rule says more of it.
    """
    groups: dict[tuple[object, Severity], list[tuple[ParameterProgram, str]]] = {}
    for parameter, severity, message, cause, _ in hits:
        if parameter is None:
            yield Finding(rule=rule, severity=severity, where="*", fact=message)
        else:
            key = pattern_of(parameter) if cause is None else (cause,)
            groups.setdefault((key, severity), []).append((parameter, message))
    if not groups:
        return
    whole = Counter(map(pattern_of, (*program.parameters, *program.buffers)))
    for (_, severity), members in groups.items():
        places = _places(members)
        said = [members[0][1]]
        if len({message for _, message in members}) > 1:
            said.append(f"(Numbers of {members[0][0].name}; they vary.)")
        where, *also = places
        said += _extent(members, whole, program)
        rest = [place for place in also if place not in said[0]]
        if rest:  # for those who read the message alone
            said.append(f"The same goes for {_listed(rest)}.")
        message = " ".join(said)
        yield Finding(rule=rule, severity=severity, where=where, also=tuple(also), fact=message)


def _places(members: Sequence[tuple[ParameterProgram, str]]) -> list[str]:
    """The pattern of every parameter, each once; the name of one that is alone in its pattern."""
    by_pattern: dict[str, list[str]] = {}
    for parameter, _ in members:
        by_pattern.setdefault(pattern_of(parameter), []).append(parameter.name)
    return [names[0] if len(names) == 1 else pattern for pattern, names in by_pattern.items()]


def named(parameters: Iterable[ParameterProgram]) -> str:
    """Parameters by their patterns, the first three of them."""
    return _listed(list(dict.fromkeys(map(pattern_of, parameters))))


def _listed(places: Sequence[str]) -> str:
    more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    return f"{', '.join(places[:_SHOWN])}{more}"


def grouped_findings(found: Iterable[Finding], program: ModelProgram) -> Iterator[Finding]:
    """Findings that each name one parameter: those of one rule and severity become one."""
    by_name = {p.name: p for p in (*program.parameters, *program.buffers)}
    hits: dict[str, list[Hit]] = {}
    for finding in found:
        hit = Hit(by_name[finding.where], finding.severity, finding.fact, cause=finding.rule)
        hits.setdefault(finding.rule, []).append(hit)
    for rule, members in hits.items():
        yield from grouped(rule, members, program)


def pattern_of(parameter: ParameterProgram) -> str:
    """Its name with `*` for the layer and the expert."""
    p = parameter
    return layer_pattern(p.name, p.layer, block=p.block, experts=True)


def _extent(
    members: Sequence[tuple[ParameterProgram, str]], whole: Counter[str], program: ModelProgram
) -> list[str]:
    """The layers of the first pattern, unless it is all that have it or the only one."""
    pattern = pattern_of(members[0][0])
    alike = [p for p, _ in members if pattern_of(p) == pattern]
    layers = {p.layer for p in alike if p.layer is not None}
    if len(alike) == whole[pattern] or not layers:
        return []
    plural = "Layers" if len(layers) > 1 else "Layer"
    return [f"{plural} {ranges(layers)} of {program.facts.n_layer}."]
