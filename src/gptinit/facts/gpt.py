"""The parameters of the built-in GPT of a shape, known before any module is built."""

from collections.abc import Iterator
from dataclasses import dataclass

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
    return tuple(_parameters(config))


def _parameters(config: GPTConfig) -> Iterator[GPTParameter]:
    C, F, inner = config.n_embd, config.d_ff, config.n_head * config.head_dim
    block: tuple[tuple[str, Role, int, int], ...] = (
        ("ln_1", "norm_weight", C, C),
        ("attn.c_attn", "qkv", C, 3 * inner),
        ("attn.c_proj", "attn_out", inner, C),
        ("ln_2", "norm_weight", C, C),
        ("mlp.c_fc", "mlp_up", C, F),
        ("mlp.c_proj", "mlp_down", F, C),
    )
    yield _weight("transformer.wte", "tok_emb", None, C, config.vocab_size)
    yield _weight("transformer.wpe", "pos_emb", None, C, config.block_size)
    for layer in range(config.n_layer):
        for path, role, fan_in, fan_out in block:
            name = f"transformer.h.{layer}.{path}"
            yield _weight(name, role, layer, fan_in, fan_out)
            if config.bias:
                yield _bias(name, role, layer, fan_in, fan_out)
    yield _weight("transformer.ln_f", "norm_weight", None, C, C)
    if config.bias:
        yield _bias("transformer.ln_f", "norm_weight", None, C, C)
    if not config.tied:
        yield _weight("lm_head", "lm_head", None, C, config.vocab_size)


def _weight(module: str, role: Role, layer: int | None, fan_in: int, fan_out: int) -> GPTParameter:
    return GPTParameter(
        name=f"{module}.weight",
        shape=(fan_out,) if role == "norm_weight" else (fan_out, fan_in),
        role=role,
        layer=layer,
        fan_in=fan_in,
        fan_out=fan_out,
    )


def _bias(module: str, role: Role, layer: int | None, fan_in: int, fan_out: int) -> GPTParameter:
    return GPTParameter(
        name=f"{module}.bias",
        shape=(fan_out,),
        role="norm_bias" if role == "norm_weight" else "linear_bias",
        layer=layer,
        fan_in=fan_in,
        fan_out=fan_out,
    )
