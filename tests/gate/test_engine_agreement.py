"""Engines are told apart where they differ beyond chance, and only there."""

import random
from dataclasses import replace
from math import sqrt
from statistics import fmean, stdev

import pytest
from support.report_profiles import small_profile

import gptinit
from gptinit.config import Engine, RunConfig
from gptinit.facts.vocabulary import Axis
from gptinit.gate.engine_agreement import Agreement, engine_agreement
from gptinit.report.summary import summarise_engines
from gptinit.results.profile import Comparison, Place, Profile


def profile(engine: Engine, *, shift: float = 0.0) -> Profile:
    """A profile of 4 seeds: numbers near 1 with a standard error of 0.01."""
    made = small_profile()

    def moved(place: Place) -> Place:
        values = dict.fromkeys(place.values, 1 + shift)
        return replace(place, values=values, stderr=dict.fromkeys(values, 0.01))

    return replace(
        made,
        run=replace(made.run, engine=engine, seeds=4),
        embedding=moved(made.embedding),
        layers=tuple(map(moved, made.layers)),
        final=moved(made.final),
        whole=moved(made.whole),
    )


def comparison(*profiles: Profile, axis: Axis = "engines") -> Comparison:
    return Comparison(
        axis=axis, labels=tuple(str(i) for i in range(len(profiles))), profiles=profiles
    )


def test_equal_profiles_agree_in_every_number() -> None:
    found = engine_agreement(comparison(profile("dense"), profile("stream")))

    places = [place for _, place in small_profile().places()]
    numbers = sum(len(place.values) + 2 * len(place.weight_grad) for place in places)
    assert found == (Agreement(engine="stream", reference="dense", numbers=numbers, equal=numbers),)
    assert found[0].agrees


@pytest.mark.parametrize(("shift", "agrees"), [(0.05, True), (0.3, False)])
def test_what_differs_beyond_chance_does_not_agree(shift: float, agrees: bool) -> None:
    (found,) = engine_agreement(comparison(profile("dense"), profile("lazy", shift=shift)))

    assert found.largest == pytest.approx(shift / 0.01 / 2**0.5)
    assert found.agrees is agrees


def test_one_number_that_is_off_is_found_and_named() -> None:
    lazy = profile("lazy")
    (layer,) = lazy.layers
    layers = (replace(layer, values={**layer.values, "token_cosine": 2.0}),)

    (found,) = engine_agreement(comparison(profile("dense"), replace(lazy, layers=layers)))

    assert (found.stat, found.where, found.agrees) == ("token_cosine", "layer 0", False)
    assert found.equal == found.numbers - 1


def sampled(engine: Engine, drawn: random.Random, *, seeds: int, mean: float = 1.0) -> Profile:
    """A profile with the mean and standard error of some normal numbers at every place."""
    made = small_profile()

    def of(place: Place) -> Place:
        values, stderr = {}, {}
        for stat in place.values:
            sample = [drawn.gauss(mean, 0.1) for _ in range(seeds)]
            values[stat], stderr[stat] = fmean(sample), stdev(sample) / seeds**0.5
        return Place(values=values, stderr=stderr)

    return replace(
        made,
        run=replace(made.run, engine=engine, seeds=seeds),
        embedding=of(made.embedding),
        layers=tuple(map(of, made.layers)),
        final=of(made.final),
        whole=of(made.whole),
    )


@pytest.mark.parametrize("seeds", [2, 3, 8])
@pytest.mark.parametrize("runs", [500, pytest.param(3000, marks=pytest.mark.laws)])
def test_right_engines_are_called_apart_once_in_a_hundred_comparisons(
    seeds: int, runs: int
) -> None:
    drawn = random.Random(seeds)
    verdicts = [
        engine_agreement(
            comparison(sampled("dense", drawn, seeds=seeds), sampled("lazy", drawn, seeds=seeds))
        )[0].agrees
        for _ in range(runs)
    ]

    # Independent numbers: 5 standard errors of a binomial on either side (of 3000: 30 +- 28).
    assert abs(verdicts.count(False) - 0.01 * runs) < 5 * sqrt(0.01 * 0.99 * runs) + 1


def test_eight_seeds_tell_a_difference_of_four_spreads() -> None:
    drawn = random.Random(0)
    wrong = [
        engine_agreement(
            comparison(sampled("dense", drawn, seeds=8), sampled("lazy", drawn, seeds=8, mean=1.4))
        )[0].agrees
        for _ in range(200)
    ]

    assert not any(wrong)


def test_numbers_that_one_engine_lacks_are_no_agreement() -> None:
    lazy = profile("lazy")
    (layer,) = lazy.layers
    values = {stat: value for stat, value in layer.values.items() if stat != "resid_var"}

    (found,) = engine_agreement(
        comparison(profile("dense"), replace(lazy, layers=(replace(layer, values=values),)))
    )

    assert (found.missing, found.agrees) == (1, False)


def test_one_seed_tells_nothing_of_numbers_that_differ() -> None:
    dense, lazy = (
        replace(p, run=replace(p.run, seeds=1))
        for p in (profile("dense"), profile("lazy", shift=0.1))
    )

    (found,) = engine_agreement(comparison(dense, lazy))

    assert found.agrees is None
    sentence = summarise_engines(comparison(dense, lazy))[0]
    assert "one seed gives no standard errors" in sentence.text


def test_a_difference_without_a_standard_error_is_not_by_chance() -> None:
    dense, lazy = profile("dense"), profile("lazy", shift=0.1)
    lazy, dense = (replace(p, embedding=replace(p.embedding, stderr={})) for p in (lazy, dense))

    (found,) = engine_agreement(comparison(dense, lazy))

    assert found.agrees is False
    assert found.where == "embedding"


@pytest.mark.parametrize("axis", ["schemes", "depths", "widths", "models"])
def test_only_engines_are_held_against_each_other(axis: Axis) -> None:
    assert engine_agreement(comparison(profile("dense"), profile("lazy"), axis=axis)) == ()


def test_theory_is_no_measurement_and_one_engine_has_no_other() -> None:
    assert engine_agreement(comparison(profile("theory"), profile("lazy"))) == ()


def test_engines_of_a_real_model_agree() -> None:
    run = RunConfig(seeds=3, seq_len=16, device="cpu", grad=True)

    found = engine_agreement(gptinit.compare("engines", model="nanogpt-char", n_layer=2, run=run))

    assert [(a.engine, a.reference, a.agrees) for a in found] == [
        ("stream", "dense", True),
        ("lazy", "dense", True),
    ]
    assert found[0].equal == found[0].numbers
