"""Blocks and attention of transformers' models are found."""

from types import ModuleType
from typing import Any

import pytest
import torch
from support.listening import Seen
from torch import nn

import gptinit
from gptinit.config import RunConfig
from gptinit.forward.sites import Site, named_blocks, tensors_in
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


SIZES = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
POST_NORM: dict[str, tuple[str, str, dict[str, Any], str, str]] = {
    "BERT": (
        "BertConfig", "BertLMHeadModel", {**SIZES, "intermediate_size": 64, "is_decoder": True},
        "bert.encoder.layer.{}", "output.LayerNorm",
    ),
    "OpenAI-GPT": (
        "OpenAIGPTConfig", "OpenAIGPTLMHeadModel",
        {"vocab_size": 97, "n_embd": 32, "n_layer": 3, "n_head": 4},
        "transformer.h.{}", "ln_2",
    ),
    "OPT-350m": (
        "OPTConfig", "OPTForCausalLM",
        {**SIZES, "ffn_dim": 64, "word_embed_proj_dim": 32, "do_layer_norm_before": False},
        "model.decoder.layers.{}", "final_layer_norm",
    ),
}  # fmt: skip
"""Model to (config, class, sizes, path of a block, its closing norm)."""


@pytest.mark.filterwarnings("default")  # what transformers warns of is not ours
@pytest.mark.parametrize("name", POST_NORM)
def test_the_stream_of_a_post_norm_block_is_what_a_hook_on_it_sees(
    name: str, transformers: Any
) -> None:
    config, kind, sizes, path, closing = POST_NORM[name]
    torch.manual_seed(5)
    module = getattr(transformers, kind)(getattr(transformers, config)(**sizes)).eval()
    ids = torch.randint(0, 97, (2, 13))

    profile = gptinit.inspect(module, ids.numpy(), run=RunConfig(seeds=1, device="cpu"))

    seen: dict[tuple[int, str], float] = {}
    for i in range(3):
        block = module.get_submodule(path.format(i))

        def leaving(m: Any, args: Any, output: Any, i: int = i) -> None:
            seen[i, "resid_var"] = float(tensors_in(output)[0].double().var(correction=0))

        def entering(m: Any, args: Any, i: int = i) -> None:
            seen[i, "presum_var"] = float(args[0].double().var(correction=0))

        block.register_forward_hook(leaving)
        block.get_submodule(closing).register_forward_pre_hook(entering)
    with torch.no_grad():
        module(ids[:, :-1])
    assert profile.model.norm_placement == "post"
    assert len(seen) == 6
    for (i, stat), expected in seen.items():
        # One pass in float32 over the same numbers, in another order: 100 units of 6e-8.
        assert profile.layers[i].values[stat] == pytest.approx(expected, rel=1e-5), stat
