"""What a person sees of an audit: rows by role, findings worst first, at every width."""

import io
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console, RenderableType
from support.audit_reports import (
    MISSING,
    STEP,
    UNSET,
    clean_audit,
    documented,
    measured,
    parameter,
    scaled,
    small_audit,
)

from gptinit.facts.distributions import Constant, Normal, TruncatedNormal
from gptinit.facts.step import Step
from gptinit.facts.vocabulary import Severity
from gptinit.report.audit_rows import Row, pattern_of, rows_of, shown_parameters
from gptinit.report.audit_terminal import AuditLayout, _columns, _verdict, audit_view, rule_view
from gptinit.report.audit_words import closest_words, explain_hint, how_read, verdict_of
from gptinit.report.origins import is_about, origin_of, place_of
from gptinit.report.terminal import SEVERITY_STYLE
from gptinit.results.audit import Audit, ClosestScheme
from gptinit.results.profile import Finding, Note


def shown(made: RenderableType, width: int = 120) -> str:
    text = io.StringIO()
    Console(file=text, width=width, highlight=False).print(made)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def audit_text(audit: Audit, width: int = 120, *, all_parameters: bool = False) -> str:
    layout = AuditLayout(width=width, all_parameters=all_parameters)
    return shown(audit_view(audit, layout), width)


def row_of(audit: Audit, role: str) -> Row:
    """The only row of a role."""
    (row,) = [row for row in rows_of(audit) if row.role == role]
    return row


def test_a_small_audit_is_told_in_full() -> None:
    # Ratio 2.449 is sqrt(2 * 3): three layers.
    assert audit_text(small_audit()) == (
        "model.py:GPT · 124.4 M parameters · 3 layers x 64\n"
        "model.py\n"
        "built by its constructor · 11 tensors traced with torch 2.13.0\n"
        "\n"
        "verdict: 1 error, 1 warning, 1 note\n"
        "closest known scheme: nanogpt, except attn_out\n"
        "Read from | names.\n"
        "\n"
        "   role         tensors  layers  parameter               drawn from        std  "
        "expected       ratio\n"
        "   tok_emb            1          wte.weight              N(0, 0.02)     0.0200  "
        "N(0, 0.02)      1.00\n"
        "✗  attn_out           3  0-2     h.*.attn.c_proj.weight  N(0, 0.02)     0.0200  "
        "N(0, 0.00816)   2.45\n"
        "·  linear_bias        3  0-2     h.*.attn.c_proj.bias    0                   0\n"
        "!  other              3  0-2     h.*.attn.mask           never written\n"
        "expected: under nanogpt; ratio: actual RMS / expected RMS. --all-parameters shows each.\n"
        "\n"
        "attn_out ratio 2.45: sqrt(2 n_layer): residual scaling missing\n"
        "\n"
        "error: residual-scaling-missing\n"
        "  h.*.attn.c_proj.weight\n"
        "  Weights that write to the stream must be scaled, got N(0, 0.02): ratio 2.449.\n"
        "  drawn by empty(64, 64), then normal_(0, 0.02) at model.py:151\n"
        "\n"
        "warning: uninitialised\n"
        "  h.*.attn.mask\n"
        "  Never written.\n"
        "\n"
        "note: bias-nonzero\n"
        "  h.0.attn.c_proj.bias\n"
        "  Odd.\n"
        "\n"
        "gptinit audit --explain RULE explains a rule and how to fix it.\n"
    )


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_lost(width: int) -> None:
    names = {i: f"transformer.decoder.blocks.{i}.self_attention.output" for i in range(3)}
    long = small_audit(
        parameters=tuple(
            replace(a, program=replace(a.program, name=f"{names[i]}.c_proj.weight"))
            for i, a in ((i, scaled(i)) for i in range(3))
        )
    )
    text = audit_text(long, width)

    assert max(map(len, text.splitlines())) <= width
    (row,) = [line for line in text.splitlines() if "N(0, 0.02) " in line]
    assert row.endswith("N(0, 0.00816)   2.45")
    assert "c_proj.weight " in row


def test_a_narrow_table_leaves_out_counts_and_then_standard_deviations() -> None:
    wide, narrow = audit_text(small_audit(), 120), audit_text(small_audit(), 76)

    assert re.search(r"role +tensors .* std ", wide)
    assert "tensors  " not in narrow
    assert re.search(r"^✗ +attn_out +0-2 .*N\(0, 0.00816\) +2.45$", narrow, re.MULTILINE)


def test_the_narrowest_table_keeps_its_headings_whole() -> None:
    text = audit_text(small_audit(), 60)

    (heading,) = [line for line in text.splitlines() if "role" in line and "ratio" in line]
    assert heading.split() == ["role", "parameter", "drawn", "from", "expected", "ratio"]
    assert max(map(len, text.splitlines())) <= 60


