"""Configurations of every kind: which one a model takes, and what can be set in it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gptinit.errors import ConfigError, SubjectError
from gptinit.load.configuration import _nested
from gptinit.load.factory import Factory
from gptinit.load.python_file import code_factory

Load = Callable[..., Factory]

HEAD = "from dataclasses import dataclass, field\nfrom torch import nn\n"
MODEL = """
class GPT(nn.Module):
    def __init__(self, {argument}):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear({width}, {width}) for _ in range({depth}))
"""


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a `GPT` that reads its configuration in a certain way, below some text."""

    def loaded(text: str, read: str = "cfg.{}", argument: str = "cfg", **given: object) -> Factory:
        model = MODEL.format(
            argument=argument, width=read.format("n_embd"), depth=read.format("n_layers")
        )
        file = tmp_path / "model.py"
        file.write_text(HEAD + text + model, encoding="utf-8")
        return code_factory(file, "GPT", {k.replace("__", "."): v for k, v in given.items()})

    return loaded


def shape(factory: Factory) -> tuple[int, int]:
    """Number and width of the layers of a built `GPT`."""
    layers = factory.build().layers
    return len(layers), layers[0].in_features  # type: ignore[arg-type, index, union-attr]


# transformers 5 makes the base of every configuration a dataclass.
BASE = "@dataclass\nclass PretrainedConfig:\n    chunk_size: int = 0\n    tied: bool = True\n"
OWN_INIT = BASE + (
    "class MyConfig(PretrainedConfig):\n"
    "    def __init__(self, n_embd=4, n_layers=1, **kwargs):\n"
    "        self.n_embd, self.n_layers = n_embd, n_layers\n"
    "        self.n_heads = kwargs.pop('n_heads', 2)\n"
    "        super().__init__(**kwargs)\n"
)


def test_a_configuration_with_an_init_of_its_own_takes_the_settings_of_that(load: Load) -> None:
    # Defect 3: the fields of the dataclass that it inherits from were read instead.
    factory = load(OWN_INIT, argument="cfg: MyConfig", n_layers="3", n_embd=6)

    assert shape(factory) == (3, 6)
    assert (factory.n_layer, factory.n_embd, factory.n_head, factory.tied) == (3, 6, 2, True)


def test_what_goes_through_keywords_may_be_set_too(load: Load) -> None:
    factory = load(OWN_INIT, argument="cfg: MyConfig", n_head=4, tied="false")

    assert factory.name == "model.py:GPT, n_heads=4, tied=false"
    assert (factory.n_head, factory.tied) == (4, False)


def test_what_no_keyword_takes_is_refused(load: Load) -> None:
    with pytest.raises(ConfigError, match=r"must be one of chunk_size, .*, got 'n_headz'\. Did"):
        load(OWN_INIT, argument="cfg: MyConfig", n_headz=4)


def test_a_keyword_that_the_configuration_ignores_is_refused(load: Load) -> None:
    fixed = OWN_INIT.replace("kwargs.pop('n_heads', 2)", "2 if kwargs.pop('n_heads', 0) else 2")

    with pytest.raises(ConfigError, match=r"^n_heads must be a setting of MyConfig, which ignores"):
        load(fixed, argument="cfg: MyConfig", n_heads=4)


NODE = """
class Node:
    def __init__(self, **kwargs):
        self.__dict__.update(kwargs)
"""
DEFAULT = """
    @staticmethod
    def get_default_config():
        node = Node(model_type="gpt", n_layers=None, n_embd=None)
        node.optimizer = Node(lr=0.1)
        return node
"""


def test_the_default_configuration_of_a_model_takes_settings(tmp_path: Path) -> None:
    model = MODEL.format(argument="config", width="config.n_embd", depth="config.n_layers")
    file = tmp_path / "model.py"
    file.write_text(HEAD + NODE + model + DEFAULT, encoding="utf-8")

    factory = code_factory(
        file, "GPT", {"n_embd": "4", "config.n_layers": 2, "optimizer.lr": "0.5"}
    )

    assert shape(factory) == (2, 4)
    assert factory.settings == {
        "model_type": "gpt", "n_layers": 2, "n_embd": 4, "optimizer.lr": 0.5
    }  # fmt: skip


