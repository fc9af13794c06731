"""Means over seeds and their standard errors."""

import math

import pytest

from gptinit.facts.vocabulary import STATISTICS
from gptinit.results.averaging import SeedPlace, average_place, mean_and_stderr, with_ratios


def test_plain_means_have_the_usual_standard_error() -> None:
    # mean 4, sample variance (9 + 1 + 4 + 0) / 3 = 14/3 over 4 seeds
    mean, stderr = mean_and_stderr([1.0, 5.0, 6.0, 4.0], log=False)

    assert mean == 4.0
    assert stderr == pytest.approx(math.sqrt(14 / 3 / 4))


def test_ratios_are_averaged_as_logarithms() -> None:
    mean, stderr = mean_and_stderr([0.01, 1.0, 100.0], log=True)

    # logs -a, 0, a with a = ln 100: mean 0, sample variance a^2
    assert mean == pytest.approx(1.0)
    assert stderr == pytest.approx(math.log(100) / math.sqrt(3))


def test_a_zero_among_ratios_is_averaged_as_it_is() -> None:
    assert mean_and_stderr([0.0, 2.0], log=True) == (1.0, 1.0)


def test_one_seed_has_no_standard_error() -> None:
    assert mean_and_stderr([3.0], log=False) == (3.0, None)


def test_a_statistic_that_is_not_finite_in_one_seed_is_absent() -> None:
    seeds = [
        SeedPlace(values={"resid_var": 1.0, "max_abs": 2.0, "nonfinite": 0.0}),
        SeedPlace(values={"resid_var": math.inf, "max_abs": 4.0, "nonfinite": 3.0}),
    ]

    place = average_place(seeds)

    assert place.values == {"max_abs": 3.0, "nonfinite": 1.5}
    assert place.stderr == {"max_abs": 1.0, "nonfinite": 1.5}


def test_statistics_stand_in_the_order_of_the_vocabulary() -> None:
    place = average_place([SeedPlace(values={"max_abs": 1.0, "mlp_var": 1.0, "resid_var": 1.0})])

    assert list(place.values) == ["resid_var", "mlp_var", "max_abs"]


def test_weight_gradients_are_averaged_as_logarithms_and_zero_weights_have_no_ratio() -> None:
    seeds = [
        SeedPlace(values={}, weight_grad={"qkv": (1.0, 0.5), "linear_bias": (1.0, 0.0)}),
        SeedPlace(values={}, weight_grad={"qkv": (4.0, 0.5), "linear_bias": (1.0, 0.0)}),
    ]

    averaged = average_place(seeds).weight_grad

    assert averaged["qkv"].grad_rms == pytest.approx(2.0)
    assert averaged["qkv"].ratio == pytest.approx(4.0)
    assert averaged["linear_bias"].ratio is None
    # ln 1 and ln 4 have a mean with a standard error of ln(4) / 2; equal numbers have none.
    error = math.log(4) / 2
    assert averaged["qkv"].stderr == pytest.approx(
        {"grad_rms": 2 * error, "weight_rms": 0.0, "ratio": 4 * error}
    )
    assert averaged["linear_bias"].stderr == {"grad_rms": 0.0, "weight_rms": 0.0}


def test_one_seed_gives_weight_gradients_no_standard_error() -> None:
    (found,) = average_place(
        [SeedPlace(values={}, weight_grad={"q": (1.0, 2.0)})]
    ).weight_grad.values()

    assert (found.ratio, found.stderr) == (0.5, {})


def test_growth_is_relative_to_the_embedding_and_to_the_last_layer_of_the_same_seed() -> None:
    layers = [
        SeedPlace(values={"resid_var": 4.0, "grad_rms": 6.0}, weight_grad={"q": (1.0, 2.0)}),
        SeedPlace(values={"resid_var": 10.0, "grad_rms": 3.0}),
    ]

    found = with_ratios(
        SeedPlace(values={"resid_var": 2.0, "grad_rms": 9.0}), layers, SeedPlace(values={})
    )

    places = dict(found.places())
    assert places["embedding"].values == {"resid_var": 2.0, "grad_rms": 9.0, "grad_growth": 3.0}
    assert [places[f"layer {i}"].values["resid_growth"] for i in (0, 1)] == [2.0, 5.0]
    assert [places[f"layer {i}"].values["grad_growth"] for i in (0, 1)] == [2.0, 1.0]
    assert places["layer 0"].weight_grad == {"q": (1.0, 2.0)}
    assert places["whole"].values == {"resid_growth": 5.0}  # two layers have no exponents


def test_growth_over_nothing_is_absent() -> None:
    layer = SeedPlace(values={"resid_var": 4.0, "grad_rms": 0.0})

    found = with_ratios(SeedPlace(values={"resid_var": 0.0}), [layer], SeedPlace(values={}))

    assert found.layers[0].values == layer.values
    assert found.whole.values == {}


@pytest.mark.parametrize("stat", STATISTICS)
def test_only_standard_deviations_and_ratios_are_averaged_as_logarithms(stat: str) -> None:
    ratios = ("resid_growth", "grad_growth")
    deviations = ("logit_std", "attn_score_std", "grad_rms")

    place = average_place([SeedPlace(values={stat: 1.0}), SeedPlace(values={stat: 4.0})])

    # The geometric mean of 1 and 4, or the arithmetic one.
    expected = 2.0 if stat in (*ratios, *deviations) else 2.5
    assert place.values[stat] == pytest.approx(expected)
