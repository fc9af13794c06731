"""Which parameter plays which role: read from the names of nanoGPT-shaped models."""

import re
from collections.abc import Mapping
from types import MappingProxyType

from gptinit.errors import SubjectError

__all__ = ["layer_of", "role_of"]

_ROLE_OF_SUFFIX: Mapping[str, str] = MappingProxyType(
    {
        "wte.weight": "tok_emb",
        "wpe.weight": "pos_emb",
        "attn.c_attn.weight": "qkv",
        "attn.c_proj.weight": "attn_out",
        "mlp.c_fc.weight": "mlp_up",
        "mlp.c_proj.weight": "mlp_down",
        "lm_head.weight": "lm_head",
        "ln_1.weight": "norm_weight",
        "ln_2.weight": "norm_weight",
        "ln_f.weight": "norm_weight",
        "ln_1.bias": "norm_bias",
        "ln_2.bias": "norm_bias",
        "ln_f.bias": "norm_bias",
        "attn.c_attn.bias": "linear_bias",
        "attn.c_proj.bias": "linear_bias",
        "mlp.c_fc.bias": "linear_bias",
        "mlp.c_proj.bias": "linear_bias",
    }
)
_LAYER = re.compile(r"(?:^|\.)h\.(\d+)\.")


def role_of(name: str) -> str:
    """The role of the parameter called `name`.

    Raises:
        SubjectError: if the name is none of a nanoGPT-shaped model.

    Example:
        >>> role_of("transformer.h.3.mlp.c_proj.weight")
        'mlp_down'
    """
    for suffix, role in _ROLE_OF_SUFFIX.items():
        if name == suffix or name.endswith("." + suffix):
            return role
    raise SubjectError(f"parameter must have a name of a nanoGPT-shaped model, got {name!r}.")


def layer_of(name: str) -> int | None:
    """The 0-based block a parameter belongs to; None outside the blocks.

    Example:
        >>> layer_of("transformer.h.3.mlp.c_proj.weight"), layer_of("transformer.wte.weight")
        (3, None)
    """
    match = _LAYER.search(name)
    return int(match.group(1)) if match else None
