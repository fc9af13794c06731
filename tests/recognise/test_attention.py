"""The parameters of an attention layer are read from what it computes, whatever its code."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.foreign_models import NH, C
from support.graphs import graph_of
from support.recognised import model_of, scores_of, softmax, with_attention
from torch import Tensor, nn

from gptinit.recognise.attention import Attended, attended, cores, near
from gptinit.recognise.products import find_products
from gptinit.theory.parameters import NoFormula


def fused(q: Any, k: Any, v: Any, scale: float | None = None) -> Any:
    """Torch's own operator."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)


UNSCALED = math.sqrt(C / NH)
"""Scores without a scale: 1 over 1 / sqrt(head_dim)."""


@pytest.mark.parametrize(
    ("attend", "ratio"),
    [
        (lambda q, k, v: fused(q, k, v), 1.0),
        (lambda q, k, v: fused(q, k, v, scale=1.0), UNSCALED),
        (lambda q, k, v: fused(q * 3, k, v), 3.0),
        (lambda q, k, v: fused(q, k * 3, v), 3.0),
        (lambda q, k, v: fused(q * 3, k / 12, v, scale=1.0), UNSCALED / 4),
        (lambda q, k, v: softmax(q @ k.transpose(-1, -2), v), UNSCALED),
        (lambda q, k, v: softmax((q / 4) @ k.transpose(-1, -2), v), UNSCALED / 4),
        (lambda q, k, v: softmax(q @ (k / 4).transpose(-1, -2), v), UNSCALED / 4),
        (lambda q, k, v: softmax(q @ k.transpose(-1, -2) / 4, v), UNSCALED / 4),
        (lambda q, k, v: softmax(scores_of(q * 2, k * 3) / 4, v), 1.5),
        # Of the scale of muP: 1 / head_dim.
        (lambda q, k, v: fused(q, k, v, scale=NH / C), 1 / UNSCALED),
    ],
    ids=[
        "usual", "without a scale", "queries, fused", "keys, fused", "all three, fused",
        "without a scale by hand", "queries", "keys", "scores", "all three", "over head_dim",
    ],
)  # fmt: skip
def test_the_scale_of_scores_is_read_wherever_it_stands(
    attend: Callable[..., Any], ratio: float
) -> None:
    assert read_of(attend).scale * UNSCALED == pytest.approx(ratio, rel=1e-6)


def test_the_scale_of_scores_is_that_of_the_model() -> None:
    def attend(q: Any, k: Any, v: Any) -> Any:
        return softmax(scores_of(q * 2, k * 3) / 4, v)

    assert model_of(with_attention(attend)).score_ratio == pytest.approx(1.5, rel=1e-6)


def read_of(attend: Callable[..., Any], heads: int = NH) -> Attended:
    """What is read of an attention layer by itself, with another function of q, k and v."""

    class Alone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte, self.c_attn = nn.Embedding(5, C), nn.Linear(C, 3 * C)
            self.c_proj = nn.Linear(C, C)

        def forward(self, ids: Tensor) -> Any:
            qkv = self.c_attn(self.wte(ids)).split(C, -1)
            q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in qkv)
            return self.c_proj(attend(q, k, v).transpose(1, 2).flatten(2))

    graph = graph_of(Alone, (3, 1, 4, 0, 2, 1))
    products = find_products(graph)
    qkv, proj = products["c_attn.weight"], products["c_proj.weight"]
    (core,) = cores(graph, (1 << len(graph.vertices)) - 1)
    return attended(graph, proj.entry, {"qkv": qkv.vertex}, core)


def turned(x: Any, *speeds: float) -> Any:
    """Pairs of entries of each head turned by its speed times the position (of all by the last)."""
    size, half = x.shape[2], x.shape[3] // 2
    speed = torch.tensor(speeds)[:, None, None]
    angle = speed * torch.arange(size)[:, None] / (1 + torch.arange(half))  # (nh or 1, T, hs / 2)
    cos, sin = angle.cos(), angle.sin()
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def growing(x: Any) -> Any:
    """Each position multiplied by its number."""
    return x * torch.arange(1, x.shape[2] + 1)[:, None]


