"""What one block adds and sends back, against sampled units, derivatives and closed forms."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from gptinit.theory.activations import ACTIVATION_CURVES
from gptinit.theory.arrays import Gram
from gptinit.theory.blocks import attend, attention_back, mlp_add, mlp_back, mlp_slope, normed
from gptinit.theory.model import LayerMoments, Moments, TheoryModel

Floats = npt.NDArray[np.float64]
C, FF = 64, 48
SAMPLES = 60_000
NOTHING = Moments()


def drawn(std: float) -> Moments:
    """Weights around 0."""
    return Moments(0.0, std)


LAYER = LayerMoments(
    q=drawn(0.1), k=drawn(0.1), v=drawn(0.2), attn_out=drawn(0.3),
    mlp_up=drawn(0.15), mlp_gate=drawn(0.06), mlp_down=drawn(0.25),
)  # fmt: skip
"""Each matrix of a std of its own, so that one in place of another shows."""
BIASED = replace(
    LAYER,
    mlp_up_bias=Moments(0.0, 0.7),
    mlp_gate_bias=Moments(0.0, 0.4),
    mlp_down_bias=Moments(0.5, 0.3),
    mlp_norm_weight=Moments(1.2, 0.5),
    mlp_norm_bias=Moments(0.3, 0.4),
)
MODEL = TheoryModel(
    n_layer=1, n_head=4, n_kv_head=4, head_dim=C // 4, n_embd=C, d_ff=FF, vocab_size=97,
    layers=(LAYER,), tok_emb=drawn(1.0), lm_head=drawn(1.0), activation="silu", norm_eps=0.0,
    positions="none", mlp_multiplier=0.8,
)  # fmt: skip
MLPS = {
    "gated": (LAYER, {"gated": True}),
    "gated with biases": (BIASED, {"gated": True}),
    "gated by a ReLU": (BIASED, {"gated": True, "activation": "relu"}),
    "plain": (LAYER, {}),
    "plain with biases": (BIASED, {"activation": "gelu"}),
    "squared ReLU": (BIASED, {"activation": "relu2", "mlp_multiplier": 2.0}),
}


def gram(correlation: float, square: float = 2.5) -> Gram:
    """Two positions of one size."""
    return np.array([[1, correlation], [correlation, 1]], dtype=np.float32) * np.float32(square)


def outputs(seed: int, K: Gram, layer: LayerMoments, weight: Moments, bias: Moments) -> Floats:
    """Sampled outputs of a linear layer behind a norm, at two positions: (SAMPLES, 2).

    Every output is a sum over C channels, normal by the central limit: its covariance is that of
    channels of the norm's output, E[w^2] cos + E[b^2], times C E[weight^2], plus E[bias^2].
    """
    size = np.sqrt(np.diag(K))
    gain, shift = (p.mean**2 + p.std**2 for p in (layer.mlp_norm_weight, layer.mlp_norm_bias))
    covariance = C * weight.std**2 * (gain * K / np.outer(size, size) + shift)
    covariance += bias.mean**2 + bias.std**2
    found: Floats = (
        np.random.default_rng(seed).standard_normal((SAMPLES, 2)) @ np.linalg.cholesky(covariance).T
    )
    return found


@pytest.mark.parametrize("correlation", [-0.3, 0.2, 0.9])
@pytest.mark.parametrize("name", MLPS)
def test_an_mlp_adds_what_sampled_hidden_units_add(name: str, correlation: float) -> None:
    layer, changes = MLPS[name]
    model, K = replace(MODEL, **changes), gram(correlation)  # type: ignore[arg-type] # fields by name
    f = ACTIVATION_CURVES[model.activation].value
    up = outputs(0, K, layer, layer.mlp_up, layer.mlp_up_bias)
    gate = outputs(1, K, layer, layer.mlp_gate, layer.mlp_gate_bias)
    hidden = f(gate) * up if model.gated else f(up)

    x = normed(K, layer.mlp_norm_weight, layer.mlp_norm_bias, 0.0)
    added = mlp_add(x, layer, model)

    bias = layer.mlp_down_bias.mean**2 + layer.mlp_down_bias.std**2
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        products = hidden[:, i] * hidden[:, j]
        per_unit = (added[i, j] / model.mlp_multiplier**2 - bias) / (FF * layer.mlp_down.std**2)
        # 4.5 standard errors, and 3e-4 for the interpolation of kernels.
        error = 4.5 * products.std() / math.sqrt(SAMPLES) + 3e-4 * (hidden**2).mean()
        assert abs(per_unit - products.mean()) < error


@pytest.mark.parametrize("correlation", [-0.3, 0.2, 0.9])
@pytest.mark.parametrize("name", MLPS)
def test_the_slope_of_an_mlp_is_the_derivative_of_what_it_adds(
    name: str, correlation: float
) -> None:
    """Price's theorem: d E[F(x) F(y)] / d cov(x, y) = E[F'(x) F'(y)], for each channel.

    With the covariance of the stream as the variable, that is the norm's gain times the slope.
    """
    layer, changes = MLPS[name]
    model, step = replace(MODEL, **changes), 0.02  # type: ignore[arg-type] # fields by name

    def added(r: float) -> float:
        x = normed(gram(r, 1.0), layer.mlp_norm_weight, layer.mlp_norm_bias, 0.0)
        return float(mlp_add(x, layer, model)[0, 1])

    x = normed(gram(correlation), layer.mlp_norm_weight, layer.mlp_norm_bias, 0.0)
    slope = float(mlp_slope(x, layer, model)[0, 1])

    gain = layer.mlp_norm_weight.mean**2 + layer.mlp_norm_weight.std**2
    derivative = (added(correlation + step) - added(correlation - step)) / (2 * step)
    # The derivative of a polynomial of degree 8 that was fitted, over a step of 0.02.
    assert gain * slope == pytest.approx(derivative, rel=0.01)


@pytest.mark.parametrize("name", MLPS)
def test_equal_positions_are_one_position_to_an_mlp(name: str) -> None:
    layer, changes = MLPS[name]
    model = replace(MODEL, **changes)  # type: ignore[arg-type] # fields by name
    x = normed(gram(1.0), layer.mlp_norm_weight, layer.mlp_norm_bias, 0.0)

    added, slope = mlp_add(x, layer, model), mlp_slope(x, layer, model)

    # On the diagonal stands the exact kernel, beside it the polynomial at correlation 1.
    assert added == pytest.approx(np.full((2, 2), added[0, 0]), rel=1e-3)
    assert slope == pytest.approx(np.full((2, 2), slope[0, 0]), rel=1e-3)


@pytest.mark.parametrize(
    ("eps", "expected", "returned"),
    [
        # Added: 3 E relu(g)^2 E u^2 = 3 (1/2) 2 = 3. Back: 3 (a E[step] b through the gate +
        # E relu^2 b through up) = 3 (1 + 1), over |x|^2 / C.
        (0.0, 3.0, 6.0 / 4),
        # The norm leaves a quarter: 3 (1/8) (1/2) added, 3 (1/4 + 1/4) back over |x|^2 / C + eps.
        (12.0, 3.0 / 16, 1.5 / 16),
    ],
)
def test_a_gated_relu_has_the_numbers_of_its_closed_form(
    eps: float, expected: float, returned: float
) -> None:
    """Gate variance a = 64 / 64 = 1, up variance b = 2, one position, E|down|^2 = 48 / 16 = 3."""
    one = replace(
        LAYER, mlp_gate=drawn(1 / 8), mlp_up=drawn(math.sqrt(2) / 8), mlp_down=drawn(1 / 4)
    )
    model = replace(MODEL, gated=True, activation="relu", mlp_multiplier=1.0)
    x = normed(gram(0.0, 4.0), Moments(1.0, 0.0), NOTHING, eps)
    gradient = np.eye(2, dtype=np.float32)

    added = mlp_add(x, one, model)
    back = mlp_back(gradient, x, one, model)

    # Nothing is common where positions are not.
    assert added == pytest.approx(np.diag([expected, expected]), abs=1e-4)
    assert back == pytest.approx(np.diag([returned, returned]), rel=1e-4)


GAINS = {
    "plain": ({}, {}, 1.0, 0.0),
    "multiplier": ({"attn_multiplier": 3.0}, {}, 9.0, 0.0),
    "value bias": ({}, {"v_bias": Moments(0.6, 0.8)}, 1.0, 1.0),
    "norm": (
        {},
        {"attn_norm_weight": Moments(1.0, 1.0), "attn_norm_bias": Moments(0.5, 0.5)},
        2.0,
        # The norm's bias, of mean square 1/2, in every value: C var(v) / 2.
        0.5,
    ),
}


@pytest.mark.parametrize("name", GAINS)
def test_attention_without_scores_averages_there_and_back(name: str) -> None:
    """U = [[1, 0], [1/2, 1/2]]; C var(v) = 1 and C var(out) = 3 with 64 channels and heads of 16.

    Of orthogonal positions it adds 3 U U^T and sends back 3 U^T U over the stream's square.
    """
    changes, fields, gain, shared = GAINS[name]
    layer = replace(LAYER, q=NOTHING, v=drawn(1 / 8), attn_out=drawn(math.sqrt(3) / 8), **fields)
    model = replace(MODEL, **changes)  # type: ignore[arg-type] # fields by name
    x = normed(gram(0.0, 4.0), layer.attn_norm_weight, layer.attn_norm_bias, 0.0)

    attention = attend(x, layer, model, None)
    back = attention_back(np.eye(2, dtype=np.float32), x, attention, layer, model)

    averaged = np.array([[1.0, 0.5], [0.5, 0.5]])
    assert attention.added == pytest.approx(3 * gain * averaged + 3 * shared, rel=1e-5)
    returned = np.array([[1.25, 0.25], [0.25, 0.25]])
    assert back == pytest.approx(3 * gain * returned / 4, rel=1e-5)


def test_the_bias_of_what_attention_adds_is_common_to_all_positions() -> None:
    layer = replace(LAYER, attn_out=NOTHING, attn_out_bias=Moments(0.6, 0.8))
    x = normed(gram(0.0), Moments(1.0, 0.0), NOTHING, 0.0)

    added = attend(x, layer, replace(MODEL, attn_multiplier=2.0), None).added

    assert added == pytest.approx(np.full((2, 2), 4.0))


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({}, {"q_bias": drawn(0.4), "k": drawn(0.2), "k_bias": drawn(1.0)}),
        ({"score_ratio": 2.0}, {"q_bias": drawn(0.4), "k_bias": drawn(0.5)}),
        ({}, {"q": drawn(0.2), "q_bias": drawn(0.8), "k_bias": drawn(0.5)}),
    ],
    ids=["keys", "scores", "queries"],
)
def test_a_factor_on_scores_may_sit_on_queries_on_keys_or_on_both(
    changes: dict[str, Any], fields: dict[str, Any]
) -> None:
    # Scores of std 64 x 0.1 x 0.1 = 0.64, and twice that; both halves of the factor: sqrt(2) each.
    K = gram(0.4)
    half = math.sqrt(2)
    common = replace(LAYER, v_bias=drawn(0.3))
    both = replace(
        common,
        q=drawn(0.1 * half),
        q_bias=drawn(0.4 * half),
        k=drawn(0.1 * half),
        k_bias=drawn(0.5 * half),
    )
    one = replace(common, **fields)
    gradient = np.array([[1.0, 0.3], [0.3, 2.0]], dtype=np.float32)

    def outcome(layer: LayerMoments, model: TheoryModel) -> tuple[Gram, Gram]:
        x = normed(K, layer.attn_norm_weight, layer.attn_norm_bias, 0.0)
        attention = attend(x, layer, model, None)
        return attention.added, attention_back(gradient, x, attention, layer, model)

    for found, expected in zip(
        outcome(one, replace(MODEL, **changes)), outcome(both, MODEL), strict=True
    ):
        assert found == pytest.approx(expected, rel=1e-5)


def test_what_attention_adds_is_made_of_averages_queries_keys_and_values() -> None:
    """Scores of std 64 x 0.2 x 0.1 and more, whose mean weights shift too."""
    layer = replace(
        LAYER, q=drawn(0.2), q_bias=drawn(0.8), k_bias=drawn(0.5), v_bias=Moments(0.3, 0.4),
        attn_out_bias=Moments(0.6, 0.8),
    )  # fmt: skip
    cosines = np.array([[1, 0.8, 0], [0.8, 1, 0.1], [0, 0.1, 1]], dtype=np.float32)
    x = normed(2 * cosines, Moments(1.0, 1.0), Moments(0.0, 0.5), 0.0)

    found = attend(x, layer, replace(MODEL, attn_multiplier=2.0, score_ratio=1.5), None)

    # The norm's weight has the square 2, its bias 1/4; C var is 2.56, 0.64 and 2.56 for q, k, v.
    queries = 1.5**2 * (5.12 * cosines + 0.64 + 0.64)
    assert found.queries == pytest.approx(queries, rel=1e-5)
    assert found.key == pytest.approx((1.28, 0.16 + 0.25))
    assert found.value == pytest.approx((5.12, 0.64 + 0.25))
    mixing = found.mixing
    assert abs(mixing.shift).max() > 0.01
    weighted = mixing.average + 1.28 * (mixing.spread * mixing.gain() * queries + mixing.shift)
    out = C * LAYER.attn_out.variance
    assert found.added == pytest.approx(4 * (out * (5.12 * weighted + 0.89) + 1), rel=1e-5)


def test_eps_stands_under_the_root_of_a_norm_and_its_weight_on_the_way_back() -> None:
    x = normed(gram(0.5, 3.0), Moments(1.0, 1.0), Moments(0.0, 2.0), 1.0)

    # 3 over 3 + 1; then 2 = E w^2 over 3 + 1.
    assert pytest.approx(np.array([[0.75, 0.375], [0.375, 0.75]])) == x.R
    assert x.back(np.ones((2, 2), dtype=np.float32)) == pytest.approx(np.full((2, 2), 0.5))
    # 5 channels of variance 0.1^2: per unit 5 / 100 x 2, and shared 5 / 100 x 4 + 0.3^2.
    assert x.through(drawn(0.1), drawn(0.3), 5) == pytest.approx((0.1, 0.29))


@pytest.mark.parametrize("path", "qkv")
def test_attention_sends_back_what_sampled_heads_send_back(path: str) -> None:
    """Heads of drawn matrices, differentiated by hand: through values, queries or keys alone."""
    positions, heads, hs = 8, 1500, 16
    # Scores of std C std(q) std(k) = 0.6: formulas are of first order in their square.
    layer = replace(LAYER, q=drawn(0.15), k=drawn(0.0625), v=drawn(0.2), attn_out=drawn(0.3))
    K, D = (np.full((positions,) * 2, r) + (1 - r) * np.eye(positions) for r in (0.2, 0.3))
    rng = np.random.default_rng(0)
    stream = np.linalg.cholesky(K) @ rng.standard_normal((heads, positions, C))
    stream *= math.sqrt(C) / np.linalg.norm(stream, axis=-1, keepdims=True)
    wq, wk, wv = (m.std * rng.standard_normal((heads, C, hs)) for m in (layer.q, layer.k, layer.v))
    q, k, v = stream @ wq, stream @ wk, stream @ wv
    allowed = np.tril(np.exp(q @ k.swapaxes(1, 2) / math.sqrt(hs)))
    weights = allowed / allowed.sum(-1, keepdims=True)
    out = np.linalg.cholesky(D) @ rng.standard_normal((heads, positions, hs))
    out *= math.sqrt(C) * layer.attn_out.std
    by_weights = out @ v.swapaxes(1, 2)
    scores = weights * (by_weights - (weights * by_weights).sum(-1, keepdims=True)) / math.sqrt(hs)
    sent = {
        "q": scores @ k @ wq.swapaxes(1, 2),
        "k": scores.swapaxes(1, 2) @ q @ wk.swapaxes(1, 2),
        "v": weights.swapaxes(1, 2) @ out @ wv.swapaxes(1, 2),
    }[path]
    sampled = sent @ sent.swapaxes(1, 2) / C

    model = replace(MODEL, n_head=1, n_kv_head=1, head_dim=hs)
    x = normed(K.astype(np.float32), Moments(1.0, 0.0), NOTHING, 0.0)
    attention = attend(x, layer, model, None)
    others = {name: NOTHING for name in "qkv" if name != path}  # matrices that pass nothing back
    open_path = replace(layer, **others)
    back = attention_back(D.astype(np.float32), x, attention, open_path, model)

    # At each position; at later ones, which fewer others read; between neighbours.
    later = np.diag(np.arange(positions) >= positions // 2).astype(float)
    for chosen in (np.eye(positions), later, np.eye(positions, k=1)):
        found, expected = float((chosen * back).sum()), (chosen * sampled).sum((1, 2))
        # 4.5 standard errors, and 5 % for 64 channels: with 256 the queries' 4 % are 0 +- 2 %.
        error = 4.5 * expected.std() / math.sqrt(heads) + 0.05 * abs(expected.mean())
        assert abs(found - expected.mean()) < error
