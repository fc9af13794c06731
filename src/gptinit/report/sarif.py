"""An audit as SARIF 2.1.0, which code scanning shows next to the lines of the code."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from gptinit.report.origins import message_of, place_of
from gptinit.results.audit import Audit
from gptinit.results.profile import Finding, Note, worst_first
from gptinit.results.rule import Rule
from gptinit.version import __version__

__all__ = ["SARIF_SCHEMA", "audit_sarif"]

SARIF_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
"""The schema that a SARIF file names."""

_HOME = "https://github.com/gptinit/gptinit"

Part = dict[str, Any]
"""A part of the document."""


def audit_sarif(audit: Audit, rules: Mapping[str, Rule]) -> Part:
    """An audit as one run of SARIF; `render_json` makes it a text.

    A result stands at the line that drew its parameters where that is known, and always at the
    name or pattern of the parameters. Its fingerprint is made of model, rule and pattern alone,
    so that a finding stays the same when lines move or numbers change.

    Args:
        audit: the result of an audit.
        rules: the documentation of every rule by its name; a rule without any is only named.

    References:
        OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0", sections 3.13
        (log), 3.14 (run), 3.27 (result), 3.49 (reporting descriptor).
    """
    findings = worst_first(audit.findings)
    known = [*rules, *(finding.rule for finding in findings)]
    indices = {name: i for i, name in enumerate(dict.fromkeys(known))}
    driver = {
        "name": "gptinit",
        "version": __version__,
        "informationUri": _HOME,
        "rules": [_rule(name, rules.get(name)) for name in indices],
    }
    run = {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"gptinit audit/{audit.model.name}/"},
        "invocations": [_invocation(audit.notes)],
        "results": [_result(finding, audit, indices) for finding in findings],
    }
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(name: str, rule: Rule | None) -> Part:
    if rule is None:
        return {"id": name}
    chapters = list(rule.chapters())
    plain = "\n\n".join(f"{heading}: {words.strip()}" for heading, words in chapters)
    marked = "\n\n".join(f"**{heading}.** {words.strip()}" for heading, words in chapters)
    return {
        "id": name,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.what.strip()},
        "help": {"text": plain, "markdown": marked},
        "defaultConfiguration": {"level": rule.severity},
    }


def _invocation(notes: Iterable[Note]) -> Part:
    remarks = [
        {"level": "note", "message": {"text": f"{note.kind} at {note.where}: {note.message}"}}
        for note in notes
    ]
    invocation: Part = {"executionSuccessful": True}
    return invocation | ({"toolExecutionNotifications": remarks} if remarks else {})


def _result(finding: Finding, audit: Audit, indices: Mapping[str, int]) -> Part:
    return {
        "ruleId": finding.rule,
        "ruleIndex": indices[finding.rule],
        "level": finding.severity,
        "message": {"text": message_of(finding, audit)},
        "locations": [_location(finding, audit)],
        "partialFingerprints": {"gptinitFinding/v1": _fingerprint(finding, audit)},
    }


def _location(finding: Finding, audit: Audit) -> Part:
    logical = [{"fullyQualifiedName": finding.where, "kind": "member"}]
    place = place_of(finding, audit)
    if place is None:
        return {"logicalLocations": logical}
    physical = {"artifactLocation": {"uri": _uri(place.file)}, "region": {"startLine": place.line}}
    return {"physicalLocation": physical, "logicalLocations": logical}


def _uri(file: str) -> str:
    """A file as a reference that a URI parser reads: relative paths stay relative."""
    path = PurePath(file)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix())


def _fingerprint(finding: Finding, audit: Audit) -> str:
    """A hash that stays the same for the same finding in another run."""
    parts = (audit.model.name, finding.rule, finding.where)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
