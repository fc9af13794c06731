"""Figures of profiles."""

import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.profiles import make_profile, with_value
from support.report_profiles import small_profile

from gptinit.errors import ConfigError
from gptinit.report import plots
from gptinit.report.plots import check_plot_path, save_profile_plot
from gptinit.results.profile import Place, Profile

mpl: Any = pytest.importorskip("matplotlib")
pytest.importorskip("matplotlib.figure")

_TITLES = (
    "Residual stream and what each layer adds",
    "Logit lens and attention scores",
    "Attention entropy and token similarity",
    "Gradient of the stream",
)


def _texts(profile: Profile, folder: Path) -> list[str]:
    """Every text of the profile's figure: SVG has each as a comment beside its outline."""
    path = folder / "figure.svg"
    save_profile_plot(profile, path)
    return re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8"))


def _panels(profile: Profile) -> list[Any]:
    """The axes of the profile's figure."""
    return plots._figure(profile).axes


@pytest.mark.parametrize(
    ("kind", "start"), [("png", b"\x89PNG\r\n"), ("svg", b"<?xml"), ("PDF", b"%PDF-")]
)
def test_equal_profiles_give_equal_bytes_of_the_type_that_the_suffix_says(
    kind: str, start: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / f"{name}.{kind}" for name in "ab"]

    # The user's own style neither changes the figure nor is changed.
    for file, style in zip(
        files, ({}, {"lines.linewidth": 9.0, "svg.hashsalt": None}), strict=True
    ):
        with mpl.rc_context(style):
            before = dict(mpl.rcParams)
            with monkeypatch.context() as patched:
                patched.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it would fail
                save_profile_plot(small_profile(), file)
            assert before == dict(mpl.rcParams)

    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes().startswith(start)
    assert sorted(tmp_path.iterdir()) == files  # nothing is left beside them


def test_the_figure_says_what_was_measured_and_how(tmp_path: Path) -> None:
    run = replace(make_profile().run, data="/home/me/tokens.bin")
    texts = _texts(make_profile(grad=True, run=run), tmp_path)

    assert "gpt2 · scheme nanogpt" in texts
    assert (
        "4 layers, 64 wide · 6 seeds, 1 x 64 tokens of tokens.bin · bands: ± 1 standard error"
        in texts
    )
    assert [text for text in texts if text in _TITLES] == list(_TITLES)
    assert [text for text in texts if "[" in text and "token" not in text] == [
        "variance [activation squared]",
        "standard deviation [logit]",
        "attn_entropy [0 to 1]",
        "RMS [nats per activation]",
    ]


def test_panels_without_a_number_and_bands_of_one_seed_are_left_out(tmp_path: Path) -> None:
    texts = _texts(make_profile(seeds=1, grad=False), tmp_path)

    assert "4 layers, 64 wide · 1 seed, 1 x 64 tokens of zipf" in texts
    assert [text for text in texts if text in _TITLES] == list(_TITLES[:3])
    assert "theory" not in texts


def test_theory_is_in_the_legend_where_there_is_one(tmp_path: Path) -> None:
    assert _texts(small_profile(), tmp_path).count("theory") == 1  # of resid_var only


@pytest.mark.parametrize(
    ("n_layer", "ticks"),
    [
        (1, ["emb", "0"]),
        (4, ["emb", "0", "1", "2", "3"]),
        (12, ["emb", "2", "4", "6", "8", "10"]),
        (48, ["emb", "10", "20", "30", "40"]),
    ],
)
def test_layers_are_marked_from_the_embedding_on(n_layer: int, ticks: list[str]) -> None:
    first, *_ = _panels(small_profile(layers=small_profile().layers * n_layer))

    assert [label.get_text() for label in first.get_xticklabels()] == ticks
    assert first.get_xticks().tolist() == [-1 if t == "emb" else int(t) for t in ticks]


def test_dollars_in_a_name_are_no_formula(tmp_path: Path) -> None:
    profile = small_profile()
    named = replace(profile, model=replace(profile.model, name="$a_{ $b"))

    assert "$a_{ $b · scheme nanogpt" in _texts(named, tmp_path)


def test_what_a_logarithmic_axis_cannot_show_is_left_out(tmp_path: Path) -> None:
    profile = make_profile(n_layer=6)
    for layer, value in enumerate((0.0, math.nan, math.inf, -1.0, 0.001)):
        # The last one's error is larger than its value.
        profile = with_value(profile, f"layer {layer}", "attn_var", value, stderr=1.0)

    assert "attn_var" in _texts(profile, tmp_path)  # it can be drawn
    axis, *_ = _panels(profile)
    (line,) = (line for line in axis.lines if line.get_label().startswith("attn_var"))
    assert line.get_xdata().tolist() == [4, 5]


@pytest.mark.parametrize(
    ("stat", "stderr", "low"),
    [
        ("attn_var", 0.0015, 0.0005),
        # A logarithmic axis has no room for 0 and less: the band ends at the line.
        ("attn_var", 0.002, 0.002),
        ("attn_var", 1.0, 0.002),
        ("attn_score_std", 0.002, 0.0),
        ("attn_score_std", 1.0, -0.998),
        ("attn_score_std", math.nan, 0.002),
    ],
)
def test_a_band_is_one_standard_error_to_both_sides(stat: str, stderr: float, low: float) -> None:
    profile = with_value(make_profile(), "layer 1", stat, 0.002, stderr=stderr)

    variances, spreads, _ = _panels(profile)

    axis = variances if stat == "attn_var" else spreads
    (shown,) = (i for i, line in enumerate(axis.lines) if line.get_label().startswith(stat))
    assert axis.lines[shown].get_xydata()[1].tolist() == [1, 0.002]  # layers from 0 on
    corners = axis.collections[shown].get_paths()[0].vertices
    heights = [y for x, y in corners.tolist() if x == 1]
    high = 0.002 + (stderr if math.isfinite(stderr) else 0.0)
    assert (min(heights), max(heights)) == pytest.approx((low, high))


