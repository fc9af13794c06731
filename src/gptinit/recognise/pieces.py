"""Pieces of a forward pass, computed on random numbers and held against what formulas are of.

What agrees to a millionth is read; anything else is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from gptinit.forward.graph import Graph, Vertex
from gptinit.recognise.attention import Attended, attended
from gptinit.recognise.evaluate import Uncovered, Values, fingerprint
from gptinit.theory.activations import ACTIVATION_CURVES
from gptinit.trace.graph import Read

__all__ = ["Pieces", "rounded"]

_NEAR = 1e-6

T_ = TypeVar("T_")


class Pieces:
    """The pieces of one pass; those that are alike are computed once.

    Args:
        graph: of the pass.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._done: dict[object, object] = {}
        self._generator = torch.Generator().manual_seed(0)

    def _once(self, kind: str, end: Read, given: Mapping[int, str], work: Callable[[], T_]) -> T_:
        """The result of some work on a piece, done once for pieces that are alike."""
        key = (kind, fingerprint(self._graph, end, given))
        if key not in self._done:
            self._done[key] = work()
        return self._done[key]  # type: ignore[return-value]

    def _random(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), generator=self._generator, dtype=torch.float64)

    def norm(
        self, entry: Read, stream: int, weight: str | None, bias: str | None
    ) -> tuple[str, float, float, bool]:
        """(kind, eps, factor, whether it multiplies by 1 + weight) of a norm.

        Args:
            entry: what it gives.
            stream: node of what it reads.
            weight: name of what it multiplies by, or None.
            bias: name of what it adds, or None.

        Raises:
            Uncovered: if it is neither a LayerNorm nor an RMSNorm.
        """
        return self._once(
            f"norm {weight is None} {bias is None}", entry, {stream: "stream"},
            lambda: self._norm(entry, stream, weight, bias),
        )  # fmt: skip

    def branches(self, given: tuple[int, int, int], read: Read) -> tuple[float, float]:
        """(a, b) where a read is stream + a attention + b MLP; the nodes of these are given.

        Raises:
            Uncovered: if it is no such sum.
        """
        named = dict(zip(given, ("stream", "attn", "mlp"), strict=True))
        return self._once("sum", read, named, lambda: self._sum(given, read))

    def attention(self, sides: Mapping[str, int], end: Read, core: Vertex) -> Attended:
        """What attention makes of queries, keys and values: role to node; its softmax is known."""
        given = {vertex: role for role, vertex in sides.items()}
        return self._once("attention", end, given, lambda: attended(self._graph, end, sides, core))

    def mlp(self, roles: Mapping[str, int], end: Read) -> tuple[str, bool]:
        """(activation, whether the gate comes first in a fused matrix) of an MLP.

        Args:
            roles: mlp_up and mlp_gate to their products' nodes.
            end: what mlp_down reads.

        Raises:
            Uncovered: if it is none that theory knows.
        """
        given = {vertex: role for role, vertex in roles.items()}
        return self._once("mlp", end, given, lambda: self._mlp(roles, end))

    def embedding(
        self, read: Read, token: int, lookups: Sequence[int], tables: Mapping[str, int]
    ) -> tuple[float, str]:
        """(factor on token embeddings, "learned" or "none": their positions).

        Args:
            read: the stream before the first block.
            token: node of the lookup of tokens.
            lookups: nodes of all lookups.
            tables: name to number of entries of tables that are added as they are.

        Raises:
            Uncovered: if more is done to either.
        """
        given = {i: self._random(self._graph.vertices[i].node.shape) for i in lookups}
        weights = {name: self._random((numel,)) for name, numel in tables.items()}
        still = Values(self._graph, {**given, token: 0 * given[token]}, weights).read(read)
        whole = Values(self._graph, given, weights).read(read)
        E = given[token].reshape(still.shape)
        factor = float(((whole - still) * E).sum() / E.square().sum())
        if not _near(whole, still + factor * E):
            raise Uncovered("embedding", "more is done to token embeddings than a multiplication.")
        rows = [t for i, t in given.items() if i != token]
        if not rows and not weights:
            if not _near(still, 0 * still):
                raise Uncovered("positions", "positions are neither learned nor turned.")
            return factor, "none"
        C = still.shape[-1]
        flat = still.reshape(-1, C)
        held = rows[0].reshape(-1, C) if rows else next(iter(weights.values())).view(-1, C)
        if rows:
            is_plain = flat.shape == held.shape and _near(flat, held)
        else:  # rows of the table that follow each other
            first = int((held - flat[0]).square().sum(-1).argmin())
            following = held[first : first + len(flat)]
            is_plain = following.shape == flat.shape and _near(flat, following)
        if not is_plain:
            raise Uncovered("positions", "more is done to positions than to add them.")
        return factor, "learned"

    def logits(self, product: int) -> float:
        """What a head's product is multiplied by to be the logits.

        Raises:
            Uncovered: if more is done to it.
        """
        graph, last = self._graph, self._graph.last
        assert last is not None  # there are logits: the pass has been read
        made = self._random(graph.vertices[product].node.shape)
        out = Values(graph, {product: made}).vertex(last).flatten()
        flat = made.flatten()
        factor = float((out @ flat) / (flat @ flat)) if out.shape == flat.shape else 0.0
        large = Values(graph, {product: 1000 * made}).vertex(last).flatten()
        if not factor or not _near(out, factor * flat) or not _near(large, 1000 * factor * flat):
            raise Uncovered("head", "more is done to logits than a multiplication.")
        return factor

    def _norm(
        self, entry: Read, stream: int, weight: str | None, bias: str | None
    ) -> tuple[str, float, float, bool]:
        """See `norm`."""
        shape = self._graph.vertices[stream].node.shape
        C = shape[-1]
        x = self._random(shape) + 0.3
        still = torch.zeros(C, dtype=torch.float64)

        def made(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
            given = {n: t for n, t in ((weight, w), (bias, b)) if n}
            value = Values(self._graph, {stream: x}, given).read(entry)
            return value.reshape(-1, C) if value.numel() == x.numel() else value

        w, b = self._random((C,)), self._random((C,))
        at_zero = made(x, still, still)
        large = 1e4 * x  # beside which eps is nothing
        unit = made(large, still + 2, still) - made(large, still + 1, still)
        unit = unit if weight else made(large, still, still)
        flat = x.reshape(-1, C)
        for kind in ("layernorm", "rmsnorm"):
            centred = flat - flat.mean(-1, keepdim=True) if kind == "layernorm" else flat
            plain = centred / centred.square().mean(-1, keepdim=True).sqrt()
            if unit.shape != plain.shape:
                break
            factor = float((unit * plain).sum() / plain.square().sum())
            tiny = 1e-4 * x
            small = made(tiny, still + 2, still) - made(tiny, still + 1, still)
            small = small if weight else made(tiny, still, still)
            kept = (small * plain).mean(-1) / (factor or 1.0)  # (T,)
            square = (1e-4 * centred).square().mean(-1)
            eps = float((square * (kept.square().clamp(min=1e-30).reciprocal() - 1)).median())
            eps = float(f"{eps:.6g}") if eps > 1e-14 else 0.0
            is_plus_one = weight is not None and not _near(at_zero, 0 * at_zero)

            def expected(x: Tensor, kind: str = kind, eps: float = eps) -> Tensor:
                x = x.reshape(-1, C)
                x = x - x.mean(-1, keepdim=True) if kind == "layernorm" else x
                return x / (x.square().mean(-1, keepdim=True) + eps).sqrt()

            gain = still + 1 if weight is None else w + is_plus_one
            shift = factor * b if bias else still
            if all(
                _near(made(s * x, w, b), factor * gain * expected(s * x) + shift, within)
                for s, within in ((1.0, _NEAR), (0.01, _NEAR), (0.0001, 10 * _NEAR))  # of eps
            ):
                return kind, eps, rounded(factor), is_plus_one
        raise Uncovered(
            "norms",
            "what stands between the stream and a matrix is no one LayerNorm or RMSNorm of it.",
        )

    def _sum(self, given: tuple[int, ...], read: Read) -> tuple[float, float]:
        """See `branches`."""
        vertices = self._graph.vertices
        parts = [self._random(vertices[i].node.shape) for i in given]

        def made(*factors: float) -> Tensor:
            values = {i: f * p for i, f, p in zip(given, factors, parts, strict=True)}
            return Values(self._graph, values).read(read).flatten()

        flat = [p.flatten() for p in parts]
        stream, one, other = flat
        a = float((made(0, 1, 0) @ one) / (one @ one))
        b = float((made(0, 0, 1) @ other) / (other @ other))
        a, b = (0.0 if abs(f) < _NEAR else f for f in (a, b))
        for s, f, g in ((1.0, 1.0, 1.0), (1.0, -30.0, 7.0), (100.0, 3.0, 50.0)):
            if not _near(made(s, f, g), s * stream + f * a * one + g * b * other):
                raise Uncovered("stream", "branches are not just added to the stream.")
        return rounded(a), rounded(b)

    def _mlp(self, roles: Mapping[str, int], end: Read) -> tuple[str, bool]:
        """See `mlp`."""
        vertices = self._graph.vertices
        made = {i: 3 * self._random(vertices[i].node.shape) for i in roles.values()}
        for value in made.values():
            value.flatten()[::7] *= 30.0  # a limit would show
        out = Values(self._graph, made).read(end)
        up = made[roles["mlp_up"]].reshape(-1, vertices[roles["mlp_up"]].node.shape[-1])
        out = out.reshape(len(up), -1)
        options: list[tuple[Tensor, Tensor | float, bool]] = []
        if "mlp_gate" in roles:
            options.append((made[roles["mlp_gate"]].reshape(up.shape), up, False))
        elif out.shape[-1] == up.shape[-1]:
            options.append((up, 1.0, False))
        elif 2 * out.shape[-1] == up.shape[-1]:
            one, other = up.chunk(2, -1)
            options += [(one, other, True), (other, one, False)]
            options += [(up[:, ::2], up[:, 1::2], False), (up[:, 1::2], up[:, ::2], False)]
        for name, curve in ACTIVATION_CURVES.items():
            for gate, factor, is_first in options:
                values = torch.from_numpy(curve.value(gate.contiguous().numpy())) * factor
                if values.shape == out.shape and bool(
                    ((values - out).abs() <= 1e-5 * (1 + values.abs())).all()
                ):
                    return name, is_first
        raise Uncovered("mlp", "what its MLP does to hidden units has no formula.")


def rounded(x: float) -> float:
    """To nine digits: what was computed in float64, as it was written."""
    return float(f"{x:.9g}")


def _near(one: Tensor, other: Tensor, within: float = _NEAR) -> bool:
    """Whether all entries agree, to a millionth of the largest or as closely as asked."""
    size = float(other.abs().max()) if other.numel() else 0.0
    is_finite = bool(torch.isfinite(one).all())
    return (
        one.shape == other.shape
        and is_finite
        and float((one - other).abs().max()) <= within * max(size, 1e-3)
    )
