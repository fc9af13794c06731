"""Results small enough to write their reports out in full."""

from dataclasses import replace
from typing import Any

from gptinit.gate.judge import BoundResult, CheckReport
from gptinit.results.profile import Comparison, Finding, Note, Place, Profile, Ranking, WeightGrad
from support.profiles import make_profile

FINDING = Finding(
    rule="out-of-bounds", severity="warning", where="whole", fact="growth | must be less."
)
NOTE = Note(kind="engine", where="dense", message="Requested with --engine.")


def small_profile(**changes: Any) -> Profile:
    """One layer with few statistics, a prediction, a weight's gradient, a finding and a note."""
    layer = Place(
        values={"token_cosine": 0.5, "resid_var": 0.002, "nonfinite": 3.0},
        stderr={"token_cosine": 0.012, "resid_var": 0.00013},
        predicted={"resid_var": 0.0021},
        weight_grad={
            "q": WeightGrad(
                grad_rms=0.25,
                weight_rms=0.02,
                ratio=12.5,
                stderr={"grad_rms": 0.03, "weight_rms": 0.0004, "ratio": 1.5},
            ),
            "linear_bias": WeightGrad(grad_rms=0.125, weight_rms=0.0, ratio=None),
        },
    )
    parts: dict[str, Any] = {
        "embedding": Place(values={"resid_var": 0.000803}, stderr={"resid_var": 0.000013}),
        "layers": (layer,),
        "final": Place(values={"loss": 6.92}, stderr={"loss": 0.0}),
        "whole": Place(values={"resid_growth": 2.49}, stderr={"resid_growth": 0.16}),
        "findings": (FINDING,),
        "notes": (NOTE,),
    }
    return make_profile(n_layer=1, **{**parts, **changes})


def small_comparison(*, ranked: bool = True) -> Comparison:
    """Two schemes; the second one is ranked first and has no finding."""
    profiles = (
        small_profile(scheme="plain"),
        small_profile(findings=(), whole=Place(values={"resid_growth": 1.25})),
    )
    ranking = Ranking(by="fewest findings", order=("nanogpt", "plain")) if ranked else None
    return Comparison(
        axis="schemes", labels=("plain", "nanogpt"), profiles=profiles, ranking=ranking
    )


def bound_result(**changes: Any) -> BoundResult:
    """A bound that holds."""
    result = BoundResult(
        model="gpt2",
        stat="resid_growth",
        where="whole",
        value=2.5,
        stderr=0.125,
        min=None,
        max=1000,
        verdict="ok",
        why="It drowns.",
    )
    return replace(result, **changes)


def small_report() -> CheckReport:
    """One bound of each verdict in two models, and the findings that the gate makes of them."""
    return CheckReport(
        results=(
            bound_result(),
            bound_result(
                stat="nonfinite", where="layer 3", value=4.0, stderr=0.0, max=0, verdict="violated"
            ),
            bound_result(model="wide", value=None, stderr=None, min=0.5, verdict="violated"),
            bound_result(model="wide", stat="loss", where="final", verdict="inconclusive"),
        ),
        findings=(
            Finding(
                rule="out-of-bounds",
                severity="error",
                model="gpt2",
                where="layer 3",
                fact="nonfinite must be at most 0, got 4.",
                why="It drowns.",
                stat="nonfinite",
            ),
            Finding(
                rule="out-of-bounds",
                severity="error",
                model="wide",
                where="whole",
                stat="resid_growth",
                fact="resid_growth must be between 0.5 and 1000, got a value not finite.",
            ),
            Finding(
                rule="inconclusive",
                severity="warning",
                model="wide",
                where="final",
                fact="loss must be at most 1000, got 2.5.",
                why="It drowns.",
                stat="loss",
            ),
        ),
    )
