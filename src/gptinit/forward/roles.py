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
    if any(_is_attention(graph, v) for v in _within(graph, writer.cone)):
        return "attn"
    hidden = _hidden(graph, writer)
    has_activation = any(crossed for crossings in hidden.values() for crossed in crossings)
    is_recurrent = any(v.name in _RECURRENT for v in _within(graph, writer.cone))
    return "mlp" if hidden and has_activation and not is_recurrent else "other"


def _branch(graph: Graph, writer: Writer) -> Iterator[tuple[str, ParameterRole]]:
    kind = branch_kind(graph, writer)
    if kind == "attn":
        yield writer.weight, "attn_out"
        for v in _within(graph, writer.cone):
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


def _within(graph: Graph, cone: int) -> Iterator[Vertex]:
    """The vertices of a set, in order: its bits from the lowest up."""
    while cone:
        low = cone & -cone
        yield graph.vertices[low.bit_length() - 1]
        cone ^= low


def _is_attention(graph: Graph, v: Vertex) -> bool:
    if "scaled_dot_product" in v.name or "flex_attention" in v.name:
        return True
    is_softmax = v.name in SOFTMAXES and len(v.node.shape) >= 3
    return is_softmax and product_of_tokens(graph, v.index) is not None


def product_of_tokens(graph: Graph, index: int) -> Vertex | None:
    """The nearest product of tokens with tokens behind a node, not past one with a weight."""
    stack, seen = graph.token_parents(index), set()
    while stack:
        at = stack.pop()
        v = graph.vertices[at]
        if at in seen:
            continue
        seen.add(at)
        if v.name in MATMULS:
            if not graph.weight_operands(at):
                return v
            continue
        stack += graph.token_parents(at)
    return None


def _attention(graph: Graph, writer: Writer, core: Vertex) -> Iterator[tuple[str, ParameterRole]]:
    """(weight, role) of the weights that reach queries, keys, values, or several ("qkv")."""
    sides: dict[str, set[ParameterRole]] = {}
    for role, operands in _sides(graph, writer, core):
        for name in _nearest(graph, writer.cone, [i for o in operands for i in o.nodes]):
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
    for v in _within(graph, writer.cone):
        if v.name in MATMULS and v.index > core.index and not graph.weight_operands(v.index):
            reached = [o for o in v.operands if not _comes_from(graph, o, core.index)]
            yield "v", [o for o in reached if any(graph.is_token(i) for i in o.nodes)]
            return


def _comes_from(graph: Graph, operand: Operand, index: int) -> bool:
    return any(i == index or graph.ancestors[i] >> index & 1 for i in operand.nodes)


def _nearest(graph: Graph, cone: int, start: list[int]) -> list[str]:
    """The matrices of the nearest products behind some nodes, inside a cone."""
    nearest: dict[str, None] = {}
    stack, seen = list(start), set()
    while stack:
        index = stack.pop()
        if index in seen or not cone >> index & 1:
            continue
        seen.add(index)
        v = graph.vertices[index]
        matrices = _matrices(graph, v)
        if matrices:
            nearest.update(dict.fromkeys(matrices))
        else:
            stack += graph.token_parents(index)
    return list(nearest)


def _matrices(graph: Graph, v: Vertex) -> list[str]:
    if v.name not in MATMULS or not graph.token_parents(v.index):
        return []
    return [n for o, n in graph.weight_operands(v.index) if len(o.geometry.size) > 1]


def _hidden(graph: Graph, writer: Writer) -> dict[str, set[bool]]:
    """The matrices before a writer -> whether an activation stands between, on each way there."""
    hidden: dict[str, set[bool]] = {}
    stack = [(i, False) for i in graph.token_parents(writer.vertex)]
    seen: set[tuple[int, bool]] = set()
    while stack:
        index, crossed = stack.pop()
        if (index, crossed) in seen or not writer.cone >> index & 1:
            continue
        seen.add((index, crossed))
        v = graph.vertices[index]
        matrices = _matrices(graph, v)
        for name in matrices:
            hidden.setdefault(name, set()).add(crossed)
        if not matrices:
            is_activation = v.name in _ACTIVATIONS
            stack += [(i, crossed or is_activation) for i in graph.token_parents(index)]
    return hidden


def _head(graph: Graph, width: int) -> Iterator[tuple[str, ParameterRole]]:
    """(weight, role) of the matrices between the last addition and the logits."""
    if graph.last is None:
        return
    stack, seen = [graph.last], set()
    # No further than the stream: what lies behind it belongs to the blocks.
    ends = {a.vertex for a in additions(graph, width)}
    while stack:
        index = stack.pop()
        if index in seen or index in ends:
            continue
        seen.add(index)
        matrices = _matrices(graph, graph.vertices[index])
        for name in matrices:
            yield name, "lm_head"
        if not matrices:
            stack += graph.token_parents(index)


def _fans(graph: Graph) -> Iterator[tuple[str, tuple[int, int]]]:
    for v in graph.vertices:
        if v.name not in MATMULS:
            continue
        for operand, name in graph.weight_operands(v.index):
            size = operand.geometry.size
            if len(size) > 1 and graph.token_parents(v.index):
                is_right = operand.position == max(o.position for o in v.operands)
                yield name, (size[-2], size[-1]) if is_right else (size[-1], size[-2])
