"""Reports for GitHub."""

from dataclasses import replace

from support.profiles import make_profile
from support.report_profiles import bound_result, small_comparison, small_profile, small_report

from gptinit.config import GPTConfig
from gptinit.facts.distributions import Constant, Distribution, Normal
from gptinit.facts.schemes import get_scheme, load_schemes
from gptinit.gate.judge import CheckReport
from gptinit.report.markdown import (
    check_markdown,
    comparison_markdown,
    profile_markdown,
    schemes_markdown,
)
from gptinit.results.profile import Comparison, Cost, Finding, Place

_MODEL = "- model: 1 layers, 64 wide, 2 heads of 32, d_ff 256, vocabulary 1000, 272320 parameters\n"
_RUN = "- run: 6 seeds from 0, 1 x 64 tokens of zipf, dense weights, float32 on cpu\n"
_ROUNDING = (
    "Numbers are rounded to 3 significant digits; with a standard error (±), to its second digit."
)


def test_a_profile_is_tables_and_lists() -> None:
    assert profile_markdown(small_profile()) == (
        "# gpt2\n\n"
        "- scheme: `nanogpt`\n" + _MODEL + _RUN + "\n"
        f"{_ROUNDING} In parentheses: the prediction of theory.\n\n"
        "| layer | stream var | cosine | nonfinite |\n"
        "| --: | --: | --: | --: |\n"
        "| emb | 0.000803 ± 0.000013 |  |  |\n"
        "| 0 | 0.00200 ± 0.00013 (0.00210) | 0.500 ± 0.012 | 3 |\n\n"
        "| statistic | where | value | unit |\n"
        "| :-- | :-- | --: | :-- |\n"
        "| loss | final | 6.92 ± 0 | nats |\n"
        "| resid_growth | whole | 2.49 ± 0.16 | ratio |\n\n"
        "| layer | role | grad rms | weight rms | ratio |\n"
        "| --: | :-- | --: | --: | --: |\n"
        "| 0 | q | 0.250 | 0.0200 | 12.5 |\n"
        "| 0 | linear_bias | 0.125 | 0 |  |\n\n"
        "## Findings\n\n"
        "- **warning** `out-of-bounds` at whole: growth \\| must be less.\n\n"
        "## Notes\n\n"
        "- engine at dense: Requested with --engine.\n"
    )


def test_empty_sections_are_left_out() -> None:
    text = profile_markdown(make_profile(seeds=1))

    assert "##" not in text
    assert "theory" not in text
    assert "±" not in text.replace(_ROUNDING, "")
    assert "1 seed from 0," in text


def test_cost_and_a_model_of_its_own_init_are_named() -> None:
    profile = small_profile(scheme=None, cost=Cost(seconds=1.5, peak_bytes=1024))
    text = profile_markdown(profile)

    assert "- scheme: its own\n" in text
    assert "- took: 1.50 s, peak memory 1024 bytes\n" in text


def test_a_comparison_is_in_the_order_of_its_ranking() -> None:
    assert comparison_markdown(small_comparison()) == (
        "# Comparison of schemes\n\n" + _MODEL + _RUN + "\n"
        f"{_ROUNDING} In parentheses: the prediction of theory.\n\n"
        "| scheme | stream var, last layer | growth, whole | findings |\n"
        "| --: | --: | --: | --: |\n"
        "| nanogpt | 0.00200 ± 0.00013 (0.00210) | 1.25 | 0 |\n"
        "| plain | 0.00200 ± 0.00013 (0.00210) | 2.49 ± 0.16 | 1 |\n\n"
        "Ranked by fewest findings.\n\n"
        "## Findings\n\n"
        "- plain: **warning** `out-of-bounds` at whole: growth \\| must be less.\n"
    )


def test_a_comparison_without_a_ranking_is_in_the_order_asked_for() -> None:
    profiles = (make_profile(8), make_profile(4))
    text = comparison_markdown(Comparison(axis="depths", labels=("8", "4"), profiles=profiles))

    assert text.index("\n| 8 |") < text.index("\n| 4 |")
    assert "Ranked" not in text
    assert "- scheme: `nanogpt`\n" in text  # what all have in common
    assert "- model:" not in text


