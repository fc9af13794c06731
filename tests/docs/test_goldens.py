"""Tables, byte for byte as a terminal without colour shows them; --regen rewrites them.

Every file in tests/docs/golden is one text. Nothing in them was measured: profiles are made up, so
that no CPU and no version of torch can change a digit.
"""

import io
import math
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console, RenderableType
from support.profiles import make_profile, with_value
from support.report_profiles import bound_result, small_report

from gptinit.cli import main
from gptinit.gate.judge import CheckReport
from gptinit.report.terminal import Layout, check_view, comparison_view, profile_view
from gptinit.results.profile import Comparison, Finding, Place, Profile, Ranking

GOLDEN = Path(__file__).parent / "golden"

COMMANDS = {
    "schemes": "schemes",
    "schemes-nanogpt": "schemes nanogpt",
    "audit-explain": "audit --explain residual-scaling-missing",
    "schemes-pytorch-default": "schemes pytorch-default --n-layer 48",
}

DROWNED = Finding(
    rule="out-of-bounds",
    severity="warning",
    where="whole",
    fact="resid_growth must be at most 1000, got 11943 ± 120.",
    why="What the token is, is drowned.",
    stat="resid_growth",
)


def deep_profile() -> Profile:
    """48 layers with gradients, numbers of every length, and a finding."""
    profile = make_profile(n_layer=48, grad=True, scheme="plain", findings=(DROWNED,))
    layers = []
    for i, place in enumerate(profile.layers):
        growth = math.exp(0.19 * (i + 1))
        values = dict(place.values) | {
            "resid_var": 0.00081 * growth,
            "resid_growth": growth,
            "attn_var": 3.95e-5 * growth,
            "mlp_var": 0.00013 * growth,
            "token_cosine": -0.00012 if i == 0 else 0.02 * i,
            "grad_rms": 0.0123 / growth,
        }
        layers.append(Place(values=values, stderr={k: abs(v) / 50 for k, v in values.items()}))
    return replace(profile, layers=tuple(layers))


def broken_profile() -> Profile:
    """Two layers of float16 with one seed, of which the second is not finite."""
    profile = make_profile(n_layer=2, seeds=1)
    profile = replace(profile, run=replace(profile.run, dtype="float16"))
    for stat in ("resid_var", "resid_growth", "token_cosine", "attn_entropy", "logit_std"):
        profile = with_value(profile, "layer 1", stat, None)
    profile = with_value(profile, "layer 1", "nonfinite", 17.0)
    for stat in ("logit_std", "loss", "loss_excess", "copy_logit"):
        profile = with_value(profile, "final", stat, None)
    finding = Finding(
        rule="nonfinite",
        severity="error",
        where="layer 1",
        fact="Values of the residual stream must be finite, got 17 NaN or infinity.",
    )
    return replace(with_value(profile, "whole", "resid_growth", None), findings=(finding,))


def comparison(*, ranked: bool) -> Comparison:
    """Three profiles with short and long numbers; one without gradients, one with a finding."""
    profiles = (
        deep_profile(),
        make_profile(n_layer=48, grad=True),
        make_profile(n_layer=48, scheme="cproj-sqrt-2-over-l"),
    )
    if not ranked:
        return Comparison(axis="depths", labels=("6", "48", "1000"), profiles=profiles)
    labels = ("plain", "nanogpt", "cproj-sqrt-2-over-l")
    order = ("nanogpt", "cproj-sqrt-2-over-l", "plain")
    ranking = Ranking(by="fewest bounds missed, then the flattest gradient", order=order)
    return Comparison(axis="schemes", labels=labels, profiles=profiles, ranking=ranking)


def long_report() -> CheckReport:
    """48 layers of a model with the name that a configuration gives it."""
    layers = [
        bound_result(
            model="gpt2 scheme=plain n_layer=48",
            stat="attn_score_std",
            where=f"layer {i}",
            value=0.196 + 0.001 * i,
            stderr=0.0012,
            max=2,
        )
        for i in range(48)
    ]
    growth = bound_result(
        model="gpt2 scheme=plain n_layer=48", value=11943.0, stderr=120.0, verdict="violated"
    )
    return CheckReport(results=(*layers, growth), findings=(DROWNED,))


VIEWS: dict[str, Callable[[int], RenderableType]] = {
    "profile": lambda width: profile_view(make_profile(grad=True), Layout(width=width)),
    "profile-deep": lambda width: profile_view(deep_profile(), Layout(width=width)),
    "profile-broken": lambda width: profile_view(broken_profile(), Layout(width=width)),
    "comparison": lambda width: comparison_view(comparison(ranked=True), Layout(width=width)),
    "comparison-depths": lambda width: comparison_view(
        comparison(ranked=False), Layout(width=width)
    ),
    "check": lambda width: check_view(small_report(), Layout(width=width)),
    "check-long": lambda width: check_view(long_report(), Layout(width=width)),
}


def stripped(text: str) -> str:
    """Without the blanks at the ends of lines, which terminals do not show."""
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def rendered(made: RenderableType, width: int) -> str:
    text = io.StringIO()
    Console(file=text, width=width, highlight=False).print(made)
    return text.getvalue()


def compare_with_golden(name: str, text: str, request: pytest.FixtureRequest) -> None:
    path = GOLDEN / f"{name}.txt"
    if request.config.getoption("--regen"):
        path.write_text(stripped(text), encoding="utf-8", newline="\n")
    assert stripped(text) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_shows_its_golden(
    name: str, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    code = main(shlex.split(COMMANDS[name]))

    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    compare_with_golden(name, out, request)


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("width", [80, 120])
def test_a_view_shows_its_golden(name: str, width: int, request: pytest.FixtureRequest) -> None:
    compare_with_golden(f"{name}-{width}", rendered(VIEWS[name](width), width), request)


def test_every_golden_belongs_to_a_test() -> None:
    views = {f"{name}-{width}" for name in VIEWS for width in (80, 120)}

    assert {path.stem for path in GOLDEN.iterdir()} == {*COMMANDS, *views}


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.txt")), ids=lambda path: path.stem)
def test_a_golden_fits_its_width(path: Path) -> None:
    width = 120 if path.stem.endswith("-120") else 80
    lines = path.read_text(encoding="utf-8").splitlines()

    assert [line for line in lines if len(line) > width] == []


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("width", [80, 100, 120])
def test_nothing_in_a_table_is_cut_off(name: str, width: int) -> None:
    assert "…" not in rendered(VIEWS[name](width), width)


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_names_of_statistics_are_whole_in_a_check(width: int) -> None:
    shown = rendered(check_view(long_report(), Layout(width=width)), width)

    assert "attn_score_std" in shown
    assert "statistic" in shown


def test_help_of_check_names_both_files(capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", "--help"])

    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "[default: (gptinit.toml, or [tool.gptinit] in pyproject.toml)]" in words


def test_help_of_check_names_its_formats_beside_the_option(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["check", "--help"])

    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("│ --format")]
    assert "junit" in line
