"""The branches of a decoder: what kind each one is, and what each of its matrices does there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from operator import mul

import torch

from gptinit.facts.vocabulary import ParameterRole, Role
from gptinit.forward.graph import MATMULS, SOFTMAXES, Graph, Operand, Vertex
from gptinit.forward.residual import Addition, Writer

__all__ = [
    "Branch",
    "branch_roles",
    "branches",
    "fans_of",
    "matrices_behind",
    "product_of_tokens",
]

_ACTIVATIONS = frozenset(
    {
        "celu", "elu", "erf", "exp", "gelu", "glu", "hardsigmoid", "hardswish", "hardtanh",
        "leaky_relu", "mish", "pow", "relu", "selu", "sigmoid", "silu", "softplus", "tanh",
        "threshold", "clamp", "clamp_min",
    }
)  # fmt: skip
_ARITHMETIC = frozenset(
    {
        "_to_copy", "add", "clone", "copy", "div", "masked_fill", "mul", "neg", "reciprocal",
        "rsqrt", "sqrt", "sub", "where",
    }
)  # fmt: skip
"""Elementwise operators that sums, gates and norms are made of: no activations."""

_RECURRENT = frozenset({"convolution", "cumsum", "conv1d", "fft", "_fft_r2c"})
_SIDES = frozenset({"q", "k", "v", "qkv"})
_WRITERS: Mapping[str, ParameterRole] = {"attn": "attn_out", "mlp": "mlp_down"}
"""Kind of a branch -> role of the matrix that it ends in; "other" where there is none."""


_ORDER = ("attn", "mixer", "mlp", "other")
"""Kinds of a branch, that of a sum of several first."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A matrix behind some nodes.

    Attributes:
        vertices: its products.
        crossings: whether an activation stands on the way, for each way.
    """

    vertices: set[int] = field(default_factory=set)
    crossings: set[bool] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Claim:
    """A role of a matrix, by some of its products."""

    weight: str
    role: ParameterRole
    vertices: set[int]


@dataclass(frozen=True, slots=True)
class Branch:
    """One branch.

    Attributes:
        kind: "attn" for attention, or what mixes positions in its place; "mlp"; or any other.
        vertex: what is added.
    """

    kind: str
    vertex: int


def branches(graph: Graph, added: Sequence[Addition]) -> list[Branch]:
    """The branches that a block adds, in order."""
    found = [branch for addition in added for branch in _branches(graph, addition)]
    if any(branch.kind == "attn" for branch in found):
        return found
    return [replace(b, kind="attn") if b.kind == "mixer" else b for b in found]


def _branches(graph: Graph, addition: Addition) -> Iterator[Branch]:
    """The branch that is added, or both where two are summed first.

    What is summed with one but is of no kind itself (an adapter beside a matrix) is a part of it.
    """
    kinds = {w.vertex: _kind(graph, w) for w in addition.writers}
    v = graph.vertices[addition.branch]
    parents = graph.token_parents(addition.branch)
    if len({*kinds.values()} - {"other"}) > 1 and v.name == "add" and len(parents) == 2:
        for parent in parents:
            inside = {kind for i, kind in kinds.items() if graph.depends(parent, i)} - {"other"}
            if len(inside) == 1:
                yield Branch(inside.pop(), parent)
    elif kinds:
        yield Branch(min(kinds.values(), key=_ORDER.index), addition.branch)


def _kind(graph: Graph, writer: Writer) -> str:
    """Kind of the branch that ends in a writer.

    "attn" with a softmax, "mixer" if positions reach each other otherwise (a recurrence, linear
    attention, a convolution), "mlp", or "other".
    """
    if any(_is_attention(graph, v) for v in graph.within(writer.cone)):
        return "attn"
    hidden = _hidden(graph, writer)
    if _mixes_positions(graph, writer, hidden):
        return "mixer"
    return "mlp" if any(True in source.crossings for source in hidden.values()) else "other"


def _mixes_positions(graph: Graph, writer: Writer, hidden: Mapping[str, _Source]) -> bool:
    """Whether hidden units of one position reach another: a recurrence, or linear attention.

    An MLP treats every position by itself from its first product to its last, and reads all
    of them at every step. A loop over positions reads one at a time.
    """
    if any(v.name in _RECURRENT for v in graph.within(writer.cone)):
        return True
    starts = {i for source in hidden.values() for i in source.vertices}
    rows = _rows(graph, writer.vertex)
    inside: set[int] = set(starts)
    for v in graph.within(writer.cone & ~(1 << writer.vertex)):
        read = [o for o in v.operands if not inside.isdisjoint(o.nodes)]
        if not read or v.index in starts:
            continue
        inside.add(v.index)
        of_tokens = [o for o in v.operands if graph.reads_tokens(o)]
        if v.name in MATMULS and len(of_tokens) > 1 and not graph.matrices_of(v):
            return True
        if any(_shows_less(graph, o, rows) for o in read):
            return True
    return False


def _rows(graph: Graph, index: int) -> int:
    """The number of vectors that a node holds."""
    node = graph.vertices[index].node
    return node.numel // max(node.shape[-1], 1)


def _shows_less(graph: Graph, operand: Operand, rows: int) -> bool:
    """Whether an operand reads only some of the rows of a node that has as many rows."""
    geometry, node = operand.geometry, graph.vertices[operand.nodes[-1]].node
    # Rows come first in memory: else, in a stack of two matrices' outputs, one read is of half.
    if len(operand.nodes) != 1 or rows not in accumulate(node.shape, mul) or not geometry.numel:
        return False
    width = node.numel // rows
    last = geometry.offset + sum(
        (n - 1) * s for n, s in zip(geometry.size, geometry.stride, strict=True)
    )
    return last // width - geometry.offset // width + 1 < rows


def _is_activation(graph: Graph, v: Vertex) -> bool:
    """Whether a node is a curve of one vector: of every entry by itself, and no straight line."""
    if v.name in _ACTIVATIONS:
        return True
    parents = graph.token_parents(v.index)
    if v.name == "mul":
        return len(parents) == 2 and parents[0] == parents[1]  # a square
    is_elementwise = v.node.op is not None and torch.Tag.pointwise in v.node.op.tags
    return is_elementwise and len(parents) == 1 and v.name not in _ARITHMETIC


def branch_roles(graph: Graph, writers: Iterable[Writer]) -> Iterator[tuple[str, ParameterRole]]:
    """(weight, role) of the matrices of all branches, for each use of one.

    "other" of a matrix whose product both attention and an MLP read, and of one without a role.
    """
    claims = [claim for writer in writers for claim in _branch(graph, writer)]
    sides, rest = set[int](), set[int]()
    for claim in claims:
        (sides if claim.role in _SIDES else rest).update(claim.vertices)
    for claim in claims:
        is_fused = not claim.vertices.isdisjoint(sides & rest)
        yield claim.weight, "other" if is_fused else claim.role


def _branch(graph: Graph, writer: Writer) -> Iterator[_Claim]:
    kind = _kind(graph, writer)
    role: ParameterRole = _WRITERS.get(kind, "other")
    yield _Claim(writer.weight, role, {writer.vertex})
    if kind == "attn":
        for v in graph.within(writer.cone):
            if _is_attention(graph, v):
                yield from _attention(graph, writer, v)
    elif kind == "mlp":
        yield from _mlp(graph, writer)


def _mlp(graph: Graph, writer: Writer) -> Iterator[_Claim]:
    """The first matrices of an MLP: of those behind its last one, all that make hidden units.

    A matrix with more outputs is fused with something else, one with fewer is a router.
    """
    units = dict(fans_of(graph, graph.vertices[writer.vertex]))[writer.weight][0]
    makes_units = {}
    for name, source in _hidden(graph, writer).items():
        outputs = {dict(fans_of(graph, graph.vertices[i]))[name][1] for i in source.vertices}
        if outputs <= {units, 2 * units}:
            makes_units[name] = source
        else:
            yield _Claim(name, "other", source.vertices)
    # One matrix's output passes the activation and another's does not: act(gate(x)) * up(x).
    is_gated = any(True not in source.crossings for source in makes_units.values())
    for name, source in makes_units.items():
        is_gate = is_gated and True in source.crossings
        yield _Claim(name, "mlp_gate" if is_gate else "mlp_up", source.vertices)


def _is_attention(graph: Graph, v: Vertex) -> bool:
    if "scaled_dot_product" in v.name or "flex_attention" in v.name:
        return True
    is_softmax = v.name in SOFTMAXES and len(v.node.shape) >= 3
    return is_softmax and product_of_tokens(graph, v.index) is not None


def product_of_tokens(graph: Graph, index: int) -> Vertex | None:
    """The nearest product of tokens with tokens behind a node, not past one with a weight."""
    for v in graph.behind(graph.token_parents(index), lambda v: v.name not in MATMULS):
        if v.name in MATMULS and not graph.weight_operands(v.index):
            return v
    return None


def _attention(graph: Graph, writer: Writer, core: Vertex) -> Iterator[_Claim]:
    """The weights that reach queries, keys, values, or several of them ("qkv").

    "other" of those that only gate them, and of those whose output another of these matrices
    reads: a latent vector, from which keys and values are made, is neither.
    """
    sides: dict[str, set[ParameterRole]] = {}
    products: dict[str, set[int]] = {}
    for role, operands in _sides(graph, writer, core):
        start = [i for o in operands for i in o.nodes]
        found = matrices_behind(graph, start, writer.cone)
        is_plain = any(False in source.crossings for source in found.values())
        for name, source in found.items():
            is_gate = is_plain and False not in source.crossings
            sides.setdefault(name, set()).update(() if is_gate else (role,))
            products.setdefault(name, set()).update(source.vertices)
    for name, roles in sides.items():
        others = {i for n, vertices in products.items() if n != name for i in vertices}
        is_latent = any(graph.ancestors[i] >> p & 1 for i in others for p in products[name])
        one: ParameterRole = next(iter(roles), "other")
        several: ParameterRole = "other" if is_latent else "qkv"
        yield _Claim(name, one if len(roles) < 2 and not is_latent else several, products[name])


def _sides(graph: Graph, writer: Writer, core: Vertex) -> Iterator[tuple[Role, list[Operand]]]:
    """(role, operands) of the queries, keys and values of a fused attention or a softmax."""
    if core.name not in SOFTMAXES:
        fused: tuple[Role, ...] = ("q", "k", "v")
        yield from ((role, [o]) for role, o in zip(fused, core.operands, strict=False))
        return
    scores = product_of_tokens(graph, core.index)
    if scores is not None:
        tokens = [o for o in scores.operands if graph.reads_tokens(o)]
        factors: tuple[Role, ...] = ("q", "k")
        yield from ((role, [o]) for role, o in zip(factors, tokens[-2:], strict=False))
    # Values are what the first product after the softmax multiplies its result by.
    for v in graph.within(writer.cone):
        if v.name in MATMULS and v.index > core.index and not graph.weight_operands(v.index):
            others = (o for o in v.operands if graph.reads_tokens(o))
            yield "v", [o for o in others if not any(graph.depends(i, core.index) for i in o.nodes)]
            return


def matrices_behind(graph: Graph, start: list[int], inside: int) -> dict[str, _Source]:
    """The nearest matrices behind nodes, in a set of nodes."""
    matrices: dict[str, _Source] = {}
    stack, seen = [(i, False) for i in start], set()
    while stack:
        index, crossed = stack.pop()
        if (index, crossed) in seen or not inside >> index & 1:
            continue
        seen.add((index, crossed))
        v = graph.vertices[index]
        names = graph.matrices_of(v)
        for name in names:
            source = matrices.setdefault(name, _Source())
            source.vertices.add(index)
            source.crossings.add(crossed)
        if not names:
            crossed |= _is_activation(graph, v)
            stack += [(i, crossed) for i in graph.token_parents(index)]
    return matrices


def _hidden(graph: Graph, writer: Writer) -> dict[str, _Source]:
    return matrices_behind(graph, graph.token_parents(writer.vertex), writer.cone)


def fans_of(graph: Graph, v: Vertex) -> Iterator[tuple[str, tuple[int, int]]]:
    """(weight, (fan_in, fan_out)) of the weights that a node multiplies tokens by."""
    if v.name not in MATMULS or not graph.token_parents(v.index):
        return
    for operand, name in graph.weight_operands(v.index):
        size = operand.geometry.size
        if len(size) > 1:
            is_right = operand.position == max(o.position for o in v.operands)
            fan_in, fan_out = (size[-2], size[-1]) if is_right else (size[-1], size[-2])
            yield name, (fan_in, _of_one(graph.picked_from(operand), fan_in, fan_out))


def _of_one(stack: tuple[int, ...], fan_in: int, fan_out: int) -> int:
    """The outputs of one of the matrices of a stack, where several make one product."""
    matrix = stack[-2:] if len(stack) > len(stack[-2:]) else ()
    return matrix[0] + matrix[1] - fan_in if fan_in in matrix else fan_out
