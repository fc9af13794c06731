"""Where a finding comes from: its parameters, the steps that made them, file and line."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from gptinit.report.numbers import plural
from gptinit.results.audit import Audit, AuditedParameter
from gptinit.results.profile import Finding
from gptinit.results.program import ParameterProgram

__all__ = ["Place", "is_about", "origin_of", "parameters_of", "place_of"]

_PLACE = re.compile(r"\bat (?P<file>\S.*):(?P<line>[1-9][0-9]*)$")
"""How a step of a program ends where its place in a file is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A line of a file."""

    file: str
    line: int


def is_about(finding: Finding, program: ParameterProgram) -> bool:
    """Whether `where` of a finding is a name of a parameter or a pattern that matches one."""
    return any(_fits(name, finding.where) for name in (program.name, *program.aliases))


def _fits(name: str, pattern: str) -> bool:
    """Whether a pattern matches a name; a wildcard stands for one part between dots."""
    parts, wanted = name.split("."), pattern.split(".")
    pairs = zip(parts, wanted, strict=False)
    return len(parts) == len(wanted) and all(fnmatchcase(part, p) for part, p in pairs)


def parameters_of(finding: Finding, audit: Audit) -> list[AuditedParameter]:
    """The parameters and buffers that a finding is about; empty if it is about none."""
    return [audited for audited in audit.parameters if is_about(finding, audited.program)]


def origin_of(finding: Finding, audit: Audit) -> str:
    """How the parameters of a finding were made: "drawn by normal_(0, 0.02) at model.py:151".

    Where they were made in several ways, the first and the number of others; empty if unknown.
    """
    if finding.build == "meta":  # the steps are those of the constructor
        return ""
    ways = dict.fromkeys(a.program.provenance for a in parameters_of(finding, audit))
    known = [", then ".join(way) for way in ways if way]
    if not known:
        return ""
    first, *rest = known
    others = f" (and in {plural(len(rest), 'other way')})" if rest else ""
    return f"drawn by {first}{others}"


def place_of(finding: Finding, audit: Audit) -> Place | None:
    """The line of code of the last known step behind a finding; None if none is known."""
    for audited in parameters_of(finding, audit):
        for step in _steps_backwards(audited.program):
            if found := _PLACE.search(step):
                return Place(file=found["file"], line=int(found["line"]))
    return None


def _steps_backwards(program: ParameterProgram) -> Iterator[str]:
    """What made a parameter, newest step first."""
    drawn: Iterable[str] = (draw.step for draw in program.history)
    yield from reversed(program.provenance)
    yield from reversed(list(drawn))
