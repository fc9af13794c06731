"""Where a finding comes from: its parameters, the steps that made them, file and line."""

from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase

from gptinit.facts.algebra import is_random
from gptinit.facts.step import Step
from gptinit.report.numbers import plural
from gptinit.results.audit import Audit, AuditedParameter
from gptinit.results.profile import Finding
from gptinit.results.program import ParameterProgram

__all__ = ["is_about", "message_of", "origin_of", "parameters_of", "place_of"]


def is_about(finding: Finding, program: ParameterProgram) -> bool:
    """Whether a place of a finding is a name of a parameter or a pattern that matches one.

    A finding on the whole model ("*") is about none of them.
    """
    if finding.where == "*":
        return False
    names = (program.name, *program.aliases)
    return any(_fits(name, place) for name in names for place in finding.places)


def _fits(name: str, pattern: str) -> bool:
    """Whether a pattern matches a name; a wildcard stands for one part between dots."""
    parts, wanted = name.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def parameters_of(finding: Finding, audit: Audit) -> list[AuditedParameter]:
    """The parameters and buffers that a finding is about, in the order in which it names them."""
    return list(
        {
            audited.program.name: audited
            for place in finding.places
            for audited in audit.parameters
            if is_about(replace(finding, where=place, also=()), audited.program)
        }.values()
    )


def origin_of(finding: Finding, audit: Audit) -> str:
    """How the first parameter of a finding was made: "drawn by normal_(0, 0.02) at model.py:151".

    Where its pattern stands for parameters that were made in several ways, the first and the number
    of others; empty if unknown, or if the message tells it.
    """
    if finding.build == "meta":  # the steps are those of the constructor
        return ""
    first = [a.program for a in parameters_of(replace(finding, also=()), audit)]
    ways = [(p, ", then ".join(map(str, p.provenance))) for p in first if p.provenance]
    if not ways:
        return ""
    if ways[0][1] in finding.message:
        return ""
    others = len({way for _, way in ways}) - 1
    more = f" (and in {plural(others, 'other way')})" if others else ""
    verb = "drawn" if is_random(ways[0][0].distribution) else "set"
    return f"{verb} by {ways[0][1]}{more}"


def message_of(finding: Finding, audit: Audit) -> str:
    """The sentences of a finding, and how its parameters were made where that is known."""
    origin = origin_of(finding, audit)
    return f"{finding.message} ({origin})" if origin else finding.message


def place_of(finding: Finding, audit: Audit) -> Step | None:
    """The last step behind a finding whose file and line are known; None where none is."""
    for audited in parameters_of(finding, audit):
        for step in _steps_backwards(audited.program):
            if step.file and step.line:
                return step
    return None


def _steps_backwards(program: ParameterProgram) -> Iterator[Step]:
    """What made a parameter, newest step first; then the draws of its history."""
    yield from reversed(program.provenance)
    yield from (draw.step for draw in reversed(program.history) if draw.step)
