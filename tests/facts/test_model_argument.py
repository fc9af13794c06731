"""What the text of a MODEL argument names."""

from pathlib import Path

import pytest

from gptinit.errors import ConfigError
from gptinit.facts.model_argument import Code, ModelArgument, Preset, read_model_argument
from gptinit.facts.presets import PRESETS


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        *((name, Preset(name)) for name in PRESETS),
        ("gtp2", Preset("gtp2")),  # a misspelt preset is refused as one
        ("model.py:GPT", Code("model.py:GPT")),
        ("package.module:GPT", Code("package.module:GPT")),
        ("model.py", Code("model.py")),
        ("gpt5.py", Code("gpt5.py")),
        ("config.json", Code("config.json")),
        ("some/folder", Code("some/folder")),
        ("tests", Code("tests")),  # a folder that is there
    ],
)
def test_a_name_that_is_no_path_and_no_code_is_meant_as_a_preset(
    model: str, expected: ModelArgument, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tests").mkdir()
    monkeypatch.chdir(tmp_path)

    assert read_model_argument(model) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("true", True), ("False", False), ("gelu", "gelu"), ("1.5", "1.5")],
)
def test_settings_of_a_preset_are_typed_and_those_of_code_stay_texts(
    text: str, value: object
) -> None:
    found = Preset("gpt2").read_setting("n_layer", text)

    assert found == value
    assert type(found) is type(value)
    assert Code("m.py:GPT").read_setting("n_layer", text) == text


def test_a_preset_knows_its_fields_and_code_is_not_asked() -> None:
    with pytest.raises(ConfigError, match=r"--set key must be .*'n_lyer'\. Did you mean n_layer"):
        Preset("gpt2").read_setting("n_lyer", "3")
    assert Code("m.py:GPT").read_setting("n_lyer", "3") == "3"


def test_only_a_preset_has_a_shape_and_an_init_before_it_is_built() -> None:
    preset, code = Preset("gpt2"), Code("m.py:GPT")

    shape = preset.config({"n_layer": 3})
    assert (shape.n_layer, shape.n_embd) == (3, 768)
    assert preset.drawn_by("plain") == "plain"
    assert code.config({"n_layer": 3}) is None
    assert code.drawn_by("plain") is None
