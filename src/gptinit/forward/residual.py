"""The residual stream in a graph: additions to it, the products added, and the way between them."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from gptinit.forward.graph import FUSED_NORMS, MATMULS, Graph, Vertex

__all__ = ["Addition", "Writer", "additions", "has_norm", "outermost", "way_back"]

_SCALES = frozenset({"mul", "div", "_to_copy", "clone"})
"""Operators that turn the stream into a multiple of it, where only one operand is of tokens."""

_LINEAR = frozenset(
    {
        "_to_copy", "_unsafe_index", "add", "cat", "clone", "copy", "cumsum", "div",
        "fused_rms_norm", "_fused_rms_norm", "index", "index_add", "index_copy", "index_put",
        "index_select", "masked_fill", "mean", "mul", "native_dropout", "native_layer_norm",
        "new_zeros", "rms_norm", "scatter_add", "select_scatter", "slice_scatter",
        "split_with_sizes_copy", "stack", "sub", "sum", "where",
    }
)  # fmt: skip
"""Operators that a branch may pass after its last matrix product, on its way to the stream."""

_NORMS = FUSED_NORMS | {
    "linalg_vector_norm", "native_batch_norm", "norm", "rsqrt", "sqrt", "std", "std_mean", "var",
    "var_mean",
}  # fmt: skip
"""Operators that a norm needs, be it whole or written by hand: the size of its input."""

_PRODUCTS = frozenset({"div", "mul"})


@dataclass(frozen=True, slots=True)
class Writer:
    """A matrix product whose result reaches the stream without passing through another.

    Attributes:
        vertex: the product.
        weight: name of its matrix.
        cone: set of the nodes between the stream that the branch starts from and the product.
    """

    vertex: int
    weight: str
    cone: int


@dataclass(frozen=True, slots=True)
class Addition:
    """One addition to the stream.

    Attributes:
        vertex: the addition, which is the stream after it.
        stream: the stream before it.
        start: the stream that the branch was computed from: that before the first of several
            parallel branches, else `stream`.
        branch: what was added.
        end: the end of the branch: its last matrix products, and what comes after them.
        writers: these products.
    """

    vertex: int
    stream: int
    start: int
    branch: int
    end: frozenset[int] = frozenset()
    writers: tuple[Writer, ...] = ()


def additions(graph: Graph, width: int) -> list[Addition]:
    """Every addition to the stream, in order.

    An addition has two operands of one shape, and nothing says which of them is the stream. But a
    branch starts from the stream it is added to: x + f(x). So the stream is the operand that the
    other one was computed from. Parallel branches, (x + f(x)) + g(x), start from the stream before
    the first of them, which `origin` remembers.

    Where both operands are the stream, now and earlier, nothing is added by a branch: the embedding
    that is mixed in again before every block, a skip from the first half to the second. Such a sum
    is the stream itself, which goes on from the later of the two.

    What a branch adds on its own way is left out: steps of a recurrence, values to earlier values.

    Args:
        graph: of one forward pass.
        width: of the stream.
    """
    chain: list[Addition] = []
    origin: dict[int, int] = {}  # stream -> the stream before the parallel branches added so far
    before: dict[int, int] = {}  # stream -> the stream before the last branch, or mixture
    for v in graph.vertices:
        shape = v.node.shape
        if v.name != "add" or len(shape) < 2 or shape[-1] != width:
            continue
        pair = _token_operands(graph, v)
        if len(pair) != 2:
            continue
        for operand, branch in (pair, pair[::-1]):
            behind = graph.ancestors[branch]
            stream = _unscaled(graph, operand, behind)
            if behind >> stream & 1 or (stream in origin and behind >> origin[stream] & 1):
                if _is_later(graph, branch, stream, before):
                    before[v.index] = branch
                    break
                before[v.index] = stream
                start = stream if behind >> stream & 1 else origin[stream]
                chain.append(_addition(graph, v.index, stream, start, branch))
                origin[v.index] = start
                break
    return outermost(graph, chain)


def outermost(graph: Graph, found: Iterable[Addition]) -> list[Addition]:
    """Additions without those in the branch of another, in order.

    In a branch means: after the stream that it starts from, before what it adds.
    """
    kept: list[Addition] = []
    around: list[Addition] = []
    # Backwards: what is added last is in no branch, and what is in one cannot have another in its.
    for addition in sorted(found, key=lambda a: a.vertex, reverse=True):
        if not any(_is_inside(graph, addition.vertex, other) for other in around):
            kept.append(addition)
            around += [addition] if addition.writers else []
    return kept[::-1]


def _is_inside(graph: Graph, index: int, addition: Addition) -> bool:
    begins = index != addition.start and graph.depends(index, addition.start)
    return begins and graph.depends(addition.branch, index)


def _unscaled(graph: Graph, index: int, behind: int) -> int:
    """The stream that an operand is a multiple of, as in 0.5 * x + f(x); else the operand."""
    return next((at for at in _multiples(graph, index) if behind >> at & 1), index)


def _multiples(graph: Graph, index: int) -> Iterator[int]:
    """A node and, backwards, every one that it is a multiple of."""
    yield index
    parents = graph.token_parents(index)
    while graph.vertices[index].name in _SCALES and len(parents) == 1:
        index = parents[0]
        yield index
        parents = graph.token_parents(index)


def _is_later(graph: Graph, index: int, stream: int, before: Mapping[int, int]) -> bool:
    """Whether a node is a multiple of the stream after another state of it, by `before`."""
    wanted = set(_multiples(graph, stream))
    while True:
        multiples = list(_multiples(graph, index))
        if wanted & set(multiples):
            return True
        state = next((at for at in multiples if at in before), None)
        if state is None:
            return False
        index = before[state]


def _addition(graph: Graph, vertex: int, stream: int, start: int, branch: int) -> Addition:
    """An addition, with the end of its branch."""
    outside = graph.cone(start)

    def is_linear(v: Vertex) -> bool:
        # A product of tokens with tokens is one too: the sum of experts, each times its share.
        is_sum = v.name in _LINEAR or (v.name in MATMULS and not graph.matrices_of(v))
        return is_sum and not outside >> v.index & 1

    end = [v for v in graph.behind([branch], is_linear) if not outside >> v.index & 1]
    writers = tuple(
        Writer(v.index, matrices[0], graph.cone(v.index) & ~outside)
        for v in end
        if (matrices := graph.matrices_of(v))
    )
    return Addition(vertex, stream, start, branch, frozenset(v.index for v in end), writers)


def _token_operands(graph: Graph, v: Vertex) -> list[int]:
    """The operands of an addition that depend on tokens and are not broadcast."""
    pair = []
    for o in v.operands:
        last = o.nodes[-1] if o.nodes else None
        if last is not None and graph.is_token(last) and o.geometry.numel == v.node.numel:
            pair.append(last)
    return pair


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
