"""Norms are found by what is done to a vector, whatever the code and its names look like."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.foreign_models import Block, C, Decoder
from torch import Tensor, nn

from gptinit.forward.graph import Graph
from gptinit.forward.norms import Norm, find_norms, norm_gain
from gptinit.forward.observe import observe
from gptinit.trace.record.tracing import trace

Normalise = Callable[[Any, Any, Any], Any]
"""(x, w, b) to a tensor of the shape of x."""


def graph_of(function: Normalise) -> Graph:
    """A pass in which the stream goes through a function with two vectors before the head."""

    class Model(Decoder):
        def __init__(self) -> None:
            super().__init__()
            self.h = nn.ModuleList([Block()])
            self.w, self.b = nn.Parameter(torch.ones(C)), nn.Parameter(torch.zeros(C))

        def forward(self, ids: Any) -> Any:
            return self.lm_head(function(self.stream(ids), self.w, self.b))

    return observe(trace(Model)).graph


def norms_of(function: Normalise) -> dict[str, tuple[Graph, Norm]]:
    """The norms that a function has, by their weights."""
    graph = graph_of(function)
    return {n.weight: (graph, n) for n in find_norms(graph) if not n.weight.startswith("h.")}


def rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def by_hand(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5)


# Name to (function, factor by which a weight w multiplies a normalised vector).
NORMS: dict[str, tuple[Normalise, Callable[[float], float]]] = {
    "rms": (lambda x, w, b: rms(x) * w, lambda w: w),
    "rms in float32": (lambda x, w, b: rms(x.float()).type_as(x) * w, lambda w: w),
    "power": (
        lambda x, w, b: w * (x * (x.square().mean(-1, keepdim=True) + 1e-6).pow(-0.5)), lambda w: w,
    ),
    "one plus": (lambda x, w, b: rms(x) * (1 + w), lambda w: 1 + w),
    "length": (lambda x, w, b: F.normalize(x, dim=-1) * C**0.5 * w, lambda w: w),
    "over the length": (
        lambda x, w, b: x / (x.norm(dim=-1, keepdim=True) / math.sqrt(C)).clamp(min=1e-8) * w,
        lambda w: w,
    ),
    "layer norm by hand": (lambda x, w, b: w * by_hand(x) + b, lambda w: w),
    "layer norm": (lambda x, w, b: F.layer_norm(x, (C,), w, b), lambda w: w),
    "layer norm, then a weight": (lambda x, w, b: F.layer_norm(x, (C,)) * w, lambda w: w),
    "rms norm of torch": (lambda x, w, b: F.rms_norm(x, (C,), w), lambda w: w),
    "twice as large": (lambda x, w, b: rms(x) * (w * 2 - 1), lambda w: 2 * w - 1),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMS)
def test_defect_6_a_norm_is_known_by_its_effect(name: str) -> None:
    function, factor = NORMS[name]
    ((weight, (graph, norm)),) = norms_of(function).items()

    assert weight == "w"
    for value in (0.0, 1.0, 2.0):
        # eps = 1e-5 beside a variance of 1 takes 5e-6 off.
        assert norm_gain(graph, norm, value) == pytest.approx(abs(factor(value)), abs=2e-5)


@pytest.mark.parametrize("name", ["layer norm", "layer norm by hand"])
def test_a_bias_belongs_to_its_norm_and_adds_to_the_gain(name: str) -> None:
    graph, norm = norms_of(NORMS[name][0])["w"]

    assert norm.bias == "b"
    # Mean square 1 + 9, whose root is 3.1623.
    assert norm_gain(graph, norm, 1.0, 3.0) == pytest.approx(10**0.5, abs=2e-5)


def test_entries_of_a_weight_may_differ() -> None:
    graph, norm = norms_of(NORMS["rms"][0])["w"]
    weight = torch.zeros(C, dtype=torch.float64)
    weight[: C // 2] = 1.0

    gain = norm_gain(graph, norm, weight)

    # Half of the channels of 8 random rows: 1/sqrt(2) within 5 errors sqrt(1/8/C)/sqrt(2).
    assert gain == pytest.approx(0.5**0.5, abs=5 * math.sqrt(1 / 8 / C / 2))


def shifted(x: Tensor) -> Tensor:
    return F.pad(x, (0, 0, 1, -1))


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w, b: x * w,
        lambda x, w, b: F.gelu(rms(x)) * w,
        lambda x, w, b: F.normalize(x, dim=-1) * w,
        lambda x, w, b: rms(x) * w + shifted(rms(x)) * (1 - w),
        lambda x, w, b: rms(x) + b,
        lambda x, w, b: F.layer_norm(x, (C,), None, b),
    ],
    ids=[
        "a scale",
        "after an activation",
        "of length 1",
        "a mix of two positions",
        "only a bias",
        "only a bias of torch",
    ],
)
def test_a_vector_that_scales_something_else_is_no_weight_of_a_norm(function: Normalise) -> None:
    assert norms_of(function) == {}


def test_what_scales_the_output_of_a_norm_with_a_weight_is_no_second_weight() -> None:
    assert list(norms_of(lambda x, w, b: F.layer_norm(x, (C,), w) * b)) == ["w"]


def test_heads_may_have_a_weight_each() -> None:
    def by_head(x: Any, w: Any, b: Any) -> Any:
        heads = x.unflatten(-1, (2, -1)).transpose(1, 2)  # (B, nh, T, hs)
        return (rms(heads) * w.view(2, 1, -1)).transpose(1, 2).flatten(2)

    graph, norm = norms_of(by_head)["w"]

    assert norm_gain(graph, norm, 3.0) == pytest.approx(3.0, abs=2e-5)
