"""Init programs of small models, made by hand: right ones, and each with one thing changed."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from gptinit.config import ModelFacts
from gptinit.facts.distributions import Constant, Distribution, Normal, Piecewise, Uniform
from gptinit.results.program import ModelProgram, ParameterProgram

L, D, F, V, T = 12, 256, 1024, 1000, 128
"""Layers, width, MLP width, vocabulary and context of every model here, unless it says so."""

Law = Callable[[str, int], Distribution]
"""(role, layer) to a law; layer 0 outside the blocks."""

ZERO, ONE = Constant(0.0), Constant(1.0)


def facts(*, n_layer: int = L, n_embd: int = D, tied: bool = True, bias: bool = True) -> ModelFacts:
    return ModelFacts(
        name="small", source="small.py:Model", n_layer=n_layer, n_head=4, n_kv_head=4,
        head_dim=n_embd // 4, n_embd=n_embd, d_ff=4 * n_embd, block_size=T, vocab_size=V,
        bias=bias, tied=tied, n_params=1,
    )  # fmt: skip


def matrix(
    name: str, role: str, law: Distribution, fan_in: int, fan_out: int, *, layer: int | None = None
) -> ParameterProgram:
    return ParameterProgram(
        name=name, shape=(fan_out, fan_in), role=role, layer=layer, distribution=law,  # type: ignore[arg-type] # tests name roles as text
        fan_in=fan_in, fan_out=fan_out,
    )  # fmt: skip


def vector(
    name: str, role: str, law: Distribution, layer: int | None = None, size: int = D
) -> ParameterProgram:
    gain = law.mean if role == "norm_weight" and law.std == 0 else None
    return ParameterProgram(
        name=name,
        shape=(size,),
        role=role,  # type: ignore[arg-type] # tests name roles as text
        layer=layer,
        distribution=law,
        gain=gain,
    )


def plain(_role: str, _layer: int) -> Distribution:
    """0.02 for every matrix, as Llama of transformers."""
    return Normal(0.0, 0.02)


def nanogpt(role: str, _layer: int, n_layer: int = L) -> Distribution:
    """0.02, and 0.02/sqrt(2 n_layer) for what writes to the stream."""
    scaled = role in ("attn_out", "mlp_down")
    return Normal(0.0, 0.02 / math.sqrt(2 * n_layer) if scaled else 0.02)


def gpt2(law: Law = nanogpt, *, n_layer: int = L, n_embd: int = D) -> ModelProgram:
    """A model with nanoGPT's names: fused qkv, learned positions, tied head."""
    wte = matrix("transformer.wte.weight", "tok_emb", law("tok_emb", 0), n_embd, V)
    found = [
        replace(wte, aliases=("lm_head.weight",)),
        matrix("transformer.wpe.weight", "pos_emb", law("pos_emb", 0), n_embd, T),
    ]
    for i in range(n_layer):
        found += _gpt2_block(law, i, n_embd)
    found += _norm("transformer.ln_f", None)
    return ModelProgram(
        facts=facts(n_layer=n_layer, n_embd=n_embd), parameters=tuple(found), claims_tied=True
    )


def _gpt2_block(law: Law, i: int, d: int) -> list[ParameterProgram]:
    """One block, in the order of nanoGPT."""
    h = f"transformer.h.{i}"
    shapes = {
        "attn.c_attn": ("qkv", d, 3 * d),
        "attn.c_proj": ("attn_out", d, d),
        "mlp.c_fc": ("mlp_up", d, 4 * d),
        "mlp.c_proj": ("mlp_down", 4 * d, d),
    }
    found = [*_norm(f"{h}.ln_1", i), *_norm(f"{h}.ln_2", i)]
    for name, (role, fan_in, fan_out) in shapes.items():
        found.append(matrix(f"{h}.{name}.weight", role, law(role, i), fan_in, fan_out, layer=i))
        found.append(vector(f"{h}.{name}.bias", "linear_bias", ZERO, i, fan_out))
    return found


