"""A model as theory sees it: its shape and two moments of every parameter."""

from dataclasses import dataclass, field, replace

from gptinit.facts.distributions import Distribution, Measured

__all__ = ["LayerMoments", "Moments", "TheoryModel", "centred"]

_NEGLIGIBLE = 1e-3
"""Share of a row's squared output that a mean of the weights may have."""

_CHANCE = 4.0
"""Standard errors of a mean within which it is the draw's, not the distribution's."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and standard deviation of the entries of one parameter."""

    mean: float = 0.0
    std: float = 0.0

    @property
    def variance(self) -> float:
        """Square of the standard deviation."""
        return self.std**2

    @property
    def square(self) -> float:
        """Mean square."""
        return self.mean**2 + self.std**2


_ONE = Moments(1.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMoments:
    """Moments of the weights of one block; what it does not have is 0 (a norm's weight: 1).

    Attributes:
        q, k, v, attn_out: attention's projections.
        mlp_up, mlp_gate, mlp_down: of the MLP; `mlp_gate` counts only in gated models.
        q_bias, k_bias, v_bias, attn_out_bias: biases of attention's projections.
        mlp_up_bias, mlp_gate_bias, mlp_down_bias: biases of the MLP.
        attn_norm_weight, attn_norm_bias: of the norm before attention.
        mlp_norm_weight, mlp_norm_bias: of the norm before the MLP.
    """

    q: Moments
    k: Moments
    v: Moments
    attn_out: Moments
    mlp_up: Moments
    mlp_down: Moments
    mlp_gate: Moments = Moments()
    q_bias: Moments = Moments()
    k_bias: Moments = Moments()
    v_bias: Moments = Moments()
    attn_out_bias: Moments = Moments()
    mlp_up_bias: Moments = Moments()
    mlp_gate_bias: Moments = Moments()
    mlp_down_bias: Moments = Moments()
    attn_norm_weight: Moments = _ONE
    attn_norm_bias: Moments = Moments()
    mlp_norm_weight: Moments = _ONE
    mlp_norm_bias: Moments = Moments()


@dataclass(frozen=True, slots=True, kw_only=True)
class TheoryModel:
    """A pre-norm GPT as theory sees it.

    Attributes:
        n_layer, n_head, n_kv_head, head_dim, n_embd, d_ff, vocab_size: its sizes, in the words of
            `config.ModelFacts`.
        layers: moments of every block, first to last.
        tok_emb: of the token embedding.
        silent_tokens: rows of it that are 0 (padding): no formula covers sequences with them.
        pos_emb: of learned positions.
        lm_head: of the head; a tied one is the embedding.
        final_norm_weight, final_norm_bias: of the norm before the head.
        activation: one of `activations.ACTIVATION_CURVES`.
        norm: "layernorm" or "rmsnorm".
        positions: "learned", "rotary" or "none".
        norm_eps, rotary_base, rotary_dim, rotary_angles, score_ratio and the multipliers: as in
            `from_program.ForwardFacts`.
        gated: whether the MLP multiplies the activation of one projection by another.
        tied: whether the head is the token embedding.
        parallel: whether both branches of a block read the same norm of the same stream.
    """

    n_layer: int
    n_head: int
    n_kv_head: int
    head_dim: int
    n_embd: int
    d_ff: int
    vocab_size: int
    layers: tuple[LayerMoments, ...] = field(repr=False)
    tok_emb: Moments
    silent_tokens: frozenset[int] = frozenset()
    pos_emb: Moments = Moments()
    lm_head: Moments
    final_norm_weight: Moments = _ONE
    final_norm_bias: Moments = Moments()
    lm_head_bias: Moments = Moments()
    activation: str
    norm: str = "layernorm"
    norm_eps: float = 1e-5
    positions: str = "learned"
    rotary_base: float = 10000.0
    rotary_dim: int = 0
    rotary_angles: tuple[float, ...] = field(default=(), repr=False)
    gated: bool = False
    tied: bool = False
    parallel: bool = False
    attn_multiplier: float = 1.0
    mlp_multiplier: float = 1.0
    embedding_multiplier: float = 1.0
    score_ratio: float = 1.0
    logit_multiplier: float = 1.0


def centred(role: str, distribution: Distribution, fan_in: int) -> tuple[Moments, str]:
    """Moments of a parameter, and why they are not enough where its mean matters ("": enough).

    A mean of the entries adds one direction to what a matrix does; norms may have any.
    """
    moments = Moments(distribution.mean, distribution.std)
    if isinstance(distribution, Measured) and not role.startswith("norm_"):
        noise = _CHANCE * distribution.mean_stderr
        moments = replace(moments, mean=0.0) if abs(moments.mean) <= noise else moments
    if moments.mean != moments.mean or moments.std != moments.std:
        return moments, f"the values of {role} are not known."
    if role.startswith("norm_") or moments.mean == 0:
        return moments, ""
    reach = 1 if role.endswith(("bias", "emb")) else fan_in
    if moments.mean**2 * reach <= _NEGLIGIBLE * moments.variance:
        return moments, ""
    return moments, (
        f"theory needs weights drawn around 0, and {role} has mean {moments.mean:.3g} "
        f"(std {moments.std:.3g})."
    )