def test_a_distribution_wraps_only_where_there_is_no_room() -> None:
    cut = TruncatedNormal(0.0, 0.1768, -0.5303, 0.5303)
    audit = small_audit(parameters=tuple(scaled(i, cut) for i in range(3)))

    assert f" {cut} " in audit_text(audit, 120)
    assert f" {cut} " not in audit_text(audit, 60)


def test_nothing_is_expected_where_no_scheme_is_close() -> None:
    far = ClosestScheme(name="plain", exact=False, differs=("q",), is_close=False)
    bare = tuple(replace(a, expected=None, ratio=None, hint=None) for a in small_audit().parameters)
    text = audit_text(small_audit(closest=far, parameters=bare))

    assert "closest known scheme: none is close\n" in text
    assert "expected" not in text.partition("verdict")[2].partition("--all-parameters")[0]


def test_a_note_that_a_finding_repeats_is_told_once() -> None:
    note = Note(kind="approximate", where="roles", message="Roles are read from names: a reason.")
    finding = replace(MISSING, rule="forward-not-followed", where="*", fact=note.message)

    assert audit_text(small_audit(notes=(note,), findings=(finding,))).count("a reason") == 1
    assert audit_text(small_audit(notes=(note,), findings=())).count("a reason") == 1


def test_a_ratio_that_a_finding_explains_is_explained_once() -> None:
    hint = "sqrt(2 n_layer): residual scaling missing"
    rows = tuple(replace(scaled(i), hint=hint) for i in range(3))

    finding = replace(MISSING, fact="Must be scaled, got ratio 2.449 = sqrt(2 n_layer).")

    assert hint not in audit_text(small_audit(parameters=rows, findings=(finding,)))
    assert hint in audit_text(small_audit(parameters=rows, findings=()))


def test_names_that_do_not_fit_keep_their_end() -> None:
    audit = small_audit(parameters=tuple(scaled(i) for i in range(3)))

    assert re.search(r" …\S*c_proj.weight ", audit_text(audit, 64))


def test_a_clean_audit_says_so() -> None:
    text = audit_text(clean_audit())

    assert (
        "verdict: clean\nclaimed scheme: nanogpt\nclosest known scheme: nanogpt (exact)\n" in text
    )
    assert text.endswith("No findings.\n")
    assert "--explain" not in text


def test_all_parameters_have_a_row_each_in_the_order_of_the_model() -> None:
    rows = rows_of(small_audit(), each=True)

    # 1 embedding, 3 weights, 3 biases and the 3 masks that a finding is about.
    assert [row.count for row in rows] == [1] * 10
    assert [row.names for row in rows[:3]] == [
        "wte.weight",
        "h.0.attn.c_proj.weight",
        "h.1.attn.c_proj.weight",
    ]
    text = audit_text(small_audit(), all_parameters=True)
    assert "h.2.attn.c_proj.bias" in text
    assert "--all-parameters" not in text


def test_a_buffer_is_shown_where_a_finding_is_about_it_or_on_demand() -> None:
    names = [a.program.name for a in shown_parameters(small_audit())]
    healthy = [a.program.name for a in shown_parameters(clean_audit())]
    everything = shown_parameters(clean_audit(), buffers=True)

    assert "h.0.attn.mask" in names
    assert "angles" not in names
    assert not any("mask" in name for name in healthy)
    assert len(everything) == len(clean_audit().parameters)


def test_layers_that_are_drawn_otherwise_are_a_row_of_their_own() -> None:
    laws = [Normal(0.0, 0.02), Normal(0.0, 0.04), Normal(0.0, 0.02)]
    audit = clean_audit(parameters=tuple(scaled(i, law) for i, law in enumerate(laws)))

    assert [(row.layers, row.count, row.drawn) for row in rows_of(audit)] == [
        ("0, 2", 2, "N(0, 0.02)"),
        ("1", 1, "N(0, 0.04)"),
    ]


def test_a_scheme_that_depends_on_the_layer_is_one_row_with_its_range() -> None:
    laws = [Normal(0.0, 0.08 / 2**i) for i in range(4)]
    audit = clean_audit(
        parameters=tuple(
            parameter(f"h.{i}.w", law, role="q", expected=law, ratio=1.0)
            for i, law in enumerate(laws)
        )
    )
    row = row_of(audit, "q")

    assert (row.layers, row.drawn) == ("0-3", "N(0, 0.08) to N(0, 0.01)")
    assert row.expected == "N(0, 0.08) to N(0, 0.01)"
    assert (row.std, row.ratio) == ("0.0100 to 0.0800", "1.00")


