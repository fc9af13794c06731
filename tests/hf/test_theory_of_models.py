"""Theory beside measurements of other people's models: their deviations are what chance leaves."""

from types import ModuleType
from typing import Any

import pytest

from benchmarks.sweep import predicted, width_error
from gptinit.api.prediction import measure_with_prediction, theory_of
from gptinit.config import RunConfig
from gptinit.gate.student_t import student_quantile
from gptinit.load.factory import Factory
from gptinit.measure.traced_subject import traced_subject
from gptinit.theory import TheoryModel

C, SEEDS = 128, 8
LLAMA: dict[str, Any] = {
    "hidden_size": C, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 320, "vocab_size": 512, "max_position_embeddings": 64,
    "pad_token_id": None, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
GPT2: dict[str, Any] = {
    "n_embd": C, "n_layer": 2, "n_head": 4, "vocab_size": 512, "n_positions": 64,
    "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
NEO: dict[str, Any] = {
    "hidden_size": C, "num_layers": 2, "num_heads": 4, "vocab_size": 512, "window_size": 256,
    "max_position_embeddings": 64, "attention_types": [[["global", "local"], 1]],
    "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip

FAMILIES: dict[str, tuple[str, dict[str, Any], dict[str, object]]] = {
    "gpt2": ("GPT2", GPT2, {"activation": "gelu_tanh", "tied": True}),
    "gpt neo": ("GPTNeo", NEO, {"score_ratio": 32**0.5}),  # scores without a scale
    "gpt neox": (
        "GPTNeoX",
        {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"},
        {"parallel": True, "positions": "rotary"},
    ),
    "falcon": ("Falcon", LLAMA, {"parallel": True, "n_kv_head": 1}),
    "llama": ("Llama", LLAMA, {"norm": "rmsnorm", "gated": True, "n_kv_head": 2}),
    "qwen2": ("Qwen2", LLAMA, {"gated": True}),
    "phi": ("Phi", LLAMA, {"parallel": True}),
    "cohere": ("Cohere", LLAMA, {"parallel": True, "logit_multiplier": 0.0625}),
    "granite": (
        "Granite",
        {**LLAMA, "residual_multiplier": 0.5, "embedding_multiplier": 12.0},
        {"attn_multiplier": 0.5, "mlp_multiplier": 0.5, "embedding_multiplier": 12.0},
    ),
    "gemma": ("Gemma", {**LLAMA, "head_dim": 32}, {"activation": "gelu_tanh"}),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_of_transformers_is_predicted_as_it_is_measured(
    name: str, transformers: ModuleType
) -> None:
    family, sizes, facts = FAMILIES[name]
    config = getattr(transformers, f"{family}Config")(**sizes)
    head = "LMHeadModel" if family == "GPT2" else "ForCausalLM"
    build = getattr(transformers, family + head)
    subject = traced_subject(
        Factory(
            name=name, source="tests", build=lambda: build(config), settings={},
            with_settings=None, block_size=64,
        )
    )  # fmt: skip
    assert isinstance(theory_of(subject), TheoryModel), theory_of(subject)
    assert {key: getattr(theory_of(subject), key) for key in facts} == pytest.approx(facts)

    run = RunConfig(seeds=SEEDS, seq_len=32, device="cpu", engine="dense", grad=True)
    found = predicted(measure_with_prediction(subject, run))

    # One of all comparisons here is further off by chance once in a thousand runs.
    k = student_quantile(0.5e-3 / (len(found) * len(FAMILIES)), SEEDS - 1)
    off = [d for d in found if abs(d.value) > width_error(C) + k * d.stderr]
    assert {"resid_var", "token_cosine", "attn_var", "grad_rms"} <= {d.stat for d in found}
    assert not off
