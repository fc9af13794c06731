"""From an init program to the model as theory sees it, or to a note on what has no formula."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from gptinit.config import ModelFacts
from gptinit.results.profile import Note
from gptinit.results.program import ParameterProgram, Program
from gptinit.theory.activations import ACTIVATION_CURVES
from gptinit.theory.model import LayerMoments, Moments, TheoryModel
from gptinit.theory.parameters import NoFormula, Parameters

__all__ = ["ForwardFacts", "model_of_program"]

_NORMS = ("layernorm", "rmsnorm")
_POSITIONS = ("learned", "rotary", "none")
_EPS_SHOWS = 1e-3
"""Share of a squared gain that may be the eps of the norm that it was measured with."""

_BRANCH_ROLES = ("q", "k", "v", "qkv", "attn_out", "mlp_up", "mlp_gate", "mlp_down")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardFacts:
    """What a forward pass does that parameters do not show; the defaults are the usual.

    Attributes:
        parallel: whether both branches of a block read the same stream; None means only where a
            block has a single norm.
        has_plain_branches: False where branches do what parameters do not show: norms of queries
            and keys without weights, caps on scores or logits, windows, or branch norms.
        norm_eps: what norms add to the mean square.
        rotary_base: base of the rotary frequencies.
        rotary_dim: rotated entries of a head; 0 means all.
        rotary_angles: by which every pair of a head's entries turns per position, in place of base
            and rotary_dim; empty where these tell.
        score_ratio: scale of the scores over 1 / sqrt(head_dim).
        attn_multiplier, mlp_multiplier: factors on what the branches add.
        embedding_multiplier: factor on token embeddings.
        logit_multiplier: factor on the logits.
    """

    parallel: bool | None = None
    has_plain_branches: bool = True
    norm_eps: float = 1e-5
    rotary_base: float = 10000.0
    rotary_dim: int = 0
    rotary_angles: tuple[float, ...] = ()
    score_ratio: float = 1.0
    attn_multiplier: float = 1.0
    mlp_multiplier: float = 1.0
    embedding_multiplier: float = 1.0
    logit_multiplier: float = 1.0


_AS_GIVEN = [
    f.name for f in fields(ForwardFacts) if f.name not in {"parallel", "has_plain_branches"}
]
"""Facts of a forward pass that a TheoryModel has under the same names."""


def model_of_program(
    facts: ModelFacts, program: Program, forward: ForwardFacts | None = None
) -> TheoryModel | Note:
    """A model for `predict`, or a "theory-missing" note that says what has no formula.

    Covered are pre-norm decoders with full causal attention, learned, rotary or no positions, one
    MLP a block, gated or not, and weights drawn around 0. Not covered, and said so: post-norm and
    sandwich norms, experts, norms of queries and keys, ALiBi, and any parameter without a role.
    """
    try:
        return _Reader(facts, program, forward or ForwardFacts()).model()
    except NoFormula as error:
        return Note(kind="theory-missing", where=error.where, message=f"No prediction: {error}")


class _Reader:
    def __init__(self, facts: ModelFacts, program: Program, forward: ForwardFacts) -> None:
        self._facts, self._forward = facts, forward
        self._at = Parameters(program)

    def model(self) -> TheoryModel:
        """The model; raises NoFormula where a part has none."""
        facts = self._facts
        self._require_known_architecture()
        blocks = [self._block(layer) for layer in range(facts.n_layer)]
        outside = self._at.inside(None)
        tok_emb = self._at.one("tok_emb", outside, "embedding")
        lm_head = None if facts.tied else self._at.one("lm_head", outside, "head")
        tables = [p for p in outside if p.role == "pos_emb"]
        token, silent = self._at.table(tok_emb)
        gain, shift = self._norms(outside, "the final norm", most=1)[0]
        head_bias = self._at.bias(lm_head) if lm_head else Moments()
        model = TheoryModel(
            n_layer=facts.n_layer,
            n_head=self._size("n_head"),
            n_kv_head=facts.n_kv_head or self._size("n_head"),
            head_dim=self._size("head_dim"),
            n_embd=facts.n_embd,
            d_ff=self._at.fans(self._at.role("mlp_down", 0))[0],
            vocab_size=self._size("vocab_size"),
            layers=tuple(block.moments for block in blocks),
            tok_emb=token,
            silent_tokens=silent,
            pos_emb=self._at.table(tables[0])[0] if tables else Moments(),
            lm_head=self._at.moments(lm_head or tok_emb),
            final_norm_weight=gain,
            final_norm_bias=shift,
            lm_head_bias=head_bias,
            activation=str(facts.activation),
            norm=str(facts.norm),
            positions=str(facts.positions),
            gated=self._same([b.is_gated for b in blocks], "MLPs are gated"),
            tied=facts.tied,
            parallel=self._same([b.is_parallel for b in blocks], "blocks are parallel"),
            **{name: getattr(self._forward, name) for name in _AS_GIVEN},
        )
        self._at.require_all_used()
        return model

    def _require_known_architecture(self) -> None:
        facts = self._facts
        known: Mapping[str, tuple[object, Sequence[str]]] = {
            "norm_placement": (facts.norm_placement, ("pre",)),
            "norm": (facts.norm, _NORMS),
            "positions": (facts.positions, _POSITIONS),
            "activation": (facts.activation, tuple(ACTIVATION_CURVES)),
        }
        for name, (value, covered) in known.items():
            if value not in covered:
                raise NoFormula(name, f"{name} must be {' or '.join(covered)}, got {value}.")
        if not self._forward.has_plain_branches:
            raise NoFormula("branches", "its branches do more than their parameters show.")
        for p in self._at.all:
            if p.role == "other":
                raise NoFormula(p.name, "what this parameter does has no formula.")

    def _block(self, layer: int) -> "_Block":
        inside = self._at.inside(layer)
        counts = {r: [p for p in inside if p.role == r] for r in _BRANCH_ROLES}
        for role, found in counts.items():
            if len(found) > 1 or (found and len(found[0].shape) != 2):
                raise NoFormula(found[0].name, f"a block has several matrices of role {role}.")
        norms = self._norms(inside, f"block {layer}", most=2)
        parallel = self._forward.parallel
        is_single = len([p for p in inside if p.role == "norm_weight"]) == 1
        up, gate = self._entry(layer, has_gate=bool(counts["mlp_gate"]))
        attention = self._attention(layer, fused=bool(counts["qkv"]))
        moments = LayerMoments(
            **attention,
            **self._at.with_bias("attn_out", self._at.role("attn_out", layer)),
            **up,
            **gate,
            **self._at.with_bias("mlp_down", self._at.role("mlp_down", layer)),
            attn_norm_weight=norms[0][0],
            attn_norm_bias=norms[0][1],
            mlp_norm_weight=norms[-1][0],
            mlp_norm_bias=norms[-1][1],
        )
        return _Block(
            moments=moments,
            is_gated=bool(gate),
            is_parallel=is_single if parallel is None else parallel,
        )

    def _attention(self, layer: int, *, fused: bool) -> dict[str, Moments]:
        """Queries, keys and values with their biases."""
        width = self._size("head_dim")
        rows = [self._size("n_head") * width] + 2 * [
            (self._facts.n_kv_head or self._size("n_head")) * width
        ]
        if not fused:
            found: dict[str, Moments] = {}
            for role, count in zip("qkv", rows, strict=True):
                matrix = self._at.role(role, layer)
                self._at.require_fans(matrix, (self._facts.n_embd, count))
                found |= self._at.with_bias(role, matrix)
            return found
        matrix = self._at.role("qkv", layer)
        self._at.require_fans(matrix, (self._facts.n_embd, sum(rows)))
        bias = self._at.bias_of(matrix)
        found = dict(zip("qkv", self._at.split(matrix, rows), strict=True))
        if bias is not None:
            names = ("q_bias", "k_bias", "v_bias")
            found |= dict(zip(names, self._at.split(bias, rows), strict=True))
        return found

    def _entry(
        self, layer: int, *, has_gate: bool
    ) -> tuple[dict[str, Moments], dict[str, Moments]]:
        """What the MLP's first matrices are drawn from: (up, gate), gate empty without one."""
        up = self._at.role("mlp_up", layer)
        hidden = self._at.fans(self._at.role("mlp_down", layer))[0]
        made = self._at.fans(up)[1]
        if has_gate:
            gate = self._at.role("mlp_gate", layer)
            self._at.require_fans(gate, (self._facts.n_embd, hidden))
            return self._at.with_bias("mlp_up", up), self._at.with_bias("mlp_gate", gate)
        if made == hidden:
            return self._at.with_bias("mlp_up", up), {}
        if made != 2 * hidden:
            raise NoFormula(up.name, f"it makes {made} hidden units where {hidden} are read.")
        one, other = self._at.split(up, [hidden, hidden])
        found = {"mlp_up": other}, {"mlp_gate": one}
        bias = self._at.bias_of(up)
        if bias is not None:
            found[1]["mlp_gate_bias"], found[0]["mlp_up_bias"] = self._at.split(bias, [hidden] * 2)
        return found

    def _norms(
        self, parameters: Sequence[ParameterProgram], where: str, *, most: int
    ) -> list[tuple[Moments, Moments]]:
        """(weight, bias) of the norms among some parameters, in their order; at least one."""
        weights = [p for p in parameters if p.role == "norm_weight"]
        biases = {p.name.rpartition(".")[0]: p for p in parameters if p.role == "norm_bias"}
        if len(weights) > most:
            raise NoFormula(weights[most].name, f"{where} has {len(weights)} norms.")
        found = []
        for weight in weights:
            if weight.shape != (self._facts.n_embd,):
                raise NoFormula(weight.name, "a norm of something other than the stream.")
            bias = biases.get(weight.name.rpartition(".")[0])
            found.append((self._gain(weight), self._at.moments(bias) if bias else Moments()))
        return found or [(Moments(1.0, 0.0), Moments())]

    def _gain(self, weight: ParameterProgram) -> Moments:
        """Moments of what a norm multiplies by: its weight, or what its module makes of that."""
        moments = self._at.moments(weight)
        if weight.gain is None or abs(weight.gain**2 - moments.square) < _EPS_SHOWS:
            return moments
        return Moments(weight.gain, 0.0)

    def _size(self, name: str) -> int:
        value = getattr(self._facts, name)
        if value is None:
            raise NoFormula(name, f"{name} is not known.")
        return int(value)

    def _same(self, values: Sequence[bool], what: str) -> bool:
        if len(set(values)) > 1:
            raise NoFormula("blocks", f"not all {what}.")
        return values[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    moments: LayerMoments
    is_gated: bool
    is_parallel: bool