def test_one_bad_layer_of_a_scheme_by_layers_is_not_hidden_in_the_range() -> None:
    laws = [Normal(0.0, 0.08 / 2**i) for i in range(5)]
    audit = clean_audit(
        parameters=tuple(
            parameter(f"h.{i}.w", law, role="q", expected=law, ratio=2.0 if i == 3 else 1.0)
            for i, law in enumerate(laws)
        )
    )

    assert [(row.layers, row.ratio) for row in rows_of(audit)] == [
        ("0-2, 4", "1.00"),
        ("3", "2.00"),
    ]


@pytest.mark.parametrize(("gap", "rows"), [(4.9, 1), (5.1, 2)])
def test_measured_layers_share_a_row_within_five_standard_errors(gap: float, rows: int) -> None:
    # The difference of two independent stds has a standard error of sqrt(2) times either's.
    stderr = 0.0002
    other = 0.02 + gap * stderr * 2**0.5
    pair = (measured(0.02, stderr), measured(other, stderr))
    audit = clean_audit(
        parameters=tuple(parameter(f"h.{i}.w", law, role="q") for i, law in enumerate(pair))
    )

    assert len(rows_of(audit)) == rows


def test_many_scattered_layers_are_counted() -> None:
    audit = clean_audit(
        parameters=tuple(parameter(f"h.{i}.w", Constant(0.0), role="q") for i in range(0, 24, 2))
    )

    assert row_of(audit, "q").layers == "12 layers"


def test_roles_stand_in_their_order_and_unknown_ones_last() -> None:
    audit = clean_audit(
        parameters=(
            parameter("z", Constant(0.0)),
            parameter("b", Constant(0.0), role="linear_bias"),
            parameter("w", Constant(0.0), role="tok_emb"),
        )
    )

    assert [row.role for row in rows_of(audit)] == ["tok_emb", "linear_bias", "other"]


def test_names_with_nothing_in_common_are_listed_and_others_joined() -> None:
    audit = clean_audit(
        parameters=(
            *(parameter(f"h.{i}.ln_{n}.w", Constant(1.0)) for i in range(2) for n in (1, 2)),
            parameter("ln_f.w", Constant(1.0)),
        )
    )

    assert row_of(audit, "other").names == "h.*.*.w, ln_f.w"


def test_only_the_layer_becomes_a_wildcard() -> None:
    audited = parameter("h.3.mlp.0.weight", Constant(0.0), layer=3)

    assert pattern_of(audited) == "h.*.mlp.0.weight"


def test_markup_in_names_and_messages_is_shown_as_it_is() -> None:
    finding = replace(MISSING, fact="[bold]x[/bold]", where="[red]")
    audit = small_audit(
        claim="[mine]",
        findings=(finding,),
        parameters=(parameter("a.[dim].w", Normal(0.0, 0.02), role="q"),),
    )
    text = audit_text(audit)

    for told in ("[bold]x[/bold]", "[red]", "[mine]", "a.[dim].w"):
        assert told in text


def test_an_audit_without_parameters_has_no_table() -> None:
    text = audit_text(clean_audit(parameters=()))

    assert "drawn from" not in text
    assert "0 tensors" in text


def test_verdicts_count_each_severity_worst_first() -> None:
    assert verdict_of(small_audit()) == "1 error, 1 warning, 1 note"
    assert verdict_of(small_audit(findings=(MISSING, MISSING))) == "2 errors"
    assert verdict_of(small_audit(findings=(replace(UNSET, severity="note"),))) == "clean, 1 note"
    assert verdict_of(clean_audit()) == "clean"


def test_the_closest_scheme_is_told_with_what_differs() -> None:
    def words(**fields: object) -> str:
        scheme = ClosestScheme(name="plain", exact=False, differs=())
        return closest_words(replace(scheme, **fields))  # type: ignore[arg-type] # fields vary

    assert words(exact=True) == "plain (exact)"
    assert words(differs=("q", "mlp_down")) == "plain, except q, mlp_down"
    assert words(factor=1.5, differs=("q",)) == "plain with 1.5 times its stds, except q"
    assert words(cut=3.0) == "plain truncated at 3 std"
    assert words(factor=0.5, cut=2.0) == "plain with 0.5 times its stds, truncated at 2 std"
    assert words(differs=("q",), is_close=False) == "none is close"
    assert closest_words(None) == "none"


@pytest.mark.parametrize(
    ("build", "told"),
    [
        ("own", "built by its constructor"),
        ("meta", "built on meta, then filled"),
        ("both", "built by its constructor, and on meta, then filled"),
        ("live", "already built"),
    ],
)
def test_every_way_to_build_has_its_words(build: str, told: str) -> None:
    assert how_read(clean_audit(build=build)).startswith(f"{told} · ")


