"""An audit from a program: tables, ratios, hints, order and causes."""

import math
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import pytest
from support.programs import D, L, V, every, gpt2, llama, plain, redrawn, vector, with_padding

from gptinit.audit_rules import RULES
from gptinit.audit_rules.matching import expectations
from gptinit.auditing.program import _without_effects, audit_program, findings_of
from gptinit.facts.apply_scheme import apply_scheme
from gptinit.facts.distributions import Constant, Normal, TruncatedNormal, Unset
from gptinit.facts.schemes import Scheme, get_scheme
from gptinit.facts.step import Step
from gptinit.results.profile import Finding, Note
from gptinit.results.program import Draw, ModelProgram


def test_every_parameter_and_buffer_stands_beside_the_closest_scheme() -> None:
    buffer = replace(vector("mask", "other", Unset(), None, 4), kind="buffer")
    program = replace(gpt2(), buffers=(buffer,))

    audit = audit_program(program, torch="2.13.0")

    assert [p.program.name for p in audit.parameters] == [
        *(p.name for p in program.parameters),
        "mask",
    ]
    table = {p.program.name: p for p in audit.parameters}
    row = table["transformer.h.3.attn.c_proj.weight"]
    assert row.expected == Normal(0.0, 0.02 / math.sqrt(2 * L))
    assert row.ratio == pytest.approx(1.0, rel=1e-12)
    assert row.hint is None
    assert table["mask"].expected is None
    assert audit.closest is not None
    assert (audit.closest.name, audit.closest.exact) == ("nanogpt", True)
    assert (audit.torch, audit.build, audit.claim) == ("2.13.0", "own", None)


def test_a_claim_comes_before_the_closest_scheme() -> None:
    audit = audit_program(
        gpt2(plain), torch="2.13.0", claim=expectations(get_scheme("gpt2"), gpt2(plain))
    )

    table = {p.program.name: p for p in audit.parameters}
    row = table["transformer.h.0.mlp.c_proj.weight"]
    assert row.ratio == pytest.approx(math.sqrt(2 * L), rel=1e-12)
    assert row.hint == "sqrt(2 n_layer): residual scaling missing"
    assert audit.claim == "nanogpt"
    assert audit.closest is not None
    assert audit.closest.name == "plain"
    assert [f.severity for f in audit.findings] == ["error", "error"]


def test_a_cut_at_three_sigma_is_hinted_at_and_is_a_warning_only() -> None:
    program = redrawn(llama(), "q_proj.weight", TruncatedNormal(0.0, 0.02, -0.06, 0.06))
    audit = audit_program(program, torch="2.13.0", claim=expectations(get_scheme("plain"), program))

    (row,) = {p.hint for p in audit.parameters if p.program.role == "q"}
    assert row == "0.9866: cut at 3 sigma without correction, not a fault"
    assert [(f.rule, f.severity) for f in audit.findings] == [("wrong-distribution", "warning")]
    assert not [f for f in findings_of(program) if f.severity != "note"]


def test_a_constant_has_a_ratio_and_no_hint() -> None:
    doubled = every(
        llama(),
        lambda p: p.role == "norm_weight",
        lambda p: replace(p, distribution=Constant(2.0), gain=2.0),
    )
    audit = audit_program(doubled, torch="2.13.0")

    rows = [p for p in audit.parameters if p.program.role == "norm_weight"]
    assert {(p.ratio, p.hint) for p in rows} == {(2.0, None)}


