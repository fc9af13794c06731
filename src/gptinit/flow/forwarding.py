"""What a model computes between its matrices, as theory has to know it, or why it cannot.

The record of a forward pass is cut at the products of tokens with parameters. Every piece between
two cuts is computed on random numbers and held against what the formulas are of: a norm of the
stream, softmax attention over all keys so far, an activation, a sum. Names of classes and
attributes play no part. What agrees to a millionth is read; anything else is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from gptinit.distributions import Piecewise
from gptinit.flow.activations import MATMULS, Graph, Vertex
from gptinit.flow.attending import Attended, attended, cores
from gptinit.flow.blocks import Decoder
from gptinit.flow.computing import Uncovered, Values, fingerprint, weights_between
from gptinit.flow.lengthening import LONGEST, longest_alike
from gptinit.flow.observing import Observation
from gptinit.profile import ModelFacts, Note
from gptinit.program import ModelProgram, Program
from gptinit.theory import ForwardFacts, TheoryModel, model_of_program
from gptinit.theory.activations import ACTIVATION_CURVES
from gptinit.trace.graph import Read, reads_in
from gptinit.trace.tensor import TracedTensor

__all__ = ["Forwarding", "forwarding"]

_NEAR = 1e-6
_LOOKUPS = frozenset({"embedding"})
_NORMS = frozenset({"norm_weight", "norm_bias"})

T_ = TypeVar("T_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """What theory has to know of a model besides its parameters.

    Attributes:
        facts: its shape, as the forward pass has it.
        forward: what parameters do not show.
        fused: whether pieces of a fused matrix are what their order says: "qkv" that it is all
            queries, all keys, all values; "gate" that the gate comes first.
        tokens: longest sequence that is known to be computed alike.
    """

    facts: ModelFacts
    forward: ForwardFacts
    fused: frozenset[str]
    tokens: int

    def model(self, program: Program) -> TheoryModel | Note:
        """The model with some laws of its parameters, or a note that says why theory has none."""
        for p in program:
            kind = {"qkv": "qkv", "mlp_up": "gate"}.get(p.role)
            if isinstance(p.distribution, Piecewise) and kind and kind not in self.fused:
                return _missing(p.name, "its pieces are not the parts that are fused.")
        return model_of_program(self.facts, program, self.forward)


def _missing(where: str, why: str) -> Note:
    return Note(kind="theory-missing", where=where, message=f"No prediction: {why}")


def forwarding(  # noqa: PLR0913, PLR0917 - what is known of a pass, each from somewhere else
    program: ModelProgram,
    module: nn.Module,
    seen: Observation,
    decoder: Decoder,
    block_size: int,
    weights: Mapping[str, TracedTensor] | None = None,
) -> Forwarding | Note:
    """What a forward pass does between its matrices; a note where no formula covers that.

    Args:
        program: the model's shape and parameters with their roles.
        module: the model, with traced parameters or a live one.
        seen: the pass, on eight tokens.
        decoder: its blocks.
        block_size: positions there are.
        weights: traced tensors that stand for the parameters and buffers of a live one.
    """
    try:
        found = _Forward(program.facts, program.parameters, seen, decoder).read()
        tokens = longest_alike(module, seen, min(block_size, LONGEST), weights)
    except Uncovered as error:
        return _missing(error.where, str(error))
    except Exception as error:  # whatever a model does: theory must not stop a measurement
        return _missing("forward pass", f"parts of it cannot be computed ({error}).")
    return replace(found, tokens=tokens)


@dataclass(frozen=True, slots=True)
class _Product:
    """Tokens times one matrix, with its bias.

    Attributes:
        vertex: the node.
        entry: the tokens that it reads.
        name: of the matrix.
        bias: name of what it adds.
    """

    vertex: int
    entry: Read
    name: str
    bias: str | None


@dataclass(frozen=True, slots=True)
class _Norm:
    """One norm: kind, what it adds to the mean square, its parameters and a factor on it all."""

    kind: str
    eps: float
    factor: float
    is_plus_one: bool
    weight: str | None
    bias: str | None


@dataclass(frozen=True, slots=True)
class _Block:
    """One block: where its stream comes in, its products, and its norms."""

    stream: int
    products: Mapping[str, _Product]
    norms: tuple[_Norm, _Norm]
    is_parallel: bool


class _Forward:
    """Reads one forward pass, part by part."""

    def __init__(
        self, facts: ModelFacts, program: Program, seen: Observation, decoder: Decoder
    ) -> None:
        self._facts, self._seen, self._graph, self._decoder = facts, seen, seen.graph, decoder
        self._program = {p.name: p for p in program if p.kind == "parameter"}
        self._products = _products(self._graph)
        self._done: dict[object, object] = {}
        self._generator = torch.Generator().manual_seed(0)
        starts = [decoder.chain[0].stream] if decoder.chain else []
        self._streams = sorted({*starts, *(a.vertex for a in decoder.chain)})

    def read(self) -> Forwarding:
        """All that theory has to know."""
        facts = self._facts
        if not facts.n_layer or len(self._decoder.blocks) != facts.n_layer:
            raise Uncovered("blocks", "its blocks do not run once each.")
        blocks = [self._block(layer) for layer in range(facts.n_layer)]
        head = self._only([p for p in self._products.values() if self._role(p) == "lm_head"])
        if head is None:
            tied = [p for p in self._products.values() if self._role(p) == "tok_emb"]
            head = self._only(tied)
        if head is None or (self._role(head) == "tok_emb") != facts.tied:
            raise Uncovered("head", "the product that makes logits is not known.")
        last = self._stream_of(head.entry)
        final = self._norm(head.entry, last)
        factors = self._factors(blocks, last)
        self._require_all_known([*blocks], head)
        embedding, positions = self._embedding(blocks[0].stream)
        attentions = {self._attention(block) for block in blocks}
        gates = {self._mlp(block) for block in blocks}
        norms = {(n.kind, n.eps) for b in blocks for n in b.norms} | {(final.kind, final.eps)}
        attention = self._one(attentions, "attention")
        activation, is_gate_first = self._one(gates, "MLPs")
        kind, eps = self._one(norms, "norms")
        if any(n.factor != 1.0 for b in blocks for n in b.norms):
            raise Uncovered("norms", "what a norm makes is multiplied by a number.")
        if attention.angles and positions == "learned":
            raise Uncovered("positions", "positions are both learned and turned.")
        width = attention.head_dim
        return Forwarding(
            facts=replace(
                facts,
                n_head=attention.n_head,
                n_kv_head=attention.n_kv_head,
                head_dim=width,
                norm=kind,
                positions="rotary" if attention.angles else positions,
                activation=activation,
            ),
            forward=ForwardFacts(
                parallel=self._one({b.is_parallel for b in blocks}, "blocks"),
                norm_eps=eps,
                rotary_angles=attention.angles,
                score_ratio=_rounded(attention.scale * width**0.5),
                attn_multiplier=factors[0],
                mlp_multiplier=factors[1],
                embedding_multiplier=_rounded(embedding),
                logit_multiplier=_rounded(final.factor * self._logit_factor(head)),
            ),
            fused=frozenset(
                name
                for name, is_plain in (("qkv", attention.is_in_order), ("gate", is_gate_first))
                if is_plain
            ),
            tokens=len(self._seen.ids.flatten()),
        )

    def _role(self, product: _Product) -> str:
        found = self._program.get(product.name)
        return found.role if found else "other"

    def _only(self, found: Sequence[T_]) -> T_ | None:
        return found[0] if len(found) == 1 else None

    def _one(self, values: set[T_], what: str) -> T_:
        if len(values) != 1:
            raise Uncovered(what, f"its {what} are not all alike.")
        return next(iter(values))

    def _once(self, kind: str, end: Read, given: Mapping[int, str], work: Callable[[], T_]) -> T_:
        """The result of some work on a piece of the pass, done once for pieces that are alike."""
        key = (kind, fingerprint(self._graph, end, given))
        if key not in self._done:
            self._done[key] = work()
        return self._done[key]  # type: ignore[return-value]

    def _random(self, shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), generator=self._generator, dtype=torch.float64)

    def _stream_of(self, entry: Read) -> int:
        """The stream that a product reads: the latest that it depends on."""
        graph = self._graph
        behind = 0
        for _, index in graph.writes(entry):
            behind |= graph.ancestors[index] | 1 << index
        found = [i for i in self._streams if behind >> i & 1]
        if not found:
            raise Uncovered("stream", "a matrix reads something other than the stream.")
        return found[-1]

    def _block(self, layer: int) -> _Block:
        """The products and norms of one block."""
        inside = {p.role: p for p in self._program.values() if p.layer == layer}
        products = {
            role: self._products[p.name] for role, p in inside.items() if p.name in self._products
        }
        side = [r for r in ("q", "k", "v", "qkv") if r in products]
        for role in ("attn_out", "mlp_up", "mlp_down"):
            if role not in products:
                raise Uncovered(f"block {layer}", f"its {role} is not known.")
        if side not in (["q", "k", "v"], ["qkv"]):
            raise Uncovered(f"block {layer}", "its queries, keys and values are not known.")
        first = [products[r] for r in side]
        entries = [products[r] for r in ("mlp_up", "mlp_gate") if r in products]
        attn, mlp = (self._shared_norm(found) for found in (first, entries))
        return _Block(attn[0], products, (attn[1], mlp[1]), is_parallel=attn[0] == mlp[0])

    def _shared_norm(self, products: Sequence[_Product]) -> tuple[int, _Norm]:
        """The stream and the norm that some products read."""
        found = set()
        for product in products:
            stream = self._stream_of(product.entry)
            found.add((stream, self._norm(product.entry, stream)))
        return self._one(found, "norms of one branch")

    def _norm(self, entry: Read, stream: int) -> _Norm:
        """What stands between a stream and a product."""
        names = weights_between(self._graph, entry, {stream: ""})
        by_role = {self._program[n].role: n for n in names if n in self._program}
        if not set(by_role) <= _NORMS or len(by_role) != len(names):
            raise Uncovered(names[0], "this parameter has an effect that no formula covers.")
        weight, bias = by_role.get("norm_weight"), by_role.get("norm_bias")
        kind, eps, factor, is_plus_one = self._once(
            f"norm {weight is None} {bias is None}", entry, {stream: "stream"},
            lambda: self._norm_values(entry, stream, weight, bias),
        )  # fmt: skip
        norm = _Norm(kind, eps, factor, is_plus_one, weight, bias)
        self._require_gain(norm)
        return norm

    def _require_gain(self, norm: _Norm) -> None:
        """Refuse a norm whose weight does not act as its law says."""
        if norm.weight is None:
            return
        p = self._program[norm.weight]
        mean, std = p.distribution.mean, p.distribution.std
        acts = abs(1.0 + mean) if norm.is_plus_one else (mean**2 + std**2) ** 0.5
        taken = (mean**2 + std**2) ** 0.5 if p.gain is None else p.gain
        if abs(taken - acts) > 1e-3 * acts or (norm.is_plus_one and std > 0):
            raise Uncovered(norm.weight, "what this weight makes of a vector is not known.")

    def _norm_values(
        self, entry: Read, stream: int, weight: str | None, bias: str | None
    ) -> tuple[str, float, float, bool]:
        """(kind, eps, factor, whether it multiplies by 1 + weight) of a norm."""
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
                return kind, eps, _rounded(factor), is_plus_one
        raise Uncovered("norms", "between the stream and a matrix stands more than one norm.")

    def _factors(self, blocks: Sequence[_Block], last: int) -> tuple[float, float]:
        """What attention and MLPs are multiplied by on their way to the stream."""
        found = set()
        ends = [*(b.stream for b in blocks[1:]), last]
        for block, end in zip(blocks, ends, strict=True):
            attn, mlp = (block.products[r].vertex for r in ("attn_out", "mlp_down"))
            given = {block.stream: "stream", attn: "attn", mlp: "mlp"}
            read = _read_of(self._graph, end)
            whole = self._once("sum", read, given, partial(self._sum, tuple(given), read))
            found.add(whole)
            if not block.is_parallel:
                middle = _read_of(self._graph, self._stream_of(block.products["mlp_up"].entry))
                work = partial(self._sum, tuple(given), middle)
                if self._once("sum", middle, given, work) != (whole[0], 0.0):
                    raise Uncovered("stream", "an MLP does not read the stream after attention.")
        return self._one(found, "branches")

    def _sum(self, given: tuple[int, ...], read: Read) -> tuple[float, float]:
        """(a, b) where a read is stream + a attention + b MLP."""
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
        return _rounded(a), _rounded(b)

    def _embedding(self, stream: int) -> tuple[float, str]:
        """(factor on token embeddings, "learned" or "none")."""
        graph, read = self._graph, _read_of(self._graph, stream)
        given: dict[int, Tensor] = {}
        token: int | None = None
        for v in graph.vertices:
            if v.name not in _LOOKUPS or not graph.is_token(v.index):
                continue
            role = self._lookup_role(v)
            if role == "tok_emb" and token is None:
                token = v.index
            elif role != "pos_emb":
                raise Uncovered("embedding", "more than tokens and positions is looked up.")
            given[v.index] = self._random(v.node.shape)
        if token is None:
            raise Uncovered("embedding", "how tokens are embedded is not known.")
        tables = weights_between(graph, read, given)
        weights: dict[str, Tensor] = {}
        for name in tables:
            p = self._program.get(name)
            if p is None or p.role != "pos_emb" or p.numel > 1 << 26:
                raise Uncovered(name, "this parameter has an effect that no formula covers.")
            weights[name] = self._random((p.numel,))
        if len(given) - 1 + len(tables) > 1:
            raise Uncovered("embedding", "positions are looked up twice.")
        return self._embedded(read, token, given, weights)

    def _embedded(
        self, read: Read, token: int, given: Mapping[int, Tensor], weights: Mapping[str, Tensor]
    ) -> tuple[float, str]:
        """The same from values of the lookups and of tables that are added as they are."""
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

    def _lookup_role(self, v: Vertex) -> str:
        """Role of the table that a lookup reads, if it reads the ids or positions in a row."""
        name = next((o.weight for o in v.operands if o.weight), None)
        index = next((a for a in v.node.args if isinstance(a, Tensor)), None)
        if name is None or index is None or name not in self._program:
            return "other"
        flat, role = index.flatten(), self._program[name].role
        is_ids = flat.numel() == self._seen.ids.numel() and bool(
            (flat == self._seen.ids.flatten()).all()
        )
        if is_ids:
            return "tok_emb" if role == "tok_emb" else "other"
        is_row = flat.numel() == self._seen.ids.numel() and bool((flat.diff() == 1).all())
        return "pos_emb" if is_row and role == "pos_emb" else "other"

    def _attention(self, block: _Block) -> Attended:
        """What the block's attention computes."""
        graph = self._graph
        out = block.products["attn_out"]
        sides = {r: block.products[r].vertex for r in ("q", "k", "v", "qkv") if r in block.products}
        behind = graph.ancestors[out.vertex] & ~graph.ancestors[block.stream]
        found = cores(graph, behind)
        if len(found) != 1:
            raise Uncovered("attention", "its attention is not one softmax over keys.")
        given = {vertex: role for role, vertex in sides.items()}
        return self._once(
            "attention", out.entry, given, lambda: attended(graph, out.entry, sides, found[0])
        )

    def _mlp(self, block: _Block) -> tuple[str, bool]:
        """(activation, whether the gate comes first in a fused matrix) of the block's MLP."""
        roles = {r: block.products[r].vertex for r in ("mlp_up", "mlp_gate") if r in block.products}
        down = block.products["mlp_down"]
        given = {vertex: role for role, vertex in roles.items()}
        return self._once("mlp", down.entry, given, lambda: self._mlp_values(roles, down.entry))

    def _mlp_values(self, roles: Mapping[str, int], end: Read) -> tuple[str, bool]:
        """The same from values."""
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

    def _logit_factor(self, head: _Product) -> float:
        """What the head's product is multiplied by."""
        graph = self._graph
        node = graph.vertices[head.vertex].node
        if node.shape[-1] != self._facts.vocab_size or graph.last is None:
            raise Uncovered("head", "logits are not all that the head makes.")
        made = self._random(node.shape)
        out = Values(graph, {head.vertex: made}).vertex(graph.last).flatten()
        flat = made.flatten()
        factor = float((out @ flat) / (flat @ flat)) if out.shape == flat.shape else 0.0
        large = Values(graph, {head.vertex: 1000 * made}).vertex(graph.last).flatten()
        if not factor or not _near(out, factor * flat) or not _near(large, 1000 * factor * flat):
            raise Uncovered("head", "more is done to logits than a multiplication.")
        return factor

    def _require_all_known(self, blocks: Sequence[_Block], head: _Product) -> None:
        """Refuse products, biases and norms that are not those of the blocks and the head."""
        known = {p.vertex: p for b in blocks for p in b.products.values()} | {head.vertex: head}
        for product in self._products.values():
            if product.vertex not in known:
                raise Uncovered(product.name, "what this parameter does has no formula.")
        biases = {p.name for p in self._program.values() if p.role == "linear_bias"}
        for product in known.values():
            beside = product.name.rpartition(".")[0] + ".bias"
            expected = beside if beside in biases else None
            if product.bias != expected:
                raise Uncovered(product.name, "what is added to its product is not its own bias.")
        for block in blocks:
            self._require_norms_in_order(block)

    def _require_norms_in_order(self, block: _Block) -> None:
        """Refuse norms that stand in another order than their parameters, if it matters."""
        order = list(self._program)
        one, other = (n.weight for n in block.norms)
        if (one is None) != (other is None):
            raise Uncovered("norms", "only one of a block's norms has a weight.")
        if one is None or other is None or one == other:
            return
        laws = [self._law_of(n) for n in block.norms]
        is_same = laws[0] == laws[1]
        if not is_same and (order.index(one) > order.index(other) or block.is_parallel):
            raise Uncovered(one, "the order of its norms is not that of their parameters.")

    def _law_of(self, norm: _Norm) -> object:
        found = [self._program[n] for n in (norm.weight, norm.bias) if n]
        return [(p.role, p.distribution, p.gain) for p in found]