HALF = C // NH // 2

REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "negated": (lambda q, k, v: fused(-q, -k, v), "are not just the outputs of their matrices"),
    "values twice": (lambda q, k, v: fused(q, k, v * 2), "its values are not just the outputs"),
    "values against each other": (
        lambda q, k, v: fused(q, k, 2 * v - v.flip(-1)),
        "are not just the outputs of their matrices",
    ),
    "values turned": (lambda q, k, v: fused(q, k, turned(v, 1)), "its values are not just"),
    "queries turned": (lambda q, k, v: fused(turned(q, 1), k, v), "are rotated differently"),
    "turned by other angles": (
        lambda q, k, v: fused(turned(q, 1), turned(k, 2), v),
        "queries and keys are rotated differently",
    ),
    "turned by an angle a head": (
        lambda q, k, v: fused(turned(q, 1, 2), turned(k, 1, 2), v),
        "its heads are computed differently",
    ),
    "growing": (
        lambda q, k, v: fused(growing(q), growing(k), v),
        "positions do more to queries and keys than rotate them",
    ),
    "narrow scores": (
        lambda q, k, v: fused(q[..., :HALF], k[..., :HALF], v),
        "heads of several sizes",
    ),
    "half of each head": (
        lambda q, k, v: fused(torch.cat([q[..., :HALF]] * 2, -1), k, v),
        "queries, keys and values are not just the outputs of their matrices",
    ),
    "scores that are a sum": (
        lambda q, k, v: softmax(q.sum(-1, keepdim=True) + k.sum(-1).unsqueeze(-2), v),
        "its scores are not a product of queries and keys",
    ),
    "fewer heads of keys": (
        lambda q, k, v: fused(q, k[:, :1].expand_as(q), v),
        "keys and values have different numbers of heads",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_the_attention_of_the_formula_is_refused_and_says_why(name: str) -> None:
    attend, why = REFUSED[name]

    with pytest.raises(NoFormula) as caught:
        read_of(attend)

    assert why in str(caught.value)


@pytest.mark.parametrize(("heads", "angles"), [(1, [2 / n for n in range(8, 0, -1)]), (4, [1, 2])])
def test_heads_are_turned_by_angles_that_are_read(heads: int, angles: list[float]) -> None:
    found = read_of(lambda q, k, v: fused(turned(q, 2), turned(k, 2), v), heads)

    assert (found.n_head, found.n_kv_head, found.head_dim) == (heads, heads, C // heads)
    assert found.angles == pytest.approx(angles)
    assert found.scale == pytest.approx(math.sqrt(heads / C))


def test_a_fused_matrix_may_make_keys_first() -> None:
    found = read_of(lambda q, k, v: fused(q, k, v))
    turned_round = read_of(lambda k, q, v: fused(q, k, v))

    assert found.is_in_order
    assert not turned_round.is_in_order
    assert turned_round.scale == pytest.approx(found.scale)


def test_heads_of_keys_may_serve_neighbouring_queries_only() -> None:
    def shared(*order: int) -> Callable[..., Any]:
        # Values and keys of two heads of four: the other outputs are not used.
        return lambda q, k, v: fused(q, k[:, list(order)], v[:, list(order)])

    with pytest.raises(NoFormula, match="some outputs of its matrices are not one entry"):
        read_of(shared(0, 0, 1, 1), 4)
    with pytest.raises(NoFormula, match="serves queries that are not neighbours"):
        read_of(shared(0, 1, 0, 1), 4)


def test_tensors_are_near_to_a_millionth_of_the_largest_or_of_one() -> None:
    large, small = torch.tensor([1000.0, 0.0]), torch.tensor([1e-3])

    assert near(large, large + 9e-4)
    assert not near(large, large + 1.1e-3)
    assert near(small, small + 9e-7)
    assert not near(small, small + 1.1e-6)
    assert near(small, small + 9e-10, least=0.0)
    assert not near(small, small + 9e-7, least=0.0)
    assert not near(large, large[:1])
    assert not near(torch.tensor([math.nan]), torch.tensor([math.nan]))
