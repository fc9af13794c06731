"""The norms of a forward pass: which weight multiplies a vector that was just normalised.

A norm is known by what it does. Behind the product with its weight the operators narrow down to one
vector, past a root of that vector's squares; and with a weight of 1 (or of 0 where the code uses
1 + w) what comes out has the size of a normalised vector. What a module or a parameter is called
plays no part, nor whether there is a module at all.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from gptinit.facts.names import number_pattern
from gptinit.forward.graph import FUSED_NORMS, Graph, Vertex
from gptinit.forward.values import Uncomputable, Values
from gptinit.trace.replay.operators import named

__all__ = ["Norm", "find_norms", "norm_gain"]

_ROOTS = frozenset({"rsqrt", "sqrt", "linalg_vector_norm", "norm", "std", "std_mean"})
_STEPS = FUSED_NORMS | _ROOTS | {
    "_to_copy", "abs", "add", "amax", "clamp", "clamp_min", "clone", "copy", "div", "maximum",
    "mean", "mul", "neg", "pow", "reciprocal", "sub", "sum", "var", "var_mean",
}  # fmt: skip
"""Operators that a norm is made of."""

_LONGEST = 24
"""Most operators of one norm: LayerNorm by hand, with a cast around each step, has fewer."""

_ROOM = 0.05
"""How far from 1 the size of a norm's output may be because of its epsilon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm:
    """One norm with a weight.

    Attributes:
        weight: name of the parameter that multiplies the normalised vector.
        bias: name of the parameter that is added to the product; None without one.
        source: node that is normalised.
        vertex: node of the output.
    """

    weight: str
    bias: str | None
    source: int
    vertex: int


def find_norms(graph: Graph) -> list[Norm]:
    """Every norm that has a weight, in order."""
    found: dict[int, Norm] = {}
    others: set[str] = set()  # multiply something else too: no weights of norms
    for v in graph.vertices:
        if v.name in FUSED_NORMS:
            found.update((n.vertex, n) for n in _fused(graph, v))
        elif v.name == "mul":
            for name in _factors(graph, v):
                source = _normalised(graph, graph.token_parents(v.index)[0])
                if source is None:
                    others.add(name)
                else:
                    found[v.index] = Norm(weight=name, bias=None, source=source, vertex=v.index)
        elif v.name == "add":
            for norm in _with_bias(graph, v, found):
                del found[graph.token_parents(v.index)[0]]  # it ends here, in the sum
                found[v.index] = norm
    norms = [n for n in found.values() if n.weight not in others]
    by_kind = {_kind(graph, n): n for n in norms}
    kept = {kind for kind, norm in by_kind.items() if _keeps_size(graph, norm)}
    return [n for n in norms if _kind(graph, n) in kept]


def _kind(graph: Graph, norm: Norm) -> tuple[str, tuple[int, ...]]:
    """What norms of equal layers share."""
    return number_pattern(norm.weight), graph.vertices[norm.source].node.shape


def norm_gain(
    graph: Graph, norm: Norm, weight: Tensor | float, bias: Tensor | float = 0.0
) -> float | None:
    """RMS of a norm's output for inputs of mean 0 and RMS 1; None if it cannot be computed.

    Args:
        graph: of the pass.
        norm: one of its norms.
        weight: all entries of the weight, or one number for each of them.
        bias: those of the bias.
    """
    x = _unit_rows(graph.vertices[norm.source].node.shape)
    weights: Mapping[str, Tensor | float] = {norm.weight: weight, norm.bias or "": bias}
    try:
        y = Values(graph, {norm.source: x}, weights).vertex(norm.vertex)
    except Uncomputable:
        return None
    gain = float(y.square().mean().sqrt())
    return gain if math.isfinite(gain) else None


@lru_cache(maxsize=4)  # a model has few shapes, and drawing takes longer than all the rest
def _unit_rows(shape: tuple[int, ...]) -> Tensor:
    """Random rows of mean 0 and RMS 1, which LayerNorm and RMSNorm do not change; read-only."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x -= x.mean(-1, keepdim=True)
    return x / x.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-6)


def _fused(graph: Graph, v: Vertex) -> Iterator[Norm]:
    """The norm of a fused operator; none where it has no weight."""
    weights = {o.position: name for o, name in graph.weight_operands(v.index)}
    parents = graph.token_parents(v.index)
    has_weight = named(v.node.op, v.node.args, v.node.kwargs).get("weight") is not None
    if has_weight and 1 in weights and parents:
        yield Norm(weight=weights[1], bias=weights.get(2), source=parents[0], vertex=v.index)


def _factors(graph: Graph, v: Vertex) -> Iterator[str]:
    """The weight by which a product scales the channels of one vector of tokens."""
    width = v.node.shape[-1] if v.node.shape else 1
    if width == 1 or len(graph.token_parents(v.index)) != 1:
        return
    for operand, name in graph.weight_operands(v.index):
        size = operand.geometry.size
        if size and size[-1] == width and operand.geometry.numel < v.node.numel:
            yield name


def _with_bias(graph: Graph, v: Vertex, found: Mapping[int, Norm]) -> list[Norm]:
    """The norm to whose product a sum adds a vector of weights, ending in the sum."""
    parents = graph.token_parents(v.index)
    norm = found.get(parents[0]) if len(parents) == 1 else None
    if norm is None or norm.bias is not None:
        return []
    operands = graph.weight_operands(v.index)
    names = [n for operand, n in operands if operand.geometry.numel == v.node.shape[-1]]
    return [replace(norm, bias=name, vertex=v.index) for name in names[:1]]


def _normalised(graph: Graph, index: int) -> int | None:
    """The node that a node is the normalised value of; None if it is no such value.

    Backwards over the operators of a norm, the last node first, until all ways have met in one
    node. Another weight on the way is the norm's own: what follows it scales a norm's output.
    """
    reached, is_rooted = {index}, False
    for _ in range(_LONGEST):
        v = graph.vertices[max(reached)]
        if v.name not in _STEPS or graph.weight_operands(v.index):
            return None
        is_rooted |= v.name in _ROOTS | FUSED_NORMS or abs(v.power) == 0.5
        reached.remove(v.index)
        reached.update(graph.token_parents(v.index))
        if is_rooted and len(reached) == 1:
            return reached.pop()
        if not reached:
            return None
    return None


def _keeps_size(graph: Graph, norm: Norm) -> bool:
    """Whether a norm gives vectors of RMS 1 for a weight of 1, or for one of 0 where it adds 1.

    Otherwise its weight is the scale of something else: of queries of length 1, for one.
    """
    gains = [norm_gain(graph, norm, weight) for weight in (1.0, 0.0)]
    # What cannot be computed looks like a norm at least.
    return None in gains or any(abs(gain - 1) <= _ROOM for gain in gains if gain is not None)
