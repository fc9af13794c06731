"""Named model shapes, each with its source."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from types import MappingProxyType

from gptinit.config import GPTConfig, ModelFacts
from gptinit.errors import ConfigError, unknown_name
from gptinit.facts.gpt import gpt_parameters

__all__ = ["DEFAULT_PRESET", "PRESETS", "PublishedShape", "get_config", "model_facts"]

DEFAULT_PRESET = "gpt2"
"""The model measured when none is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedShape:
    """A published shape: what differs from GPTConfig's defaults, and where it was read."""

    shape: Mapping[str, int | str | bool]
    source: str


_GPT2_SOURCE = (
    "Radford et al. 2019, 'Language Models are Unsupervised Multitask Learners', table 2; "
    "heads, vocabulary and context: openai/gpt-2 src/model.py and released hparams.json"
)

PRESETS: Mapping[str, PublishedShape] = MappingProxyType(
    {
        "gpt2": PublishedShape(
            shape={"n_layer": 12, "n_head": 12, "n_embd": 768}, source=_GPT2_SOURCE
        ),
        "gpt2-medium": PublishedShape(
            shape={"n_layer": 24, "n_head": 16, "n_embd": 1024}, source=_GPT2_SOURCE
        ),
        "gpt2-large": PublishedShape(
            shape={"n_layer": 36, "n_head": 20, "n_embd": 1280}, source=_GPT2_SOURCE
        ),
        "gpt2-xl": PublishedShape(
            shape={"n_layer": 48, "n_head": 25, "n_embd": 1600}, source=_GPT2_SOURCE
        ),
        "gpt3-175b": PublishedShape(
            shape={"n_layer": 96, "n_head": 96, "n_embd": 12288, "block_size": 2048},
            source=(
                "Brown et al. 2020, arXiv 2005.14165, table 2.1; vocabulary of GPT-2. The paper's "
                "alternating sparse attention is not modelled: every layer is dense"
            ),
        ),
        "nanogpt-char": PublishedShape(
            shape={
                "n_layer": 6,
                "n_head": 6,
                "n_embd": 384,
                "block_size": 256,
                "vocab_size": 65,
                "activation": "gelu",
                "bias": False,
            },
            source=(
                "karpathy/nanoGPT config/train_shakespeare_char.py @3adf61e1; vocabulary: the 65 "
                "characters of its data/shakespeare_char/readme.md"
            ),
        ),
    }
)
"""Every preset by its name."""


def get_config(preset: str = DEFAULT_PRESET, **overrides: int | str | bool) -> GPTConfig:
    """The shape called `preset`, with `overrides` in place of its own values.

    Once n_embd is given and n_head and head_dim are not, there are n_embd / 64 heads.

    Raises:
        ConfigError: if the preset or a field is unknown, or the shape is not possible.

    Example:
        >>> get_config("gpt2", n_embd=1600).n_head
        25
    """
    if preset not in PRESETS:
        own = "A model of your own is path/model.py:NAME, package.module:NAME or a config.json."
        raise unknown_name("model", preset, PRESETS, remedy=own)
    for name in overrides:
        if name not in GPTConfig.field_names():
            raise unknown_name("shape option", name, GPTConfig.field_names())
        if name in ("head_dim", "d_ff") and overrides[name] == 0:  # GPTConfig's word for the usual
            raise ConfigError(f"{name} must be a positive integer, got 0.")
    shape = {**PRESETS[preset].shape, **overrides}
    n_embd = overrides.get("n_embd")
    if type(n_embd) is int and n_embd > 0 and not {"n_head", "head_dim"} & overrides.keys():
        if n_embd % 64:
            nearest = max(1, round(n_embd / 64)) * 64
            raise ConfigError(
                f"n_embd must be a multiple of 64 unless n_head is given, got n_embd={n_embd}. "
                f"Nearest multiple: {nearest}."
            )
        shape["n_head"] = n_embd // 64
    return GPTConfig(**shape)  # type: ignore[arg-type] # GPTConfig checks every type itself


def model_facts(config: GPTConfig, *, name: str, source: str) -> ModelFacts:
    """The built-in GPT of a shape, as results name it."""
    return ModelFacts(
        name=name,
        source=source,
        **asdict(config),
        n_kv_head=config.n_kv_head,
        norm="layernorm",
        norm_placement="pre",
        positions="learned",
        n_params=sum(prod(p.shape) for p in gpt_parameters(config)),
    )