def test_a_line_runs_from_the_embedding_over_all_layers_beside_its_prediction() -> None:
    profile = make_profile(n_layer=3)
    predicted = tuple(replace(p, predicted={"resid_var": 0.004}) for p in profile.layers)

    axis, *_ = _panels(replace(profile, layers=predicted))

    lines = {line.get_label(): line for line in axis.lines}
    assert lines["resid_var"].get_xydata().tolist() == [
        [-1, 0.001], [0, 0.002], [1, 0.003], [2, 0.004],
    ]  # fmt: skip
    dashed = [line.get_xydata().tolist() for line in axis.lines if line.get_linestyle() == "--"]
    assert dashed == [[[0, 0.004], [1, 0.004], [2, 0.004]], []]  # the second is the legend's
    assert axis.get_yscale() == "log"


def test_a_profile_without_anything_to_draw_is_refused(tmp_path: Path) -> None:
    empty = Place(values={})

    with pytest.raises(ConfigError, match="must have a statistic of the layers to draw"):
        save_profile_plot(make_profile(embedding=empty, layers=(empty,)), tmp_path / "a.png")


@pytest.mark.parametrize("name", ["figure.jpg", "figure", ".png"])
def test_an_unknown_file_type_names_the_known_ones(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must be a file ending in \.png, \.svg or \.pdf, got"):
        check_plot_path(tmp_path / name)


def test_a_folder_that_is_not_there_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be in a folder that exists"):
        check_plot_path(str(tmp_path / "none" / "a.png"))


def test_a_path_that_will_do_passes(tmp_path: Path) -> None:
    check_plot_path(tmp_path / "a.svg")

    assert not (tmp_path / "a.svg").exists()


def test_a_missing_matplotlib_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # what an import finds when it is missing

    with pytest.raises(ConfigError, match=re.escape("pip install 'gptinit[plot]'")):
        check_plot_path(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="plotting needs matplotlib"):
        save_profile_plot(small_profile(), tmp_path / "a.png")


def test_a_file_that_cannot_be_written_is_one_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()

    with pytest.raises(ConfigError, match="plot must be a file that can be written, got"):
        save_profile_plot(small_profile(), tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def _spread(profile: Profile, n_layer: int) -> Profile:
    """The profile with its first layer so many times."""
    return replace(profile, layers=(profile.layers[0],) * n_layer)


@pytest.mark.parametrize(("n_layer", "markers"), [(32, ["o", "s", "^"]), (33, ["None"] * 3)])
def test_markers_stand_at_the_layers_of_a_model_that_is_not_too_deep(
    n_layer: int, markers: list[str]
) -> None:
    axis, *_ = _panels(_spread(make_profile(), n_layer))

    assert [line.get_marker() for line in axis.lines] == markers


@pytest.mark.parametrize(
    ("n_layer", "step"),
    [
        (8, 1), (9, 2), (16, 2), (17, 5), (40, 5), (41, 10), (81, 20), (161, 50), (400, 50),
        (401, 100), (801, 200), (1601, 500), (4001, 1000),
    ],
)  # fmt: skip
def test_at_most_eight_layers_are_marked_at_round_numbers(n_layer: int, step: int) -> None:
    axes = mpl.figure.Figure().subplots()

    plots._mark_layers(axes, n_layer)

    ticks = axes.get_xticks().tolist()
    assert ticks == [-1, *range(0 if step == 1 else step, n_layer, step)]


@pytest.mark.parametrize(("low", "bottom"), [(0.5, -0.03), (-0.5, None)])
def test_a_share_is_drawn_from_zero_to_one_and_further_where_it_is_negative(
    low: float, bottom: float | None
) -> None:
    profile = with_value(make_profile(), "layer 1", "token_cosine", low)

    *_, shares = _panels(profile)

    found = shares.get_ylim()
    assert found[1] == 1.03
    assert found[0] == bottom if bottom else found[0] < low


@pytest.mark.parametrize(
    ("high", "label"), [(1.9, "1"), (19.0, "1"), (21.0, "$\\mathdefault{10^{0}}$")]
)
def test_an_axis_of_about_one_decade_has_plain_numbers(high: float, label: str) -> None:
    axes = mpl.figure.Figure().subplots()
    axes.set_ylim(1.0, high)

    plots._scale_by_decades(axes)

    assert axes.yaxis.get_major_formatter()(1.0, 0) == label
    if high < 20:
        marks = [axes.yaxis.get_minor_formatter()(y, 0) for y in (0.002, 3.0, 4.0, 50.0, 6.0)]
        assert marks == ["0.002", "3", "", "50", ""]


def test_one_panel_is_a_figure_too() -> None:
    only = Place(values={"resid_var": 0.5})

    (axis,) = _panels(make_profile(embedding=only, layers=(only,) * 3))

    assert [label.get_text() for label in axis.get_xticklabels()] == ["emb", "0", "1", "2"]
