# ruff: noqa: D102 # a forward is documented by its class
"""The shape of a model as its forward pass shows it, where its settings are silent."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.foreign_models import (
    FF,
    FOREIGN,
    MLP,
    NH,
    Block,
    C,
    Decoder,
    L,
    T,
    V,
    factory,
    reading,
)
from support.recognised import scores_of, softmax, with_attention
from torch import nn

from gptinit.forward.flow import follow
from gptinit.forward.shape import observed_shape
from gptinit.read.reading import read_model
from gptinit.trace.record.tracing import trace


@pytest.mark.parametrize("name", FOREIGN)
def test_the_shape_is_read_off_the_pass(name: str) -> None:
    facts = reading(name).program.facts

    assert (facts.n_layer, facts.n_embd, facts.d_ff, facts.vocab_size) == (L, C, FF, V)
    assert (facts.n_head, facts.head_dim) == (NH, C // NH)
    assert facts.n_kv_head == (1 if name == "llama" else NH)
    assert facts.norm == ("rmsnorm" if name == "llama" else "layernorm")
    assert facts.norm_placement == ("post" if "post-norm" in name else "pre")
    assert facts.activation == ("silu" if name in {"llama", "experts"} else "gelu")
    assert facts.bias is (name != "llama")
    assert facts.tied is name.startswith("tied")
    if name != "llama":
        assert facts.positions == "learned"


def test_parameters_are_counted_once_however_often_they_are_used() -> None:
    # Counted by hand: qkv and output with biases, MLP with biases, two norms.
    block = C * 3 * C + 3 * C + C * C + C + C * FF + FF + FF * C + C + 4 * C
    rest = V * C + T * C + 2 * C

    assert reading("tied").program.facts.n_params == L * block + rest
    assert reading("shared").program.facts.n_params == block + rest + V * C


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (F.gelu, "gelu"),
        (lambda x: F.gelu(x, approximate="tanh"), "gelu_tanh"),
        (F.relu, "relu"),
        (F.silu, "silu"),
        (torch.tanh, "tanh"),
        (lambda x: 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.045 * x**3))), "gelu_tanh"),
        (lambda x: torch.tanh(x) ** 2, "tanh"),
    ],
    ids=["gelu", "gelu_tanh", "relu", "silu", "tanh", "by hand", "squared"],
)
def test_the_activation_is_named(function: Any, name: str) -> None:
    class Other(MLP):
        def forward(self, x: Any) -> Any:
            return self.c_proj(function(self.c_fc(x)))

    class Model(Decoder):
        @staticmethod
        def block() -> Any:
            return Block(mlp=Other)

    assert read_model(factory(Model)).program.facts.activation == name


class Grouped(nn.Module):
    """A fused matrix of four heads of queries and two of keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(C, 2 * C), nn.Linear(C, C)

    def forward(self, x: Any) -> Any:
        q, k, v = self.c_attn(x).unflatten(-1, (8, C // 4)).transpose(1, 2).split((4, 2, 2), 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.c_proj(y.transpose(1, 2).flatten(2))


class FourByHand(nn.Module):
    """Four heads, narrower than tokens are many."""

    def __init__(self) -> None:
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(C, 3 * C), nn.Linear(C, C)

    def forward(self, x: Any) -> Any:
        q, k, v = self.c_attn(x).unflatten(-1, (12, C // 4)).transpose(1, 2).split(4, 1)
        return self.c_proj(softmax(scores_of(q, k), v).transpose(1, 2).flatten(2))


class GroupedDecoder(Decoder):
    """Blocks of them."""

    block = staticmethod(lambda: Block(attn=Grouped))


@pytest.mark.parametrize(
    ("build", "heads"),
    [
        (with_attention(lambda q, k, v: softmax(scores_of(q, k), v)), (NH, NH, C // NH)),
        (GroupedDecoder, (4, 2, C // 4)),
        (
            type("Model", (Decoder,), {"block": staticmethod(lambda: Block(attn=FourByHand))}),
            (4, 4, C // 4),
        ),
    ],
    ids=["by hand", "grouped", "four by hand"],
)
def test_heads_of_a_fused_matrix_are_those_of_its_attention(
    build: type[Decoder], heads: tuple[int, int, int]
) -> None:
    shape = observed_shape(follow(trace(build), lambda _: None))

    assert (shape.n_head, shape.n_kv_head, shape.head_dim) == heads


def test_angles_of_a_buffer_are_rotary_positions() -> None:
    class Rotary(Decoder):
        def __init__(self) -> None:
            super().__init__()
            del self.wpe
            self.register_buffer("inv_freq", 10.0 ** -torch.arange(C).float())

        def embed(self, ids: Any) -> Any:
            angles = torch.arange(ids.shape[1])[:, None] * self.get_buffer("inv_freq")
            return self.wte(ids) * angles.cos()

    assert read_model(factory(Rotary)).program.facts.positions == "rotary"


def test_settings_come_before_what_is_seen() -> None:
    made = factory(Decoder, n_head=7, n_kv_head=3, head_dim=5, block_size=99)

    facts = read_model(made).program.facts

    assert (facts.n_head, facts.n_kv_head, facts.head_dim, facts.block_size) == (7, 3, 5, 99)
