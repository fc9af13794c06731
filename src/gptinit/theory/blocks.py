"""One block: what its branches add to the Gram of the stream, and what gradients they send back.

Letters in shapes: T positions. Grams are per channel: K_ij = E[x_i . x_j] / C.
"""

from dataclasses import dataclass

import numpy as np

from gptinit.theory.activations import kernel
from gptinit.theory.arrays import Gram
from gptinit.theory.averages import average_back
from gptinit.theory.mixing import Mixing, mix
from gptinit.theory.model import LayerMoments, Moments, TheoryModel

__all__ = [
    "AttentionGram",
    "Normed",
    "attend",
    "attention_back",
    "mlp_add",
    "mlp_back",
    "mlp_slope",
    "normed",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Normed:
    """A stream behind a norm.

    Attributes:
        R: Gram of the stream over the norm's denominators. Shape: (T, T).
        scale: 1 / denominators. Shape: (T,).
        weight: mean square of the norm's weight.
        bias: mean square of its bias.
    """

    R: Gram
    scale: Gram
    weight: float
    bias: float

    def through(self, weight: Moments, bias: Moments, width: int) -> tuple[float, float]:
        """Variance of a linear layer's output per unit of R, and what all positions share."""
        fan = width * weight.variance
        return fan * self.weight, fan * self.bias + bias.square

    def back(self, gradient: Gram) -> Gram:
        """The Gram of the gradient in the stream from that in the norm's output. Shape: (T, T)."""
        result: Gram = gradient * (np.float32(self.weight) * self.scale[:, None] * self.scale)
        return result


def normed(K: Gram, weight: Moments, bias: Moments, eps: float) -> Normed:
    """The stream of Gram K behind a norm.

    Shape:
        K: (T, T).
    """
    square = np.maximum(K.diagonal() + np.float32(eps), np.float32(1e-37))
    scale: Gram = 1 / np.sqrt(square)
    R = K * scale
    R *= scale[:, None]
    return Normed(R=R, scale=scale, weight=weight.square, bias=bias.square)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionGram:
    """One attention layer.

    Attributes:
        added: Gram of what it adds to the stream. Shape: (T, T).
        mixing: its averages over keys.
        queries: covariance of the queries times the squared scale of the scores. Shape: (T, T).
        key: (variance of keys per unit of R, variance that they share).
        value: the same of values.
    """

    added: Gram
    mixing: Mixing
    queries: Gram
    key: tuple[float, float]
    value: tuple[float, float]


def attend(
    x: Normed, layer: LayerMoments, model: TheoryModel, rotary: Gram | None
) -> AttentionGram:
    """What attention adds to a stream."""
    C = model.n_embd
    per_query, query_floor = x.through(layer.q, layer.q_bias, C)
    key = x.through(layer.k, layer.k_bias, C)
    value = x.through(layer.v, layer.v_bias, C)
    ratio = model.score_ratio**2
    queries: Gram = np.float32(ratio * per_query) * x.R + np.float32(ratio * query_floor)
    mixing = mix(x.R, queries, key, model, rotary)
    added = mixing.spread * queries
    added *= mixing.gain()
    added += mixing.shift
    added *= np.float32(key[0])
    added += mixing.average
    added *= np.float32(value[0])
    added += np.float32(value[1])
    inner = model.n_head * model.head_dim
    added *= np.float32(inner * layer.attn_out.variance)
    added += np.float32(layer.attn_out_bias.square)
    added *= np.float32(model.attn_multiplier**2)
    return AttentionGram(added=added, mixing=mixing, queries=queries, key=key, value=value)


def attention_back(
    gradient: Gram, x: Normed, attention: AttentionGram, layer: LayerMoments, model: TheoryModel
) -> Gram:
    """The Gram of the gradient that attention sends to the stream it reads.

    Through the values by uniform weights and by the weights' spread, through the queries, and
    through the keys; the four are independent of each other.

    Shape:
        gradient: of what attention adds, (T, T); result: (T, T).
    """
    C, inner = model.n_embd, model.n_head * model.head_dim
    mixing, slope = attention.mixing, attention.mixing.slope()
    per_key, per_value = attention.key[0], attention.value[0]
    incoming = gradient * np.float32(
        model.attn_multiplier**2 * inner * layer.attn_out.variance * C
    )  # of heads' outputs
    scored = incoming * attention.queries
    by_weights = scored * (
        np.float32(layer.v.variance * per_key) * mixing.gain()
        + np.float32(layer.k.variance * per_value) * slope
    )
    back = average_back(incoming)
    back *= np.float32(layer.v.variance)
    back += mixing.back_through_weights(by_weights)
    factor = np.float32(layer.q.variance * per_key * per_value * model.score_ratio**2)
    back += incoming * mixing.spread * slope * factor
    return x.back(back)


def mlp_add(x: Normed, layer: LayerMoments, model: TheoryModel) -> Gram:
    """The Gram of what the MLP adds to a stream. Shape: (T, T)."""
    added = _hidden(x, layer, model)
    added *= np.float32(model.d_ff * layer.mlp_down.variance)
    added += np.float32(layer.mlp_down_bias.square)
    added *= np.float32(model.mlp_multiplier**2)
    return added


def mlp_back(gradient: Gram, x: Normed, layer: LayerMoments, model: TheoryModel) -> Gram:
    """The Gram of the gradient that the MLP sends to the stream it reads. Shape: (T, T)."""
    return x.back(mlp_slope(x, layer, model) * gradient)


def mlp_slope(x: Normed, layer: LayerMoments, model: TheoryModel) -> Gram:
    """Squared gain of the MLP's Jacobian, from its output's gradient to its norm's. (T, T)."""
    up = (layer.mlp_up, layer.mlp_up_bias)
    entry = (layer.mlp_gate, layer.mlp_gate_bias) if model.gated else up
    slope = _activated(x, entry, model, slope=True)
    slope *= np.float32(entry[0].variance)
    if model.gated:
        per, floor = x.through(*up, model.n_embd)
        slope *= np.float32(per) * x.R + np.float32(floor)
        slope += _activated(x, entry, model, slope=False) * np.float32(up[0].variance)
    slope *= np.float32(
        model.mlp_multiplier**2 * model.n_embd * layer.mlp_down.variance * model.d_ff
    )
    return slope


def _hidden(x: Normed, layer: LayerMoments, model: TheoryModel) -> Gram:
    """E of the product of one hidden unit at two positions. Shape: (T, T)."""
    if not model.gated:
        return _activated(x, (layer.mlp_up, layer.mlp_up_bias), model, slope=False)
    hidden = _activated(x, (layer.mlp_gate, layer.mlp_gate_bias), model, slope=False)
    per, floor = x.through(layer.mlp_up, layer.mlp_up_bias, model.n_embd)
    hidden *= np.float32(per) * x.R + np.float32(floor)
    return hidden


def _activated(
    x: Normed, entry: tuple[Moments, Moments], model: TheoryModel, *, slope: bool
) -> Gram:
    """E[f(h) f(h')] of pre-activations h with this weight and bias. Shape: (T, T)."""
    per, floor = x.through(*entry, model.n_embd)
    diagonal = x.R.diagonal()
    variance = per * float(diagonal.mean()) + floor
    if not 0 <= variance < np.inf:  # attention beyond what its tables hold
        return np.full_like(x.R, np.nan)
    curve = kernel(model.activation, variance**0.5, slope=slope)
    per, floor = (per / variance, floor / variance) if variance else (0.0, 1.0)
    root = np.float32(1 - floor) - np.float32(per) * x.R  # 1 - correlation
    np.maximum(root, 0, out=root)
    np.sqrt(root, out=root)
    result = curve(root)
    np.fill_diagonal(result, curve.equal)
    return result
