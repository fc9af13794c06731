"""Shapes and runs are validated when made."""

import pytest

from gptinit.config import GPTConfig, RunConfig
from gptinit.errors import ConfigError
from gptinit.facts.presets import PRESETS, get_config


def test_derived_sizes_follow_the_width() -> None:
    config = GPTConfig(n_embd=1600, n_head=25)

    assert (config.head_dim, config.d_ff, config.n_kv_head) == (64, 6400, 25)


def test_head_dim_of_its_own_needs_no_division() -> None:
    assert GPTConfig(n_embd=770, n_head=12, head_dim=64).head_dim == 64


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            {"n_embd": 770},
            r"n_embd must be a multiple of n_head=12, got n_embd=770. Nearest multiple: 768.",
        ),
        ({"n_layer": 0}, "n_layer must be a positive integer, got 0."),
        ({"n_layer": 2.5}, "n_layer must be a positive integer, got 2.5."),
        ({"n_layer": True}, "n_layer must be a positive integer, got True."),
        ({"d_ff": -1}, "d_ff must be a non-negative integer, got -1."),
        ({"bias": 1}, "bias must be true or false, got 1."),
        ({"activation": "gelu_tan"}, r"got 'gelu_tan'. Did you mean gelu_tanh or gelu\?"),
    ],
)
def test_impossible_shapes_are_refused(shape: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GPTConfig(**shape)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "dens"}, r"engine must be one of .*, got 'dens'. Did you mean dense\?"),
        ({"device": "gpu"}, "device must be one of auto, cpu, cuda, mps, got 'gpu'."),
        ({"dtype": "fp16"}, "dtype must be one of bfloat16, float16, float32, got 'fp16'."),
        ({"seeds": 0}, "seeds must be a positive integer, got 0."),
        ({"seed": -1}, "seed must be a non-negative integer, got -1."),
        ({"data": ""}, "data must be one of zipf, uniform, text or a file, got ''."),
        ({"grad": "yes"}, "grad must be true or false, got 'yes'."),
    ],
)
def test_impossible_runs_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RunConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(("seq_len", "block_size", "expected"), [(0, 1024, 256), (0, 64, 64)])
def test_default_length_is_256_or_the_block(seq_len: int, block_size: int, expected: int) -> None:
    assert RunConfig(seq_len=seq_len).resolve_seq_len(block_size) == expected


def test_sequence_longer_than_the_block_is_refused() -> None:
    with pytest.raises(ConfigError, match="seq_len must be at most block_size=64, got seq_len=65"):
        RunConfig(seq_len=65).resolve_seq_len(64)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # tokens V*C + positions 1024*C + n_layer*(12 C^2 + 13 C) + 2 C, V=50257
        ("gpt2", 124_439_808),
        ("gpt2-medium", 354_823_168),
        ("gpt2-large", 774_030_080),
        ("gpt2-xl", 1_557_611_200),
    ],
)
def test_presets_have_the_published_parameter_counts(name: str, parameters: int) -> None:
    c = get_config(name)

    blocks = c.n_layer * (12 * c.n_embd**2 + 13 * c.n_embd)
    counted = (c.vocab_size + c.block_size) * c.n_embd + blocks + 2 * c.n_embd
    assert counted == parameters


def test_gpt3_preset_has_the_shape_of_the_paper() -> None:
    c = get_config("gpt3-175b")

    # Brown et al. 2020, table 2.1: 96 layers, 12288 wide, 96 heads of 128, context 2048.
    assert (c.n_layer, c.n_embd, c.n_head, c.head_dim, c.block_size) == (96, 12288, 96, 128, 2048)


def test_every_preset_has_a_source() -> None:
    assert all(len(preset.source) > 20 for preset in PRESETS.values())


def test_new_width_brings_heads_of_64() -> None:
    assert get_config("gpt2", n_embd=1600).n_head == 25
    assert get_config("gpt2", n_embd=1600, n_head=16).n_head == 16


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("gpt2-xxl", {}, r"got 'gpt2-xxl'. Did you mean gpt2-xl"),
        (
            "gpt2",
            {"n_embd": 770},
            r"n_embd must be a multiple of 64 unless n_head is given, .*multiple: 768\.$",
        ),
        ("gpt2", {"n_embd": 10}, r"Nearest multiple: 64\.$"),
        ("gpt2", {"n_embd": 1}, "^n_embd must be a multiple of 64"),
        ("gpt2", {"n_embd": 0}, "^n_embd must be"),
        ("gpt2", {"n_embd": -64}, "^n_embd must be"),
        ("gpt2", {"head_dim": 0}, r"^head_dim must be a positive integer, got 0\."),
        ("gpt2", {"n_layers": 3}, r"got 'n_layers'. Did you mean n_layer"),
    ],
)
def test_unknown_presets_and_fields_are_refused(
    name: str, overrides: dict[str, int], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        get_config(name, **overrides)


def test_weights_are_traced_unless_the_model_s_own_are_asked_for() -> None:
    assert RunConfig().weights == "traced"
    assert RunConfig(weights="own").weights == "own"
    with pytest.raises(ConfigError, match=r"weights must be one of own, traced, got 'owned'"):
        RunConfig(weights="owned")  # type: ignore[arg-type] # what is refused


def test_another_name_says_what_else_a_model_can_be() -> None:
    with pytest.raises(ConfigError, match=r"path/model\.py:NAME, package\.module:NAME or a config"):
        get_config("llama")


@pytest.mark.parametrize(
    ("n_embd", "n_head", "nearest"), [(3, 64, 64), (100, 64, 128), (90, 64, 64), (160, 64, 128)]
)
def test_a_width_that_heads_do_not_divide_is_told_the_nearest(
    n_embd: int, n_head: int, nearest: int
) -> None:
    with pytest.raises(
        ConfigError, match=rf"multiple of n_head={n_head}, .*multiple: {nearest}\.$"
    ):
        GPTConfig(n_embd=n_embd, n_head=n_head)
