"""Where a finding comes from: its parameters, the steps that made them, file and line."""

from collections.abc import Iterator
from fnmatch import fnmatchcase

from gptinit.facts.step import Step
from gptinit.results.audit import BUILT_ON_META, Audit, AuditedParameter
from gptinit.results.profile import Finding
from gptinit.results.program import ParameterProgram

__all__ = ["is_about", "origin_of", "parameters_of", "place_of"]


def is_about(finding: Finding, program: ParameterProgram) -> bool:
    """Whether a finding's `where` names a parameter: by itself, by a pattern, or in a list."""
    names = (program.name, *program.aliases)
    patterns = [finding.where, *finding.where.split(", ")]
    return any(_fits(name, p) for p in patterns for name in names)


def _fits(name: str, pattern: str) -> bool:
    """Whether a pattern covers a name, a wildcard standing for one part between dots."""
    parts, wanted = name.split("."), pattern.split(".")
    pairs = zip(parts, wanted, strict=False)
    return len(parts) == len(wanted) and all(fnmatchcase(part, p) for part, p in pairs)


def parameters_of(finding: Finding, audit: Audit) -> list[AuditedParameter]:
    """The parameters and buffers that a finding is about; none where it is about no parameter."""
    return [audited for audited in audit.parameters if is_about(finding, audited.program)]


def origin_of(finding: Finding, audit: Audit) -> str:
    """How the parameters of a finding were made: "drawn by normal_(0, 0.02) at model.py:151".

    Where they were not all made alike, the first way and how many others there are; empty where
    nothing is known.
    """
    if finding.message.startswith(BUILT_ON_META):  # the steps are those of the constructor
        return ""
    ways = (a.program.provenance for a in parameters_of(finding, audit))
    told = list(dict.fromkeys(", then ".join(map(str, way)) for way in ways if way))
    if not told:
        return ""
    rest = len(told) - 1
    others = f" (and in {rest} other way{'s' * (rest > 1)})" if rest else ""
    return f"drawn by {told[0]}{others}"


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
