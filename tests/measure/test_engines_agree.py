"""Engines agree: dense and stream to rounding, lazy and dense in law, for every statistic."""

from math import inf
from typing import Any

import pytest
import torch
from support.engine_samples import (
    FAR,
    SUBJECTS,
    assert_agreement,
    holm,
    lazy_against_dense,
    named,
    ours,
    probabilities,
    run_of,
    samples,
    subject,
)
from support.foreign_models import FOREIGN
from support.profiles import assert_equal_to_rounding
from torch import nn

from benchmarks.agreement import largest_gap
from benchmarks.engines import crossing
from gptinit.config import Engine
from gptinit.measure.measure import measure
from gptinit.measure.subject import Subject
from gptinit.results.profile import Profile

REPEATED = (
    "built-in",
    "ours, Llama-like",
    "ours, looped",
    "ours, experts in one tensor",
    "ours, one of many experts",
    "transformers' GPT-2",
    "transformers' Llama",
)


def profile_of(model: Subject, engine: Engine, seed: int, **settings: Any) -> Profile:
    """The profile of a model on uniform tokens."""
    return measure(model, run_of(engine, seed, **settings))


@pytest.mark.parametrize("name", named(*SUBJECTS))
@pytest.mark.parametrize("grad", [False, True], ids=["forward", "both passes"])
def test_dense_and_stream_are_equal_to_rounding(name: str, grad: bool) -> None:
    dense, stream = (
        profile_of(subject(name, e), e, 0, grad=grad, seeds=2) for e in ("dense", "stream")
    )

    assert_equal_to_rounding(dense, stream)


def test_lazy_and_dense_agree_in_law() -> None:
    """One model and 40 seeds; all models and up to 400 seeds are in tests/laws."""
    assert_agreement(lazy_against_dense("ours, Llama-like", seeds=40, grad=True), family=1)


def test_a_std_that_is_a_tenth_too_large_does_not_go_unnoticed() -> None:
    # 16 x 16 and more entries in three layers: 21 % of variance is far outside of what seeds vary.
    model = subject("ours, Llama-like", "dense")
    wrong = ours(louder_llama)

    one = samples(model, "dense", seed=0, seeds=60, grad=False)
    other = samples(wrong, "lazy", seed=FAR, seeds=60, grad=False)

    corrected = holm(probabilities(one, other))
    assert min(corrected.values()) < 1e-6
    assert corrected["layer 0", "attn_var"] < 0.01


def louder_llama() -> nn.Module:
    """The Llama-like model with each matrix a tenth larger."""
    module = FOREIGN["llama"]()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.22)
    return module


def test_what_an_operator_without_a_rule_needs_is_drawn_and_noted() -> None:
    profile = profile_of(subject("ours, an operator without a rule", "lazy"), "lazy", 0, grad=True)

    (note,) = [n for n in profile.notes if n.kind == "materialised"]
    assert note.where == "h.*.mlp.c_proj.weight"
    assert "; the weight was materialised." in note.message


def test_products_that_are_not_normal_are_noted_with_a_bound() -> None:
    profile = profile_of(subject("built-in, pytorch-default", "lazy"), "lazy", 0, grad=False)

    notes = [n for n in profile.notes if n.kind == "approximate"]
    assert {n.where for n in notes} >= {"qkv", "attn_out", "mlp_up", "mlp_down"}
    assert all("(Berry-Esseen)" in n.message for n in notes)


def test_the_size_from_which_on_an_engine_is_faster_lies_between_two_measured() -> None:
    # 2 against size / 25: equal at 50, between 10 and 100, where logarithms are straight lines.
    assert crossing([10, 100], [2, 2], [0.4, 4]) == pytest.approx(50)
    assert crossing([10, 100], [0.1, 2], [0.4, 4]) is None
    assert crossing([10, 100], [2, 8], [0.4, 4]) == inf


@pytest.mark.parametrize("name", named(*REPEATED))
@pytest.mark.parametrize("grad", [False, True], ids=["forward", "both passes"])
def test_equal_lazy_runs_give_equal_profiles(name: str, grad: bool) -> None:
    first, second = (
        profile_of(subject(name, "lazy"), "lazy", 3, grad=grad, seeds=2) for _ in range(2)
    )

    assert largest_gap(first, second) == 0
