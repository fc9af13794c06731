"""The role of every weight, from what the forward pass does with it."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor
from torch.utils._pytree import tree_flatten

from gptinit.facts.vocabulary import ParameterRole, Role
from gptinit.forward.graph import MATMULS, SOFTMAXES, Graph, Operand, Vertex
from gptinit.forward.residual import Writer, additions, writers

__all__ = ["WeightUse", "branch_kind", "product_of_tokens", "weight_uses"]

_ACTIVATIONS = frozenset(
    {
        "celu", "elu", "erf", "exp", "gelu", "glu", "hardsigmoid", "hardswish", "hardtanh",
        "leaky_relu", "mish", "pow", "relu", "selu", "sigmoid", "silu", "softplus", "tanh",
        "threshold", "clamp", "clamp_min",
    }
)  # fmt: skip
_NORMS = frozenset({"native_layer_norm", "_fused_rms_norm", "rms_norm"})
_NEARBY = 8
"""Nodes that are looked at behind a product for the root of a norm."""
_RECURRENT = frozenset({"convolution", "cumsum", "conv1d", "fft", "_fft_r2c"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightUse:
    """The use of one weight in the forward pass.

    Attributes:
        roles: every role that it plays, the first use first.
        fan_in: inputs that one output sums over; None if it is no matrix of a product.
        fan_out: outputs of the product.
        writes_stream: whether its product is added to the residual stream.
    """

    roles: tuple[ParameterRole, ...]
    fan_in: int | None = None
    fan_out: int | None = None
    writes_stream: bool = False


def weight_uses(graph: Graph, ids: Tensor, width: int) -> dict[str, WeightUse]:
    """The use of every weight that the forward pass reaches.

    Args:
        graph: of the pass.
        ids: the token ids that it ran on, all different.
        width: of the stream.
    """
    roles_of: dict[str, dict[ParameterRole, None]] = {}  # dict and not set: in order of use
    for name, role in _claims(graph, ids, width):
        roles_of.setdefault(name, {})[role] = None
    fans = dict(_fans(graph))
    for name in fans:
        roles_of.setdefault(name, {"other": None})
    written = {w.weight for w in _all_writers(graph, width)}
    return {
        name: WeightUse(
            roles=tuple(roles),
            fan_in=fans.get(name, (None, None))[0],
            fan_out=fans.get(name, (None, None))[1],
            writes_stream=name in written,
        )
        for name, roles in roles_of.items()
    }


def _claims(graph: Graph, ids: Tensor, width: int) -> Iterator[tuple[str, ParameterRole]]:
    yield from _lookups(graph, ids)
    yield from _added_tables(graph)
    yield from _norms(graph)
    for writer in _all_writers(graph, width):
        yield from _branch(graph, writer)
    yield from _head(graph, width)


def _all_writers(graph: Graph, width: int) -> list[Writer]:
    return [w for a in additions(graph, width) for w in writers(graph, a)]


def _lookups(graph: Graph, ids: Tensor) -> Iterator[tuple[str, ParameterRole]]:
    """Embeddings: of tokens if the indices are the ids, of positions if they count up."""
    for v in graph.vertices:
        if v.name not in {"embedding", "index_select", "index"}:
            continue
        named = graph.weight_operands(v.index)
        reals = [t for t in tree_flatten((v.node.args, v.node.kwargs))[0] if isinstance(t, Tensor)]
        for _, name in named[:1]:
            for index in reals:
                # Ids never count up throughout, see observe: no index passes for both.
                flat = index.flatten()
                if flat.numel() == ids.numel() and bool((flat == ids.flatten()).all()):
                    yield name, "tok_emb"
                elif flat.numel() > 1 and bool((flat.diff() == 1).all()):
                    yield name, "pos_emb"


def _added_tables(graph: Graph) -> Iterator[tuple[str, ParameterRole]]:
    """Position embeddings that are added as a whole, without a lookup."""
    for v in graph.vertices:
        if v.name == "add" and graph.is_token(v.index):
            for operand, name in graph.weight_operands(v.index):
                if operand.geometry.numel == v.node.numel and v.node.shape[-2:-1] != (1,):
                    yield name, "pos_emb"


def _norms(graph: Graph) -> Iterator[tuple[str, ParameterRole]]:
    for v in graph.vertices:
        if v.name in _NORMS:
            for operand, name in graph.weight_operands(v.index):
                yield name, "norm_weight" if operand.position == 1 else "norm_bias"
        elif v.name == "mul" and graph.is_token(v.index):
            for operand, name in graph.weight_operands(v.index):
                if operand.geometry.numel == v.node.shape[-1] and _is_normed(graph, v):
                    yield name, "norm_weight"


def _is_normed(graph: Graph, v: Vertex) -> bool:
    """Whether a factor of a product was divided by its own size just before.

    A norm written by hand is x * rsqrt(mean(x^2) + eps) * weight with casts in between, so its
    root is a few nodes back. The limit keeps the walk, which may meet nodes twice, inside the norm.
    """
    stack, steps = graph.token_parents(v.index), 0
    while stack and steps < _NEARBY:
        index = stack.pop()
        name = graph.vertices[index].name
        if name in {"rsqrt", "linalg_vector_norm", "sqrt", "native_layer_norm"}:
            return True
        if name in {"mul", "_to_copy", "div", "clone", "sub"}:
            stack += graph.token_parents(index)
        steps += 1
    return False


def branch_kind(graph: Graph, writer: Writer) -> str:
    """Kind of the branch that ends in a writer: "attn", "mlp", or "other" (recurrent, linear)."""
    if any(_is_attention(graph, v) for v in graph.within(writer.cone)):
        return "attn"
    hidden = _hidden(graph, writer)
    has_activation = any(True in crossings for crossings in hidden.values())
    is_recurrent = any(v.name in _RECURRENT for v in graph.within(writer.cone))
    return "mlp" if hidden and has_activation and not is_recurrent else "other"


def _branch(graph: Graph, writer: Writer) -> Iterator[tuple[str, ParameterRole]]:
    kind = branch_kind(graph, writer)
    if kind == "attn":
        yield writer.weight, "attn_out"
        for v in graph.within(writer.cone):
            if _is_attention(graph, v):
                yield from _attention(graph, writer, v)
        return
    if kind == "other":
        yield writer.weight, "other"
        return
    hidden = _hidden(graph, writer)
    yield writer.weight, "mlp_down"
    # One matrix's output passes the activation and another's does not: act(gate(x)) * up(x).
    is_gated = any(True not in crossings for crossings in hidden.values())
    for name, crossings in hidden.items():
        yield name, "mlp_gate" if is_gated and True in crossings else "mlp_up"


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


def _attention(graph: Graph, writer: Writer, core: Vertex) -> Iterator[tuple[str, ParameterRole]]:
    """(weight, role) of the weights that reach queries, keys, values, or several ("qkv")."""
    sides: dict[str, set[ParameterRole]] = {}
    for role, operands in _sides(graph, writer, core):
        start = [i for o in operands for i in o.nodes]
        for name in _matrices_behind(graph, start, writer.cone):
            sides.setdefault(name, set()).add(role)
    for name, roles in sides.items():
        yield name, next(iter(roles)) if len(roles) == 1 else "qkv"


def _sides(graph: Graph, writer: Writer, core: Vertex) -> Iterator[tuple[Role, list[Operand]]]:
    """(role, operands) of the queries, keys and values of a fused attention or a softmax."""
    if core.name not in SOFTMAXES:
        fused: tuple[Role, ...] = ("q", "k", "v")
        yield from ((role, [o]) for role, o in zip(fused, core.operands, strict=False))
        return
    scores = product_of_tokens(graph, core.index)
    if scores is not None:
        tokens = [o for o in scores.operands if any(graph.is_token(i) for i in o.nodes)]
        factors: tuple[Role, ...] = ("q", "k")
        yield from ((role, [o]) for role, o in zip(factors, tokens[-2:], strict=False))
    # Values are what the first product after the softmax multiplies its result by.
    for v in graph.within(writer.cone):
        if v.name in MATMULS and v.index > core.index and not graph.weight_operands(v.index):
            reached = [
                o for o in v.operands if not any(graph.depends(i, core.index) for i in o.nodes)
            ]
            yield "v", [o for o in reached if any(graph.is_token(i) for i in o.nodes)]
            return


def _matrices_behind(graph: Graph, start: list[int], inside: int) -> dict[str, set[bool]]:
    """The nearest matrices behind nodes, in a set -> whether an activation is on each way there."""
    matrices: dict[str, set[bool]] = {}
    stack, seen = [(i, False) for i in start], set()
    while stack:
        index, crossed = stack.pop()
        if (index, crossed) in seen or not inside >> index & 1:
            continue
        seen.add((index, crossed))
        v = graph.vertices[index]
        names = graph.matrices_of(v)
        for name in names:
            matrices.setdefault(name, set()).add(crossed)
        if not names:
            crossed |= v.name in _ACTIVATIONS
            stack += [(i, crossed) for i in graph.token_parents(index)]
    return matrices


def _hidden(graph: Graph, writer: Writer) -> dict[str, set[bool]]:
    return _matrices_behind(graph, graph.token_parents(writer.vertex), writer.cone)


def _head(graph: Graph, width: int) -> Iterator[tuple[str, ParameterRole]]:
    # No further than the stream: what lies behind it belongs to the blocks.
    ends = sum(1 << a.vertex for a in additions(graph, width))
    last = [] if graph.last is None else [graph.last]
    for name in _matrices_behind(graph, last, ~ends):
        yield name, "lm_head"


def _fans(graph: Graph) -> Iterator[tuple[str, tuple[int, int]]]:
    for v in graph.vertices:
        if v.name not in MATMULS:
            continue
        for operand, name in graph.weight_operands(v.index):
            size = operand.geometry.size
            if len(size) > 1 and graph.token_parents(v.index):
                is_right = operand.position == max(o.position for o in v.operands)
                yield name, (size[-2], size[-1]) if is_right else (size[-1], size[-2])
