"""Audits as JSON and CSV: against the schema, and what they leave out."""

import csv
import io
import json
import math
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import ValidationError
from support.audit_reports import clean_audit, documented, measured, parameter, small_audit
from support.schemas import validate

from gptinit.facts.distributions import (
    Constant,
    Copy,
    Distribution,
    Fixed,
    Mixture,
    Normal,
    Orthogonal,
    Piecewise,
    Scaled,
    TruncatedNormal,
    Uniform,
    Unset,
)
from gptinit.report.csvdoc import audit_csv
from gptinit.report.github import audit_github
from gptinit.report.jsondoc import audit_document, render_json, rule_document
from gptinit.results.audit import ClosestScheme

_NORMAL = {"kind": "normal", "mean": 0.0, "std": 0.02}

LAWS: list[tuple[Distribution, dict[str, Any]]] = [
    (Normal(0.0, 0.02), _NORMAL),
    (
        # The variance of a uniform variable on [-3, 3) is 6^2 / 12.
        Uniform(-3.0, 3.0),
        {"kind": "uniform", "mean": 0.0, "std": 6 / math.sqrt(12), "low": -3.0, "high": 3.0},
    ),
    (Constant(2.0), {"kind": "constant", "mean": 2.0, "std": 0.0, "value": 2.0}),
    (
        TruncatedNormal(1.0, 0.0, 0.0, 2.0),
        {
            "kind": "truncated_normal",
            "mean": 1.0,
            "std": 0.0,
            "loc": 1.0,
            "scale": 0.0,
            "low": 0.0,
            "high": 2.0,
        },
    ),
    (
        # Row blocks of 0 and 2: mean 1, and every entry is 1 away from it.
        Piecewise(((2, Constant(0.0)), (2, Constant(2.0)))),
        {
            "kind": "piecewise",
            "mean": 1.0,
            "std": 1.0,
            "pieces": [
                {"rows": 2, "kind": "constant", "mean": 0.0, "std": 0.0, "value": 0.0},
                {"rows": 2, "kind": "constant", "mean": 2.0, "std": 0.0, "value": 2.0},
            ],
        },
    ),
    (
        Mixture(((4, Normal(0.0, 0.02)),)),
        {"kind": "mixture", "mean": 0.0, "std": 0.02, "parts": [{"entries": 4, **_NORMAL}]},
    ),
    (
        Orthogonal(2.0, 400),
        {"kind": "orthogonal", "mean": 0.0, "std": 0.1, "gain": 2.0, "longest": 400},
    ),
    (
        Fixed(0.5, 0.25, 0.0, 1.0),
        {"kind": "fixed", "mean": 0.5, "std": 0.25, "low": 0.0, "high": 1.0},
    ),
    (
        Copy("h.0.w", Normal(0.0, 0.02)),
        {"kind": "copy", "mean": 0.0, "std": 0.02, "of": "h.0.w", "source": _NORMAL},
    ),
    (
        Copy("h.0.w", Normal(0.0, 0.02), block=3),
        {"kind": "copy", "mean": 0.0, "std": 0.02, "of": "h.0.w[3]", "source": _NORMAL},
    ),
    (
        Scaled(Normal(0.0, 0.02), -0.5),
        {"kind": "scaled", "mean": -0.0, "std": 0.01, "base": _NORMAL, "factor": -0.5},
    ),
    (Unset(), {"kind": "unset"}),
]


@pytest.mark.parametrize(("law", "written"), LAWS, ids=[str(law) for law, _ in LAWS])
def test_every_distribution_is_written_with_its_fields(
    law: Distribution, written: dict[str, Any]
) -> None:
    document = audit_document(clean_audit(parameters=(parameter("w", law),)))

    assert document["parameters"][0]["distribution"] == written
    validate("audit", document)


def test_rows_that_nothing_wrote_are_told_among_those_that_something_did() -> None:
    law = Piecewise(((1, Unset()), (1, Normal(0.0, 0.02))))
    document = audit_document(clean_audit(parameters=(parameter("w", law),)))

    drawn = document["parameters"][0]["distribution"]
    assert drawn["pieces"] == [{"rows": 1, "kind": "unset"}, {"rows": 1, **_NORMAL}]
    assert "mean" not in drawn
    validate("audit", document)


def test_a_measured_distribution_carries_its_errors() -> None:
    document = audit_document(clean_audit(parameters=(parameter("w", measured(0.5, 0.125)),)))

    drawn = document["parameters"][0]["distribution"]
    assert (drawn["std"], drawn["std_stderr"], drawn["count"]) == (0.5, 0.125, 4096)
    validate("audit", document)


@pytest.mark.parametrize("audit", [small_audit(), clean_audit(), clean_audit(closest=None)])
def test_audits_are_what_their_schema_says(audit: Any) -> None:
    validate("audit", audit_document(audit))


