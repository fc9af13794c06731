"""The way of the residual stream from one addition to the next: multiples, mixtures and norms."""

from collections.abc import Collection

from gptinit.forward.graph import FUSED_NORMS, MATMULS, Graph, Vertex

__all__ = ["has_norm", "way_back"]

_NORMS = FUSED_NORMS | {
    "linalg_vector_norm", "native_batch_norm", "norm", "rsqrt", "sqrt", "std", "std_mean", "var",
    "var_mean",
}  # fmt: skip
"""Operators that a norm needs, be it whole or written by hand: the size of its input."""

_PRODUCTS = frozenset({"div", "mul"})


def way_back(graph: Graph, index: int, stops: Collection[int] = ()) -> set[int]:
    """The nodes behind a state of the stream, itself included, past no matrix product.

    Args:
        graph: of the forward pass.
        index: the state.
        stops: nodes that the way does not go beyond: additions to the stream.
    """

    def is_between(v: Vertex) -> bool:
        return v.name not in MATMULS and (v.index == index or v.index not in stops)

    return {v.index for v in graph.behind([index], is_between)}


def has_norm(graph: Graph, start: int, end: int) -> bool:
    """Whether a norm stands between two states of the stream: on every way, not in a branch."""
    cone = graph.cone(end) & ~graph.cone(start)
    normed = {start: False}
    for v in graph.within(cone):
        states = [normed[i] for i in graph.token_parents(v.index) if i in normed]
        if states:
            # A norm by hand is the stream times one over its size, an addition keeps the stream.
            joined = any(states) if v.name in _PRODUCTS else all(states)
            normed[v.index] = joined or v.name in _NORMS
    return normed.get(end, False)
