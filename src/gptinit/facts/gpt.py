"""The parameters of the built-in GPT of a shape, known before any module is built."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from gptinit.config import GPTConfig
from gptinit.facts.vocabulary import Role

__all__ = ["GPTParameter", "gpt_parameters"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GPTParameter:
    """One parameter of the built-in GPT.

    Attributes:
        name: its name in `named_parameters`.
        shape: its shape.
        role: one of `vocabulary.ROLES`.
        layer: 0-based block index; None outside the blocks.
        fan_in: inputs of its matrix, which a bias shares; a norm maps n_embd to n_embd.
        fan_out: outputs of its matrix.
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    layer: int | None
    fan_in: int
    fan_out: int


def gpt_parameters(config: GPTConfig) -> tuple[GPTParameter, ...]:
    """Every parameter of the built-in GPT, in the order of `named_parameters`.

    A tied head is the token embedding and has no entry of its own.

    Example:
        >>> [p.name for p in gpt_parameters(GPTConfig(n_layer=1, bias=False))][-2:]
        ['transformer.h.0.mlp.c_proj.weight', 'transformer.ln_f.weight']
    """
    C, F, inner = config.n_embd, config.d_ff, config.n_head * config.head_dim
    block: tuple[tuple[str, Role, int, int], ...] = (
        ("ln_1", "norm_weight", C, C),
        ("attn.c_attn", "qkv", C, 3 * inner),
        ("attn.c_proj", "attn_out", inner, C),
        ("ln_2", "norm_weight", C, C),
        ("mlp.c_fc", "mlp_up", C, F),
        ("mlp.c_proj", "mlp_down", F, C),
    )
    found = [
        *_module("transformer.wte", "tok_emb", None, C, config.vocab_size),
        *_module("transformer.wpe", "pos_emb", None, C, config.block_size),
    ]
    for layer in range(config.n_layer):
        for path, role, fan_in, fan_out in block:
            name = f"transformer.h.{layer}.{path}"
            found += _module(name, role, layer, fan_in, fan_out, bias=config.bias)
    found += _module("transformer.ln_f", "norm_weight", None, C, C, bias=config.bias)
    if not config.tied:
        found += _module("lm_head", "lm_head", None, C, config.vocab_size)
    return tuple(found)


def _module(  # noqa: PLR0913 - one argument a field
    path: str, role: Role, layer: int | None, fan_in: int, fan_out: int, *, bias: bool = False
) -> Iterator[GPTParameter]:
    is_norm = role == "norm_weight"
    shape = (fan_out,) if is_norm else (fan_out, fan_in)
    make = partial(GPTParameter, layer=layer, fan_in=fan_in, fan_out=fan_out)
    yield make(name=f"{path}.weight", shape=shape, role=role)
    if bias:
        kind: Role = "norm_bias" if is_norm else "linear_bias"
        yield make(name=f"{path}.bias", shape=(fan_out,), role=kind)