def test_a_check_says_first_how_many_bounds_hold() -> None:
    text = check_markdown(small_report())

    assert text.startswith(
        "# 1 of 4 bounds hold: 2 violated, 1 inconclusive.\n\n" + _ROUNDING + "\n\n"
        "| model | statistic | where | value | min | max | verdict |\n"
        "| :-- | :-- | :-- | --: | --: | --: | :-- |\n"
        "| gpt2 | resid_growth | whole | 2.50 ± 0.12 |  | 1000 | ok |\n"
        "| gpt2 | nonfinite | layer 3 | 4 |  | 0 | **violated** |\n"
        "| wide | resid_growth | whole | not finite | 0.5 | 1000 | **violated** |\n"
        "| wide | loss | final | 2.50 ± 0.12 |  | 1000 | **inconclusive** |\n\n"
        "## Findings\n\n"
        "- **error** `out-of-bounds` at gpt2: layer 3: nonfinite must be"
    )


def test_a_word_of_the_users_cannot_break_a_table_or_a_list() -> None:
    finding = Finding(rule="a`b", severity="error", where="x|y", fact="<b>\n- *c* `d` \\")
    report = CheckReport(results=(bound_result(model="a|b\nc"),), findings=(finding,))
    text = check_markdown(report)

    assert "| a\\|b c | resid_growth |" in text
    assert text.endswith("at x\\|y: \\<b> - \\*c\\* \\`d\\` \\\\\n")


def test_every_finding_of_a_check_is_listed() -> None:
    findings = tuple(
        Finding(rule=rule, severity="error", where="x", fact="y") for rule in ("first", "second")
    )
    text = check_markdown(CheckReport(results=(bound_result(),), findings=findings))

    assert text.endswith("- **error** `first` at x: y\n- **error** `second` at x: y\n")


def test_a_scheme_has_its_rules_notes_and_source() -> None:
    scheme = replace(
        get_scheme("gpt2"),
        rules={k: get_scheme("gpt2").rules[k] for k in ("q", "attn_out")},
        title="Title",
        notes="Notes | here.",
        source=("somewhere",),
    )
    drawn: dict[str, tuple[Distribution, ...]] = {
        "q": (Normal(0.0, 0.02),),
        "attn_out": (Constant(1.0), Constant(2.0)),
    }

    assert schemes_markdown([scheme], shape=GPTConfig(), values={"nanogpt": drawn}) == (
        "# Init schemes\n\n"
        "Values are those of n_layer 12, n_head 12, n_embd 768, head_dim 64, d_ff 3072, "
        "vocab_size 50257, to 4 significant digits.\n\n"
        "## `nanogpt` (also `gpt2`): Title\n\n"
        "Notes \\| here.\n\n"
        "| role | rule | value |\n"
        "| :-- | :-- | :-- |\n"
        "| q | `N(0, 0.02)` | N(0, 0.02) |\n"
        "| attn_out | `N(0, 0.02 / sqrt(2 * n_layer))` | 1 to 2 |\n\n"
        "Source (verified: yes):\n\n"
        "- somewhere\n"
    )


def test_all_schemes_have_a_table_and_a_section_each() -> None:
    text = schemes_markdown(load_schemes().values())

    assert "| scheme | what it does | verified |\n| :-- | :-- | :-- |\n| `plain` |" in text
    for slug, scheme in load_schemes().items():
        assert f"\n## `{slug}`" in text
        assert f"\n| `{slug}` |" in text
        assert f"(verified: {scheme.verified})" in text


def test_every_row_of_a_table_has_as_many_cells_as_its_header() -> None:
    texts = (
        profile_markdown(make_profile(grad=True, whole=Place(values={}))),
        schemes_markdown(load_schemes().values()),
        check_markdown(small_report()),
    )
    for text in texts:
        for block in text.split("\n\n"):
            if block.startswith("|"):
                counts = {line.replace("\\|", "").count("|") for line in block.splitlines()}
                assert len(counts) == 1, block
