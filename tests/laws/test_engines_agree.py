"""Engines agree: dense and stream bitwise, lazy and dense in law, for every statistic of a profile.

Lazy weights are other numbers than dense ones, so two samples of seeds are compared, statistic by
statistic, by the test of Kolmogorov and Smirnov (distribution-free, exact p). Seeds are fixed, so a
test gives the same p whenever it runs. Corrected by Holm over the statistics of a model and by
Bonferroni over models: with right engines any fails with probability 1 %, and none did.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache, partial
from math import inf, sqrt
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.stats import ks_2samp
from support.foreign_models import FOREIGN, factory
from support.lazy_models import ODD
from support.profiles import assert_equal_to_rounding
from support.subjects import tiny_subject
from torch import nn

from benchmarks.agreement import largest_gap
from benchmarks.engines import crossing
from gptinit.config import Engine, RunConfig
from gptinit.load.huggingface import huggingface_factory
from gptinit.measure.measure import measure
from gptinit.measure.subject import Subject
from gptinit.measure.traced_subject import foreign_subject
from gptinit.results.profile import Profile

T = 10
"""Positions: less than the width of any model here, so that weights stay lazy."""

FAR = 100_000
"""Where the other sample's seeds begin."""

Samples = Mapping[tuple[str, str], npt.NDArray[np.float64]]
"""(place, statistic) to its value for every seed."""


def _ours(model: Callable[[], nn.Module]) -> Subject:
    """A model of the tests, read as anybody's."""
    return foreign_subject(factory(model))


def _transformers(**config: Any) -> Subject:
    """A transformers model from its config.json."""
    common = {"num_hidden_layers": 2, "hidden_size": 32, "vocab_size": 61}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(common | config), encoding="utf-8")
        return foreign_subject(huggingface_factory(path))


_LLAMA = {
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "initializer_range": 0.2,
}

SUBJECTS: Mapping[str, Callable[[], Subject]] = {
    "built-in": lambda: tiny_subject(n_layer=2),
    "built-in, untied, no biases": lambda: tiny_subject(n_layer=2, tied=False, bias=False),
    "built-in, pytorch-default": lambda: tiny_subject("pytorch-default", n_layer=2, tied=False),
    "built-in, inv-sqrt-width, relu": lambda: tiny_subject(
        "inv-sqrt-width", n_layer=2, activation="relu"
    ),
    "built-in, free head_dim": lambda: tiny_subject("plain", n_layer=2, head_dim=5, d_ff=50),
    "ours, GPT-2-like": partial(_ours, FOREIGN["eager"]),
    "ours, Llama-like": partial(_ours, FOREIGN["llama"]),
    "ours, post-norm": partial(_ours, FOREIGN["post-norm"]),
    "ours, tied": partial(_ours, FOREIGN["tied"]),
    "ours, looped": partial(_ours, FOREIGN["shared"]),
    "ours, experts in one tensor": partial(_ours, FOREIGN["experts in one tensor"]),
    **{f"ours, {name}": partial(_ours, model) for name, model in ODD.items()},
    "transformers' GPT-2": lambda: _transformers(
        model_type="gpt2", n_layer=2, n_embd=32, n_head=4, n_positions=64, n_inner=96
    ),
    "transformers' Llama": lambda: _transformers(model_type="llama", **_LLAMA),
    "transformers' Mixtral": lambda: _transformers(
        model_type="mixtral", num_local_experts=4, **_LLAMA
    ),
}  # fmt: skip
"""Architectures and schemes by name."""

QUICK = (
    "built-in",
    "ours, Llama-like",
    "ours, looped",
    "ours, experts in one tensor",
    "ours, one of many experts",
    "transformers' GPT-2",
    "transformers' Llama",
)
"""Those that are compared over few seeds in every run of the tests."""


@cache
def subject(name: str, engine: Engine) -> Subject:
    """A model of SUBJECTS, made once an engine."""
    return SUBJECTS[name]()


def measured(
    model: Subject, engine: Engine, seed: int, *, seeds: int = 1, **settings: Any
) -> Profile:
    """The profile of a model, on uniform tokens unless told otherwise."""
    run: dict[str, Any] = {"seq_len": T, "data": "uniform", "device": "cpu"} | settings
    return measure(model, RunConfig(engine=engine, seed=seed, seeds=seeds, **run))


def samples(model: Subject, engine: Engine, *, seed: int, seeds: int, **settings: Any) -> Samples:
    """Every statistic of every seed, gradients and sizes of weights included."""
    found: dict[tuple[str, str], list[float]] = {}
    for i in range(seed, seed + seeds):
        for where, place in measured(model, engine, i, **settings).places():
            for stat, value in place.values.items():
                found.setdefault((where, stat), []).append(value)
            for role, weight in place.weight_grad.items():
                found.setdefault((where, f"gradient of {role}"), []).append(weight.grad_rms)
                found.setdefault((where, f"size of {role}"), []).append(weight.weight_rms)
    return {key: np.array(values) for key, values in found.items()}