def test_a_padding_row_does_not_change_the_ratio() -> None:
    audit = audit_program(with_padding(llama(), V // 2), torch="2.13.0")

    (row,) = [p for p in audit.parameters if p.program.role == "tok_emb"]
    assert row.ratio == pytest.approx(1.0, rel=1e-12)


def test_unset_memory_has_no_ratio() -> None:
    audit = audit_program(redrawn(llama(), "q_proj.weight", Unset()), torch="2.13.0")

    assert {p.ratio for p in audit.parameters if p.program.role == "q"} == {None}


def test_findings_come_worst_first_with_those_from_elsewhere() -> None:
    program = redrawn(llama(), "lm_head.weight", Normal(0.0, 4 / math.sqrt(D)))
    extra = [
        Finding(rule="setting-ignored", severity="note", where="initializer_range", fact="."),
        Finding(rule="build-mismatch", severity="error", where="lm_head.weight", fact="."),
    ]
    notes = [Note(kind="engine", where="q", message=".")]

    audit = audit_program(program, torch="2.13.0", extra=extra, notes=notes)

    assert [(f.rule, f.severity) for f in audit.findings] == [
        ("build-mismatch", "error"),
        ("logit-scale", "warning"),
        ("setting-ignored", "note"),
    ]
    assert audit.notes == tuple(notes)


def test_one_cause_is_one_finding() -> None:
    # A tied tensor of std 1 has wide logits as well: only the cause is told.
    found = findings_of(redrawn(gpt2(), "wte.weight", Normal(0.0, 1.0)))

    assert [f.rule for f in found] == ["tied-role-std-conflict"]


def test_a_finding_can_be_accepted_by_its_place() -> None:
    (first, second) = findings_of(replace(gpt2(plain), architecture="gpt2"))

    names = [p.name for p in gpt2().parameters]
    assert [n for n in names if fnmatchcase(n, first.where)] == [
        f"transformer.h.{i}.attn.c_proj.weight" for i in range(L)
    ]
    assert [n for n in names if fnmatchcase(n, second.where)] == [
        f"transformer.h.{i}.mlp.c_proj.weight" for i in range(L)
    ]


def test_what_a_claim_expects_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    program, applied = gpt2(), []

    def counted(scheme: Scheme, parameters: Any, *args: Any, **more: Any) -> Any:
        applied.append((scheme.slug, len(parameters)))
        return apply_scheme(scheme, parameters, *args, **more)

    monkeypatch.setattr("gptinit.audit_rules.matching.apply_scheme", counted)
    audit_program(program, torch="2", claim=expectations(get_scheme("plain"), program))

    whole = [slug for slug, count in applied if count == len(program.parameters)]
    assert whole == ["plain"]


@pytest.mark.parametrize(
    ("end", "others"),
    [
        ("c_proj.weight", []),
        ("attn.c_proj.weight", ["transformer.h.*.mlp.c_proj.weight"]),
    ],
    ids=["all of its parameters", "some of its parameters"],
)
def test_a_cause_silences_what_it_explains_in_every_layer_and_nothing_else(
    end: str, others: list[str]
) -> None:
    special = Draw(
        distribution=Normal(0.0, 0.02 / math.sqrt(2 * L)),
        step=Step("normal_", (0, 0.0041), "model.py", 12),
    )
    general = Draw(distribution=Normal(0.0, 0.02), step=Step("normal_", (0, 0.02), "model.py", 30))
    program = every(
        gpt2(plain),
        lambda p: p.name.endswith(end),
        lambda p: replace(p, history=(special, general)),
    )

    found = findings_of(program)

    assert {f.rule for f in found} >= {"special-init-overwritten"}
    assert [f.where for f in found if f.rule == "residual-scaling-missing"] == others


def test_a_norm_is_judged_by_its_gain_where_that_is_known() -> None:
    program = redrawn(llama(), "layers.0.input_layernorm.weight", Constant(3.0))
    known = every(
        program,
        lambda p: p.name.endswith("layers.0.input_layernorm.weight"),
        lambda p: replace(p, gain=1.5),
    )
    unknown = every(
        program,
        lambda p: p.name.endswith("layers.0.input_layernorm.weight"),
        lambda p: replace(p, gain=None),
    )

    def ratio(made: ModelProgram) -> float | None:
        audit = audit_program(made, torch="2.13.0", claim=expectations(get_scheme("plain"), made))
        (row,) = (
            p for p in audit.parameters if p.program.name.endswith(".0.input_layernorm.weight")
        )
        assert row.hint is None  # a constant has no spread to hint at
        return row.ratio

    assert ratio(known) == 1.5
    assert ratio(unknown) == pytest.approx(3.0)


def test_a_finding_hides_its_effects_alone() -> None:
    # On the same parameters, or on some of them; a place that names none is not explained.
    program = llama(n_layer=2)
    cause = next(r for r in RULES.values() if r.silenced_by)
    by = cause.silenced_by[0]

    def kept(places: tuple[str, ...], effect: tuple[str, ...]) -> int:
        found = [
            Finding(rule=by, severity="error", where=places[0], also=places[1:], fact="A."),
            Finding(rule=cause.name, severity="error", where=effect[0], also=effect[1:], fact="B."),
        ]
        return len(_without_effects(found, program))

    q = "model.layers.*.self_attn.q_proj.weight"
    k = "model.layers.*.self_attn.k_proj.weight"
    assert kept((q,), (q,)) == 1
    assert kept((q, k), (q,)) == 1
    assert kept((q,), (q, k)) == 2
    assert kept((q,), (k,)) == 2
    assert kept((q,), ("of no parameter",)) == 2
