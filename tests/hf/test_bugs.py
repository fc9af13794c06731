"""Real models of the transformers that is installed, whose code has a bug of docs/bugs.md."""

import json
from pathlib import Path

import pytest
import torch
from support.bug_models import DEPTH, WIDTH
from torch import nn

import gptinit


def config_file(folder: Path, **config: object) -> str:
    """A config.json in a folder."""
    file = folder / "config.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    return str(file)


def openai_gpt(folder: Path) -> str:
    """The config of a small GPT-1."""
    return config_file(
        folder, model_type="openai-gpt", architectures=["OpenAIGPTLMHeadModel"],
        n_layer=DEPTH, n_embd=WIDTH, n_head=4, n_positions=64, vocab_size=160,
    )  # fmt: skip


def gpt2(folder: Path) -> str:
    """The config of a small GPT-2."""
    return config_file(
        folder, model_type="gpt2", architectures=["GPT2LMHeadModel"],
        n_layer=DEPTH, n_embd=WIDTH, n_head=4, n_positions=64, vocab_size=160,
    )  # fmt: skip


def transformers_at_least(major: int, minor: int) -> None:
    """Skip the test where an older release, or none, is installed."""
    transformers = pytest.importorskip("transformers")
    installed = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    if installed < (major, minor):
        pytest.skip(f"transformers {transformers.__version__} is older than {major}.{minor}")


def test_a_setting_that_openai_gpt_ignores_is_named(tmp_path: Path) -> None:
    transformers_at_least(5, 0)
    (found,) = gptinit.audit(openai_gpt(tmp_path), perturb=True).findings

    assert (found.rule, found.severity) == ("setting-ignored", "warning")
    assert found.where == "initializer_range"
    assert found.message == (
        "initializer_range was moved from 0.02 to 0.03: attn_out, mlp_down, mlp_up, qkv did not "
        "follow."
    )


def test_a_setting_that_gpt2_follows_is_not(tmp_path: Path) -> None:
    transformers_at_least(5, 15)

    assert gptinit.audit(gpt2(tmp_path), perturb=True).findings == ()


def test_what_openai_gpt_leaves_unwritten_on_meta_is_named(tmp_path: Path) -> None:
    transformers_at_least(5, 0)
    found = gptinit.audit(openai_gpt(tmp_path), build="meta").findings

    (finding,) = found  # one cause, with its count
    assert (finding.rule, finding.severity) == ("uninitialised", "error")
    assert {place.rpartition(".h.*.")[2] for place in finding.places} == {
        f"{module}.{kind}"
        for module in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
        for kind in ("weight", "bias")
    }


def test_gpt2_is_clean_built_in_both_ways(tmp_path: Path) -> None:
    transformers_at_least(5, 15)
    audit = gptinit.audit(gpt2(tmp_path), build="both")

    assert audit.findings == ()
    assert audit.closest is not None
    assert (audit.closest.name, audit.closest.exact) == ("nanogpt", True)


def test_defect_4_a_llama_that_is_untied_by_hand_has_a_broken_tie() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=160, hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=4,
        intermediate_size=2 * WIDTH, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip

    def untied() -> nn.Module:
        model: nn.Module = transformers.LlamaForCausalLM(config)
        head = model.get_submodule("lm_head")
        head.weight = nn.Parameter(torch.empty(160, WIDTH).normal_(0, 0.02))
        return model

    broken = gptinit.audit(untied).findings
    kept = gptinit.audit(lambda: transformers.LlamaForCausalLM(config)).findings

    assert [(f.rule, f.where) for f in broken] == [("tie-broken", "lm_head.weight")]
    assert kept == ()


def test_defect_13_mixers_without_a_softmax_have_no_roles_of_an_mlp() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.RwkvConfig(
        vocab_size=160, hidden_size=WIDTH, num_hidden_layers=2, context_length=32
    )

    roles = {
        row.program.name: row.program.role
        for row in gptinit.audit(lambda: transformers.RwkvForCausalLM(config)).parameters
    }

    mixer, mlp = "rwkv.blocks.0.attention", "rwkv.blocks.0.feed_forward"
    names = ("key.weight", "value.weight", "output.weight", "time_mix_key")
    assert {roles[f"{mixer}.{name}"] for name in names} == {"other"}
    assert [roles[f"{mlp}.{name}.weight"] for name in ("key", "value")] == ["mlp_up", "mlp_down"]
