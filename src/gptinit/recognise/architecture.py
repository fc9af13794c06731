"""The architecture of a model as theory needs it, or a note on why no formula covers it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import nn

from gptinit.config import ModelFacts
from gptinit.facts.distributions import Piecewise
from gptinit.forward.blocks import Decoder
from gptinit.forward.observe import Observation
from gptinit.forward.values import Uncomputable
from gptinit.recognise.attention import Attended, cores
from gptinit.recognise.blocks import (
    Block,
    ForwardPass,
    Norm,
    branch_factors,
    norm_before,
    read_blocks,
    shared,
)
from gptinit.recognise.coverage import require_all_known
from gptinit.recognise.embedding import read_embedding
from gptinit.recognise.longer import LONGEST, longest_alike
from gptinit.recognise.pieces import rounded
from gptinit.recognise.products import Product
from gptinit.results.profile import Note
from gptinit.results.program import ModelProgram, Program
from gptinit.theory import ForwardFacts, TheoryModel, model_of_program
from gptinit.theory.parameters import NoFormula
from gptinit.trace.record.tensor import TracedTensor

__all__ = ["Forwarding", "forwarding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """What theory needs to know of a model besides its parameters.

    Attributes:
        facts: its shape, as the forward pass has it.
        forward: what parameters do not show.
        fused: fused matrices whose row blocks are in theory's order: "qkv" if all queries come
            first, then all keys, then all values; "gate" if the gate comes first.
        tokens: length of the longest sequence that is known to be computed in the same way; None
            for any.

    The defaults are those of the built-in GPT.
    """

    facts: ModelFacts
    forward: ForwardFacts = field(default_factory=ForwardFacts)
    fused: frozenset[str] = frozenset({"qkv", "gate"})
    tokens: int | None = None

    def model(self, program: Program) -> TheoryModel | Note:
        """Theory's model for given distributions of the parameters, or a note why there is none."""
        # Row blocks with laws of their own are fine only if they are the parts that theory expects.
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
    """The architecture that a forward pass shows; a note if no formula covers it.

    Args:
        program: the model's shape and parameters with their roles.
        module: the model, with traced parameters or a live one.
        seen: the pass, on eight tokens.
        decoder: its blocks.
        block_size: context length.
        weights: traced tensors in place of the parameters and buffers of a live one.
    """
    try:
        read = _read(ForwardPass(program.facts, program.parameters, seen, decoder))
        tokens = longest_alike(module, seen, min(block_size, LONGEST), weights)
    except (NoFormula, Uncomputable) as error:
        return _missing(error.where, str(error))
    except Exception as error:  # whatever a model does: theory must not stop a measurement
        return _missing("forward pass", f"parts of it cannot be computed ({error}).")
    return replace(read, tokens=tokens)


def _read(view: ForwardPass) -> Forwarding:
    """The architecture of a pass, piece by piece along the stream.

    Raises:
        NoFormula: at the first piece that no formula covers.
    """
    blocks = read_blocks(view)
    head = _head(view)
    last = view.stream_of(head.entry)
    final = norm_before(view, head.entry, last)
    attn_multiplier, mlp_multiplier = branch_factors(view, blocks, last)
    require_all_known(view, blocks, head)
    embedding, positions = read_embedding(view, blocks[0].stream)
    attention, (activation, is_gate_first) = _branches(view, blocks)
    norm, norm_eps = _kind_of_norms(blocks, final)
    if attention.angles and positions == "learned":
        raise NoFormula("positions", "positions are both learned and rotary.")
    is_in_order = {"qkv": attention.is_in_order, "gate": is_gate_first}
    return Forwarding(
        facts=replace(
            view.facts,
            n_head=attention.n_head,
            n_kv_head=attention.n_kv_head,
            head_dim=attention.head_dim,
            norm=norm,
            positions="rotary" if attention.angles else positions,
            activation=activation,
        ),
        forward=ForwardFacts(
            parallel=shared({b.is_parallel for b in blocks}, "whether their branches are parallel"),
            norm_eps=norm_eps,
            rotary_angles=attention.angles,
            score_ratio=rounded(attention.scale * attention.head_dim**0.5),
            attn_multiplier=attn_multiplier,
            mlp_multiplier=mlp_multiplier,
            embedding_multiplier=rounded(embedding),
            logit_multiplier=rounded(final.factor * _logit_factor(view, head)),
        ),
        fused=frozenset(name for name, is_known in is_in_order.items() if is_known),
        tokens=view.seen.ids.numel(),
    )


def _head(view: ForwardPass) -> Product:
    # A tied head is a second use of the embedding, whose role is that of its first use.
    heads, tied = view.with_role("lm_head"), view.with_role("tok_emb")
    is_tied = len(heads) != 1
    candidates = tied if is_tied else heads
    if len(candidates) != 1 or is_tied != view.facts.tied:
        raise NoFormula("head", "the product that makes logits is not known.")
    return candidates[0]


def _branches(view: ForwardPass, blocks: Sequence[Block]) -> tuple[Attended, tuple[str, bool]]:
    """(attention, (activation, whether the gate comes first)) of all blocks."""
    attentions = {_attention(view, block) for block in blocks}
    mlps = {
        view.pieces.mlp(block.nodes(("mlp_up", "mlp_gate")), block.products["mlp_down"].entry)
        for block in blocks
    }
    return shared(attentions, "what their attention computes"), shared(mlps, "their activation")


def _attention(view: ForwardPass, block: Block) -> Attended:
    out = block.products["attn_out"]
    behind = view.graph.ancestors[out.vertex] & ~view.graph.ancestors[block.stream]
    softmaxes = cores(view.graph, behind)
    if len(softmaxes) != 1:
        raise NoFormula("attention", "its attention is not one softmax over keys.")
    return view.pieces.attention(block.nodes(("q", "k", "v", "qkv")), out.entry, softmaxes[0])


def _kind_of_norms(blocks: Sequence[Block], final: Norm) -> tuple[str, float]:
    in_blocks = [norm for block in blocks for norm in block.norms]
    kinds = {(norm.kind, norm.eps) for norm in (*in_blocks, final)}
    kind = shared(kinds, "their norms, the final one included")
    if any(norm.factor != 1.0 for norm in in_blocks):
        raise NoFormula("norms", "the output of a norm is multiplied by a number.")
    return kind


def _logit_factor(view: ForwardPass, head: Product) -> float:
    shape = view.graph.vertices[head.vertex].node.shape
    if shape[-1] != view.facts.vocab_size or view.graph.last is None:
        raise NoFormula("head", "the outputs of the head are not the logits, one for one.")
    return view.pieces.logits(head.vertex)
