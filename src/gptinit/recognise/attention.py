"""What attention computes between its matrices, held against what theory's formulas are of.

That is softmax(scale q k^T) v over the keys up to each query, in heads, the queries and keys of
every position turned by angles that are proportional to it, or not turned.

Letters in shapes: T positions, nh heads, hs entries of a head.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gptinit.forward.graph import MATMULS, SOFTMAXES, Graph, Vertex
from gptinit.forward.roles import product_of_tokens
from gptinit.recognise.evaluate import Uncovered, Values
from gptinit.trace.graph import Read, reads_in

__all__ = ["Attended", "attended", "cores", "score_reads"]

_NEAR = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended:
    """One attention layer.

    Attributes:
        n_head, n_kv_head, head_dim: its shape.
        scale: scale of the scores, with what queries and keys are multiplied by.
        angles: by which pairs of entries turn from one position to the next, head_dim / 2 of
            them; empty where nothing turns.
        is_in_order: whether a fused matrix makes first all queries, then all keys, then all values.
    """

    n_head: int
    n_kv_head: int
    head_dim: int
    scale: float
    angles: tuple[float, ...]
    is_in_order: bool


def cores(graph: Graph, inside: int) -> list[Vertex]:
    """The fused attentions and the softmaxes over keys in a set of nodes."""
    found = [v for v in graph.vertices if inside >> v.index & 1]
    return [v for v in found if "scaled_dot_product" in v.name or v.name in SOFTMAXES]


def score_reads(graph: Graph, core: Vertex) -> tuple[Read, Read, Read]:
    """What attention reads as queries, keys and values.

    Raises:
        Uncovered: if it is no attention of three.
    """
    if core.name not in SOFTMAXES:
        q, k, v = list(reads_in(core.node))[:3]
        return q, k, v
    product = product_of_tokens(graph, core.index)
    after = next(
        (
            v
            for v in graph.vertices[core.index + 1 :]
            if v.name in MATMULS
            and graph.ancestors[v.index] >> core.index & 1
            and not graph.weight_operands(v.index)
        ),
        None,
    )
    if product is None or after is None:
        raise Uncovered("attention", "its scores are no product of queries and keys.")
    q, k = list(reads_in(product.node))[-2:]
    values = [r for r in reads_in(after.node) if not _depends(graph, r, core.index)]
    if len(values) != 1:
        raise Uncovered("attention", "its weights meet more than values.")
    return q, k, values[0]


def _depends(graph: Graph, read: Read, index: int) -> bool:
    return any(i == index or graph.ancestors[i] >> index & 1 for _, i in graph.writes(read))


def attended(graph: Graph, end: Read, products: Mapping[str, int], core: Vertex) -> Attended:
    """One attention layer, computed on random numbers.

    Args:
        graph: of a forward pass over T positions.
        end: what the output projection reads.
        products: "q", "k" and "v", or "qkv", to the node of its product.
        core: the fused attention or the softmax.

    Raises:
        Uncovered: if it does anything else.
    """
    reads = dict(zip("qkv", score_reads(graph, core), strict=True))
    sides = [
        _Side(graph, reads[s], products[s if s in products else "qkv"], is_key=s == "k")
        for s in "qkv"
    ]
    q, k, v = sides
    if not (q.width == k.width == v.width) or q.heads % k.heads or k.heads != v.heads:
        raise Uncovered("attention", "queries, keys and values have heads of several sizes.")
    n_kv_head = _distinct_heads(k.columns)
    if n_kv_head != _distinct_heads(v.columns):
        raise Uncovered("attention", "keys and values have different numbers of heads.")
    _require_columns(sides, graph)
    angles = _angles(q, k)
    if v.factor != 1.0 or not _near(v.turn, _identity(v.turn)):
        raise Uncovered("attention", "its values are not what their matrix makes.")
    scale = _core_scale(graph, end, sides)
    return Attended(
        n_head=q.heads,
        n_kv_head=n_kv_head,
        head_dim=q.width,
        scale=scale * q.factor * k.factor,
        angles=angles,
        is_in_order=_is_in_order(sides),
    )


class _Side:
    """Queries, keys or values as a linear map of what one matrix makes.

    Attributes:
        heads, width: nh, hs as attention reads them.
        columns: outputs of the matrix that position 0 holds. Shape: (nh, hs).
        factor: what they are multiplied by.
        turn: the map of every position, over the factor. Shape: (T, hs, hs).
    """

    def __init__(self, graph: Graph, read: Read, product: int, *, is_key: bool) -> None:
        self._graph, self._read, self.product = graph, read, product
        self._shape, self._is_key = graph.vertices[product].node.shape, is_key
        T, out = self._shape[-2], self._shape[-1]
        ones = self.value(torch.ones(T, out, dtype=torch.float64))
        self.heads, self.width = ones.shape[0], ones.shape[-1]
        self.factor = float(ones[0, 0, 0])
        numbers = 1.0 + torch.arange(out, dtype=torch.float64)
        found = self.value(numbers.expand(T, out))[:, 0] / (self.factor or 1.0)
        self.columns = found.round().long() - 1
        inside = bool((self.columns >= 0).all() and (self.columns < out).all())
        if self.factor <= 0 or not _near(found, self.columns + 1.0) or not inside:
            raise Uncovered("attention", "queries, keys and values are more than heads of them.")
        self.turn = self._turn(T, out)

    def value(self, made: Tensor) -> Tensor:
        """As attention reads it, (T, out) to (nh, T, hs)."""
        given = {self.product: made.contiguous().view(self._shape)}
        value = Values(self._graph, given).read(self._read)
        T = self._shape[-2]
        value = value.reshape(-1, *value.shape[-2:])
        # A product of batches reads keys as (nh, hs, T); T may be hs.
        is_across = self._read.geometry.stride[-1] != 1 and self._is_key
        if value.shape[-1] == T and (value.shape[-2] != T or is_across):
            value = value.transpose(-1, -2)
        if value.shape[-2] != T:
            raise Uncovered("attention", "it reads other positions than there are.")
        return value

    def _turn(self, T: int, out: int) -> Tensor:
        """The map of every position, the same in all heads."""
        turn = torch.empty(T, self.width, self.width, dtype=torch.float64)
        for i in range(self.width):
            made = torch.zeros(T, out, dtype=torch.float64)
            made[:, self.columns[:, i]] = 1.0
            value = self.value(made) / self.factor  # (nh, T, hs)
            if not _near(value, value[:1].expand_as(value)):
                raise Uncovered("attention", "its heads differ.")
            turn[:, :, i] = value[0]
        made = torch.randn(T, out, generator=_generator(), dtype=torch.float64)
        made[::2] *= 1000.0  # a limit would show
        expected = torch.einsum("tij,thj->hti", turn, made[:, self.columns]) * self.factor
        if not _near(self.value(made), expected):
            raise Uncovered(
                "attention", "queries, keys and values are more than heads of what matrices make."
            )
        return turn


def _distinct_heads(columns: Tensor) -> int:
    """Heads that are not copies of another. Shape: (nh, hs)."""
    return len({tuple(row) for row in columns.tolist()})


def _require_columns(sides: list[_Side], graph: Graph) -> None:
    """Every output of a matrix is one entry of one head; copies of a head stand together."""
    by_product: dict[int, list[int]] = {}
    for side in sides:
        heads: list[tuple[int, ...]] = [tuple(row) for row in side.columns.tolist()]
        times = side.heads // _distinct_heads(side.columns)
        grouped = all(h == heads[i - i % times] for i, h in enumerate(heads))
        if not grouped:
            raise Uncovered("attention", "heads of keys are shared in an order of its own.")
        by_product.setdefault(side.product, []).extend(c for h in dict.fromkeys(heads) for c in h)
    for index, columns in by_product.items():
        if sorted(columns) != list(range(graph.vertices[index].node.shape[-1])):
            raise Uncovered("attention", "not all that its matrices make is one entry of one head.")


def _angles(q: _Side, k: _Side) -> tuple[float, ...]:
    """The angles by which pairs of entries turn per position; empty for none."""
    if not _near(q.turn, k.turn):
        raise Uncovered("attention", "queries and keys are turned differently.")
    turn = q.turn
    T, width = turn.shape[:2]
    if _near(turn, _identity(turn)):
        return ()
    if not _near(turn @ turn.mT, _identity(turn)) or width % 2:
        raise Uncovered("attention", "positions do more to queries than to turn them.")
    step = turn[1] @ turn[0].T
    spectrum = torch.linalg.eigvals(step)
    angles = torch.atan2(spectrum.imag, spectrum.real).abs().sort().values[::2]
    t = torch.arange(T, dtype=torch.float64)
    apart = (t[:, None] - t)[..., None] * angles
    kept = torch.einsum("iab,jab->ij", turn, turn) / width
    if not _near(kept, apart.cos().mean(-1)):
        raise Uncovered("attention", "the angles are not proportional to the position.")
    return tuple(angles.tolist())


def _core_scale(graph: Graph, end: Read, sides: list[_Side]) -> float:
    """The scale of the scores, where all the rest is the softmax over earlier keys."""
    generator = _generator()
    made: dict[int, Tensor] = {}
    for index in dict.fromkeys(side.product for side in sides):
        shape = graph.vertices[index].node.shape
        made[index] = torch.randn(shape, generator=generator, dtype=torch.float64)
    flat = [side.value(made[side.product]) for side in sides]
    q, k, v = (t.repeat_interleave(len(flat[0]) // len(t), 0) for t in flat)
    out = Values(graph, made).read(end)
    T = q.shape[1]
    out = out.reshape(T, -1)
    # Position 1 sees two keys: its output lies between their values by the sigmoid of a difference.
    scores = q @ k.mT  # (nh, T, T)
    for scale in _guesses(scores, v, out):
        barred = torch.ones(T, T, dtype=torch.bool).triu(1)
        weights = (scale * scores).masked_fill(barred, -math.inf).softmax(-1)
        expected = (weights @ v).transpose(0, 1).reshape(T, -1)
        if out.shape == expected.shape and _near(out.sort(-1).values, expected.sort(-1).values):
            return scale
    raise Uncovered("attention", "it is more than a softmax of scaled scores over all keys so far.")


def _guesses(scores: Tensor, v: Tensor, out: Tensor) -> list[float]:
    """Scales with which position 1 of head 0 could be what it is."""
    near, far = scores[0, 1, 1], scores[0, 1, 0]
    width = v.shape[-1]
    share = (out[1, :width] - v[0, 0]) / (v[0, 1] - v[0, 0])  # as if entries stood in order
    inside = share.median().clamp(1e-12, 1 - 1e-12)
    exact = float(torch.logit(inside) / (near - far))
    return [exact, 1.0, width**-0.5, 1.0 / width]


def _is_in_order(sides: list[_Side]) -> bool:
    """Whether columns stand as all queries, all keys, all values."""
    q, k, v = (side.columns for side in sides)
    return int(q.max()) < int(k.min()) and int(k.max()) < int(v.min())


def _identity(turn: Tensor) -> Tensor:
    return torch.eye(turn.shape[-1], dtype=torch.float64).expand_as(turn)


def _near(one: Tensor, other: Tensor) -> bool:
    """Whether all entries agree to the precision of a table of angles in float32."""
    size = float(other.abs().max()) if other.numel() else 0.0
    is_finite = bool(torch.isfinite(one).all())
    return is_finite and float((one - other).abs().max()) <= _NEAR * max(size, 1.0)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