NESTED = """
@dataclass
class Size:
    n_layers: int = 1
    n_embd: int = 4
    @property
    def inner(self): return self.n_embd
@dataclass
class Config:
    model: Size{default}
    lr: float = 0.1
"""


@pytest.mark.parametrize("default", ["", " = field(default_factory=lambda: Size(1, 4))"])
@pytest.mark.parametrize("prefix", ["", "cfg__"])
def test_settings_inside_settings_have_dotted_names(load: Load, default: str, prefix: str) -> None:
    text = NESTED.format(default=default)

    factory = load(text, "cfg.model.{}", **{f"{prefix}model__n_layers": "3"})

    assert shape(factory) == (3, 4)
    assert factory.settings == {"model.n_layers": 3, "model.n_embd": 4, "lr": 0.1}


def test_a_default_object_keeps_what_is_not_set(load: Load) -> None:
    text = "@dataclass\nclass Config:\n    n_layers: int = 1\n    n_embd: int = 4\n"

    assert shape(load(text, argument="cfg=Config(2, 8)", n_layers=3)) == (3, 8)


DICTS = 'SMALL = {"n_layers": 1, "n_embd": 4, "rope": {"base": 10}}\nOTHER = {"lr": 1.0}\n'


def test_the_only_dict_that_has_the_keys_is_the_default(load: Load) -> None:
    factory = load(DICTS, 'cfg["{}"]', n_layers="2", cfg__rope__base="20")

    assert shape(factory) == (2, 4)
    assert factory.settings == {"n_layers": 2, "n_embd": 4, "rope.base": 20}


def test_a_dict_that_nobody_chose_is_named(load: Load) -> None:
    text = 'SMALL = {"n_embd": 4, "n_layers": 2}\n'

    (note,) = load(text, 'cfg["{}"]').notes()

    assert (note.kind, note.where) == ("engine", "config")
    assert note.message == (
        "cfg is SMALL, the only constant with what the model reads of it; --set cfg=NAME chooses "
        "another."
    )
    assert load(text, 'cfg["{}"]', cfg="SMALL").notes() == ()


def test_several_dicts_that_would_do_are_named_and_one_can_be_chosen(load: Load) -> None:
    text = DICTS + 'LARGE = {"n_layers": 2, "n_embd": 8}\n'

    message = (
        r"^model\.py:GPT must say which configuration it takes, got LARGE and SMALL\. "
        r"Use --set cfg=SMALL\.$"
    )
    with pytest.raises(SubjectError, match=message):
        load(text, 'cfg["{}"]')

    factory = load(text, 'cfg["{}"]', cfg="LARGE", n_embd=6)

    assert shape(factory) == (2, 6)
    assert factory.with_settings is not None
    assert shape(factory.with_settings({"n_layers": 3})) == (3, 6)


