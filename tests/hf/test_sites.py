"""Blocks and attention of transformers' models are found."""

from types import ModuleType
from typing import Any

import pytest
import torch
from support.listening import Seen
from torch import nn

from gptinit.forward.sites import Site, named_blocks
from gptinit.measure.statistics import score_statistics


def hugging_face_gpt2(transformers: Any) -> nn.Module:
    """A tiny GPT-2 of transformers, which draws its own weights."""
    config = transformers.GPT2Config(
        n_layer=3, n_head=2, n_embd=8, n_positions=16, vocab_size=11, attn_implementation="sdpa"
    )
    model: nn.Module = transformers.GPT2LMHeadModel(config).eval()
    return model


def hugging_face_llama(transformers: Any) -> nn.Module:
    """A tiny Llama of transformers with grouped queries."""
    config = transformers.LlamaConfig(
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        hidden_size=16,
        intermediate_size=24,
        max_position_embeddings=16,
        vocab_size=11,
        attn_implementation="sdpa",
    )
    model: nn.Module = transformers.LlamaForCausalLM(config).eval()
    return model


@pytest.mark.filterwarnings("default")  # what transformers warns of is not ours
@pytest.mark.parametrize(
    ("build", "path", "attn"),
    [
        (hugging_face_gpt2, "transformer.h", "attn"),
        (hugging_face_llama, "model.layers", "self_attn"),
    ],
    ids=["gpt2", "llama"],
)
def test_blocks_of_transformers_models_are_named(
    build: Any, path: str, attn: str, transformers: ModuleType
) -> None:
    module = build(transformers)

    sites = named_blocks(module, path, attn=attn, mlp="mlp")

    assert [s.path for s in sites] == [f"{path}.{i}" for i in range(3)]
    assert [s.attn for s in sites] == [Site(path=f"{path}.{i}.{attn}") for i in range(3)]
    assert [s.mlp for s in sites] == [Site(path=f"{path}.{i}.mlp") for i in range(3)]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("build", "heads"), [(hugging_face_gpt2, (2, 2)), (hugging_face_llama, (4, 2))]
)
def test_the_probe_hears_the_attention_of_transformers_models(
    build: Any, heads: tuple[int, int], transformers: ModuleType
) -> None:
    module, seen = build(transformers), Seen()

    with seen.listening(), torch.no_grad():
        module(torch.arange(10)[None])

    assert len(seen.calls) == 3
    for call in seen.calls:
        assert call.query is not None
        assert call.key is not None
        # Keys are handed over grouped, or repeated for every query head: both are understood.
        assert call.query.shape[:3] == (1, heads[0], 10)
        assert call.key.shape[1] in heads
        found = score_statistics(call, torch.arange(10))
        assert 0 < float(found["attn_entropy"]) <= 1
