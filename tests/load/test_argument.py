"""What a MODEL argument can be."""

from pathlib import Path

import pytest

from gptinit.errors import ConfigError, SubjectError
from gptinit.load.argument import find_factory

MODELS = Path(__file__).resolve().parents[1] / "support" / "models"


def test_a_file_with_a_name_is_found() -> None:
    factory = find_factory(f"{MODELS}/nano.py:GPT", {"n_layer": 1})

    assert factory.name == "nano.py:GPT, n_layer=1"
    assert factory.n_layer == 1


def test_a_file_alone_is_found() -> None:
    assert find_factory(f"{MODELS}/llama.py").name == "llama.py:Transformer"


def test_a_module_with_a_name_is_found() -> None:
    factory = find_factory("torch.nn:Linear", {"in_features": 2, "out_features": 2})

    assert factory.source == "module torch.nn"


def test_a_file_without_the_usual_ending_is_told_by_its_being_there(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("x = 1\n", encoding="utf-8")

    with pytest.raises(ConfigError, match=r"model must be a Python file ending in \.py"):
        find_factory(f"{tmp_path}/model:GPT")


@pytest.mark.parametrize(
    "model", ["gpt5", "org/model", "model.py:", ":GPT", "a/b:GPT", "", "a-b:G"]
)
def test_what_is_no_model_says_what_one_can_be(model: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_factory(model)

    told = str(caught.value)
    assert told.startswith("model must be a preset (gpt2, ")
    assert f"got {model!r}. Nothing is downloaded" in told
    assert all(
        word in told for word in ("path/model.py:NAME", "package.module:NAME", "config.json")
    )


@pytest.mark.parametrize("model", ["missing.py", "missing.py:GPT", "missing.json"])
def test_a_missing_file_is_an_error_of_its_own(model: str) -> None:
    with pytest.raises(ConfigError, match=r"model must be a file that exists, got 'missing\..*'"):
        find_factory(model)


def test_a_name_that_is_not_in_the_file_is_told() -> None:
    with pytest.raises(SubjectError, match=r"nano\.py must define 'GTP', got only .*GPT"):
        find_factory(f"{MODELS}/nano.py:GTP")
