"""Findings of many layers as one: a pattern that a person can read, and which layers."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from gptinit.facts.vocabulary import Severity
from gptinit.results.profile import Finding
from gptinit.results.program import ModelProgram, ParameterProgram

__all__ = ["Hit", "collapsed", "grouped", "grouped_findings", "ranges"]

Hit = tuple[ParameterProgram, Severity, str]
"""A parameter, a severity and a message."""

_LISTS_OF_EQUALS = ("experts",)


def collapsed(name: str, layer: int | None = None) -> str:
    """`name` with its layer and expert numbers as `*`; fnmatch accepts the name by it.

    Example:
        >>> collapsed("model.layers.3.mlp.experts.17.w1.weight", 3)
        'model.layers.*.mlp.experts.*.w1.weight'
        >>> collapsed("transformer.h.2.mlp.0.weight", 2)
        'transformer.h.*.mlp.0.weight'
    """
    words = name.split(".")
    numbers = [i for i, word in enumerate(words) if word.isdecimal()]
    stars = {i for i in numbers if i and words[i - 1] in _LISTS_OF_EQUALS}
    if layer is not None and numbers:
        stars.add(next((i for i in numbers if words[i] == str(layer)), numbers[0]))
    return ".".join("*" if i in stars else word for i, word in enumerate(words))


def ranges(numbers: Iterable[int]) -> str:
    """Numbers as a person lists them.

    Example:
        >>> ranges([3, 40, 41, 42])
        '3, 40-42'
    """
    ordered = sorted(set(numbers))
    starts = ordered[:1] + [b for a, b in pairwise(ordered) if b != a + 1]
    ends = [a for a, b in pairwise(ordered) if b != a + 1] + ordered[-1:]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def grouped(rule: str, hits: Iterable[Hit], program: ModelProgram) -> Iterator[Finding]:
    """One finding for each pattern of names and severity, with the first one's message.

    Args:
        rule: name of the rule that found them.
        hits: what it found.
        program: the whole, to tell which layers are spared.
    """
    groups: dict[tuple[str, Severity], list[Hit]] = {}
    for hit in hits:
        groups.setdefault((collapsed(hit[0].name, hit[0].layer), hit[1]), []).append(hit)
    if not groups:
        return
    whole = Counter(collapsed(p.name, p.layer) for p in (*program.parameters, *program.buffers))
    for (pattern, severity), members in groups.items():
        message = " ".join([members[0][2], *_extent(members, whole[pattern], program)])
        where = pattern if len(members) > 1 else members[0][0].name
        yield Finding(rule=rule, severity=severity, where=where, fact=message)


def grouped_findings(found: Iterable[Finding], program: ModelProgram) -> Iterator[Finding]:
    """The same findings, those of one rule about the same parameter of many layers as one.

    Args:
        found: findings that each name one parameter.
        program: the whole, to tell which layers are spared.
    """
    by_name = {p.name: p for p in (*program.parameters, *program.buffers)}
    hits: dict[str, list[Hit]] = {}
    for finding in found:
        hit = by_name[finding.where], finding.severity, finding.fact
        hits.setdefault(finding.rule, []).append(hit)
    for rule, members in hits.items():
        yield from grouped(rule, members, program)


def _extent(members: Sequence[Hit], whole: int, program: ModelProgram) -> list[str]:
    """Which layers, unless it is all of them or the only one."""
    said = []
    layers = {p.layer for p, _, _ in members if p.layer is not None}
    if len({message for _, _, message in members}) > 1:
        said.append(f"(Numbers of {members[0][0].name}; they vary.)")
    if len(members) == whole or not layers:
        return said
    plural = "Layers" if len(layers) > 1 else "Layer"
    return [*said, f"{plural} {ranges(layers)} of {program.facts.n_layer}."]