@pytest.mark.parametrize("read", ['cfg["{}"]', "cfg.{}"])
def test_a_key_that_nobody_gave_says_how_to_give_it(load: Load, read: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load("", read, n_embd=4).build()

    assert str(caught.value) == (
        "model.py:GPT must have a value for every key of cfg that it reads, got none for n_layers. "
        "Give --set n_layers=VALUE."
    )
    assert shape(load("", read, n_embd=4, cfg__n_layers="2")) == (2, 4)


def test_all_keys_that_the_file_reads_are_named_at_once(load: Load) -> None:
    part = 'class Block:\n    def __init__(self, cfg):\n        cfg["n_heads"]\n'

    with pytest.raises(ConfigError, match=r"VALUE\. It may read n_embd, n_heads too\.$"):
        load(part, 'cfg["{}"]').build()


def test_a_model_may_ask_what_is_given(load: Load) -> None:
    read = '(getattr(cfg, "{0}", 5) if hasattr(cfg, "other") else cfg.get("{0}", cfg.size))'

    assert shape(load("", read, size=3)) == (3, 3)


def test_a_plain_dtype_is_a_value(load: Load) -> None:
    text = 'SMALL = {"n_layers": 1, "n_embd": 4, "dtype": None}\n'
    read = '(cfg["{}"] if str(cfg["dtype"]) == "torch.bfloat16" else 0)'

    assert shape(load(text, read, dtype="torch.bfloat16")) == (1, 4)


def test_an_assertion_without_a_message_shows_what_it_asserts(load: Load) -> None:
    text = (
        "@dataclass\nclass Config:\n    n_layers: int = 1\n    n_embd: int = 4\n"
        "    def __post_init__(self):\n        assert self.n_embd % 4 == 0\n"
    )

    message = r"got AssertionError: assert self\.n_embd % 4 == 0 \(model\.py:8\)\.$"
    with pytest.raises(SubjectError, match=message):
        load(text, n_embd=6)


def test_keys_inside_keys_have_dotted_names(load: Load) -> None:
    # B2: `--set model.n_layers=4` for cfg["model"]["n_layers"].
    read = 'cfg["model"]["{}"]'

    assert shape(load("", read, model__n_layers=2, cfg__model__n_embd=4)) == (2, 4)
    assert shape(load("A = {'model': {'n_layers': 2, 'n_embd': 4}}\n", read)) == (2, 4)
    with pytest.raises(ConfigError) as caught:
        load("", read, model__n_layers=2).build()
    assert str(caught.value) == (
        "model.py:GPT must have a value for every key of cfg that it reads, got none for "
        "model.n_embd. Give --set model.n_embd=VALUE."
    )


TWO = "A = {'n_layers': 1, 'n_embd': 2}\nB = {'n_layers': 2, 'n_embd': 3}\n"


@pytest.mark.parametrize(
    ("text", "argument", "read", "known"),
    [
        (TWO, "cfg", "cfg['{}']", r"one of A, B, got 'C'\.$"),
        (
            "class D:\n    n_layers, n_embd = 1, 2\n",
            "cfg: D",
            "cfg.{}",
            r"a configuration of its file, got 'C'\. .* --set cfg\.n_layers=VALUE\.$",
        ),
    ],
)
def test_a_name_that_is_no_configuration_says_what_names_would_do(
    load: Load, text: str, argument: str, read: str, known: str
) -> None:
    # B3: the name itself was passed on, as a text.
    with pytest.raises(ConfigError, match=rf"^cfg of model\.py:GPT must be {known}"):
        load(text, read, argument, cfg="C")
    if text == TWO:
        factory = load(text, read, argument, cfg="B")
        assert (shape(factory), factory.name) == ((2, 3), "model.py:GPT, cfg=B")


def test_an_argument_that_no_class_of_the_file_fits_takes_what_is_given(load: Load) -> None:
    # B4: refused, whatever was given.
    classes = (
        "@dataclass\nclass Inner:\n    dim: int = 2\n@dataclass\nclass Outer:\n    up: int = 2\n"
    )

    assert shape(load(classes, n_layers=2, cfg__n_embd=4)) == (2, 4)


@pytest.mark.parametrize("name", ["args", "lab_args"])
def test_of_several_arguments_the_one_called_a_configuration_is_one(load: Load, name: str) -> None:
    given = {"vocab_size": 7, f"{name}__n_layers": 2, "n_embd": 3}
    factory = load("", f"{name}.{{}}", f"{name}, vocab_size", **given)

    assert shape(factory) == (2, 3)


@pytest.mark.parametrize("given", ["float32", "torch.float32"])
def test_a_dtype_may_be_named(load: Load, given: str) -> None:
    # It stayed a text, which torch refuses.
    config = "import torch\nCFG = {'n_layers': 1, 'n_embd': 2, 'dtype': torch.bfloat16}\n"

    factory = load(config, "(cfg['{}'], torch.empty(1, dtype=cfg['dtype']))[0]", dtype=given)

    assert shape(factory) == (1, 2)
    with pytest.raises(ConfigError, match=r"^dtype must be a dtype of torch, got 'float31'"):
        load(config, "cfg['{}']", dtype="float31")


@pytest.mark.parametrize(("level", "found"), [(3, {"inner": {"width"}}), (4, {})])
def test_settings_inside_settings_are_read_four_levels_deep(
    level: int, found: dict[str, set[str]]
) -> None:
    nested = _nested({"inner": {"width": 8}, "plain": 3, "empty": {}}, {}, level)

    assert {name: set(made.settings) for name, made in nested.items()} == found
