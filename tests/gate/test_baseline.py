"""Baselines: a readable file, and what counts as moved."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from support.profiles import make_profile, with_value

from gptinit.errors import ConfigError
from gptinit.gate.baseline import baseline_document, compare_to_baseline
from gptinit.gate.judge import BoundResult, findings_of
from gptinit.gate.student_t import student_quantile
from gptinit.results.profile import Place, Profile

EMPTY = Place(values={})
EMPTY_LAYERS = (EMPTY,) * 4


def loss_profile(value: float, stderr: float, *, seeds: int = 6, stat: str = "loss") -> Profile:
    """A profile with one statistic, at its logits."""
    final = Place(values={stat: value}, stderr={stat: stderr})
    return make_profile(seeds=seeds, embedding=EMPTY, layers=EMPTY_LAYERS, final=final, whole=EMPTY)


def compare(base: Profile, now: Profile, *, alpha: float = 0.01) -> BoundResult:
    (result,) = compare_to_baseline(baseline_document({"a": base}), {"a": now}, alpha=alpha)
    return result


def test_the_file_is_readable_json_with_a_line_for_each_statistic() -> None:
    text = baseline_document({"b": make_profile(), "a": loss_profile(6.98765432, 0.00123456789)})

    lines = text.splitlines()
    assert lines[:3] == ["{", '  "models": {', '    "a": {']
    assert '          "loss": {"seeds": 6, "stderr": 0.00123457, "value": 6.98765}' in lines
    assert text.endswith("}\n")


def test_the_file_has_the_settings_and_four_places() -> None:
    model = json.loads(baseline_document({"a": make_profile()}))["models"]["a"]

    assert model["settings"] == {
        "scheme": "nanogpt",
        "n_layer": 4,
        "n_embd": 64,
        "vocab_size": 1000,
        "dtype": "float32",
        "batch_size": 1,
        "seq_len": 64,
        "data": "zipf",
    }
    assert sorted(model["places"]) == ["embedding", "final", "last layer", "whole"]
    growth = {"seeds": 6, "stderr": 0.05, "value": 5.0}
    assert model["places"]["last layer"]["resid_growth"] == growth


def test_equal_profiles_give_equal_files_in_any_order() -> None:
    one, other = make_profile(), make_profile(n_layer=6)

    assert baseline_document({"a": one, "b": other}) == baseline_document({"b": other, "a": one})


def test_a_file_of_data_is_known_by_its_name_wherever_it_lies() -> None:
    def profile(data: str) -> Profile:
        usual = make_profile()
        return replace(usual, run=replace(usual.run, data=data))

    text = baseline_document({"a": profile("/home/me/corpus.txt")})

    assert "/home/me" not in text
    assert compare_to_baseline(text, {"a": profile("/ci/corpus.txt")})


def test_the_same_profile_has_not_moved() -> None:
    profile = make_profile(grad=True)

    results = compare_to_baseline(baseline_document({"a": profile}), {"a": profile})

    assert {r.verdict for r in results} == {"ok"}
    assert [r.where for r in results[:1] + results[-1:]] == ["embedding", "whole"]
    assert {r.where for r in results} == {"embedding", "layer 3", "final", "whole"}
    assert results[-1].why == "Baseline was 5 ± 0.05."
    assert findings_of(results) == ()


def test_rounding_of_the_file_is_no_move_even_without_noise() -> None:
    for value in (1 / 3, 2 / 3, 1e-7 / 3, 123456.5, 999999.5, -1 / 3):
        assert compare(loss_profile(value, 0.0), loss_profile(value, 0.0)).verdict == "ok"


def test_without_noise_more_than_the_rounding_is_a_move() -> None:
    result = compare(loss_profile(7.0, 0.0), loss_profile(7.00001, 0.0))

    assert result.verdict == "violated"
    assert "it moved, and has no noise" in result.why


@pytest.mark.parametrize(
    ("by", "verdict"), [(0.99, "ok"), (-0.99, "ok"), (1.01, "violated"), (-1.01, "violated")]
)
def test_a_move_beyond_the_joint_noise_is_told_in_standard_errors(by: float, verdict: str) -> None:
    # equal seeds and noise: 5 + 5 degrees of freedom, joint standard error 0.1 * sqrt(2)
    reach = student_quantile(0.01 / 2, 10) * 0.1 * math.sqrt(2)

    result = compare(loss_profile(7.0, 0.1), loss_profile(7.0 + by * reach, 0.1))

    assert result.verdict == verdict
    assert result.max == pytest.approx(7.0 + reach, abs=1e-5)
    assert result.min == pytest.approx(7.0 - reach, abs=1e-5)


def test_a_move_asks_for_review() -> None:
    result = compare(loss_profile(7.0, 0.03), loss_profile(8.0, 0.04))

    # 1 / hypot(0.03, 0.04) = 20
    assert result.why == (
        "Baseline was 7 ± 0.03: moved by +20.0 standard errors. Review and run gptinit check "
        "--update-baseline if intended."
    )
    (finding,) = findings_of([result], rule="drift")
    assert (finding.rule, finding.severity, finding.location) == ("drift", "error", "a: final")
    assert finding.message.startswith("loss must be between 6.")


@pytest.mark.parametrize(
    ("then", "now", "dof"),
    [
        ((0.1, 6), (0.1, 6), 10),
        ((0.1, 6), (0.1, 12), 13),  # (1 + 1)^2 / (1/5 + 1/11) = 13.75
        ((0.2, 6), (0.1, 12), 7),  # (4 + 1)^2 / (16/5 + 1/11) = 7.6
        ((0.1, 6), (1e-9, 12), 5),
        ((0.0, 6), (0.1, 12), 11),
    ],
)
def test_degrees_of_freedom_follow_welch_and_satterthwaite(
    then: tuple[float, int], now: tuple[float, int], dof: int
) -> None:
    result = compare(
        loss_profile(7.0, then[0], seeds=then[1]), loss_profile(7.0, now[0], seeds=now[1])
    )

    reach = student_quantile(0.005, dof) * math.hypot(then[0], now[0])
    assert result.max == pytest.approx(7.0 + reach, abs=1e-5)


@pytest.mark.parametrize(("factor", "verdict"), [(0.99, "ok"), (1.01, "violated")])
def test_ratios_and_standard_deviations_are_compared_as_logarithms(
    factor: float, verdict: str
) -> None:
    # relative standard error 0.1 both: log reach = t_10 * 0.1 * sqrt(2)
    reach = student_quantile(0.005, 10) * 0.1 * math.sqrt(2)
    base = loss_profile(0.16, 0.016, stat="logit_std")
    value = 0.16 * math.exp(-reach * factor)

    result = compare(base, loss_profile(value, value / 10, stat="logit_std"))

    assert result.verdict == verdict
    assert result.min == pytest.approx(0.16 * math.exp(-reach), rel=1e-5)
    assert result.max == pytest.approx(0.16 * math.exp(reach), rel=1e-5)


def test_an_enormous_log_interval_has_no_end_instead_of_overflowing() -> None:
    base = loss_profile(1e20, 1e22, seeds=2, stat="logit_std")

    result = compare(base, base, alpha=1e-9)

    assert (result.verdict, result.max) == ("ok", None)


def test_alpha_is_shared_by_all_comparisons_of_all_models() -> None:
    profile = loss_profile(7.0, 0.1)
    named = {"a": profile, "b": profile}

    results = compare_to_baseline(baseline_document(named), named, alpha=0.01)

    reach = student_quantile(0.01 / 2 / 2, 10) * 0.1 * math.sqrt(2)
    assert [r.max for r in results] == [pytest.approx(7.0 + reach, abs=1e-5)] * 2


def test_the_rate_of_false_moves_is_at_most_alpha_for_independent_runs() -> None:
    runs, seeds, alpha = 2000, 6, 0.05
    draws = np.random.default_rng(2).normal(7.0, 0.3, (runs, 2, seeds))
    means = draws.mean(axis=2)
    errors = draws.std(axis=2, ddof=1) / math.sqrt(seeds)

    moved = sum(
        compare(
            loss_profile(float(mean[0]), float(error[0])),
            loss_profile(float(mean[1]), float(error[1])),
            alpha=alpha,
        ).verdict
        == "violated"
        for mean, error in zip(means, errors, strict=True)
    )

    # Welch's test is approximate and conservative at equal sizes, the more for whole degrees of
    # freedom: between alpha / 2 and alpha, plus k = 4 standard errors of a rate over 2000 runs
    tolerance = 4 * math.sqrt(alpha * (1 - alpha) / runs)
    assert alpha / 2 - tolerance < moved / runs < alpha + tolerance


def test_one_nonfinite_value_in_one_seed_is_a_move() -> None:
    profile = make_profile()
    text = baseline_document({"a": profile})

    results = compare_to_baseline(
        text, {"a": with_value(profile, "embedding", "nonfinite", 1 / 6, 1 / 6)}
    )

    (moved,) = [r for r in results if r.verdict != "ok"]
    assert (moved.stat, moved.min, moved.max) == ("nonfinite", 0.0, 0.0)


def test_a_value_that_is_not_finite_any_more_has_moved() -> None:
    profile = make_profile()
    bad = with_value(with_value(profile, "final", "nonfinite", 3.0, 0.0), "final", "loss", None)

    results = compare_to_baseline(baseline_document({"a": profile}), {"a": bad})

    moved = {r.stat: r for r in results if r.verdict != "ok"}
    assert set(moved) == {"nonfinite", "loss"}
    assert (moved["loss"].value, moved["loss"].stderr) == (None, None)
    assert "it is not finite now, NaN or infinity in final. Review and run" in moved["loss"].why


def test_other_settings_are_refused_and_named() -> None:
    profile = make_profile()
    other = replace(profile, scheme="plain", run=replace(profile.run, seq_len=32))

    with pytest.raises(
        ConfigError,
        match=r"baseline of a must be made with the settings of this run, got scheme='nanogpt' "
        r"\(now 'plain'\), seq_len=64 \(now 32\)\. Restore them, or review",
    ):
        compare_to_baseline(baseline_document({"a": profile}), {"a": other})


def test_more_seeds_are_no_other_settings() -> None:
    text = baseline_document({"a": make_profile()})

    results = compare_to_baseline(text, {"a": make_profile(seeds=12)})

    assert {r.verdict for r in results} == {"ok"}


def test_a_model_that_the_baseline_lacks_is_refused() -> None:
    text = baseline_document({"a": make_profile()})

    with pytest.raises(
        ConfigError, match=r"must have the model b, got a\. Run gptinit check --update-baseline"
    ):
        compare_to_baseline(text, {"b": make_profile()})


def test_a_model_that_is_checked_no_more_does_not_matter() -> None:
    text = baseline_document({"a": make_profile(), "b": make_profile()})

    assert {r.model for r in compare_to_baseline(text, {"b": make_profile()})} == {"b"}


def test_a_statistic_that_the_baseline_lacks_is_refused() -> None:
    text = baseline_document({"a": make_profile()})

    with pytest.raises(ConfigError, match="baseline of a must have grad_rms at embedding, got"):
        compare_to_baseline(text, {"a": make_profile(grad=True)})


def test_a_statistic_that_is_measured_no_more_is_refused() -> None:
    text = baseline_document({"a": make_profile(grad=True)})

    with pytest.raises(
        ConfigError,
        match=r"grad_rms of a at embedding must be measured as in the baseline, got none\. Set "
        r"grad = true under \[run\]\.",
    ):
        compare_to_baseline(text, {"a": make_profile()})


def test_one_seed_is_no_baseline_and_is_not_compared() -> None:
    text = baseline_document({"a": make_profile()})

    with pytest.raises(ConfigError, match="seeds must be at least 2 for a baseline of a"):
        baseline_document({"a": make_profile(seeds=1)})
    with pytest.raises(ConfigError, match="seeds must be at least 2"):
        compare_to_baseline(text, {"a": make_profile(seeds=1)})


def test_an_alpha_that_is_no_error_rate_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"alpha must be above 0 and below 0\.5, got 0"):
        compare_to_baseline("{}", {}, alpha=0)


LOSS = '"loss": {"seeds": 6, "stderr": 0.0692, "value": 6.92}'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{", "", r"baseline must be JSON, got .*Review and run gptinit check --update-baseline\."),
        ('"schema_version": 1', '"schema_version": 2', r"must have schema_version 1, got 2\."),
        ('"models"', '"model"', r"baseline models must be an object, got None"),
        ('"places"', '"place"', r"baseline a places must be an object, got None"),
        ('"settings"', '"setting"', r"baseline a settings must be an object, got None"),
        ('"whole"', '"hole"', r"baseline a whole must be an object, got None"),
        ('"loss"', '"lass"', r"a final statistic must be .*'lass'\. Did you mean loss"),
        (LOSS, '"loss": 6.92', r"baseline a final loss must be an object, got 6\.92"),
        ('"value": 6.92', '"value": "6.92"', r"a final loss must have value, stderr, seeds of 2"),
        ('"value": 6.92', '"value": NaN', r"a final loss must have"),
        ('"value": 6.92', '"value": true', r"a final loss must have"),
        ('"value": 6.92', '"value": 1' + "0" * 400, r"a final loss must have"),
        ('"stderr": 0.0692', '"stderr": -1', r"a final loss must have"),
        ('"seeds": 6, "stderr": 0.0692', '"seeds": 1, "stderr": 0.0692', r"a final loss must have"),
        (
            '"seeds": 6, "stderr": 0.0692',
            '"seeds": 2.5, "stderr": 0.0692',
            r"a final loss must have",
        ),
    ],
)
def test_a_broken_file_is_one_line(old: str, new: str, message: str) -> None:
    profile = make_profile()
    text = baseline_document({"a": profile})
    assert old in text

    with pytest.raises(ConfigError, match=message) as caught:
        compare_to_baseline(text.replace(old, new, 1), {"a": profile})

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "null", "[" * 100_000])
def test_a_file_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="baseline must be"):
        compare_to_baseline(text, {"a": make_profile()})


@pytest.mark.parametrize("alpha", [0.0, -0.1, 0.5, 0.7, math.nan])
def test_a_chance_of_a_false_alarm_is_above_zero_and_below_a_half(alpha: float) -> None:
    with pytest.raises(ConfigError, match=r"^alpha must be above 0 and below 0\.5, got"):
        compare_to_baseline("{}", {}, alpha=alpha)
