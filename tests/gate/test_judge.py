"""Bounds on profiles: verdicts, their error rate, and what is said about them."""

import math
from dataclasses import replace

import numpy as np
import pytest
from support.profiles import make_profile, with_value

from gptinit.errors import ConfigError
from gptinit.facts.bounds import DEFAULT_BOUNDS, Bound
from gptinit.gate.judge import (
    BoundResult,
    findings_of,
    judge,
    nonfinite_findings,
    nonfinite_place,
    out_of_bounds,
    places_of,
)
from gptinit.gate.student_t import student_quantile
from gptinit.results.profile import Profile

LOSS = Bound(stat="loss", where="final", min=5, max=7, why="Off the start.")
T_5 = 3.364929998907  # upper 0.01 quantile of Student's t with 5 degrees of freedom (scipy)


def loss_profile(value: float, stderr: float, seeds: int = 6) -> Profile:
    return with_value(make_profile(seeds=seeds), "final", "loss", value, stderr)


def judge_loss(
    value: float, stderr: float, bound: Bound = LOSS, alpha: float = 0.01
) -> BoundResult:
    (result,) = judge(loss_profile(value, stderr), [bound], model="big", alpha=alpha)
    return result


@pytest.mark.parametrize(
    ("value", "stderr", "verdict"),
    [
        (6.0, 0.99 / T_5, "ok"),  # reaches 0.99 to both sides, the limits are 1 away
        (6.0, 1.01 / T_5, "inconclusive"),
        (7.5, 0.49 / T_5, "violated"),
        (7.5, 0.51 / T_5, "inconclusive"),
        (4.5, 0.49 / T_5, "violated"),
        (4.5, 0.51 / T_5, "inconclusive"),
        (7.0, 0.1, "inconclusive"),
        (7.0, 0.0, "ok"),  # the limit belongs to the range
        (math.nextafter(7.0, 8.0), 0.0, "violated"),
        (5.0, 0.0, "ok"),
        (math.nextafter(5.0, 4.0), 0.0, "violated"),
    ],
)
def test_the_whole_interval_decides(value: float, stderr: float, verdict: str) -> None:
    assert judge_loss(value, stderr).verdict == verdict


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        # the interval is value * exp(±t * 0.1), t * 0.1 = 0.3365
        (2 * math.exp(-0.34), "ok"),
        (2 * math.exp(-0.33), "inconclusive"),
        (2 * math.exp(0.33), "inconclusive"),
        (2 * math.exp(0.34), "violated"),
    ],
)
def test_ratios_and_standard_deviations_are_judged_as_logarithms(
    value: float, verdict: str
) -> None:
    bound = Bound(stat="logit_std", where="final", max=2, why="Too sure.")
    profile = with_value(make_profile(), "final", "logit_std", value, 0.1 * value)

    (result,) = judge(profile, [bound], model="big", alpha=0.01)

    assert result.verdict == verdict
    assert (result.value, result.stderr) == (value, 0.1 * value)


def test_an_enormous_log_interval_does_not_overflow() -> None:
    # with 2 seeds t is 3183 at 1e-4, so that the interval reaches exp(31830)
    bound = Bound(stat="logit_std", where="final", min=0, max=2, why="Too sure.")
    profile = with_value(make_profile(seeds=2), "final", "logit_std", 1.0, 10.0)

    (result,) = judge(profile, [bound], model="big")

    assert result.verdict == "inconclusive"


def test_a_log_statistic_of_zero_is_judged_as_it_is() -> None:
    bound = Bound(stat="logit_std", where="final", min=0.1, why="No signal.")
    profile = with_value(make_profile(), "final", "logit_std", 0.0, 0.0)

    (result,) = judge(profile, [bound], model="big")

    assert result.verdict == "violated"


def test_the_rate_of_false_violations_is_alpha_when_the_truth_lies_on_the_limit() -> None:
    runs, seeds, alpha = 4000, 6, 0.05
    draws = np.random.default_rng(1).normal(7.0, 0.3, (runs, seeds))
    errors = draws.std(axis=1, ddof=1) / math.sqrt(seeds)
    bound = Bound(stat="loss", where="final", max=7, why="Off the start.")

    verdicts = [
        judge(loss_profile(float(mean), float(error)), [bound], model="big", alpha=alpha)[0].verdict
        for mean, error in zip(draws.mean(axis=1), errors, strict=True)
    ]

    # a binomial rate of 0.05 over 4000 runs has a standard error of 0.00345; k = 4
    tolerance = 4 * math.sqrt(alpha * (1 - alpha) / runs)
    assert abs(verdicts.count("violated") / runs - alpha) < tolerance
    assert abs(verdicts.count("ok") / runs - alpha) < tolerance  # as the interval is symmetric


