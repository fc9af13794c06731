"""What a model computes between its matrices, as theory has to know it, or why it cannot.

The record of a forward pass is cut at the products of tokens with parameters (`products`). Every
piece between two cuts is computed on random numbers and held against what the formulas are of: a
norm of the stream, softmax attention over all keys so far, an activation, a sum (`pieces`,
`attending`). Names of classes and attributes play no part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import Tensor, nn

from gptinit.config import ModelFacts
from gptinit.facts.distributions import Piecewise
from gptinit.facts.vocabulary import ParameterRole
from gptinit.forward.blocks import Decoder
from gptinit.forward.graph import Vertex
from gptinit.forward.observe import Observation
from gptinit.recognise.attention import Attended, cores
from gptinit.recognise.evaluate import LOOKUPS, Uncovered, weights_between
from gptinit.recognise.longer import LONGEST, longest_alike
from gptinit.recognise.pieces import Pieces, rounded
from gptinit.recognise.products import Product, find_products, read_of
from gptinit.results.profile import Note
from gptinit.results.program import ModelProgram, Program
from gptinit.theory import ForwardFacts, TheoryModel, model_of_program
from gptinit.trace.graph import Read
from gptinit.trace.record.tensor import TracedTensor

__all__ = ["Forwarding", "forwarding"]

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
    products: Mapping[ParameterRole, Product]
    norms: tuple[_Norm, _Norm]
    is_parallel: bool


class _Forward:
    """Reads one forward pass, part by part."""

    def __init__(
        self, facts: ModelFacts, program: Program, seen: Observation, decoder: Decoder
    ) -> None:
        self._facts, self._seen, self._graph, self._decoder = facts, seen, seen.graph, decoder
        self._program = {p.name: p for p in program if p.kind == "parameter"}
        self._products = find_products(self._graph)
        self._pieces = Pieces(seen.graph)
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
        attention = self._one(attentions, "what their attention computes")
        activation, is_gate_first = self._one(gates, "their activation")
        kind, eps = self._one(norms, "their norms or from the final one")
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
                parallel=self._one(
                    {b.is_parallel for b in blocks}, "whether their branches are parallel"
                ),
                norm_eps=eps,
                rotary_angles=attention.angles,
                score_ratio=rounded(attention.scale * width**0.5),
                attn_multiplier=factors[0],
                mlp_multiplier=factors[1],
                embedding_multiplier=rounded(embedding),
                logit_multiplier=rounded(final.factor * self._logit_factor(head)),
            ),
            fused=frozenset(
                name
                for name, is_plain in (("qkv", attention.is_in_order), ("gate", is_gate_first))
                if is_plain
            ),
            tokens=len(self._seen.ids.flatten()),
        )

    def _role(self, product: Product) -> str:
        found = self._program.get(product.name)
        return found.role if found else "other"

    def _only(self, found: Sequence[T_]) -> T_ | None:
        return found[0] if len(found) == 1 else None

    def _one(self, values: set[T_], what: str) -> T_:
        if len(values) != 1:
            raise Uncovered("blocks", f"its blocks differ in {what}.")
        return next(iter(values))

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

    def _shared_norm(self, products: Sequence[Product]) -> tuple[int, _Norm]:
        """The stream and the norm that some products read."""
        found = set()
        for product in products:
            stream = self._stream_of(product.entry)
            found.add((stream, self._norm(product.entry, stream)))
        if len(found) != 1:
            raise Uncovered("norms", "the matrices of one branch read different things.")
        return next(iter(found))

    def _norm(self, entry: Read, stream: int) -> _Norm:
        """What stands between a stream and a product."""
        names = weights_between(self._graph, entry, {stream: ""})
        by_role = {self._program[n].role: n for n in names if n in self._program}
        if not set(by_role) <= _NORMS or len(by_role) != len(names):
            raise Uncovered(names[0], "this parameter has an effect that no formula covers.")
        weight, bias = by_role.get("norm_weight"), by_role.get("norm_bias")
        norm = _Norm(*self._pieces.norm(entry, stream, weight, bias), weight, bias)
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

    def _factors(self, blocks: Sequence[_Block], last: int) -> tuple[float, float]:
        """What attention and MLPs are multiplied by on their way to the stream."""
        found = set()
        ends = [*(b.stream for b in blocks[1:]), last]
        for block, end in zip(blocks, ends, strict=True):
            attn, mlp = (block.products[r].vertex for r in ("attn_out", "mlp_down"))
            given = (block.stream, attn, mlp)
            whole = self._pieces.branches(given, read_of(self._graph, end))
            found.add(whole)
            if not block.is_parallel:
                middle = read_of(self._graph, self._stream_of(block.products["mlp_up"].entry))
                if self._pieces.branches(given, middle) != (whole[0], 0.0):
                    raise Uncovered("stream", "an MLP does not read the stream after attention.")
        return self._one(found, "what branches are multiplied by")

    def _embedding(self, stream: int) -> tuple[float, str]:
        """(factor on token embeddings, "learned" or "none")."""
        graph, read = self._graph, read_of(self._graph, stream)
        lookups: list[int] = []
        token: int | None = None
        for v in graph.vertices:
            if v.name not in LOOKUPS or not graph.is_token(v.index):
                continue
            role = self._lookup_role(v)
            if role == "tok_emb" and token is None:
                token = v.index
            elif role != "pos_emb":
                raise Uncovered("embedding", "more than tokens and positions is looked up.")
            lookups.append(v.index)
        if token is None:
            raise Uncovered("embedding", "how tokens are embedded is not known.")
        tables: dict[str, int] = {}
        for name in weights_between(graph, read, dict.fromkeys(lookups)):
            p = self._program.get(name)
            if p is None or p.role != "pos_emb" or p.numel > 1 << 26:
                raise Uncovered(name, "this parameter has an effect that no formula covers.")
            tables[name] = p.numel
        if len(lookups) - 1 + len(tables) > 1:
            raise Uncovered("embedding", "positions are looked up twice.")
        return self._pieces.embedding(read, token, lookups, tables)

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
        return self._pieces.attention(sides, out.entry, found[0])

    def _mlp(self, block: _Block) -> tuple[str, bool]:
        """(activation, whether the gate comes first in a fused matrix) of the block's MLP."""
        roles = {r: block.products[r].vertex for r in ("mlp_up", "mlp_gate") if r in block.products}
        return self._pieces.mlp(roles, block.products["mlp_down"].entry)

    def _logit_factor(self, head: Product) -> float:
        """What the head's product is multiplied by."""
        shape = self._graph.vertices[head.vertex].node.shape
        if shape[-1] != self._facts.vocab_size or self._graph.last is None:
            raise Uncovered("head", "logits are not all that the head makes.")
        return self._pieces.logits(head.vertex)

    def _require_all_known(self, blocks: Sequence[_Block], head: Product) -> None:
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
                why = f"its product is not added to {expected} in one step."
                if product.bias is not None:
                    why = f"no formula covers {product.bias}, which is added to its product."
                raise Uncovered(product.name, why)
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