def _norm(name: str, layer: int | None) -> list[ParameterProgram]:
    """Weight and bias of a LayerNorm."""
    return [
        vector(f"{name}.weight", "norm_weight", ONE, layer),
        vector(f"{name}.bias", "norm_bias", ZERO, layer),
    ]


def llama(law: Law = plain, *, n_layer: int = L, n_embd: int = D, d_ff: int = 768) -> ModelProgram:
    """A model with Llama's names: q, k, v apart, a gated MLP, RMSNorm, an untied head."""
    d = n_embd
    found = [matrix("model.embed_tokens.weight", "tok_emb", law("tok_emb", 0), d, V)]
    shapes = {
        "self_attn.q_proj": ("q", d, d),
        "self_attn.k_proj": ("k", d, d // 2),
        "self_attn.v_proj": ("v", d, d // 2),
        "self_attn.o_proj": ("attn_out", d, d),
        "mlp.gate_proj": ("mlp_gate", d, d_ff),
        "mlp.up_proj": ("mlp_up", d, d_ff),
        "mlp.down_proj": ("mlp_down", d_ff, d),
    }
    for i in range(n_layer):
        h = f"model.layers.{i}"
        for name, (role, fan_in, fan_out) in shapes.items():
            found.append(matrix(f"{h}.{name}.weight", role, law(role, i), fan_in, fan_out, layer=i))
        for norm in ("input_layernorm", "post_attention_layernorm"):
            found.append(vector(f"{h}.{norm}.weight", "norm_weight", ONE, i))
    found.append(vector("model.norm.weight", "norm_weight", ONE))
    found.append(matrix("lm_head.weight", "lm_head", law("lm_head", 0), d, V))
    made = facts(n_layer=n_layer, n_embd=n_embd, tied=False, bias=False)
    made = replace(made, d_ff=d_ff, n_kv_head=2)
    return ModelProgram(facts=made, parameters=tuple(found), claims_tied=False)


def torch_default(program: ModelProgram) -> ModelProgram:
    """The same model as torch's own modules leave it."""
    fans = {p.name: p.fan_in for p in program.parameters if p.fan_in}

    def law(p: ParameterProgram) -> Distribution:
        if p.role in ("tok_emb", "pos_emb"):
            return Normal(0.0, 1.0)
        fan_in = fans.get(p.name.removesuffix("bias") + "weight")
        bound = 1 / math.sqrt(p.fan_in or fan_in or 1)
        return Uniform(-bound, bound) if p.fan_in or fan_in else p.distribution

    return every(program, lambda _: True, lambda p: replace(p, distribution=law(p)))


def every(
    program: ModelProgram,
    which: Callable[[ParameterProgram], bool],
    change: Callable[[ParameterProgram], ParameterProgram],
) -> ModelProgram:
    """The program with `change` made to every parameter that `which` picks."""
    changed = tuple(change(p) if which(p) else p for p in program.parameters)
    return replace(program, parameters=changed)


def redrawn(program: ModelProgram, end: str, law: Distribution) -> ModelProgram:
    """The program with another law for each parameter whose name ends so."""
    found = [p for p in program.parameters if p.name.endswith(end)]
    assert found, end
    return every(program, lambda p: p in found, lambda p: replace(p, distribution=law))


def by_role(laws: Mapping[str, Distribution], other: Distribution) -> Law:
    """A law from a table."""
    return lambda role, _layer: laws.get(role, other)


def with_padding(program: ModelProgram, row: int) -> ModelProgram:
    """The program with a zero row in the token embedding, which stands for padding."""
    (wte,) = (p for p in program.parameters if p.role == "tok_emb")
    law = wte.distribution
    pieces = ((row, law), (1, ZERO), (wte.shape[0] - row - 1, law))
    held = Piecewise(tuple(piece for piece in pieces if piece[0] > 0))
    padded = redrawn(program, wte.name, held)
    return replace(padded, padding={wte.name: row})
