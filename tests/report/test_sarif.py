"""Audits as SARIF: what code scanning demands of the parts that are used."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from support.audit_reports import MISSING, clean_audit, documented, scaled, small_audit

from gptinit.facts.step import Step
from gptinit.report.jsondoc import render_json
from gptinit.report.sarif import audit_sarif
from gptinit.results.audit import Audit

RULES = {"residual-scaling-missing": documented()}

_TEXT: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "minLength": 1},
        "markdown": {"type": "string", "minLength": 1},
    },
    "required": ["text"],
    "additionalProperties": False,
}
_LEVEL = {"enum": ["none", "note", "warning", "error"]}
_NATURAL = {"type": "integer", "minimum": 0}


def _record(required: str, **properties: Any) -> dict[str, Any]:
    """An object of these properties and no others, the named ones required."""
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


_RULE = _record(
    "id",
    id={"type": "string", "minLength": 1},
    shortDescription=_TEXT,
    fullDescription=_TEXT,
    help=_TEXT,
    defaultConfiguration=_record("level", level=_LEVEL),
)
_PHYSICAL = _record(
    "artifactLocation",
    artifactLocation=_record("uri", uri={"type": "string", "pattern": r"^[^\s\\]+$"}),
    region=_record("startLine", startLine={"type": "integer", "minimum": 1}),
)
_LOCATION = _record(
    "logicalLocations",
    physicalLocation=_PHYSICAL,
    logicalLocations={
        "type": "array",
        "minItems": 1,
        "items": _record(
            "fullyQualifiedName", fullyQualifiedName={"type": "string"}, kind={"const": "member"}
        ),
    },
)
_RESULT = _record(
    "ruleId ruleIndex level message locations partialFingerprints",
    ruleId={"type": "string", "minLength": 1},
    ruleIndex=_NATURAL,
    level=_LEVEL,
    message=_TEXT,
    locations={"type": "array", "minItems": 1, "items": _LOCATION},
    partialFingerprints={
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    },
)
_DRIVER = _record(
    "name version informationUri rules",
    name={"const": "gptinit"},
    version={"type": "string", "minLength": 1},
    informationUri={"type": "string", "pattern": "^https://"},
    rules={"type": "array", "uniqueItems": True, "items": _RULE},
)
_INVOCATION = _record(
    "executionSuccessful",
    executionSuccessful={"type": "boolean"},
    toolExecutionNotifications={
        "type": "array",
        "items": _record("message", level=_LEVEL, message=_TEXT),
    },
)
_RUN = _record(
    "tool results",
    tool=_record("driver", driver=_DRIVER),
    automationDetails=_record("id", id={"type": "string", "minLength": 1}),
    invocations={"type": "array", "items": _INVOCATION},
    results={"type": "array", "items": _RESULT},
)
SCHEMA: dict[str, Any] = {
    **_record(
        "version runs",
        version={"const": "2.1.0"},
        runs={"type": "array", "minItems": 1, "items": _RUN},
    )
}
SCHEMA["properties"]["$schema"] = {"type": "string", "pattern": "sarif-schema-2\\.1\\.0\\.json$"}


def run_of(audit: Audit) -> dict[str, Any]:
    """The only run, once the document is what SARIF demands."""
    document = json.loads(render_json(audit_sarif(audit, RULES)))
    Draft202012Validator(SCHEMA).validate(document)
    (run,) = document["runs"]
    found: dict[str, Any] = run
    return found


def fingerprint_of(audit: Audit) -> str:
    """The fingerprint of the only result."""
    (result,) = run_of(audit)["results"]
    (value,) = result["partialFingerprints"].values()
    return str(value)


@pytest.mark.parametrize("audit", [small_audit(), clean_audit()], ids=["findings", "clean"])
def test_documents_are_what_sarif_demands(audit: Audit) -> None:
    assert len(run_of(audit)["results"]) == len(audit.findings)


def test_a_result_points_at_its_rule() -> None:
    run = run_of(small_audit())
    rules = run["tool"]["driver"]["rules"]

    assert [rules[r["ruleIndex"]]["id"] for r in run["results"]] == [
        r["ruleId"] for r in run["results"]
    ]
    assert [(r["ruleId"], r["level"]) for r in run["results"]] == [
        ("residual-scaling-missing", "error"),
        ("uninitialised", "warning"),
        ("bias-nonzero", "note"),
    ]


def test_a_rule_carries_its_documentation_and_an_unknown_one_only_its_name() -> None:
    rules = {rule["id"]: rule for rule in run_of(small_audit())["tool"]["driver"]["rules"]}

    known = rules["residual-scaling-missing"]
    assert known["shortDescription"] == {"text": "Not scaled | by depth"}
    assert known["defaultConfiguration"] == {"level": "error"}
    for told in ("The stream grows.", "huggingface/transformers#47458", "Scale it."):
        assert told in known["help"]["text"]
        assert told in known["help"]["markdown"]
    assert rules["uninitialised"] == {"id": "uninitialised"}


def test_a_result_stands_at_the_line_that_drew_it() -> None:
    missing, mask, _ = run_of(small_audit())["results"]

    (location,) = missing["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "model.py"},
        "region": {"startLine": 151},
    }
    assert location["logicalLocations"][0]["fullyQualifiedName"] == "h.*.attn.c_proj.weight"
    assert "physicalLocation" not in mask["locations"][0]


@pytest.mark.parametrize(
    ("file", "uri"),
    [
        ("model.py", "model.py"),
        ("my models/gpt#1.py", "my%20models/gpt%231.py"),
        ("/srv/a b/model.py", "file:///srv/a%20b/model.py"),
    ],
)
def test_files_are_written_as_references(file: str, uri: str) -> None:
    one = scaled(0)
    program = replace(one.program, provenance=(Step("normal_", (), file, 3),))
    audit = small_audit(parameters=(replace(one, program=program),), findings=(MISSING,))

    (result,) = run_of(audit)["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == uri


def test_a_message_tells_how_the_parameters_were_drawn() -> None:
    missing, *_ = run_of(small_audit())["results"]

    assert missing["message"]["text"] == (
        f"{MISSING.message} (drawn by empty(64, 64), then normal_(0, 0.02) at model.py:151)"
    )


def test_fingerprints_survive_other_lines_and_numbers_and_nothing_else() -> None:
    first = small_audit(findings=(MISSING,))
    moved = replace(
        first,
        parameters=(),
        findings=(replace(MISSING, fact="ratio 9.9", severity="warning"),),
    )
    others = [
        replace(first, findings=(replace(MISSING, where="h.*.mlp.c_proj.weight"),)),
        replace(first, findings=(replace(MISSING, rule="scaled-twice"),)),
        replace(first, model=replace(first.model, name="other.py:GPT")),
    ]

    assert fingerprint_of(moved) == fingerprint_of(first)
    assert len({fingerprint_of(audit) for audit in (first, *others)}) == 4


def test_notes_are_what_the_tool_says_of_its_run() -> None:
    (invocation,) = run_of(small_audit())["invocations"]

    (told,) = invocation["toolExecutionNotifications"]
    assert told["message"]["text"] == "approximate at roles: Read from | names."
    quiet = run_of(small_audit(notes=()))["invocations"]
    assert quiet == [{"executionSuccessful": True}]


def test_equal_audits_give_equal_bytes() -> None:
    first, second = (render_json(audit_sarif(small_audit(), RULES)) for _ in range(2))

    assert first == second
