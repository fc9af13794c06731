"""The branches that one block adds to the stream: its attention and its MLP."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gptinit.forward.branches import branch_kind
from gptinit.forward.graph import Graph
from gptinit.forward.residual import Addition, Writer

__all__ = ["Branch", "branches"]


_ORDER = ("attn", "mixer", "mlp", "other")
"""Kinds of a branch, that of a sum of several first."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One branch.

    Attributes:
        kind: "attn" for attention, or what mixes positions in its place; "mlp"; or any other.
        vertex: what is added.
    """

    kind: str
    vertex: int


def branches(graph: Graph, added: Sequence[tuple[Addition, list[Writer]]]) -> list[Branch]:
    """The branches of a block, in the order in which they are added.

    Args:
        graph: of the forward pass.
        added: every addition of the block, with the products that it adds.
    """
    found = [branch for addition, ws in added for branch in _branches(graph, addition, ws)]
    if any(branch.kind == "attn" for branch in found):
        return found
    return [replace(b, kind="attn") if b.kind == "mixer" else b for b in found]


def _branches(graph: Graph, addition: Addition, added: list[Writer]) -> Iterator[Branch]:
    """The branch that is added, or both where two are summed first.

    What is summed with one but is of no kind itself (an adapter beside a matrix) is a part of it.
    """
    kinds = [branch_kind(graph, w) for w in added]
    v = graph.vertices[addition.branch]
    parents = graph.token_parents(addition.branch)
    if len({*kinds} - {"other"}) > 1 and v.name == "add" and len(parents) == 2:
        for parent in parents:
            inside = {branch_kind(graph, w) for w in added if graph.depends(parent, w.vertex)}
            inside.discard("other")
            if len(inside) == 1:
                yield Branch(inside.pop(), parent)
    elif kinds:
        yield Branch(min(kinds, key=_ORDER.index), addition.branch)
