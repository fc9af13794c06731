"""Views: which layers a folded table shows, what its bars mean, what is said when nothing is."""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from rich.console import Console, RenderableType
from support.profiles import make_profile, with_value
from support.report_profiles import bound_result, small_comparison, small_report

from gptinit.config import GPTConfig
from gptinit.facts.apply_scheme import distributions_at
from gptinit.facts.schemes import get_scheme, load_schemes
from gptinit.gate.judge import BoundResult, CheckReport
from gptinit.report.terminal import (
    Layout,
    check_view,
    comparison_view,
    profile_view,
    scheme_view,
    schemes_view,
)
from gptinit.results.profile import Finding, Profile

WIDE = 160
"""Columns at which nothing needs to be cut."""


def shown(made: RenderableType, width: int = WIDE) -> str:
    text = io.StringIO()
    Console(file=text, width=width, highlight=False).print(made)
    return "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def profile_text(profile: Profile, *, all_layers: bool = False, width: int = WIDE) -> str:
    return shown(profile_view(profile, Layout(width=width, all_layers=all_layers)), width)


def rows_of(text: str) -> dict[str, str]:
    """Label of every row of a layer table to the row."""
    found = re.findall(r"^ *(emb|\d+|final)(?: {2}(.*))?$", text, re.MULTILINE)
    return dict(found)


def layers_of(text: str) -> list[int]:
    return [int(label) for label in rows_of(text) if label.isdigit()]


@pytest.mark.parametrize("n_layer", [1, 2, 15, 16])
def test_a_model_that_fits_is_shown_whole(n_layer: int) -> None:
    text = profile_text(make_profile(n_layer=n_layer))

    assert layers_of(text) == list(range(n_layer))
    assert "--all-layers" not in text


@pytest.mark.parametrize("n_layer", [17, 24, 48, 96, 1000])
def test_a_longer_model_is_folded_evenly_with_both_ends(n_layer: int) -> None:
    text = profile_text(make_profile(n_layer=n_layer))

    layers = layers_of(text)
    gaps = [b - a for a, b in pairwise(layers)]
    assert (layers[0], layers[-1], len(layers)) == (0, n_layer - 1, 13)
    assert max(gaps) - min(gaps) <= 1
    assert f"13 of {n_layer} layers; --all-layers shows the rest." in " ".join(text.split())


def test_all_layers_shows_them_all() -> None:
    text = profile_text(make_profile(n_layer=48), all_layers=True)

    assert layers_of(text) == list(range(48))
    assert "--all-layers" not in text


BAR = re.compile("[▏▎▍▌▋▊▉█]+")
EIGHTHS = {character: i for i, character in enumerate(" ▏▎▍▌▋▊▉█")}


def eighths(row: str) -> int:
    """Length of the bar of a row in eighths of a column."""
    found = BAR.search(row)
    return sum(EIGHTHS[c] for c in found.group()) if found else 0


@pytest.mark.parametrize(("width", "least"), [(80, 3), (WIDE, 24)])
def test_bars_are_linear_and_the_largest_is_full(width: int, least: int) -> None:
    # Variance is 0.001 (i + 2), so that layer i of 4 has (i + 2) / 5 of the largest.
    rows = rows_of(profile_text(make_profile(n_layer=4), width=width))

    full = eighths(rows["3"])
    assert full % 8 == 0
    assert full >= 8 * least
    for label, share in (("emb", 1 / 5), ("0", 2 / 5), ("1", 3 / 5), ("2", 4 / 5)):
        assert abs(eighths(rows[label]) - share * full) <= 0.5, label
    assert eighths(rows["final"]) == 0


def test_the_embedding_can_be_the_largest() -> None:
    profile = with_value(make_profile(n_layer=2), "embedding", "resid_var", 1.0)

    rows = rows_of(profile_text(profile))
    assert eighths(rows["emb"]) == 192
    assert eighths(rows["1"]) == 1  # 0.003 of 192 eighths is half of one, and rounds up


def test_a_stream_of_zeros_has_no_bars_and_breaks_nothing() -> None:
    profile = make_profile(n_layer=2)
    for where in ("embedding", "layer 0", "layer 1"):
        profile = with_value(profile, where, "resid_var", 0.0)

    text = profile_text(profile)
    assert not BAR.search(text)
    assert "Stream: starts at variance 0 and ends at 0." in text


