"""One attention layer, computed on random numbers and compared with the formula of theory.

The formula is softmax(scale q k^T) v over the keys up to each query, in heads; queries and keys of
every position may be rotated by angles proportional to it.

Letters in shapes: T positions, nh heads, hs entries of a head.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gptinit.forward.branches import product_of_tokens
from gptinit.forward.graph import MATMULS, SOFTMAXES, Graph, Vertex
from gptinit.forward.values import Values
from gptinit.theory.parameters import NoFormula
from gptinit.trace.graph import Read, reads_in

__all__ = ["NEAR", "Attended", "attended", "cores", "near"]

NEAR = 1e-6
"""Agreement asked for: above the error of angles in float32, below any difference of formulas."""

_MORE_THAN_HEADS = (
    "queries, keys and values are not just the outputs of their matrices, split into heads."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attended:
    """One attention layer.

    Attributes:
        n_head, n_kv_head, head_dim: its shape.
        scale: scale of the scores, including factors on queries and keys.
        angles: by which pairs of entries are rotated from one position to the next, head_dim / 2
            of them; empty without rotation.
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
    inner = graph.within(inside)
    return [v for v in inner if "scaled_dot_product" in v.name or v.name in SOFTMAXES]


def _score_reads(graph: Graph, core: Vertex) -> tuple[Read, Read, Read]:
    """The queries, keys and values that attention reads.

    Raises:
        NoFormula: if it is not a product of queries and keys that is multiplied by values.
    """
    if core.name not in SOFTMAXES:
        q, k, v = reads_in(core.node)[:3]
        return q, k, v
    # A softmax stands between two products of tokens: of queries and keys, and with the values.
    product = product_of_tokens(graph, core.index)
    later = (v for v in graph.vertices[core.index + 1 :] if graph.depends(v.index, core.index))
    after = next(
        (v for v in later if v.name in MATMULS and not graph.weight_operands(v.index)), None
    )
    if product is None or after is None:
        raise NoFormula("attention", "its scores are not a product of queries and keys.")
    q, k = reads_in(product.node)[-2:]  # baddbmm reads what it adds first
    values = [
        r
        for r in reads_in(after.node)
        if not any(graph.depends(i, core.index) for _, i in graph.writes(r))
    ]
    if len(values) != 1:
        raise NoFormula("attention", "its softmax multiplies more than the values.")
    return q, k, values[0]


