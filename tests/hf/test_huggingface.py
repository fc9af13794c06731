"""Hugging Face configs: transformers' own models, without a download."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from gptinit.errors import ConfigError, SubjectError
from gptinit.load.argument import find_factory
from gptinit.load.huggingface import huggingface_factory

pytestmark = pytest.mark.usefixtures("transformers")

GPT2: dict[str, Any] = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "n_layer": 2,
    "n_embd": 16,
    "n_head": 2,
    "n_positions": 32,
    "vocab_size": 64,
}
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "vocab_size": 64,
    "tie_word_embeddings": False,
}
T5: dict[str, Any] = {
    "model_type": "t5",
    "architectures": ["T5ForConditionalGeneration"],
    "num_layers": 2,
    "d_model": 16,
    "d_ff": 24,
    "d_kv": 8,
    "num_heads": 2,
    "vocab_size": 64,
}
GEMMA3: dict[str, Any] = {
    "model_type": "gemma3_text",
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "vocab_size": 64,
}
LLAVA: dict[str, Any] = {
    "model_type": "llava",
    "architectures": ["LlavaForConditionalGeneration"],
    "text_config": {**LLAMA},
    "vision_config": {
        "model_type": "clip_vision_model",
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    },
}

WriteConfig = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteConfig:
    """Writes a config.json, with some entries replaced."""

    def made(entries: object, **more: object) -> Path:
        file = tmp_path / "config.json"
        told = {**entries, **more} if isinstance(entries, dict) else entries
        file.write_text(json.dumps(told), encoding="utf-8")
        return file

    return made


def test_a_config_builds_the_causal_language_model(
    write: WriteConfig, transformers: ModuleType
) -> None:
    file = write(GPT2)

    factory = huggingface_factory(file)

    module = factory.build()
    assert type(module).__name__ == "GPT2LMHeadModel"
    assert next(module.parameters()).dtype == torch.float32
    assert factory.name == "gpt2 config.json"
    assert factory.source == f"{file}, transformers {transformers.__version__}"
    assert factory.architecture == "gpt2"


@pytest.mark.parametrize("kind", ["config.json", ""])
def test_a_config_or_its_folder_is_found(kind: str, tmp_path: Path) -> None:
    entries = {"model_type": "gpt2", "n_layer": 2, "n_embd": 8, "n_head": 2, "vocab_size": 16}
    (tmp_path / "config.json").write_text(json.dumps(entries), encoding="utf-8")

    factory = find_factory(str(tmp_path / kind))

    assert factory.name == "gpt2 config.json"


def test_sizes_are_read_whatever_they_are_called(write: WriteConfig) -> None:
    gpt2 = huggingface_factory(write(GPT2))
    llama = huggingface_factory(write(LLAMA))

    assert (gpt2.n_layer, gpt2.n_head, gpt2.n_embd, gpt2.d_ff) == (2, 2, 16, None)
    assert (gpt2.block_size, gpt2.vocab_size, gpt2.tied) == (32, 64, True)
    assert (llama.n_layer, llama.n_head, llama.n_kv_head, llama.head_dim) == (2, 4, 2, 4)
    assert (llama.n_embd, llama.d_ff, llama.block_size, llama.tied) == (16, 24, 32, False)


def test_a_nested_language_model_tells_the_sizes(write: WriteConfig) -> None:
    factory = huggingface_factory(write(LLAVA), {"text_config.num_hidden_layers": 3})

    assert (factory.n_layer, factory.n_head, factory.vocab_size) == (3, 4, 64)
    assert factory.settings["vision_config.num_hidden_layers"] == 2
    module = factory.build()
    names = [name for name, _ in module.named_parameters()]
    assert any("layers.2.self_attn.q_proj" in name for name in names)


def test_settings_are_the_plain_values(write: WriteConfig) -> None:
    settings = huggingface_factory(write(GPT2)).settings

    assert settings["initializer_range"] == 0.02
    assert settings["n_layer"] == 2
    assert "transformers_version" not in settings
    assert all(isinstance(v, bool | int | float | str | None) for v in settings.values())


@pytest.mark.parametrize(
    ("entries", "key", "own"),
    [
        (GPT2, "n_layer", "n_layer"),
        (GPT2, "num_hidden_layers", "n_layer"),
        (LLAMA, "num_hidden_layers", "num_hidden_layers"),
        (LLAMA, "n_layer", "num_hidden_layers"),
    ],
)
def test_a_key_is_replaced_by_any_of_its_names(
    write: WriteConfig, entries: dict[str, Any], key: str, own: str
) -> None:
    factory = huggingface_factory(write(entries), {key: "3"})

    assert factory.name == f"{entries['model_type']} config.json, {own}=3"
    assert factory.n_layer == 3
    assert factory.build().config.num_hidden_layers == 3  # type: ignore[union-attr]


def test_a_key_that_the_file_calls_otherwise_is_replaced(write: WriteConfig) -> None:
    entries = {name: value for name, value in GPT2.items() if name != "n_layer"}

    factory = huggingface_factory(write(entries, num_hidden_layers=4), {"n_layer": 3})

    assert factory.n_layer == 3
    assert factory.build().config.n_layer == 3  # type: ignore[union-attr]


@pytest.mark.parametrize("n_layer", [2, 6])
def test_lists_of_layers_follow_their_number(write: WriteConfig, n_layer: int) -> None:
    factory = huggingface_factory(write(GEMMA3), {"num_hidden_layers": n_layer})

    config = factory.build().config
    assert config.layer_types == ["sliding_attention", "full_attention"] * (n_layer // 2)  # type: ignore[union-attr]


def test_settings_of_a_config_can_be_replaced_again(write: WriteConfig) -> None:
    factory = huggingface_factory(write(GPT2), {"n_layer": 3})

    assert factory.with_settings
    other = factory.with_settings({"initializer_range": 0.5})

    assert other.name == "gpt2 config.json, n_layer=3, initializer_range=0.5"
    assert (other.settings["initializer_range"], other.n_layer) == (0.5, 3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        std = other.build().transformer.wte.weight.std().item()  # type: ignore[union-attr, operator]
    # 1024 normal draws: the relative standard error of their std is 1 / sqrt(2 * 1024) = 0.022.
    assert std == pytest.approx(0.5, rel=4 * 0.022)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("n_layr", 3, "setting of gpt2 config.json must be a known name, got 'n_layr'. Did you"),
        ("n_layer", "many", "n_layer must be an integer, got 'many'"),
        ("scale_attn_weights", 1, "scale_attn_weights must be true or false, got 1"),
    ],
)
def test_a_key_or_value_that_does_not_fit_is_refused(
    write: WriteConfig, key: str, value: object, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        huggingface_factory(write(GPT2), {key: value})


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_the_dtype_of_the_config_is_the_models(write: WriteConfig, name: str) -> None:
    module = huggingface_factory(write(LLAMA, **{name: "bfloat16"})).build()

    assert {p.dtype for p in module.parameters()} == {torch.bfloat16}
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_a_dtype_that_is_set_replaces_that_of_the_file(write: WriteConfig, name: str) -> None:
    factory = huggingface_factory(write(LLAMA, **{name: "bfloat16"}), {"dtype": "float32"})

    assert next(factory.build().parameters()).dtype == torch.float32


def test_settings_of_the_rotation_are_replaced_however_the_file_spells_them(
    write: WriteConfig,
) -> None:
    rope = {"rope_type": "linear", "factor": 8.0}
    file = write(LLAMA, rope_scaling=rope, rope_theta=500.0)
    key = next(k for k in huggingface_factory(file).settings if k.endswith(".factor"))

    factory = huggingface_factory(file, {key: 2.0})

    told = factory.build().config.to_dict()[key.partition(".")[0]]  # type: ignore[union-attr, operator]
    assert told["factor"] == 2.0
    theta = {"rope_theta", f"{key.partition('.')[0]}.rope_theta"} & factory.settings.keys()
    assert [factory.settings[name] for name in theta] == [500.0]


def test_a_key_that_transformers_would_not_keep_is_refused(
    write: WriteConfig, monkeypatch: pytest.MonkeyPatch, transformers: ModuleType
) -> None:
    known = transformers.CONFIG_MAPPING["gpt2"]
    plain = known.from_dict
    monkeypatch.setattr(known, "from_dict", lambda entries: plain({**entries, "n_layer": 2}))

    message = (
        "n_layer must be a key of gpt2 config.json that transformers keeps, got 3, "
        "which it replaced by 2"
    )
    with pytest.raises(ConfigError, match=message):
        huggingface_factory(write(GPT2), {"n_layer": 3})


def test_a_model_that_is_not_causal_is_the_one_of_its_architecture(write: WriteConfig) -> None:
    factory = huggingface_factory(write(T5))

    assert type(factory.build()).__name__ == "T5ForConditionalGeneration"
    assert (factory.n_layer, factory.n_embd, factory.head_dim, factory.d_ff) == (2, 16, 8, 24)


def test_a_model_that_is_not_causal_and_names_no_architecture_is_found(write: WriteConfig) -> None:
    entries = {name: value for name, value in T5.items() if name != "architectures"}

    module = huggingface_factory(write(entries)).build()

    assert type(module).__name__ == "T5ForConditionalGeneration"


def test_a_model_of_another_task_is_built_with_a_language_head(write: WriteConfig) -> None:
    file = write(LLAMA, architectures=["LlamaForSequenceClassification"])

    assert type(huggingface_factory(file).build()).__name__ == "LlamaForCausalLM"


def test_every_build_starts_from_the_same_config(write: WriteConfig) -> None:
    factory = huggingface_factory(write(GPT2))

    first = factory.build()
    first.config.n_layer = 7  # type: ignore[union-attr]

    assert factory.build().config.n_layer == 2  # type: ignore[union-attr]


def test_a_config_builds_without_storage(write: WriteConfig) -> None:
    factory = huggingface_factory(write(LLAMA, hidden_size=16384, intermediate_size=53248))

    with torch.device("meta"):
        module = factory.build()

    assert {p.device.type for p in module.parameters()} == {"meta"}


def test_a_build_leaves_the_callers_random_state(write: WriteConfig) -> None:
    state = torch.get_rng_state()

    huggingface_factory(write(GPT2)).build()

    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("before", [None, "0"])
def test_only_our_own_calls_are_offline(
    write: WriteConfig,
    monkeypatch: pytest.MonkeyPatch,
    before: str | None,
    transformers: ModuleType,
) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    if before is not None:
        monkeypatch.setenv("HF_HUB_OFFLINE", before)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    seen = []
    known = transformers.CONFIG_MAPPING["gpt2"]
    plain = known.from_dict

    def watching(entries: dict[str, Any]) -> object:
        seen.append((os.environ["HF_HUB_OFFLINE"], constants.HF_HUB_OFFLINE))
        return plain(entries)

    monkeypatch.setattr(known, "from_dict", watching)

    huggingface_factory(write(GPT2)).build()

    assert set(seen) == {("1", True)}
    assert os.environ.get("HF_HUB_OFFLINE") == before
    assert constants.HF_HUB_OFFLINE is False


def test_an_unknown_model_type_is_named_with_the_version(
    write: WriteConfig, transformers: ModuleType
) -> None:
    version = transformers.__version__
    message = (
        f"config.json must have a model_type that transformers {version} knows, got 'gpt99x'. "
    )
    with pytest.raises(SubjectError, match=message):
        huggingface_factory(write(GPT2, model_type="gpt99x"))


@pytest.mark.parametrize("kind", [None, 3, ""])
def test_a_config_without_a_model_type_is_refused(write: WriteConfig, kind: object) -> None:
    with pytest.raises(ConfigError, match=f"must name a model_type, got {kind!r}"):
        huggingface_factory(write({"model_type": kind}))


def test_a_config_that_is_no_object_is_refused(write: WriteConfig) -> None:
    with pytest.raises(ConfigError, match=r"must hold a JSON object, got list\."):
        huggingface_factory(write([1]))


@pytest.mark.parametrize("text", [b"{", b"", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_not_json_is_refused_in_one_line(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(text)

    with pytest.raises(ConfigError, match=r"^.*config\.json must be JSON, got an error: .*\.$"):
        huggingface_factory(file)


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must be a folder that holds a config\.json, got '/.*'"):
        huggingface_factory(tmp_path)


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must be a file that exists, got '.*other\.json'"):
        huggingface_factory(tmp_path / "other.json")


def test_a_config_that_is_no_language_model_is_refused(write: WriteConfig) -> None:
    file = write({"model_type": "t5", "architectures": ["NoSuchModel"], "num_layers": "two"})

    with pytest.raises(SubjectError) as caught:
        huggingface_factory(file).build()
    assert "\n" not in str(caught.value)


def test_a_model_that_transformers_cannot_build_shows_its_message(write: WriteConfig) -> None:
    with pytest.raises(SubjectError) as caught:
        huggingface_factory(write(GPT2, n_head=3)).build()

    told = str(caught.value)
    assert told.startswith("gpt2 config.json must build without an error, got ValueError: ")
    assert "divisible by num_heads" in told
    assert "\n" not in told


def test_a_missing_library_says_how_to_get_it(
    write: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)

    message = r"transformers must be installed to read .* Run pip install 'gptinit\[hf\]'\."
    with pytest.raises(ConfigError, match=message):
        huggingface_factory(write(GPT2))


REMOTE = {
    "model_type": "a_model_of_these_tests",
    "width": 6,
    "auto_map": {
        "AutoConfig": "its_code.TinyConfig",
        "AutoModelForCausalLM": "its_code.TinyModel",
    },
}
ITS_CODE = """
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