@pytest.mark.parametrize("value", [None, math.inf, math.nan], ids=["absent", "inf", "nan"])
def test_a_variance_that_is_not_finite_has_no_bar(value: float | None) -> None:
    profile = with_value(make_profile(n_layer=2), "layer 1", "resid_var", value)

    rows = rows_of(shown(profile_view(profile, Layout(width=WIDE))))
    assert eighths(rows["1"]) == 0
    assert eighths(rows["0"]) == 192


def test_columns_are_those_that_were_measured() -> None:
    without, with_grad = make_profile(), make_profile(grad=True)

    assert "grad" not in profile_text(without)
    assert "grad" in profile_text(with_grad)


def test_the_last_row_is_the_logits_own_std() -> None:
    profile = with_value(make_profile(), "final", "logit_std", 0.123)

    assert rows_of(profile_text(profile))["final"].split() == ["0.123"]


def test_standard_errors_are_shown_where_there_is_room_and_explained() -> None:
    wide, narrow = profile_text(make_profile()), profile_text(make_profile(), width=80)
    one_seed = profile_text(make_profile(seeds=1))

    assert "0.001000 ± 0.000010" in wide
    assert "± standard error over seeds." in wide
    for text in (narrow, one_seed):
        assert "±" not in text


@pytest.mark.parametrize(
    ("seeds", "told"), [(1, "1 seed from 0"), (6, "6 seeds from 0")], ids=["one", "six"]
)
def test_seeds_are_counted_in_words(seeds: int, told: str) -> None:
    assert told in profile_text(make_profile(seeds=seeds))


@pytest.mark.parametrize(
    ("n_params", "told"),
    [
        (999, "999 parameters"),
        (124_439_808, "124.4 M parameters"),
        (174_591_488_000, "174.6 B parameters"),
        (1_500_000_000_000, "1.5 T parameters"),
    ],
)
def test_parameters_are_counted_for_a_person(n_params: int, told: str) -> None:
    profile = make_profile()

    assert told in profile_text(replace(profile, model=replace(profile.model, n_params=n_params)))


def test_one_head_is_no_plural() -> None:
    profile = make_profile(n_layer=1)
    text = profile_text(replace(profile, model=replace(profile.model, n_head=1)))

    assert "1 heads" not in text
    assert "1 layers" not in text


def test_findings_take_the_place_of_the_all_clear() -> None:
    finding = Finding(rule="r", severity="warning", where="whole", fact="Too much.")

    healthy = profile_text(make_profile())
    sick = profile_text(make_profile(findings=(finding,)))
    assert healthy.endswith("Bounds: all default bounds hold.\n")
    assert "hold." not in sick
    assert sick.endswith("warning: whole: Too much.\n")


def test_the_name_of_a_model_is_no_markup() -> None:
    profile = make_profile()
    named = replace(profile, model=replace(profile.model, name="[bold]x[/bold]"), scheme="[red]")

    assert "[bold]x[/bold] · scheme [red]" in profile_text(named)


def test_a_label_of_a_check_is_no_markup() -> None:
    assert "gpt2 [wide]" in check_text([bound_result(model="gpt2 [wide]")])


def test_a_label_of_a_comparison_is_no_markup() -> None:
    comparison = replace(small_comparison(ranked=False), labels=("plain [mine]", "nanogpt"))

    assert "plain [mine] " in shown(comparison_view(comparison, Layout(width=WIDE)))


def test_a_scheme_of_the_user_is_no_markup() -> None:
    scheme = replace(get_scheme("plain"), slug="[mine]", title="mine [draft]", verified="[user]")

    text = shown(schemes_view([scheme]))
    for told in ("[mine]", "mine [draft]", "[user]"):
        assert told in text