def test_keys_stand_in_a_fixed_order() -> None:
    assert " ".join(audit_document(small_audit())) == (
        "schema_version gptinit torch model build claim closest_scheme parameters findings notes"
    )


def test_findings_stand_worst_first() -> None:
    findings = audit_document(small_audit())["findings"]

    assert [finding["severity"] for finding in findings] == ["error", "warning", "note"]


def test_a_parameter_leaves_out_what_is_not_known() -> None:
    document = audit_document(small_audit())
    embedding, weight = document["parameters"][:2]

    assert " ".join(embedding) == (
        "name shape role kind dtype distribution expected ratio provenance aliases"
    )
    assert embedding["aliases"] == ["lm_head.weight"]
    assert " ".join(weight) == (
        "name shape role layer kind dtype distribution expected ratio hint provenance"
    )
    assert weight["provenance"] == ["empty(64, 64)", "normal_(0, 0.02) at model.py:151"]


def test_a_norm_has_its_gain_and_a_ratio_that_is_not_finite_is_absent() -> None:
    norm = parameter("ln.weight", Constant(0.0), role="norm_weight", gain=1.0, ratio=math.nan)
    written = audit_document(clean_audit(parameters=(norm,)))["parameters"][0]

    assert written["gain"] == 1.0
    assert "ratio" not in written


def test_only_claim_and_closest_scheme_may_be_null() -> None:
    text = render_json(audit_document(clean_audit(claim=None, closest=None)))

    assert [line.strip() for line in text.splitlines() if "null" in line] == [
        '"claim": null,',
        '"closest_scheme": null,',
    ]


def test_the_closest_scheme_has_a_factor_and_a_cut_only_where_it_is_used_with_them() -> None:
    plain = ClosestScheme(name="plain", exact=True, differs=())
    varied = replace(plain, exact=False, factor=1.5, cut=3.0)
    found = [audit_document(clean_audit(closest=c)) for c in (plain, varied)]

    for document in found:
        validate("audit", document)
    known = {"name": "plain", "differs": [], "is_close": True}
    assert found[0]["closest_scheme"] == {**known, "exact": True}
    assert found[1]["closest_scheme"] == {**known, "exact": False, "factor": 1.5, "cut": 3.0}


def test_a_model_of_which_little_is_known_has_only_what_is_known() -> None:
    assert " ".join(audit_document(small_audit())["model"]) == (
        "name source n_layer n_embd bias tied n_params"
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("unheard",), 1),
        (("build",), "sideways"),
        (("claim",), 1),
        (("closest_scheme", "unheard"), 1),
        (("parameters", 0, "unheard"), 1),
        (("parameters", 0, "kind"), "module"),
        (("parameters", 0, "distribution", "kind"), "cauchy"),
        (("parameters", 0, "distribution", "std"), None),
        (("parameters", 0, "ratio"), None),
        (("findings", 0, "severity"), "fatal"),
    ],
)
def test_the_schema_refuses_what_is_not_in_the_contract(
    path: tuple[str | int, ...], value: Any
) -> None:
    document = json.loads(render_json(audit_document(small_audit())))
    part: Any = document
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value

    with pytest.raises(ValidationError):
        validate("audit", document)


def test_a_rule_is_written_with_all_its_texts() -> None:
    document = rule_document(documented())

    assert " ".join(document) == "schema_version gptinit rule"
    assert " ".join(document["rule"]) == "name severity title what why bug fix"
    assert document["rule"]["fix"] == "Scale it."


def test_csv_has_one_row_a_parameter_and_buffer() -> None:
    rows = list(csv.DictReader(io.StringIO(audit_csv(small_audit()))))

    assert [row["name"] for row in rows] == [a.program.name for a in small_audit().parameters]
    assert rows[0]["shape"] == "1000x64"
    assert (rows[1]["layer"], rows[1]["drawn_from"], rows[1]["std"]) == ("0", "N(0, 0.02)", "0.02")
    assert (rows[1]["expected_std"], rows[1]["ratio"]) == ("0.00816", "2.449")
    assert (rows[7]["kind"], rows[7]["std"], rows[7]["expected"]) == ("buffer", "nan", "")


def test_github_shows_findings_at_their_lines_worst_first() -> None:
    assert audit_github(small_audit()) == (
        "::error file=model.py,line=151,"
        "title=residual-scaling-missing%3A h.*.attn.c_proj.weight"
        "::Weights that write to the stream must be scaled, got N(0, 0.02): ratio 2.449. "
        "(drawn by empty(64, 64), then normal_(0, 0.02) at model.py:151)\n"
        "::warning title=uninitialised%3A h.*.attn.mask::Never written.\n"
        "::notice title=bias-nonzero%3A h.0.attn.c_proj.bias::Odd.\n"
        "model.py:GPT: 1 error, 1 warning, 1 note\n"
    )