class TinyConfig(PretrainedConfig):
    model_type = "a_model_of_these_tests"

    def __init__(self, width=4, **more):
        super().__init__(**more)
        self.width = width

class TinyModel(PreTrainedModel):
    config_class = TinyConfig

    def __init__(self, config):
        super().__init__(config)
        self.head = nn.Linear(config.width, 2)
        self.post_init()

    def _init_weights(self, module):
        pass
"""


def test_code_beside_a_config_runs_only_when_told(write: WriteConfig, tmp_path: Path) -> None:
    (tmp_path / "its_code.py").write_text("raise ValueError('ran')\n", encoding="utf-8")

    message = "got 'a_model_of_these_tests' with its own Python code. Add --trust-remote-code"
    with pytest.raises(SubjectError, match=message):
        huggingface_factory(write(REMOTE))


def test_code_beside_a_known_config_does_not_run(write: WriteConfig, tmp_path: Path) -> None:
    (tmp_path / "its_code.py").write_text("raise ValueError('ran')\n", encoding="utf-8")

    module = huggingface_factory(write(GPT2, auto_map=REMOTE["auto_map"])).build()

    assert type(module).__module__.startswith("transformers.models.gpt2")


def test_code_beside_a_config_builds_the_model_when_trusted(
    write: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dynamic = pytest.importorskip("transformers.dynamic_module_utils")
    monkeypatch.setattr(dynamic, "HF_MODULES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "its_code.py").write_text(ITS_CODE, encoding="utf-8")

    factory = huggingface_factory(write(REMOTE), {"width": 8}, trust_remote_code=True)

    assert factory.build().head.in_features == 8  # type: ignore[union-attr]
    assert factory.name == "a_model_of_these_tests config.json, width=8"