def test_a_comparison_stands_in_the_order_of_its_ranking() -> None:
    ranked = shown(comparison_view(small_comparison(), Layout(width=WIDE)))
    plain = shown(comparison_view(small_comparison(ranked=False), Layout(width=WIDE)))

    assert re.findall(r"^(?:(\d)  )?(nanogpt|plain) ", ranked, re.MULTILINE) == [
        ("1", "nanogpt"),
        ("2", "plain"),
    ]
    assert re.findall(r"^(nanogpt|plain) ", plain, re.MULTILINE) == ["plain", "nanogpt"]
    assert "Ranked by fewest findings." in ranked
    assert "Ranked" not in plain


def test_a_comparison_tells_who_missed_what() -> None:
    text = shown(comparison_view(small_comparison(), Layout(width=WIDE)))

    assert "plain: growth | must be less." in text
    assert "nanogpt: " not in text


def check_text(results: Sequence[BoundResult]) -> str:
    return shown(check_view(CheckReport(results=tuple(results), findings=()), Layout(width=WIDE)))


def test_layers_of_one_bound_share_a_row_that_shows_the_worst() -> None:
    layers = [
        bound_result(stat="attn_score_std", where=f"layer {i}", value=v, stderr=0.01, max=2)
        for i, v in enumerate([0.5, 1.75, 0.25])
    ]
    text = check_text(layers)

    (row,) = [line for line in text.splitlines() if line.startswith("gpt2")]
    assert "3 layers, layer 1" in row
    assert "1.750 ± 0.010" in row
    assert text.endswith("3 of 3 bounds hold.\n")


def test_layers_that_hold_and_layers_that_do_not_are_two_rows() -> None:
    layers = [
        bound_result(stat="attn_score_std", where=f"layer {i}", value=v, max=2, verdict=verdict)
        for i, (v, verdict) in enumerate([(0.5, "ok"), (1.5, "ok"), (3.0, "violated")])
    ]
    rows = [line for line in check_text(layers).splitlines() if line.startswith("gpt2")]

    assert [row.split()[-1] for row in rows] == ["ok", "violated"]
    assert "2 layers, layer 1" in rows[0]
    assert " layer 2 " in rows[1]


def test_the_worst_is_the_nearest_to_either_limit() -> None:
    layers = [
        bound_result(stat="token_cosine", where=f"layer {i}", value=v, min=0.0, max=1.0)
        for i, v in enumerate([0.5, 0.0625, 0.875])
    ]

    assert "3 layers, layer 1" in check_text(layers)


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [(None, 1000.0, "<= 1000"), (0.5, None, ">= 0.5"), (0.5, 2, "0.5 to 2"), (0, 0, "0 to 0")],
)
def test_limits_are_written_as_the_user_did(
    low: float | None, high: float | None, told: str
) -> None:
    assert told in check_text([bound_result(min=low, max=high)])


def test_a_value_that_is_not_finite_is_called_so() -> None:
    text = shown(check_view(small_report(), Layout(width=WIDE)))

    assert re.search(r"^wide .* not finite .* violated$", text, re.MULTILINE)


def test_a_check_of_nothing_says_so() -> None:
    assert check_text([]).endswith("0 of 0 bounds hold.\n")


def test_every_scheme_is_in_the_zoo_with_its_aliases() -> None:
    text = shown(schemes_view(load_schemes().values()))

    for slug, scheme in load_schemes().items():
        assert re.search(rf"^{re.escape(slug)} ", text, re.MULTILINE)
        for alias in scheme.aliases:
            assert f"({alias})" in text


@pytest.mark.parametrize("slug", load_schemes())
def test_a_scheme_is_shown_with_every_role_and_its_source(slug: str) -> None:
    scheme, config = get_scheme(slug), GPTConfig(n_layer=2)
    text = shown(scheme_view(scheme, distributions_at(scheme, config), config))

    for role, rule in scheme.rules.items():
        assert re.search(rf"^{role} +{re.escape(str(rule))} ", text, re.MULTILINE)
    assert "2 layers, 768 wide" in text
    words = " ".join(text.split())
    for source in scheme.source:
        assert " ".join(source.split()) in words


def test_a_scheme_ends_with_its_sources_below_their_heading() -> None:
    scheme, config = replace(get_scheme("plain"), source=("one", "another")), GPTConfig()

    text = shown(scheme_view(scheme, distributions_at(scheme, config), config))

    assert text.endswith(f"\nSource (verified: {scheme.verified})\n  one\n  another\n")
