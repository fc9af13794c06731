"""The table of the built-in GPT's parameters is that of its module."""

from typing import Any

import pytest
import torch
from torch import nn

from gptinit.config import GPTConfig
from gptinit.facts.gpt import GPTParameter, gpt_parameters
from gptinit.facts.presets import PRESETS, get_config, model_facts
from gptinit.model import GPT

SHAPES: dict[str, dict[str, Any]] = {
    "usual": {},
    "untied": {"tied": False},
    "no biases": {"bias": False},
    "free widths": {"head_dim": 5, "d_ff": 70},
    "all at once": {"tied": False, "bias": False, "head_dim": 9, "d_ff": 33, "n_layer": 1},
}


def config_of(shape: dict[str, Any]) -> GPTConfig:
    sizes = {"n_layer": 2, "n_head": 3, "n_embd": 24, "block_size": 10, "vocab_size": 17}
    return GPTConfig(**{**sizes, **shape})


def module_of(config: GPTConfig) -> GPT:
    with torch.device("meta"):
        return GPT(config)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_names_and_shapes_are_those_of_the_module_in_its_order(shape: dict[str, Any]) -> None:
    config = config_of(shape)
    module = module_of(config)

    assert [(p.name, p.shape) for p in gpt_parameters(config)] == [
        (name, tuple(p.shape)) for name, p in module.named_parameters()
    ]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_fans_are_those_of_the_module_that_holds_the_parameter(shape: dict[str, Any]) -> None:
    config = config_of(shape)
    module = module_of(config)

    for p in gpt_parameters(config):
        owner = module.get_submodule(p.name.rpartition(".")[0])
        if isinstance(owner, nn.Linear):
            expected = owner.in_features, owner.out_features
        elif isinstance(owner, nn.Embedding):
            expected = owner.embedding_dim, owner.num_embeddings
        else:
            expected = config.n_embd, config.n_embd
        assert (p.fan_in, p.fan_out) == expected, p.name


def test_roles_and_layers_are_those_of_the_names() -> None:
    found = gpt_parameters(config_of({"tied": False, "n_layer": 2}))

    outside = {p.name: p.role for p in found if p.layer is None}
    assert outside == {
        "transformer.wte.weight": "tok_emb",
        "transformer.wpe.weight": "pos_emb",
        "transformer.ln_f.weight": "norm_weight",
        "transformer.ln_f.bias": "norm_bias",
        "lm_head.weight": "lm_head",
    }
    second = {p.name.removeprefix("transformer.h.1."): p.role for p in found if p.layer == 1}
    assert second == {
        "ln_1.weight": "norm_weight",
        "ln_1.bias": "norm_bias",
        "attn.c_attn.weight": "qkv",
        "attn.c_attn.bias": "linear_bias",
        "attn.c_proj.weight": "attn_out",
        "attn.c_proj.bias": "linear_bias",
        "ln_2.weight": "norm_weight",
        "ln_2.bias": "norm_bias",
        "mlp.c_fc.weight": "mlp_up",
        "mlp.c_fc.bias": "linear_bias",
        "mlp.c_proj.weight": "mlp_down",
        "mlp.c_proj.bias": "linear_bias",
    }
    assert [p.layer for p in found if p.role == "qkv"] == [0, 1]


@pytest.mark.parametrize("preset", PRESETS)
def test_the_number_of_parameters_is_that_of_the_module(preset: str) -> None:
    config = get_config(preset, n_layer=2)

    facts = model_facts(config, name=preset, source="test")

    assert facts.n_params == sum(p.numel() for p in module_of(config).parameters())


def test_a_tied_head_has_no_entry_of_its_own() -> None:
    def head(config: GPTConfig) -> list[GPTParameter]:
        return [p for p in gpt_parameters(config) if p.role == "lm_head"]

    assert head(config_of({})) == []
    assert [p.name for p in head(config_of({"tied": False}))] == ["lm_head.weight"]
