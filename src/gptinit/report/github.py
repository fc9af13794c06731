"""A check or an audit as GitHub workflow commands: annotations in the summary of a run."""

from gptinit.facts.step import Step
from gptinit.gate.judge import CheckReport
from gptinit.report.audit_words import verdict_of
from gptinit.report.headlines import bounds_held
from gptinit.report.origins import message_of, place_of
from gptinit.results.audit import Audit
from gptinit.results.profile import Finding, worst_first

__all__ = ["audit_github", "check_github"]

_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


def check_github(report: CheckReport) -> str:
    """One annotation per finding, and a last line with the number of bounds that hold.

    References:
        https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands; the
        escapes are those of actions/toolkit, packages/core/src/command.ts.
    """
    lines = [_annotation(finding, finding.message) for finding in report.findings]
    return "\n".join([*lines, bounds_held(report)]) + "\n"


def audit_github(audit: Audit) -> str:
    """One annotation per finding, at its line of code where that is known, and the verdict."""
    lines = [
        _annotation(finding, message_of(finding, audit), place_of(finding, audit))
        for finding in worst_first(audit.findings)
    ]
    return "\n".join([*lines, f"{_data(audit.model.name)}: {verdict_of(audit)}"]) + "\n"


def _annotation(finding: Finding, message: str, place: Step | None = None) -> str:
    """One finding as a workflow command, at a line of a file or at none."""
    title = _property(f"{finding.rule}: {finding.location}")
    at = "" if place is None else f"file={_property(place.file)},line={place.line},"
    return f"::{_COMMANDS[finding.severity]} {at}title={title}::{_data(message)}"


def _data(text: str) -> str:
    """`text` so that it stays one line of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """`text` so that it stays one property of a workflow command."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