def test_a_model_that_a_function_builds_is_not_built_by_its_constructor() -> None:
    found = how_read(clean_audit(build="both", builder="build()"))

    assert found.startswith("built by build(), and on meta, then filled · ")


def test_what_was_measured_is_not_called_traced() -> None:
    one = parameter("w", measured(0.02, 0.001))
    two = (one, parameter("v", Constant(0.0)))

    assert how_read(clean_audit(parameters=(one,))).endswith("1 tensor measured with torch 2.13.0")
    assert how_read(clean_audit(parameters=two)).endswith(
        "2 tensors traced with torch 2.13.0, 1 of them measured"
    )


def test_the_hint_names_a_single_rule() -> None:
    assert explain_hint([MISSING, MISSING]).startswith(
        "gptinit audit --explain residual-scaling-missing "
    )
    assert explain_hint([]) == ""


@pytest.mark.parametrize(
    ("where", "about"),
    [
        ("wte.weight", True),
        ("lm_head.weight", True),
        ("*.weight", True),
        ("wte", False),
        ("*.*.weight", False),
    ],
)
def test_a_finding_is_about_names_aliases_and_patterns(where: str, about: bool) -> None:
    embedding = small_audit().parameters[0].program

    assert is_about(replace(MISSING, where=where), embedding) is about


def test_a_wildcard_stands_for_one_part_of_a_name() -> None:
    deep = parameter("h.0.attn.c_proj.weight", Constant(0.0)).program

    assert is_about(replace(MISSING, where="h.*.attn.*.weight"), deep)
    assert not is_about(replace(MISSING, where="h.*.weight"), deep)


def test_ways_to_be_drawn_are_counted_where_they_differ() -> None:
    first, second = scaled(0), scaled(1)
    other = replace(second, program=replace(second.program, provenance=(Step("zeros", (64, 64)),)))
    unknown = replace(second, program=replace(second.program, provenance=()))

    def told(*parameters: object) -> str:
        return origin_of(MISSING, small_audit(parameters=parameters))

    way = f"drawn by empty(64, 64), then {STEP}"
    assert told(first, second) == way
    assert told(first, other) == f"{way} (and in 1 other way)"
    assert told(first, unknown) == way
    assert told(unknown) == ""


@pytest.mark.parametrize(
    ("step", "place"),
    [
        (Step("normal_", (0, 0.02), "model.py", 151), ("model.py", 151)),
        (Step("fill_", (0,), "my models/a b.py", 7), ("my models/a b.py", 7)),
        (Step("fill_", (0,), "/x/m.py", 7), ("/x/m.py", 7)),
        (Step("fill_", (0,), "model.py"), None),
        (Step("fill_", (0,)), None),
    ],
)
def test_the_place_of_a_finding_is_that_of_its_last_step(
    step: Step, place: tuple[str, int] | None
) -> None:
    one = scaled(0)
    program = replace(one.program, provenance=(Step("empty", (1,)), step))
    audit = small_audit(parameters=(replace(one, program=program),))

    found = place_of(MISSING, audit)
    assert (found and (found.file, found.line)) == place


def test_a_rule_is_told_in_chapters() -> None:
    assert shown(rule_view(documented(bug="")), 80) == (
        "residual-scaling-missing (error): Not scaled | by depth\n"
        "\n"
        "What it is\n"
        "  The std is that of the others.\n"
        "\n"
        "Why it hurts\n"
        "  The stream grows.\n"
        "\n"
        "How to fix it\n"
        "  Scale it.\n"
    )


@pytest.mark.parametrize(
    ("severities", "style"),
    [((), "green"), (("note",), "green"), (("note", "warning"), "warning"), (("error",), "error")],
)
def test_a_verdict_has_the_style_of_the_worst_finding_above_a_note(
    severities: tuple[Severity, ...], style: str
) -> None:
    found = tuple(Finding(rule="x", severity=s, where="*", fact="Odd.") for s in severities)

    verdict = _verdict(clean_audit(findings=found))

    assert verdict.spans[-1].style == SEVERITY_STYLE.get(style, style)


def test_a_column_that_is_empty_in_every_row_is_left_out() -> None:
    empty = dict.fromkeys(("severity", "role", "layers", "names", "std", "expected", "ratio"), "")
    rows: list[Any] = [
        SimpleNamespace(**{**empty, "count": 1, "drawn": drawn}) for drawn in ("", "N(0, 1)")
    ]

    assert _columns(rows) == ["count", "names", "drawn"]
