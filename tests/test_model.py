"""The built-in GPT against a forward pass written by hand; tests/hf compares transformers'."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import erf
from support.streams import FLOAT32_ROUNDING, streams, tokens
from support.subjects import TINY, dense_module, tiny_subject

from gptinit.model import GPT

Array = Any
"""A float64 array of numpy."""


def hand_written_streams(module: GPT, idx: Array) -> Iterator[Array]:
    """The stream at the embedding and after every block, in float64 and plain numpy."""
    w = {name: p.detach().double().numpy() for name, p in module.named_parameters()}
    attention: Any = module.transformer.h[0].attn
    nh, hs = attention.n_head, attention.head_dim
    T = idx.shape[1]

    def norm(x: Array, name: str) -> Array:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)
        return x * w[name + ".weight"] + w.get(name + ".bias", 0.0)

    def linear(x: Array, name: str) -> Array:
        return x @ w[name + ".weight"].T + w.get(name + ".bias", 0.0)

    x = w["transformer.wte.weight"][idx] + w["transformer.wpe.weight"][:T]
    yield x
    for i in range(len(module.transformer.h)):
        at = f"transformer.h.{i}"
        qkv = linear(norm(x, f"{at}.ln_1"), f"{at}.attn.c_attn")
        out = np.zeros((*idx.shape, nh * hs))
        for b in range(idx.shape[0]):
            for h in range(nh):
                q, k, v = (qkv[b, :, (j * nh + h) * hs :][:, :hs] for j in range(3))
                for t in range(T):
                    scores = k[: t + 1] @ q[t] / math.sqrt(hs)
                    weights = np.exp(scores - scores.max())
                    out[b, t, h * hs : (h + 1) * hs] = weights @ v[: t + 1] / weights.sum()
        x = x + linear(out, f"{at}.attn.c_proj")
        hidden = linear(norm(x, f"{at}.ln_2"), f"{at}.mlp.c_fc")
        hidden = activated(hidden, module)
        x = x + linear(hidden, f"{at}.mlp.c_proj")
        yield x


def activated(x: Array, module: GPT) -> Array:
    """The activation from its formula."""
    name = module.transformer.h[0].mlp.activation.__name__  # type: ignore[union-attr]
    if name == "relu":
        return np.maximum(x, 0)
    if name == "gelu":
        return np.asarray(0.5 * x * (1 + erf(x / math.sqrt(2))))
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize(
    "shape",
    [
        {"activation": "gelu"},
        {"activation": "gelu_tanh", "bias": False},
        {"activation": "relu", "tied": False},
        {"head_dim": 12, "d_ff": 56},
    ],
)
def test_streams_equal_a_forward_pass_written_by_hand(shape: dict[str, Any]) -> None:
    # pytorch-default draws biases too and large scores: nothing is hidden by zeros.
    module = dense_module(tiny_subject("pytorch-default", **shape))
    assert isinstance(module, GPT)

    ours = streams(module, module.transformer.h, tokens())
    by_hand = list(hand_written_streams(module, tokens().numpy()))

    assert len(ours) == len(by_hand) == TINY["n_layer"] + 1
    for mine, theirs in zip(ours, by_hand, strict=True):
        largest = float(np.abs(theirs).max())
        assert float(np.abs(mine.double().numpy() - theirs).max()) < FLOAT32_ROUNDING * largest


def test_the_lens_on_the_last_stream_gives_those_rows_of_the_logits() -> None:
    module = dense_module(tiny_subject())
    assert isinstance(module, GPT)
    rows = torch.tensor([3, 50, 100])

    with torch.no_grad():
        some = module.lens(rows)(streams(module, module.transformer.h, tokens())[-1])
        every = module(tokens())

    largest = float(every.abs().max())
    assert float((some - every[..., rows]).abs().max()) < FLOAT32_ROUNDING * largest


def test_a_tied_head_is_the_embedding() -> None:
    tied, untied = dense_module(tiny_subject()), dense_module(tiny_subject(tied=False))
    assert isinstance(tied, GPT)
    assert isinstance(untied, GPT)

    assert tied.lm_head.weight is tied.transformer.wte.weight
    assert untied.lm_head.weight is not untied.transformer.wte.weight