def attended(graph: Graph, end: Read, products: Mapping[str, int], core: Vertex) -> Attended:
    """The parameters of one attention layer.

    Args:
        graph: of a forward pass over T positions.
        end: what the output projection reads.
        products: "q", "k" and "v", or "qkv" -> node of its product.
        core: the fused attention or the softmax.

    Raises:
        NoFormula: if it computes anything but the formula.
    """
    reads = dict(zip("qkv", _score_reads(graph, core), strict=True))
    sides = [
        _Side(graph, reads[s], products[s if s in products else "qkv"], is_key=s == "k")
        for s in "qkv"
    ]
    q, k, v = sides
    if not (q.width == k.width == v.width) or q.heads % k.heads or k.heads != v.heads:
        raise NoFormula("attention", "queries, keys and values have heads of several sizes.")
    n_kv_head = _distinct_heads(k.columns)
    if n_kv_head != _distinct_heads(v.columns):
        raise NoFormula("attention", "keys and values have different numbers of heads.")
    _require_columns(sides, graph)
    angles = _angles(q, k)
    if v.factor != 1.0 or not near(v.turn, _identity(v.turn)):
        raise NoFormula("attention", "its values are not just the outputs of their matrix.")
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
    """Queries, keys or values as a linear map of the output of one matrix.

    The code between the two (views, transposes, rotations, whatever the model does) is taken as a
    black box from (T, out) to (nh, T, hs), and its map is found by feeding it chosen outputs.

    Attributes:
        heads, width: nh, hs as attention reads them.
        columns: for every entry of a head the output of the matrix that it holds. Shape: (nh, hs).
        factor: on all of them.
        turn: the map of each position without the factor. Shape: (T, hs, hs).
    """

    def __init__(self, graph: Graph, read: Read, product: int, *, is_key: bool) -> None:
        self._graph, self._read, self.product = graph, read, product
        self._shape, self._is_key = graph.vertices[product].node.shape, is_key
        T, out = self._shape[-2], self._shape[-1]
        # Position 0 is not rotated: of outputs that are all 1 it shows the factor ...
        ones = self.value(torch.ones(T, out, dtype=torch.float64))
        self.heads, self.width = ones.shape[0], ones.shape[-1]
        self.factor = float(ones[0, 0, 0])
        # ... and of outputs that are numbered, 1, 2, 3 ..., where each of them ends up.
        numbers = 1.0 + torch.arange(out, dtype=torch.float64)
        numbered = self.value(numbers.expand(T, out))[:, 0] / (self.factor or 1.0)
        self.columns = numbered.round().long() - 1
        inside = bool((self.columns >= 0).all() and (self.columns < out).all())
        if self.factor <= 0 or not near(numbered, self.columns + 1.0) or not inside:
            raise NoFormula("attention", _MORE_THAN_HEADS)
        self.turn = self._turn(T, out)

    def value(self, outputs: Tensor) -> Tensor:
        """What attention reads for given outputs of the matrix, (T, out) to (nh, T, hs)."""
        given = {self.product: outputs.contiguous().view(self._shape)}
        value = Values(self._graph, given).read(self._read)
        T = self._shape[-2]
        value = value.reshape(-1, *value.shape[-2:])
        # A product of batches reads keys as (nh, hs, T); T may be hs.
        is_across = self._read.geometry.stride[-1] != 1 and self._is_key
        if value.shape[-1] == T and (value.shape[-2] != T or is_across):
            value = value.transpose(-1, -2)
        if value.shape[-2] != T:
            raise NoFormula("attention", "it does not read one query, key or value per position.")
        return value

    def _turn(self, T: int, out: int) -> Tensor:
        """The map of every position, which must be the same in all heads.

        A linear map is known from its values on unit vectors: with a 1 at entry i of every head
        (and of every position) the result is column i of each position's map. That the map is
        linear at all is then tested on random outputs.
        """
        turn = torch.empty(T, self.width, self.width, dtype=torch.float64)
        for i in range(self.width):
            outputs = torch.zeros(T, out, dtype=torch.float64)
            outputs[:, self.columns[:, i]] = 1.0
            value = self.value(outputs) / self.factor  # (nh, T, hs)
            if not near(value, value[:1].expand_as(value)):
                raise NoFormula("attention", "its heads are computed differently.")
            turn[:, :, i] = value[0]
        outputs = torch.randn(T, out, generator=_generator(), dtype=torch.float64)
        outputs[::2] *= 1000.0  # so that a clamp or a norm shows
        expected = torch.einsum("tij,thj->hti", turn, outputs[:, self.columns]) * self.factor
        if not near(self.value(outputs), expected):
            raise NoFormula("attention", _MORE_THAN_HEADS)
        return turn


def _distinct_heads(columns: Tensor) -> int:
    """Number of different heads: grouped queries repeat those of keys and values.

    Shape:
        columns: (nh, hs).
    """
    return len({tuple(row) for row in columns.tolist()})


def _require_columns(sides: list[_Side], graph: Graph) -> None:
    """Refuse matrices of which not every output is one entry of one head, copies side by side."""
    by_product: dict[int, list[int]] = {}
    for side in sides:
        heads: list[tuple[int, ...]] = [tuple(row) for row in side.columns.tolist()]
        times = side.heads // _distinct_heads(side.columns)
        grouped = all(h == heads[i - i % times] for i, h in enumerate(heads))
        if not grouped:
            raise NoFormula("attention", "a head of keys serves queries that are not neighbours.")
        by_product.setdefault(side.product, []).extend(c for h in dict.fromkeys(heads) for c in h)
    for index, columns in by_product.items():
        if sorted(columns) != list(range(graph.vertices[index].node.shape[-1])):
            raise NoFormula(
                "attention", "some outputs of its matrices are not one entry of one head."
            )