def probabilities(one: Samples, other: Samples) -> dict[tuple[str, str], float]:
    """Chances of every statistic with noise; those without must be equal.

    Without noise: every seed within 1e-5 of the others, a hundred times float32's rounding.
    """
    assert one.keys() == other.keys()
    found = {}
    for key, values in one.items():
        both = np.concatenate((values, other[key]))
        if np.ptp(both) <= 1e-5 * np.abs(both).max():
            continue
        assert len(values) == len(other[key]), key
        found[key] = float(ks_2samp(values, other[key]).pvalue)
    return found


def holm(found: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """Chances after Holm's correction: that of any as small among so many right ones, at most."""
    worst, corrected = 0.0, {}
    for rank, (key, p) in enumerate(sorted(found.items(), key=lambda item: item[1])):
        worst = max(worst, min(1.0, p * (len(found) - rank)))
        corrected[key] = worst
    return corrected


def assert_agreement(found: Mapping[tuple[str, str], float], *, family: int) -> None:
    """That nothing differs, where so many models are compared."""
    corrected = sorted(holm(found).items(), key=lambda item: item[1])
    assert corrected[0][1] * family > 0.01, corrected[:5]


def lazy_against_dense(name: str, *, seeds: int, **settings: Any) -> dict[tuple[str, str], float]:
    """Chances of every statistic of a model."""
    dense = samples(subject(name, "dense"), "dense", seed=0, seeds=seeds, **settings)
    lazy = samples(subject(name, "lazy"), "lazy", seed=FAR, seeds=seeds, **settings)
    return probabilities(dense, lazy)


@pytest.mark.parametrize("name", SUBJECTS)
@pytest.mark.parametrize("grad", [False, True], ids=["forward", "both passes"])
def test_dense_and_stream_are_equal_to_rounding(name: str, grad: bool) -> None:
    dense, stream = (
        measured(subject(name, e), e, 0, grad=grad, seeds=2) for e in ("dense", "stream")
    )

    assert_equal_to_rounding(dense, stream)


@pytest.mark.parametrize("name", QUICK)
def test_lazy_and_dense_agree_in_law_over_100_seeds(name: str) -> None:
    assert_agreement(lazy_against_dense(name, seeds=100, grad=True), family=len(QUICK))


@pytest.mark.parametrize("name", ["built-in", "ours, looped"])
def test_lazy_and_dense_agree_in_law_where_there_is_no_backward_pass(name: str) -> None:
    assert_agreement(lazy_against_dense(name, seeds=100, grad=False), family=2)


@pytest.mark.slow
@pytest.mark.parametrize("grad", [False, True], ids=["forward", "both passes"])
@pytest.mark.parametrize("name", SUBJECTS)
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


@pytest.mark.slow
def test_chances_are_spread_as_those_of_right_engines_are() -> None:
    # The mean of a model's p has a variance of at most 1/12, however its statistics depend on each
    # other; models have seeds of their own statistics: k = 4 standard errors of their mean.
    means = [np.mean(list(lazy_against_dense(n, seeds=100, grad=True).values())) for n in SUBJECTS]

    assert abs(float(np.mean(means)) - 0.5) < 4 * sqrt(1 / 12 / len(means))


def test_a_std_that_is_a_tenth_too_large_does_not_go_unnoticed() -> None:
    # 16 x 16 and more entries in three layers: 21 % of variance is far outside of what seeds vary.
    model = subject("ours, Llama-like", "dense")
    wrong = _ours(louder_llama)

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
    profile = measured(subject("ours, an operator without a rule", "lazy"), "lazy", 0, grad=True)

    (note,) = [n for n in profile.notes if n.kind == "materialised"]
    assert note.where == "h.*.mlp.c_proj.weight"
    assert "; the weight was materialised." in note.message


def test_products_that_are_not_normal_are_noted_with_a_bound() -> None:
    profile = measured(subject("built-in, pytorch-default", "lazy"), "lazy", 0, grad=False)

    notes = [n for n in profile.notes if n.kind == "approximate"]
    assert {n.where for n in notes} >= {"qkv", "attn_out", "mlp_up", "mlp_down"}
    assert all("(Berry-Esseen)" in n.message for n in notes)


def test_the_size_from_which_on_an_engine_is_faster_lies_between_two_measured() -> None:
    # 2 against size / 25: equal at 50, between 10 and 100, where logarithms are straight lines.
    assert crossing([10, 100], [2, 2], [0.4, 4]) == pytest.approx(50)
    assert crossing([10, 100], [0.1, 2], [0.4, 4]) is None
    assert crossing([10, 100], [2, 8], [0.4, 4]) == inf


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("grad", [False, True], ids=["forward", "both passes"])
def test_equal_lazy_runs_give_equal_profiles(name: str, grad: bool) -> None:
    first, second = (
        measured(subject(name, "lazy"), "lazy", 3, grad=grad, seeds=2) for _ in range(2)
    )

    assert largest_gap(first, second) == 0