def test_alpha_is_shared_by_all_bounds_and_a_bound_on_every_layer_counts_once() -> None:
    layers = Bound(stat="token_cosine", where="every layer", max=0.9, why="Collapse.")
    tail = 0.05 / 2  # one bound on every layer, one on the loss
    reach = student_quantile(tail, 5)

    within = judge(loss_profile(6.0, 0.999 / reach), [layers, LOSS], model="big", alpha=0.05)
    beyond = judge(loss_profile(6.0, 1.001 / reach), [layers, LOSS], model="big", alpha=0.05)

    assert [r.verdict for r in within] == ["ok"] * 5
    assert [r.verdict for r in beyond] == ["ok"] * 4 + ["inconclusive"]


def test_an_inconclusive_result_says_how_many_seeds_it_needs() -> None:
    # spread 0.2 * sqrt(6) = 0.4899, distance 0.5; at 0.01 t_9 * spread / sqrt(10) = 0.4371,
    # t_8 * spread / 3 = 0.4730, t_7 * spread / sqrt(8) = 0.5193: 9 is the first below 0.5
    result = judge_loss(6.5, 0.2)

    assert result.verdict == "inconclusive"
    assert result.why == "Off the start. Too noisy to tell with 6 seeds; about 9 would."


@pytest.mark.parametrize("value", [7.0, 7.0001])
def test_a_value_on_the_limit_says_that_seeds_do_not_help(value: float) -> None:
    result = judge_loss(value, 0.2)

    assert result.why.endswith("sits on the limit: more seeds cannot settle it soon.")


@pytest.mark.parametrize(
    ("where", "places"),
    [
        ("every layer", ("layer 0", "layer 1", "layer 2")),
        ("last layer", ("layer 2",)),
        ("layer 1", ("layer 1",)),
        ("layer 01", ("layer 1",)),
        ("embedding", ("embedding",)),
    ],
)
def test_a_bound_expands_to_its_places(where: str, places: tuple[str, ...]) -> None:
    assert places_of(Bound(stat="resid_var", where=where, max=1), 3) == places


def test_a_layer_that_is_not_there_is_refused() -> None:
    bound = Bound(stat="resid_var", where="layer 4", max=1)

    with pytest.raises(ConfigError, match=r"resid_var must be at a layer from 0 to 3, .*'layer 4'"):
        judge(make_profile(), [bound], model="big")


def test_one_seed_is_refused() -> None:
    with pytest.raises(ConfigError, match="seeds must be at least 2 to judge the bounds of big"):
        judge(make_profile(seeds=1), [LOSS], model="big")


@pytest.mark.parametrize("alpha", [0.0, 0.5, -1.0, math.nan])
def test_an_alpha_that_is_no_error_rate_is_refused(alpha: float) -> None:
    with pytest.raises(ConfigError, match=r"alpha must be above 0 and below 0\.5"):
        judge(make_profile(), [LOSS], model="big", alpha=alpha)


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        (
            Bound(stat="grad_rms", where="every layer", max=1),
            r"bound on grad_rms at every layer must be on a measured statistic, got none in big at "
            r"layer 0\. Set grad = true under \[run\]",
        ),
        (
            Bound(stat="attn_entropy", where="last layer", min=0.5),
            r"bound on attn_entropy at last layer must be .* undefined there, as at seq_len = 1",
        ),
    ],
)
def test_a_bound_on_what_was_not_measured_is_an_error(bound: Bound, message: str) -> None:
    profile = with_value(make_profile(), "layer 3", "attn_entropy", None)

    with pytest.raises(ConfigError, match=message):
        judge(profile, [bound], model="big")


def test_a_value_without_a_standard_error_is_refused() -> None:
    profile = with_value(make_profile(), "final", "loss", 6.0)

    with pytest.raises(ConfigError, match="must be on a value with a standard error, got none in"):
        judge(profile, [LOSS], model="big")


def test_no_bounds_give_no_results() -> None:
    assert judge(make_profile(), [], model="big") == ()


def nonfinite_profile(where: str, *, grad: bool = False) -> Profile:
    """A profile whose stream (or logits) has NaN from `where` on, as measuring leaves it."""
    profile = make_profile(grad=grad)
    names = [name for name, _ in profile.places()]
    for name in names[names.index(where) :]:
        for stat in dict(profile.places())[name].values:
            if stat == "nonfinite":
                profile = with_value(profile, name, stat, 12.5, 3.0)
            else:
                profile = with_value(profile, name, stat, None)
    return profile


