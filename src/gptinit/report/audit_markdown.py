"""An audit, and the documentation of its rules, as GitHub Markdown."""

from gptinit.report.audit_rows import Row, rows_of
from gptinit.report.audit_words import (
    closest_words,
    expected_words,
    explain_hint,
    how_read,
    shape_words,
    verdict_of,
)
from gptinit.report.mdtext import bullets, code, document, section, table, text
from gptinit.report.numbers import ROUNDING
from gptinit.report.origins import origin_of
from gptinit.results.audit import Audit
from gptinit.results.changes import init_changes
from gptinit.results.profile import Finding, worst_first
from gptinit.results.rule import Rule

__all__ = ["audit_markdown", "rule_markdown"]

_WORDS = ("role", "layers", "parameter", "drawn from", "expected", "what the ratio means")


def audit_markdown(audit: Audit, *, all_parameters: bool = False, buffers: bool = False) -> str:
    """An audit: verdict, closest scheme, findings, one row per role and distribution, notes.

    Arguments are those of `AuditLayout`.
    """
    rows = rows_of(audit, each=all_parameters, buffers=buffers)
    notes = [f"{note.kind} at {text(note.where)}: {text(note.message)}" for note in audit.notes]
    findings = worst_first(audit.findings)
    return document(
        f"# {text(audit.model.name)}: {verdict_of(audit)}",
        bullets(_facts(audit)),
        section("Findings", [_finding(finding, audit) for finding in findings]),
        text(explain_hint(findings)),
        "## Parameters" if rows else "",
        _how_to_read(audit) if rows else "",
        _parameter_table(rows),
        *_changes(audit),
        section("Notes", notes),
    )


def rule_markdown(rule: Rule) -> str:
    """The documentation of a rule; its texts are Markdown already, or plain."""
    chapters = (part for h, words in rule.chapters() for part in (f"## {h}", words.strip()))
    title = f"# {code(rule.name)}: {text(rule.title)}"
    return document(title, f"Severity: {text(rule.severity)}.", *chapters)


def _facts(audit: Audit) -> list[str]:
    return [
        f"model: {shape_words(audit)}",
        *([f"source: {text(audit.model.source)}"] if audit.model.source else []),
        f"read: {text(how_read(audit))}",
        *([f"claimed scheme: {code(audit.claim)}"] if audit.claim is not None else []),
        f"closest known scheme: {text(closest_words(audit.closest))}",
    ]


def _how_to_read(audit: Audit) -> str:
    scheme = expected_words(audit)
    by = f" Expected: under {text(scheme)}." if scheme else ""
    return f"{ROUNDING}{by} Ratio: actual RMS / expected RMS."


def _finding(finding: Finding, audit: Audit) -> str:
    origin = origin_of(finding, audit)
    where = f"{code(finding.rule)} at {code(finding.where)}"
    sentence = f"**{text(finding.severity)}** {where}: {text(finding.message)}"
    return f"{sentence} ({text(origin)})" if origin else sentence


def _parameter_table(rows: list[Row]) -> str:
    header = ["role", "tensors", "layers", "parameter", "drawn from", "std", "expected", "ratio"]
    hints = any(row.hint for row in rows)
    cells = [_cells(row)[: len(header) + hints] for row in rows]
    return table([*header, *(["what the ratio means"] if hints else [])], cells, words=_WORDS)


def _changes(audit: Audit) -> list[str]:
    """What the init that ran after the constructor changed, role by role."""
    init = audit.model.init
    changes = init_changes(tuple(audited.program for audited in audit.parameters))
    if init is None or not changes:
        return []
    header = ["role", "tensors", "as constructed", f"after {code(init.call)}"]
    cells = [[c.role, str(c.count), text(c.before), text(c.after)] for c in changes]
    return ["## What the init changed", table(header, cells, words=header)]


def _cells(row: Row) -> list[str]:
    names = ", ".join(code(name) for name in row.names.split(", "))
    words = (row.drawn, row.std, row.expected, row.ratio, row.hint)
    return [row.role, str(row.count), row.layers, names, *(text(word) for word in words)]
