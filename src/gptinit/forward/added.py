"""The branches that one block adds to the stream: its attention and its MLP."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gptinit.forward.branches import branch_kind
from gptinit.forward.graph import Graph
from gptinit.forward.residual import Addition

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
    kinds = {w.vertex: branch_kind(graph, w) for w in addition.writers}
    v = graph.vertices[addition.branch]
    parents = graph.token_parents(addition.branch)
    if len({*kinds.values()} - {"other"}) > 1 and v.name == "add" and len(parents) == 2:
        for parent in parents:
            inside = {kind for i, kind in kinds.items() if graph.depends(parent, i)} - {"other"}
            if len(inside) == 1:
                yield Branch(inside.pop(), parent)
    elif kinds:
        yield Branch(min(kinds.values(), key=_ORDER.index), addition.branch)