def _rounded(x: float) -> float:
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


def _read_of(graph: Graph, index: int) -> Read:
    """A read of a node's value, by somebody who reads it."""
    for v in graph.vertices[index + 1 :]:
        for read in reads_in(v.node):
            written = () if graph.weight_read(read) else graph.writes(read)
            if [i for _, i in written[-1:]] == [index]:
                return read
    raise Uncovered("stream", "nobody reads it.")


def _products(graph: Graph) -> dict[str, _Product]:
    """Matrix to its product with tokens.

    Raises:
        Uncovered: if a matrix has several, or is not read whole and as it is.
    """
    found: dict[str, _Product] = {}
    for v in graph.vertices:
        if v.name not in MATMULS or not graph.is_token(v.index):
            continue
        named = graph.weight_operands(v.index)
        if not named:
            continue
        product = _product(graph, v)
        if product is None or product.name in found:
            raise Uncovered(named[-1][1], "this matrix is not just multiplied with once.")
        found[product.name] = product
    return found


def _product(graph: Graph, v: Vertex) -> _Product | None:
    """Tokens times a whole matrix, perhaps with a bias; else None."""
    args = list(v.node.args)
    if v.node.kwargs or v.name not in {"mm", "addmm"}:
        return None
    bias = None
    if v.name == "addmm":
        first = args.pop(0)
        bias = graph.weight_read(first) if isinstance(first, Read) else None
        if bias is None:
            return None
    if len(args) != 2 or not all(isinstance(a, Read) for a in args):
        return None
    entry, matrix = args
    name = graph.weight_read(matrix)
    if name is None or matrix.geometry.numel != matrix.storage.numel:
        return None
    return _Product(v.index, entry, name, bias)
