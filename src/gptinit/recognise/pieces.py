"""Pieces of a forward pass, computed on random numbers and compared with theory's formulas.

A piece that agrees with a formula to a millionth is taken for it; any other is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from gptinit.forward.graph import Graph, Vertex
from gptinit.forward.values import Values
from gptinit.recognise.attention import NEAR, Attended, attended, near
from gptinit.recognise.evaluate import fingerprint
from gptinit.theory.activations import ACTIVATION_CURVES
from gptinit.theory.parameters import NoFormula
from gptinit.trace.graph import Read

__all__ = ["Pieces", "rounded"]

_near = partial(near, least=1e-3)

T_ = TypeVar("T_")


class Pieces:
    """The pieces of one pass; those of equal layers are computed once.

    Args:
        graph: of the pass.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._done: dict[object, object] = {}
        self._generator = torch.Generator().manual_seed(0)

    def _once(self, kind: str, end: Read, given: Mapping[int, str], work: Callable[[], T_]) -> T_:
        """The result of `work` on a piece, kept for pieces with the same fingerprint."""
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
            entry: its output.
            stream: node of its input.
            weight: name of the parameter that it multiplies by, or None.
            bias: name of the parameter that it adds, or None.

        Raises:
            NoFormula: if it is neither a LayerNorm nor an RMSNorm.
        """
        return self._once(
            f"norm {weight is None} {bias is None}", entry, {stream: "stream"},
            lambda: self._norm(entry, stream, weight, bias),
        )  # fmt: skip

    def branches(self, given: tuple[int, int, int], read: Read) -> tuple[float, float]:
        """(a, b) of a read that is stream + a * attention + b * MLP, given the three nodes.

        Raises:
            NoFormula: if it is no such sum.
        """
        named = dict(zip(given, ("stream", "attn", "mlp"), strict=True))
        return self._once("sum", read, named, lambda: self._sum(given, read))

    def attention(self, sides: Mapping[str, int], end: Read, core: Vertex) -> Attended:
        """The attention between products of q, k, v (role -> node) and `end`, with its softmax."""
        given = {vertex: role for role, vertex in sides.items()}
        return self._once("attention", end, given, lambda: attended(self._graph, end, sides, core))

    def mlp(self, roles: Mapping[str, int], end: Read) -> tuple[str, bool]:
        """(activation, whether the gate comes first in a fused matrix) of an MLP.

        Args:
            roles: mlp_up and mlp_gate -> nodes of their products.
            end: what mlp_down reads.

        Raises:
            NoFormula: if theory knows no such activation.
        """
        given = {vertex: role for role, vertex in roles.items()}
        return self._once("mlp", end, given, lambda: self._mlp(roles, end))

    def embedding(
        self, read: Read, token: int, lookups: Sequence[int], tables: Mapping[str, int]
    ) -> tuple[float, str]:
        """(factor on token embeddings, "learned" or "none" for the positions added to them).

        Args:
            read: the stream before the first block.
            token: node of the lookup of tokens.
            lookups: nodes of all lookups.
            tables: name -> number of entries of position embeddings that are added without lookup.

        Raises:
            NoFormula: if the stream is not factor * tokens + positions.
        """
        given = {i: self._random(self._graph.vertices[i].node.shape) for i in lookups}
        weights = {name: self._random((numel,)) for name, numel in tables.items()}
        # With token embeddings of 0 the stream shows what is added to them.
        added = Values(self._graph, {**given, token: 0 * given[token]}, weights).read(read)
        whole = Values(self._graph, given, weights).read(read)
        # Least squares for the factor; whether it explains everything is tested below.
        E = given[token].reshape(added.shape)
        factor = float(((whole - added) * E).sum() / E.square().sum())
        if not _near(whole, added + factor * E):
            raise NoFormula("embedding", "token embeddings are not just multiplied by a number.")
        rows = [t for i, t in given.items() if i != token]
        if not rows and not weights:
            if not _near(added, 0 * added):
                raise NoFormula("positions", "positions are neither learned nor rotary.")
            return factor, "none"
        C = added.shape[-1]
        flat = added.reshape(-1, C)
        table = rows[0].reshape(-1, C) if rows else next(iter(weights.values())).view(-1, C)
        if not rows:  # of a whole table some rows in a row are added; they may not be the first
            first = int((table - flat[0]).square().sum(-1).argmin())
            table = table[first : first + len(flat)]
        if table.shape != flat.shape or not _near(flat, table):
            raise NoFormula("positions", "position embeddings are not just added.")
        return factor, "learned"

    def logits(self, product: int) -> float:
        """The factor from the head's product to the logits.

        Raises:
            NoFormula: if more is done to it.
        """
        graph, last = self._graph, self._graph.last
        assert last is not None  # there are logits: the pass has been read
        outputs = self._random(graph.vertices[product].node.shape)
        out = Values(graph, {product: outputs}).vertex(last).flatten()
        flat = outputs.flatten()
        factor = float((out @ flat) / (flat @ flat)) if out.shape == flat.shape else 0.0
        # Large values too: a soft cap such as 30 tanh(x / 30) is linear for small ones.
        large = Values(graph, {product: 1000 * outputs}).vertex(last).flatten()
        if not factor or not _near(out, factor * flat) or not _near(large, 1000 * factor * flat):
            raise NoFormula("head", "logits are not just the head's product times a number.")
        return factor

    def _norm(
        self, entry: Read, stream: int, weight: str | None, bias: str | None
    ) -> tuple[str, float, float, bool]:
        shape = self._graph.vertices[stream].node.shape
        C = shape[-1]
        x = self._random(shape) + 0.3  # with a mean, which only a LayerNorm takes away
        w, b = self._random((C,)), self._random((C,))
        zero = torch.zeros(C, dtype=torch.float64)

        def output(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
            given = {n: t for n, t in ((weight, w), (bias, b)) if n}
            value = Values(self._graph, {stream: x}, given).read(entry)
            return value.reshape(-1, C) if value.numel() == x.numel() else value

        def without_weight(x: Tensor) -> Tensor:
            """What the weight is multiplied by, whether the norm uses w or 1 + w."""
            if not weight:
                return output(x, zero, zero)
            return output(x, zero + 2, zero) - output(x, zero + 1, zero)

        at_zero = output(x, zero, zero)
        is_plus_one = weight is not None and not _near(at_zero, 0 * at_zero)
        unit = without_weight(1e4 * x)  # of input so large that eps does not matter
        for kind in ("layernorm", "rmsnorm"):
            plain = _normalised(x.reshape(-1, C), kind)
            if unit.shape != plain.shape:
                break
            factor = float((unit * plain).sum() / plain.square().sum())
            # Of input so small that eps matters.
            kept = (without_weight(1e-4 * x) * plain).mean(-1) / (factor or 1.0)  # (T,)
            eps = _eps_of(kept, (1e-4 * _centred(x.reshape(-1, C), kind)).square().mean(-1))
            gain = zero + 1 if weight is None else w + is_plus_one
            shift = factor * b if bias else zero
            if all(
                _near(
                    output(s * x, w, b),
                    factor * gain * _normalised((s * x).reshape(-1, C), kind, eps) + shift,
                    within,
                )
                for s, within in ((1.0, NEAR), (0.01, NEAR), (0.0001, 10 * NEAR))  # of eps
            ):
                return kind, eps, rounded(factor), is_plus_one
        raise NoFormula(
            "norms", "a matrix does not read exactly one LayerNorm or RMSNorm of the stream."
        )

    def _sum(self, given: tuple[int, ...], read: Read) -> tuple[float, float]:
        vertices = self._graph.vertices
        parts = [self._random(vertices[i].node.shape) for i in given]

        def output(*factors: float) -> Tensor:
            values = {i: f * p for i, f, p in zip(given, factors, parts, strict=True)}
            return Values(self._graph, values).read(read).flatten()

        stream, attn, mlp = (p.flatten() for p in parts)
        a = float((output(0, 1, 0) @ attn) / (attn @ attn))
        b = float((output(0, 0, 1) @ mlp) / (mlp @ mlp))
        a, b = (0.0 if abs(f) < NEAR else f for f in (a, b))
        # Large and negative branches too, so that a clamp or a gate shows.
        for s, f, g in ((1.0, 1.0, 1.0), (1.0, -30.0, 7.0), (100.0, 3.0, 50.0)):
            if not _near(output(s, f, g), s * stream + f * a * attn + g * b * mlp):
                raise NoFormula("stream", "branches are not just added to the stream.")
        return rounded(a), rounded(b)

    def _mlp(self, roles: Mapping[str, int], end: Read) -> tuple[str, bool]:
        vertices = self._graph.vertices
        outputs = {i: 3 * self._random(vertices[i].node.shape) for i in roles.values()}
        for value in outputs.values():
            value.flatten()[::7] *= 30.0  # so that a clamp shows
        out = Values(self._graph, outputs).read(end)
        # out = activation(gate) * factor, where gate and factor are parts of these outputs.
        up = outputs[roles["mlp_up"]].reshape(-1, vertices[roles["mlp_up"]].node.shape[-1])
        out = out.reshape(len(up), -1)
        # (input of the activation, factor on its output, whether the gate comes first)
        options: list[tuple[Tensor, Tensor | float, bool]] = []
        if "mlp_gate" in roles:
            options.append((outputs[roles["mlp_gate"]].reshape(up.shape), up, False))
        elif out.shape[-1] == up.shape[-1]:
            options.append((up, 1.0, False))
        elif 2 * out.shape[-1] == up.shape[-1]:
            first, second = up.chunk(2, -1)
            options += [(first, second, True), (second, first, False)]
            # Interleaved halves, as in gpt-oss.
            options += [(up[:, ::2], up[:, 1::2], False), (up[:, 1::2], up[:, ::2], False)]
        for name, curve in ACTIVATION_CURVES.items():
            for gate, factor, is_first in options:
                values = torch.from_numpy(curve.value(gate.contiguous().numpy()))
                if values.shape != out.shape:
                    continue
                # Relative to the factor: times 200 the error of theory's erf would count.
                within = 1e-5 * ((1 + values.abs()) * factor).abs()
                if bool(((values * factor - out).abs() <= within).all()):
                    return name, is_first
        raise NoFormula("mlp", "no formula covers what its MLP does to hidden units.")


def _eps_of(kept: Tensor, square: Tensor) -> float:
    """Eps of a norm that leaves `kept` of an output without eps, for inputs of a mean square."""
    eps = float((square * (kept.square().clamp(min=1e-30).reciprocal() - 1)).median())
    return float(f"{eps:.6g}") if eps > 1e-14 else 0.0


def rounded(x: float) -> float:
    """To nine digits, so that a number computed in float64 is the one that the code has."""
    return float(f"{x:.9g}")


def _centred(x: Tensor, kind: str) -> Tensor:
    return x - x.mean(-1, keepdim=True) if kind == "layernorm" else x


def _normalised(x: Tensor, kind: str, eps: float = 0.0) -> Tensor:
    x = _centred(x, kind)
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