def test_a_value_that_is_not_finite_violates_its_bound_and_says_where_it_began() -> None:
    bound = Bound(stat="token_cosine", where="every layer", max=0.9, why="Collapse.")

    results = judge(nonfinite_profile("layer 2"), [bound], model="big")

    assert [r.verdict for r in results] == ["ok", "ok", "violated", "violated"]
    assert (results[3].value, results[3].stderr) == (None, None)
    assert results[3].why == "The value is not finite: NaN or infinity in layer 2. Collapse."


def test_a_single_nonfinite_count_in_one_seed_is_no_noise() -> None:
    # 1 of 6 seeds with one NaN: mean 1/6, standard error 1/6; an interval would hold 0
    bound = Bound(stat="nonfinite", where="layer 1", max=0, why="NaN spreads.")
    profile = with_value(make_profile(), "layer 1", "nonfinite", 1 / 6, 1 / 6)

    (result,) = judge(profile, [bound], model="big")

    assert (result.verdict, result.value, result.stderr) == ("violated", 1 / 6, 1 / 6)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_itself_not_finite_violates_its_bound(value: float) -> None:
    result = judge_loss(value, 0.1)

    assert (result.verdict, result.value) == ("violated", None)


@pytest.mark.parametrize(
    ("bad", "stat", "where", "cause"),
    [
        ("layer 1", "token_cosine", "layer 0", "final"),  # the logits are wrong as well
        ("layer 1", "token_cosine", "layer 3", "layer 1"),
        ("layer 1", "grad_rms", "layer 0", "layer 1"),  # the gradient comes from the loss
        ("final", "loss", "final", "final"),
        ("embedding", "resid_growth", "whole", "embedding"),
    ],
)
def test_nonfinite_values_reach_what_is_computed_from_them(
    bad: str, stat: str, where: str, cause: str
) -> None:
    profile = nonfinite_profile(bad, grad=True)

    assert nonfinite_place(profile, stat, where) == cause
    assert nonfinite_place(make_profile(), stat, where) is None


def test_a_layer_does_not_hear_of_later_layers() -> None:
    profile = with_value(make_profile(), "layer 2", "nonfinite", 1.0, 0.0)

    assert nonfinite_place(profile, "token_cosine", "layer 1") is None
    assert nonfinite_place(profile, "token_cosine", "layer 2") == "layer 2"


def test_a_healthy_profile_has_no_findings() -> None:
    profile = make_profile()

    assert findings_of(judge(profile, DEFAULT_BOUNDS, model="big")) == ()
    assert out_of_bounds(profile, DEFAULT_BOUNDS) == ()
    assert nonfinite_findings(profile) == ()


def test_logits_that_are_all_equal_violate_a_default_bound() -> None:
    silent = with_value(make_profile(seeds=6), "final", "logit_std", 0.0, 0.0)

    (found,) = findings_of(judge(silent, DEFAULT_BOUNDS, model="big"))
    (plainly,) = out_of_bounds(silent, DEFAULT_BOUNDS)
    assert (found.stat, found.where, found.severity) == ("logit_std", "final", "error")
    assert (plainly.stat, plainly.where, plainly.severity) == ("logit_std", "final", "warning")


def scores_profile(*scores: tuple[float, float]) -> Profile:
    profile = make_profile(n_layer=len(scores))
    for i, (value, stderr) in enumerate(scores):
        profile = with_value(profile, f"layer {i}", "attn_score_std", value, stderr)
    return profile


SCORES = Bound(stat="attn_score_std", where="every layer", max=2, why="Random keys.")


def test_layers_that_violate_one_bound_share_a_finding_that_names_the_worst() -> None:
    profile = scores_profile((2.5, 0.001), (1.0, 0.001), (3.0, 0.001), (2.75, 0.001))

    (finding,) = findings_of(judge(profile, [SCORES], model="big"))

    assert (finding.rule, finding.severity) == ("out-of-bounds", "error")
    assert finding.location == "big: layers 0, 2-3"
    assert finding.message == (
        "3 of 4 layers, worst layer 2: attn_score_std must be at most 2, got 3 ± 0.001. "
        "Random keys."
    )


def test_a_single_layer_is_named_without_a_count() -> None:
    profile = scores_profile((1.0, 0.001), (3.0, 0.001))

    (finding,) = findings_of(judge(profile, [SCORES], model="big"), rule="drift")

    assert (finding.rule, finding.location) == ("drift", "big: layer 1")
    assert finding.message == "attn_score_std must be at most 2, got 3 ± 0.001. Random keys."


