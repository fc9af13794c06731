"""The blocks of a forward pass: their products by role, and the norms that these read."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gptinit.config import ModelFacts
from gptinit.forward.blocks import Decoder
from gptinit.forward.observe import Observation
from gptinit.recognise.evaluate import weights_between
from gptinit.recognise.pieces import Pieces
from gptinit.recognise.products import Product, find_products, read_of
from gptinit.results.program import Program
from gptinit.theory.parameters import NoFormula
from gptinit.trace.graph import Read

__all__ = ["Block", "ForwardPass", "Norm", "branch_factors", "norm_before", "read_blocks", "shared"]

_NORM_ROLES = frozenset({"norm_weight", "norm_bias"})

T_ = TypeVar("T_")


class ForwardPass:
    """One recorded pass, cut at its products; shared by all steps that read it.

    Attributes:
        facts: the model's shape.
        parameters: its parameters by name.
        seen: the pass.
        products: products of tokens with a matrix, by the matrix' name.
        pieces: computes what lies between two cuts.
        n_runs: layers that ran.
    """

    def __init__(
        self, facts: ModelFacts, program: Program, seen: Observation, decoder: Decoder
    ) -> None:
        self.facts, self.seen, self.graph = facts, seen, seen.graph
        self.parameters = {p.name: p for p in program if p.kind == "parameter"}
        self.products = find_products(seen.graph)
        self.pieces = Pieces(seen.graph)
        self.n_runs = len(decoder.layers)
        starts = [decoder.chain[0].stream] if decoder.chain else []
        self._streams = sorted({*starts, *(a.vertex for a in decoder.chain)})

    def with_role(self, role: str) -> list[Product]:
        """The products whose matrix has a role."""
        known = [p for p in self.products.values() if p.name in self.parameters]
        return [p for p in known if self.parameters[p.name].role == role]

    def stream_of(self, entry: Read) -> int:
        """The state of the stream that a product reads: the latest that it depends on."""
        behind = 0
        for _, index in self.graph.writes(entry):
            behind |= self.graph.ancestors[index] | 1 << index
        read = [i for i in self._streams if behind >> i & 1]
        if not read:
            raise NoFormula("stream", "a matrix reads something other than the residual stream.")
        return read[-1]


@dataclass(frozen=True, slots=True)
class Norm:
    """One norm.

    Attributes:
        kind: "layernorm" or "rmsnorm".
        eps: added to the mean square.
        factor: on its output.
        is_plus_one: whether it multiplies by 1 + weight.
        weight, bias: names of its parameters.
    """

    kind: str
    eps: float
    factor: float
    is_plus_one: bool
    weight: str | None
    bias: str | None


@dataclass(frozen=True, slots=True)
class Block:
    """One block: the stream that enters, its products by role, norms of attention and MLP."""

    stream: int
    products: Mapping[str, Product]
    norms: tuple[Norm, Norm]
    is_parallel: bool

    def nodes(self, roles: Collection[str]) -> dict[str, int]:
        """Role -> node of its product, for those of `roles` that the block has."""
        return {r: self.products[r].vertex for r in roles if r in self.products}


def shared(values: set[T_], what: str) -> T_:
    """The one value that all blocks have: theory describes a single kind of block."""
    if len(values) != 1:
        raise NoFormula("blocks", f"its blocks differ in {what}.")
    return next(iter(values))


def read_blocks(view: ForwardPass) -> list[Block]:
    """Every block of the model, in order.

    Raises:
        NoFormula: if blocks run more or less than once, or a part of one is missing.
    """
    n_layer = view.facts.n_layer
    if not n_layer or view.n_runs != n_layer:
        raise NoFormula("blocks", "its blocks do not each run once.")
    return [_block(view, layer) for layer in range(n_layer)]


def _block(view: ForwardPass, layer: int) -> Block:
    inside: dict[str, str] = {p.role: p.name for p in view.parameters.values() if p.layer == layer}
    products = {r: view.products[name] for r, name in inside.items() if name in view.products}
    for role in ("attn_out", "mlp_up", "mlp_down"):
        if role not in products:
            raise NoFormula(f"block {layer}", f"its {role} is not known.")
    sides = [r for r in ("q", "k", "v", "qkv") if r in products]
    if sides not in (["q", "k", "v"], ["qkv"]):
        raise NoFormula(f"block {layer}", "its queries, keys and values are not known.")
    entries = [r for r in ("mlp_up", "mlp_gate") if r in products]
    (attn_stream, attn_norm), (mlp_stream, mlp_norm) = (
        _shared_norm(view, [products[r] for r in roles]) for roles in (sides, entries)
    )
    is_parallel = attn_stream == mlp_stream
    return Block(attn_stream, products, (attn_norm, mlp_norm), is_parallel=is_parallel)


def _shared_norm(view: ForwardPass, products: Sequence[Product]) -> tuple[int, Norm]:
    inputs = {(s := view.stream_of(p.entry), norm_before(view, p.entry, s)) for p in products}
    if len(inputs) != 1:
        raise NoFormula("norms", "the matrices of one branch do not read the same input.")
    return next(iter(inputs))


def norm_before(view: ForwardPass, entry: Read, stream: int) -> Norm:
    """The norm that stands between the stream and a product.

    Raises:
        NoFormula: if anything else does.
    """
    names = weights_between(view.graph, entry, {stream: ""})
    by_role = {view.parameters[n].role: n for n in names if n in view.parameters}
    if not set(by_role) <= _NORM_ROLES or len(by_role) != len(names):
        raise NoFormula(names[0], "this parameter has an effect that no formula covers.")
    weight, bias = by_role.get("norm_weight"), by_role.get("norm_bias")
    norm = Norm(*view.pieces.norm(entry, stream, weight, bias), weight, bias)
    _require_gain(view, norm)
    return norm


def _require_gain(view: ForwardPass, norm: Norm) -> None:
    """Refuse a norm whose weight acts otherwise than theory assumes.

    Theory takes the gain of a norm from the program, or else from the moments of its weight; the
    pass shows what it is.
    """
    if norm.weight is None:
        return
    p = view.parameters[norm.weight]
    mean, std = p.distribution.mean, p.distribution.std
    acts = abs(1.0 + mean) if norm.is_plus_one else (mean**2 + std**2) ** 0.5
    taken = (mean**2 + std**2) ** 0.5 if p.gain is None else p.gain
    if abs(taken - acts) > 1e-3 * acts or (norm.is_plus_one and std > 0):
        raise NoFormula(norm.weight, "the effect of this norm weight is not known.")


def branch_factors(view: ForwardPass, blocks: Sequence[Block], last: int) -> tuple[float, float]:
    """The factors of attention and MLP on their way to the stream.

    Args:
        view: the pass.
        blocks: its blocks.
        last: the stream after the last of them.

    Raises:
        NoFormula: if the stream after a block is not stream + a * attention + b * MLP.
    """
    factors = set()
    ends = [*(b.stream for b in blocks[1:]), last]
    for block, end in zip(blocks, ends, strict=True):
        parts = (block.stream, block.products["attn_out"].vertex, block.products["mlp_down"].vertex)
        both = view.pieces.branches(parts, read_of(view.graph, end))
        factors.add(both)
        if not block.is_parallel:
            middle = read_of(view.graph, view.stream_of(block.products["mlp_up"].entry))
            if view.pieces.branches(parts, middle) != (both[0], 0.0):
                raise NoFormula("stream", "an MLP does not read the stream after attention.")
    return shared(factors, "the factors on their branches")
