"""A check as GitHub workflow commands: annotations in the summary of a run."""

from gptinit.gate import CheckReport
from gptinit.profile import Finding
from gptinit.report.headlines import bounds_held

__all__ = ["check_github"]

_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


def check_github(report: CheckReport) -> str:
    """One annotation a finding, and a last line that says how many bounds hold.

    Args:
        report: what a check found.

    References:
        https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands; the
        escapes are those of actions/toolkit, packages/core/src/command.ts.
    """
    lines = [_annotation(finding) for finding in report.findings]
    return "\n".join([*lines, bounds_held(report)]) + "\n"


def _annotation(finding: Finding) -> str:
    """One finding as a workflow command."""
    title = _property(f"{finding.rule}: {finding.where}")
    return f"::{_COMMANDS[finding.severity]} title={title}::{_data(finding.message)}"


def _data(text: str) -> str:
    """`text` so that it stays one line of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """`text` so that it stays one property of a workflow command."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