def test_one_place_held_to_one_range_twice_is_one_finding() -> None:
    last = replace(SCORES, where="last layer")
    profile = scores_profile((1.0, 0.001), (3.0, 0.001))

    findings = findings_of(judge(profile, [SCORES, last, LOSS, LOSS], model="big"))

    assert [f.location for f in findings] == ["big: layer 1", "big: final"]
    assert findings[0].message.startswith("attn_score_std must be at most 2, got 3")
    assert findings[1].message.startswith("loss must be between 5 and 7, got 6.92")


def test_inconclusive_layers_are_a_warning_told_by_the_one_that_needs_most_seeds() -> None:
    profile = scores_profile((2.5, 0.2), (3.5, 0.001), (2.1, 0.1), (1.0, 0.001))

    violated, noisy = sorted(
        findings_of(judge(profile, [SCORES], model="big")), key=lambda f: f.severity
    )

    assert violated.location == "big: layer 1"
    assert (noisy.rule, noisy.severity) == ("inconclusive", "warning")
    assert noisy.location == "big: layers 0, 2"
    assert noisy.message.startswith(
        "2 of 4 layers, hardest to tell layer 2: attn_score_std must be at most 2, got 2.1 ± 0.1. "
        "Random keys. Too noisy to tell with 6 seeds; about "
    )


def test_findings_of_several_models_stay_apart() -> None:
    profile = scores_profile((3.0, 0.001))
    results = [r for m in ("small", "big") for r in judge(profile, [SCORES], model=m)]

    assert [f.location for f in findings_of(results)] == ["small: layer 0", "big: layer 0"]


def test_the_worst_below_a_minimum_is_the_smallest() -> None:
    bound = replace(SCORES, min=1.0, max=None)
    profile = scores_profile((0.5, 0.001), (0.25, 0.001))

    (finding,) = findings_of(judge(profile, [bound], model="big"))

    assert "worst layer 1: attn_score_std must be at least 1, got 0.25" in finding.message


def test_a_value_just_beyond_its_limit_is_shown_with_the_digits_that_tell() -> None:
    (finding,) = findings_of([judge_loss(7.0000004, 0.0)])

    assert "loss must be between 5 and 7, got 7.0000004. Off the start." in finding.message


@pytest.mark.parametrize(
    ("stderr", "told"),
    [(0.01234, "0.012"), (9.96, "10"), (99.4, "99"), (99.7, "100"), (100.4, "100"), (451.2, "451")],
)
def test_a_standard_error_has_two_digits_and_no_exponent(stderr: float, told: str) -> None:
    (finding,) = findings_of([judge_loss(5000.0, stderr)])

    assert f"loss must be between 5 and 7, got 5000 ± {told}. Off the start." in finding.message


def test_a_nonfinite_value_is_the_worst_of_all() -> None:
    (finding,) = findings_of(judge(nonfinite_profile("layer 2"), [SCORES], model="big"))

    assert finding.message == (
        "2 of 4 layers, worst layer 2: attn_score_std must be at most 2, got no finite value. "
        "The value is not finite: NaN or infinity in layer 2. Random keys."
    )


def test_a_look_compares_means_plainly_and_warns() -> None:
    profile = scores_profile((2.5, 9.0), (1.9, 9.0), (2.25, 9.0))

    (finding,) = out_of_bounds(profile, [SCORES])

    assert (finding.rule, finding.severity) == ("out-of-bounds", "warning")
    assert finding.where == "layers 0, 2"
    assert finding.message == (
        "2 of 3 layers, worst layer 0: attn_score_std must be at most 2, got 2.5 ± 9. Random keys."
    )


def test_a_look_with_one_seed_needs_no_standard_error() -> None:
    profile = with_value(make_profile(seeds=1), "final", "loss", 9.0)

    (finding,) = out_of_bounds(profile, [LOSS])

    assert finding.message == "loss must be between 5 and 7, got 9. Off the start."


def test_a_look_skips_what_was_not_measured() -> None:
    assert out_of_bounds(make_profile(), [Bound(stat="grad_rms", where="embedding", max=0)]) == ()


def test_a_look_takes_values_that_are_not_finite_for_errors() -> None:
    findings = out_of_bounds(nonfinite_profile("layer 2"), DEFAULT_BOUNDS)

    assert {f.severity for f in findings} == {"error"}
    assert [f.stat for f in findings] == [b.stat for b in DEFAULT_BOUNDS]


@pytest.mark.parametrize(
    ("where", "what"),
    [("embedding", "the residual stream"), ("layer 2", "the residual stream"), ("final", "logits")],
)
def test_the_first_nonfinite_place_is_one_error(where: str, what: str) -> None:
    (finding,) = nonfinite_findings(nonfinite_profile(where))

    assert (finding.rule, finding.severity, finding.where) == ("nonfinite", "error", where)
    assert what in finding.message
    assert "got 12.5 NaN or infinity (mean over 6 seeds)" in finding.message