def _angles(q: _Side, k: _Side) -> tuple[float, ...]:
    """The angles by which pairs of entries are rotated from one position to the next."""
    if not near(q.turn, k.turn):
        raise NoFormula("attention", "queries and keys are rotated differently.")
    turn = q.turn
    T, width = turn.shape[:2]
    if near(turn, _identity(turn)):
        return ()
    if not near(turn @ turn.mT, _identity(turn)) or width % 2:
        raise NoFormula("attention", "positions do more to queries and keys than rotate them.")
    # The rotation from position 0 to 1 has eigenvalues exp(+-i angle), whichever entries pair up.
    step = turn[1] @ turn[0].T
    spectrum = torch.linalg.eigvals(step)
    angles = torch.atan2(spectrum.imag, spectrum.real).abs().sort().values[::2]
    # For angles proportional to the position, trace(turn_i^T turn_j) = 2 sum cos((i - j) angle).
    t = torch.arange(T, dtype=torch.float64)
    apart = (t[:, None] - t)[..., None] * angles
    kept = torch.einsum("iab,jab->ij", turn, turn) / width
    if not near(kept, apart.cos().mean(-1)):
        raise NoFormula("attention", "the rotary angles are not proportional to the position.")
    return tuple(angles.tolist())


def _core_scale(graph: Graph, end: Read, sides: list[_Side]) -> float:
    """The scale with which all outputs agree with a causal softmax of scaled scores."""
    generator = _generator()
    outputs: dict[int, Tensor] = {}
    for index in dict.fromkeys(side.product for side in sides):
        shape = graph.vertices[index].node.shape
        outputs[index] = torch.randn(shape, generator=generator, dtype=torch.float64)
    flat = [side.value(outputs[side.product]) for side in sides]
    q, k, v = (t.repeat_interleave(len(flat[0]) // len(t), 0) for t in flat)
    out = Values(graph, outputs).read(end)
    T = q.shape[1]
    out = out.reshape(T, -1)
    scores = q @ k.mT  # (nh, T, T)
    for scale in _guesses(scores, v, out):
        barred = torch.ones(T, T, dtype=torch.bool).triu(1)
        weights = (scale * scores).masked_fill(barred, -math.inf).softmax(-1)
        expected = (weights @ v).transpose(0, 1).reshape(T, -1)
        # Sorted, for heads may be merged in any order before the output projection.
        if near(out.sort(-1).values, expected.sort(-1).values):
            return scale
    raise NoFormula("attention", "it is more than a softmax of scaled scores over all keys so far.")


def _guesses(scores: Tensor, v: Tensor, out: Tensor) -> list[float]:
    """Candidates for the scale: solved from position 1 of head 0, then the usual ones.

    Position 1 sees two keys, so its output divides the way from one value to the other in the
    ratio sigmoid(scale * difference of the two scores).
    """
    near, far = scores[0, 1, 1], scores[0, 1, 0]
    width = v.shape[-1]
    share = (out[1, :width] - v[0, 0]) / (v[0, 1] - v[0, 0])  # as if entries stood in order
    inside = share.median().clamp(1e-12, 1 - 1e-12)
    exact = float(torch.logit(inside) / (near - far))
    return [exact, 1.0, width**-0.5, 1.0 / width]


def _is_in_order(sides: list[_Side]) -> bool:
    q, k, v = (side.columns for side in sides)
    return int(q.max()) < int(k.min()) and int(k.max()) < int(v.min())


def _identity(turn: Tensor) -> Tensor:
    return torch.eye(turn.shape[-1], dtype=torch.float64).expand_as(turn)


def near(actual: Tensor, expected: Tensor, within: float = NEAR, least: float = 1.0) -> bool:
    """Whether all entries agree to `within` of the largest, or of `least` if that is larger."""
    if actual.shape != expected.shape or not bool(torch.isfinite(actual).all()):
        return False
    size = float(expected.abs().max()) if expected.numel() else 0.0
    return float((actual - expected).abs().max()) <= within * max(size, least)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
