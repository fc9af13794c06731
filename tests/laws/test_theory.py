"""Predictions of every scheme and shape against measurements."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from support.predictions import (
    CONFIG,
    SHARP,
    base,
    deviations,
    everything,
    measured_and_predicted,
    measured_sharply,
    sharp_deviations,
)
from support.theory import theory_model, theory_profile

from gptinit.api.prediction import measure_with_prediction
from gptinit.config import GPTConfig, RunConfig
from gptinit.facts.schemes import get_scheme, load_schemes
from gptinit.measure.builtin_subject import builtin_subject
from gptinit.measure.measure import measure
from gptinit.theory import Moments, TheoryModel, predict
from gptinit.tokens import open_tokens


@pytest.mark.parametrize("scheme", load_schemes())
def test_every_scheme_is_predicted_as_it_is_measured(scheme: str) -> None:
    assert deviations(*measured_and_predicted(CONFIG, scheme, "zipf")) == []


@pytest.mark.parametrize("scheme", ["plain", "pytorch-default"])
def test_a_shallow_model_is_predicted_to_one_percent(scheme: str) -> None:
    # It sees a branch that is 10 % too large, or a gradient through one that is 20 % too large.
    model = theory_model(SHARP, get_scheme(scheme))

    assert sharp_deviations(measured_sharply(scheme, seeds=120), model) == {}


SHAPES = {
    "relu": replace(CONFIG, activation="relu"),
    "gelu by erf": replace(CONFIG, activation="gelu"),
    "a head of its own": replace(CONFIG, tied=False),
    "no biases": replace(CONFIG, bias=False),
    "free head width": replace(CONFIG, head_dim=16),
    "other MLP": replace(CONFIG, d_ff=200),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scheme", ["nanogpt", "pytorch-default"])
def test_every_shape_is_predicted_as_it_is_measured(shape: str, scheme: str) -> None:
    assert deviations(*measured_and_predicted(SHAPES[shape], scheme, "uniform")) == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", load_schemes())
def test_the_stream_of_a_deep_model_is_predicted_to_two_percent(scheme: str) -> None:
    config = GPTConfig(n_layer=24, n_head=6, n_embd=384, block_size=128, vocab_size=2000)
    run = RunConfig(engine="dense", device="cpu", seeds=16, seq_len=128)
    subject = builtin_subject(config, get_scheme(scheme), name="gpt", source="test")
    measured = measure(subject, run).layers[-1]
    expected = theory_profile(config, get_scheme(scheme), run)
    value = measured.values["resid_var"]

    # 5 standard errors of 16 seeds and 2 % of model error.
    allowed = 5 * measured.stderr["resid_var"] + 0.02 * value
    assert abs(expected.layers[-1].values["resid_var"] - value) < allowed


def sampled_llama(seed: int, ids: npt.NDArray[np.int64]) -> float:
    """Final variance of a small gated, grouped, rotary RMS-norm model, drawn and run in numpy."""
    rng = np.random.default_rng(seed)
    C, F, nh, nkv, hs, std = 96, 128, 6, 2, 16, 0.12
    x = std * rng.standard_normal((500, C))[ids]
    angle = np.arange(len(ids))[:, None] * 10000.0 ** (-np.arange(0, hs, 2) / hs)

    def turn(a: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        one, two = np.split(a, 2, axis=-1)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        turned: npt.NDArray[np.float64] = np.concatenate(
            [one * cos - two * sin, two * cos + one * sin], -1
        )
        return turned

    def norm(a: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        normed: npt.NDArray[np.float64] = a / np.sqrt((a**2).mean(-1, keepdims=True) + 1e-5)
        return normed

    def draw(*shape: int) -> npt.NDArray[np.float64]:
        return std * rng.standard_normal(shape)

    for _ in range(3):
        n = norm(x)
        q = turn((n @ draw(C, nh * hs)).reshape(-1, nh, hs))
        k = turn((n @ draw(C, nkv * hs)).reshape(-1, nkv, hs)).repeat(nh // nkv, 1)
        v = (n @ draw(C, nkv * hs)).reshape(-1, nkv, hs).repeat(nh // nkv, 1)
        scores = np.einsum("ihd,jhd->hij", q, k) / math.sqrt(hs)
        scores += np.triu(np.full(scores.shape[1:], -np.inf), 1)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        x = x + np.einsum("hij,jhd->ihd", weights, v).reshape(-1, nh * hs) @ draw(nh * hs, C)
        n = norm(x)
        gate = n @ draw(C, F)
        x = x + (gate / (1 + np.exp(-gate)) * (n @ draw(C, F))) @ draw(F, C)
    return float(x.var())


def test_a_gated_grouped_rotary_model_is_predicted_as_it_is_sampled() -> None:
    w = Moments(0.0, 0.12)
    layer = replace(base().layers[0], q=w, k=w, v=w, attn_out=w, mlp_up=w, mlp_gate=w, mlp_down=w)
    model = TheoryModel(
        n_layer=3, n_head=6, n_kv_head=2, head_dim=16, n_embd=96, d_ff=128, vocab_size=500,
        layers=(layer,) * 3, tok_emb=w, lm_head=w, activation="silu", norm="rmsnorm",
        positions="rotary", gated=True,
    )  # fmt: skip
    seeds = range(150)
    source = open_tokens("zipf", vocab_size=500, batch_size=1, seq_len=32)
    ids = np.stack([source.draw(seed) for seed in seeds])
    sample = np.array([sampled_llama(seed, ids[seed, 0, :-1]) for seed in seeds])
    expected = predict(model, ids).layers[-1]["resid_var"]

    # 4.5 standard errors, and 2 % for rotary positions and 96 channels.
    error = 4.5 * float(sample.std()) / math.sqrt(len(sample)) + 0.02 * float(sample.mean())
    assert abs(expected - float(sample.mean())) < error


@pytest.mark.parametrize("std", [1e-4, 4e-4, 1e-3])
def test_scores_behind_a_norm_whose_eps_is_large_are_predicted(std: float, tmp_path: Path) -> None:
    config = GPTConfig(n_layer=1, n_embd=64, n_head=4, block_size=32, vocab_size=256)
    small = everything(std, tmp_path)
    run = RunConfig(seeds=40, seq_len=32, device="cpu", data="uniform")

    subject = builtin_subject(config, small, name="small", source="test")
    place = measure_with_prediction(subject, run).layers[0]

    gap = place.values["attn_score_std"] - place.predicted["attn_score_std"]
    assert abs(gap) < 5 * place.stderr["attn_score_std"]
