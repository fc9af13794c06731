"""Audits as Markdown."""

from dataclasses import replace

from support.audit_reports import FACTS, clean_audit, documented, parameter, small_audit

from gptinit.config import InitCall
from gptinit.facts.distributions import Constant, Normal, Piecewise
from gptinit.report.audit_markdown import audit_markdown, rule_markdown
from gptinit.report.numbers import ROUNDING


def test_a_small_audit_is_told_in_full() -> None:
    missing = (
        "- **error** `residual-scaling-missing` at `h.*.attn.c_proj.weight`: Weights that write to "
        "the stream must be scaled, got N(0, 0.02): ratio 2.449. "
        "(drawn by empty(64, 64), then normal_(0, 0.02) at model.py:151)\n"
    )
    assert audit_markdown(small_audit()) == (
        "# model.py:GPT: 1 error, 1 warning, 1 note\n\n"
        "- model: 124.4 M parameters · 3 layers x 64\n"
        "- source: model.py\n"
        "- read: built by its constructor · 11 tensors traced with torch 2.13.0\n"
        "- closest known scheme: nanogpt, except attn_out\n\n"
        "## Findings\n\n" + missing + "- **warning** `uninitialised` at `h.*.attn.mask`: Never "
        "written.\n"
        "- **note** `bias-nonzero` at `h.0.attn.c_proj.bias`: Odd.\n\n"
        "gptinit audit --explain RULE explains a rule and how to fix it.\n\n"
        "## Parameters\n\n"
        f"{ROUNDING} Expected: under nanogpt. Ratio: actual RMS / expected RMS.\n\n"
        "| role | tensors | layers | parameter | drawn from | std | expected | ratio "
        "| what the ratio means |\n"
        "| :-- | --: | :-- | :-- | :-- | --: | :-- | --: | :-- |\n"
        "| tok_emb | 1 |  | `wte.weight` | N(0, 0.02) | 0.0200 | N(0, 0.02) | 1.00 |  |\n"
        "| attn_out | 3 | 0-2 | `h.*.attn.c_proj.weight` | N(0, 0.02) | 0.0200 | N(0, 0.00816) "
        "| 2.45 | sqrt(2 n_layer): residual scaling missing |\n"
        "| linear_bias | 3 | 0-2 | `h.*.attn.c_proj.bias` | 0 | 0 |  |  |  |\n"
        "| other | 3 | 0-2 | `h.*.attn.mask` | never written |  |  |  |  |\n\n"
        "## Notes\n\n"
        "- approximate at roles: Read from \\| names.\n"
    )


def test_a_clean_audit_has_no_findings_and_names_its_claim() -> None:
    text = audit_markdown(clean_audit())

    assert text.startswith("# model.py:GPT: clean\n")
    assert "- claimed scheme: `nanogpt`\n- closest known scheme: nanogpt (exact)\n" in text
    assert "## Findings" not in text
    assert "--explain" not in text


def test_a_table_without_hints_has_no_column_for_them() -> None:
    text = audit_markdown(clean_audit(parameters=(parameter("w", Constant(0.0)),)))

    (header,) = [line for line in text.splitlines() if line.startswith("| role")]
    (row,) = [line for line in text.splitlines() if line.startswith("| other")]
    assert header.endswith("| ratio |")
    assert row.count("|") == header.count("|")


def test_pieces_of_a_distribution_do_not_become_columns() -> None:
    law = Piecewise(((2, Normal(0.0, 0.02)), (2, Constant(0.0))))
    text = audit_markdown(clean_audit(parameters=(parameter("w", law),)))

    assert "| N(0, 0.02) \\| 0 |" in text


def test_every_parameter_and_buffer_can_have_a_row() -> None:
    text = audit_markdown(clean_audit(), all_parameters=True, buffers=True)

    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(clean_audit().parameters)
    assert "`h.1.attn.mask`" in text


def test_a_rule_is_a_page_with_a_heading_a_chapter() -> None:
    assert rule_markdown(documented()) == (
        "# `residual-scaling-missing`: Not scaled \\| by depth\n\n"
        "Severity: error.\n\n"
        "## What it is\n\nThe std is that of the others.\n\n"
        "## Why it hurts\n\nThe stream grows.\n\n"
        "## Where it happened\n\nGPT-2: huggingface/transformers#47458.\n\n"
        "## How to fix it\n\nScale it.\n"
    )


def test_what_an_init_changed_is_a_table_a_role() -> None:
    drawn = Normal(0.0, 0.02)
    made = {
        "h.0.q": ("q", Normal(0.0, 1.0)), "h.1.q": ("q", Normal(0.0, 1.0)),
        "wte": ("tok_emb", Constant(0.0)), "h.0.k": ("k", None),
    }  # fmt: skip
    parts = tuple(parameter(n, drawn, role=r, constructed=c) for n, (r, c) in made.items())
    call = InitCall(
        call="init_weights()", name="init_weights", file="model.py", line=7, chosen_by="found"
    )
    model = replace(FACTS, init=call)

    assert (
        "## What the init changed\n\n"
        "| role | tensors | as constructed | after `init_weights()` |\n"
        "| :-- | :-- | :-- | :-- |\n"
        "| tok_emb | 1 | 0 | N(0, 0.02) |\n"
        "| q | 2 | N(0, 1) | N(0, 0.02) |\n\n"
    ) in audit_markdown(small_audit(model=model, parameters=parts))
    for other in ({"model": model}, {"parameters": parts}):
        assert "What the init changed" not in audit_markdown(small_audit(**other))
