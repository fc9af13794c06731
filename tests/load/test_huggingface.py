"""Lists with an entry per layer follow the number of layers; a stand-in takes transformers' place.

Tests with the library itself are in tests/hf.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from torch import nn

from gptinit.errors import SubjectError
from gptinit.load.huggingface import (
    _builder,
    _entries_of_sizes,
    _scalars,
    huggingface_factory,
)


class Config:
    """A config that keeps whatever it is given; four layers and four heads unless it says so."""

    attribute_map = {"num_hidden_layers": "n_layer"}  # noqa: RUF012 # as transformers has it
    architectures: tuple[str, ...] | None = None

    def __init__(self, entries: dict[str, Any]) -> None:
        self.entries = {"n_layer": 4, "n_head": 4, **entries}

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> "Config":
        """A config of these entries."""
        return cls(entries)

    def to_dict(self) -> dict[str, Any]:
        """Its entries, defaults too."""
        return self.entries

    def get_text_config(self) -> "Config":
        """Itself: it has no other part."""
        return self


class Auto:
    """The class that builds a model: a module that keeps its config."""

    _model_mapping = frozenset({Config})

    @staticmethod
    def from_config(config: Config, **_: object) -> nn.Module:
        """A module that keeps the config."""
        made = nn.Module()
        made.config = config  # type: ignore[assignment] # as transformers' models do
        return made


Entries = Callable[..., dict[str, Any]]


@pytest.fixture
def built_with(tmp_path: Path) -> Iterator[Entries]:
    """What the entries of a config are when its model is built with a number of layers."""
    library: Any = ModuleType("transformers")
    library.__version__, library.CONFIG_MAPPING = "0", {"small": Config}
    library.AutoModelForCausalLM = Auto
    file = tmp_path / "config.json"

    def built(overrides: dict[str, object], **entries: object) -> dict[str, Any]:
        file.write_text(json.dumps({"model_type": "small", **entries}), encoding="utf-8")
        config: Any = huggingface_factory(file, overrides).build().config
        found: dict[str, Any] = config.entries
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "transformers", library)
        yield built


@pytest.mark.parametrize(
    ("before", "n_layer", "after"),
    [
        ("abcd", 1, "a"),
        ("abcd", 3, "abc"),
        ("abcd", 4, "abcd"),
        ("abcd", 5, "abcda"),
        ("abcd", 8, "abcdabcd"),
        ("abcd", 10, "abcdabcdab"),
        ("aabb", 6, "aabbaa"),
    ],
)
def test_a_list_of_layers_is_cut_or_starts_again_from_its_first_entry(
    built_with: Entries, before: str, n_layer: int, after: str
) -> None:
    entries = built_with({"n_layer": n_layer}, layer_types=list(before))

    assert entries["layer_types"] == list(after)
    assert entries["n_layer"] == n_layer


def test_every_list_of_layers_follows_and_no_other_entry_does(built_with: Entries) -> None:
    kept = {"longer": [1, 2, 3, 4, 5], "shorter": [1, 2, 3], "none": [], "text": "abcd"}

    entries = built_with({"n_layer": 6}, one=[1, 2, 3, 4], two=["a", "b", "c", "d"], **kept)

    assert entries["one"] == [1, 2, 3, 4, 1, 2]
    assert entries["two"] == ["a", "b", "c", "d", "a", "b"]
    assert {name: entries[name] for name in kept} == kept


@pytest.mark.parametrize("name", ["n_layer", "num_hidden_layers"])
def test_lists_follow_the_number_of_layers_under_each_of_its_names(
    built_with: Entries, name: str
) -> None:
    entries = built_with({name: 3}, n_layer=2, layer_types=["a", "b"])

    assert entries["layer_types"] == ["a", "b", "a"]


def test_lists_do_not_follow_another_setting_of_the_same_value(built_with: Entries) -> None:
    assert built_with({"n_head": 2}, layer_types=list("abcd"))["layer_types"] == list("abcd")


def test_an_empty_list_of_a_model_without_layers_stays_empty(built_with: Entries) -> None:
    assert built_with({"n_layer": 2}, n_layer=0, layer_types=[])["layer_types"] == []


def test_a_setting_of_a_nested_config_is_changed_in_its_place(built_with: Entries) -> None:
    nested = {"hidden_size": 8, "n_head": 2}

    entries = built_with({"text_config.hidden_size": "16"}, text_config=nested, hidden_size=4)

    assert entries["text_config"] == {"hidden_size": 16, "n_head": 2}
    assert entries["hidden_size"] == 4
    assert nested["hidden_size"] == 8


def test_settings_are_the_plain_entries_of_a_config_and_of_those_within_it() -> None:
    config = Config({
        "std": 0.02, "bias": True, "name": "gelu", "none": None, "sizes": [1, 2],
        "model_type": "small", "transformers_version": "5", "_name_or_path": "x",
        "id2label": {"0": "LABEL_0"}, "text_config": {"model_type": "a", "width": 8},
    })  # fmt: skip

    assert _scalars(config) == {
        "n_layer": 4, "n_head": 4, "std": 0.02, "bias": True, "name": "gelu", "none": None,
        "text_config.width": 8,
    }  # fmt: skip


class Decoding(Config):
    """A config with an encoder too: which text is meant must be said."""

    num_hidden_layers = 3

    def get_text_config(self, *, decoder: bool | None = None) -> Config:
        """The decoder's part."""
        if decoder is not True:
            raise ValueError
        return self


def test_sizes_are_those_of_the_decoder_under_their_usual_names_too() -> None:
    found = _entries_of_sizes(Decoding({"sizes": [1]}), {"n_head": 7, "kept": 5})

    assert found == {"n_head": 4, "kept": 5, "n_layer": 4, "num_hidden_layers": 3}


def test_a_model_class_that_a_config_names_builds_it_where_no_auto_class_does() -> None:
    class Other(Config):
        architectures = ("gone", "version", "Named")
        model_type = "other"

    named = type("Named", (), {"_from_config": staticmethod(lambda config: config)})
    library: Any = SimpleNamespace(__version__="5", AutoModelForCausalLM=Auto, version="5")
    file, config = Path("config.json"), Other({})

    with pytest.raises(SubjectError, match=r"got model_type 'other'\. transformers 5 has no model"):
        _builder(library, file, config)
    library.Named = named
    assert _builder(library, file, config)(config) is config
    assert isinstance(_builder(library, file, Config({}))(Config({})), nn.Module)
