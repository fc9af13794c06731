"""What published architectures say of their own initialisation: facts with sources."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["KNOWN_CLAIMS", "SCALED_LOGITS", "KnownClaim"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownClaim:
    """The scheme that an architecture's own documentation or code says it follows.

    Attributes:
        scheme: slug; its depth factor holds, its base std is a setting of the model.
        source: where it says so.
    """

    scheme: str
    source: str


KNOWN_CLAIMS: Mapping[str, KnownClaim] = MappingProxyType(
    {
        "gpt2": KnownClaim(
            scheme="nanogpt",
            source=(
                "transformers models/gpt2/modeling_gpt2.py, _init_weights: quotes the paper's "
                "1/sqrt(N) of residual layers (4.57.1 and 5.15.0 draw it so)"
            ),
        ),
    }
)
"""Architecture (Hugging Face's model_type) to its claim."""

SCALED_LOGITS: Mapping[str, str] = MappingProxyType(
    {
        "cohere": "config logit_scale",
        "cohere2": "config logit_scale",
        "cohere2_moe": "config logit_scale",
        "falcon_h1": "config lm_head_multiplier",
        "granite": "config logits_scaling",
        "granite_swa": "config logits_scaling",
        "granitemoe": "config logits_scaling",
        "granitemoe_swa": "config logits_scaling",
        "granitemoehybrid": "config logits_scaling",
        "granitemoeshared": "config logits_scaling",
        "hyperclovax": "config logits_scaling",
        "minicpm3": "config logits_scaling, or hidden_size / dim_model_base",
        "t5": "a tied head's input is divided by sqrt(d_model)",
        "umt5": "a tied head's input is divided by sqrt(d_model)",
    }
)
"""Architectures that multiply the head's input or output in the forward, and where."""
