"""Lazy and dense agree in law: every statistic of a profile, over 100 to 400 seeds."""

from collections.abc import Mapping
from math import sqrt
from typing import Any

import numpy as np
import pytest
from support.engine_samples import SUBJECTS, assert_agreement, lazy_against_dense, named

QUICK = (
    "built-in",
    "ours, Llama-like",
    "ours, looped",
    "ours, experts in one tensor",
    "ours, one of many experts",
    "transformers' GPT-2",
    "transformers' Llama",
)


@pytest.mark.parametrize("name", named(*QUICK))
def test_lazy_and_dense_agree_in_law_over_100_seeds(name: str) -> None:
    assert_agreement(lazy_against_dense(name, seeds=100, grad=True), family=len(QUICK))


@pytest.mark.parametrize("name", ["built-in", "ours, looped"])
def test_lazy_and_dense_agree_in_law_where_there_is_no_backward_pass(name: str) -> None:
    assert_agreement(lazy_against_dense(name, seeds=100, grad=False), family=2)


@pytest.mark.slow
@pytest.mark.parametrize("grad", [False, True], ids=["forward", "both passes"])
@pytest.mark.parametrize("name", named(*SUBJECTS))
def test_lazy_and_dense_agree_in_law_over_400_seeds(name: str, grad: bool) -> None:
    found = lazy_against_dense(name, seeds=400, grad=grad)

    assert_agreement(found, family=2 * len(SUBJECTS))


SETTINGS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "bfloat16": ("built-in", {"dtype": "bfloat16"}),
    "a batch": ("ours, Llama-like", {"batch_size": 2, "seq_len": 6}),
    "tokens that repeat": ("built-in, untied, no biases", {"data": "zipf", "seq_len": 16}),
    "more positions than columns": ("ours, tied", {"seq_len": 24}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", SETTINGS)
def test_lazy_and_dense_agree_in_law_under_other_settings(case: str) -> None:
    name, settings = SETTINGS[case]

    found = lazy_against_dense(name, seeds=200, grad=True, **settings)

    assert_agreement(found, family=len(SETTINGS))


@pytest.mark.hf
@pytest.mark.slow
def test_chances_are_spread_as_those_of_right_engines_are() -> None:
    # The mean of a model's p has a variance of at most 1/12, however its statistics depend on each
    # other; models have seeds of their own statistics: k = 4 standard errors of their mean.
    means = [np.mean(list(lazy_against_dense(n, seeds=100, grad=True).values())) for n in SUBJECTS]

    assert abs(float(np.mean(means)) - 0.5) < 4 * sqrt(1 / 12 / len(means))
