"""The role of every weight, from what the forward pass does with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from torch import Tensor

from gptinit.facts.vocabulary import ParameterRole
from gptinit.forward.branches import branch_roles, fans_of, matrices_behind
from gptinit.forward.graph import MATMULS, Graph
from gptinit.forward.norms import Norm, find_norms
from gptinit.forward.residual import Addition, additions
from gptinit.trace.nested import only

__all__ = ["WeightUse", "weight_uses"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightUse:
    """The use of one weight in the forward pass.

    Attributes:
        roles: every role that it plays, the first use first.
        fan_in: inputs that one output sums over; None if it is no matrix of a product.
        fan_out: outputs of the product.
        writes_stream: whether its product is added to the residual stream, as it is or after
            further steps that are linear.
        norm: the norm whose weight it is; None of every other weight.
    """

    roles: tuple[ParameterRole, ...]
    fan_in: int | None = None
    fan_out: int | None = None
    writes_stream: bool = False
    norm: Norm | None = None


def weight_uses(graph: Graph, ids: Tensor, width: int) -> dict[str, WeightUse]:
    """The use of every weight that the forward pass reaches.

    Args:
        graph: of the pass.
        ids: the token ids that it ran on, all different.
        width: of the stream.
    """
    norms, added = find_norms(graph), additions(graph, width)
    roles_of: dict[str, dict[ParameterRole, None]] = {}  # dict and not set: in order of use
    for name, role in _claims(graph, ids, norms, added):
        roles_of.setdefault(name, {})[role] = None
    fans = dict(fan for v in graph.vertices for fan in fans_of(graph, v))
    for name in fans:
        roles_of.setdefault(name, {"other": None})
    written = {w.weight for a in added for w in a.writers}
    written |= {n.weight for n in norms if any(n.vertex in a.end for a in added)}
    norm_of = {n.weight: n for n in reversed(norms)}  # the first of several
    return {
        name: WeightUse(
            roles=tuple(roles),
            fan_in=fans.get(name, (None, None))[0],
            fan_out=fans.get(name, (None, None))[1],
            writes_stream=name in written,
            norm=norm_of.get(name),
        )
        for name, roles in roles_of.items()
    }


def _claims(
    graph: Graph, ids: Tensor, norms: list[Norm], added: list[Addition]
) -> Iterator[tuple[str, ParameterRole]]:
    yield from _lookups(graph, ids, _outside_branches(graph, added))
    yield from _added_tables(graph)
    for norm in norms:
        yield norm.weight, "norm_weight"
        if norm.bias:
            yield norm.bias, "norm_bias"
    yield from branch_roles(graph, [w for a in added for w in a.writers])
    yield from _head(graph, added)


def _outside_branches(graph: Graph, added: list[Addition]) -> int:
    """Set of the nodes that reach the stream or the logits without passing through a branch."""
    ends = {w.vertex for a in added for w in a.writers}
    start = [a.stream for a in added if a.writers] + ([] if graph.last is None else [graph.last])
    return sum(1 << v.index for v in graph.behind(start, lambda v: v.index not in ends))


def _lookups(graph: Graph, ids: Tensor, outside: int) -> Iterator[tuple[str, ParameterRole]]:
    """Embeddings: of tokens if the indices are the ids, of positions if they count up.

    A table of tokens whose rows reach the stream through a branch only, as values of attention, is
    no embedding.
    """
    inside = []
    for v in graph.vertices:
        if v.name not in {"embedding", "index_select", "index"}:
            continue
        named = graph.weight_operands(v.index)
        reals = only(Tensor, (v.node.args, v.node.kwargs))
        for (_, name), index in product(named[:1], reals):
            # Ids never count up throughout, see observe: no index passes for both.
            flat = index.flatten()
            if flat.numel() > 1 and bool((flat.diff() == 1).all()):
                yield name, "pos_emb"
            elif flat.numel() != ids.numel() or not bool((flat == ids.flatten()).all()):
                continue
            elif outside >> v.index & 1:
                yield name, "tok_emb"
            else:
                inside.append(name)
    yield from ((name, "other") for name in inside)  # last: the first role of a table counts


def _added_tables(graph: Graph) -> Iterator[tuple[str, ParameterRole]]:
    """Position embeddings that are added as a whole, without a lookup."""
    for v in graph.vertices:
        if v.name == "add" and graph.is_token(v.index):
            for operand, name in graph.weight_operands(v.index):
                if operand.geometry.numel == v.node.numel and v.node.shape[-2:-1] != (1,):
                    yield name, "pos_emb"


def _head(graph: Graph, added: list[Addition]) -> Iterator[tuple[str, ParameterRole]]:
    # No further than the stream: what lies behind it belongs to the blocks. Nor past a product of
    # tokens with tokens: queries and keys that point at earlier tokens are no head.
    ends = sum(1 << a.vertex for a in added)
    ends |= sum(
        1 << v.index for v in graph.vertices if v.name in MATMULS and not graph.matrices_of(v)
    )
    last = [] if graph.last is None else [graph.last]
    for name in matrices_behind(graph, last, ~ends):
        yield name, "lm_head"
