"""Models in files of somebody else: loaded unchanged, apart from each other, without a trace."""

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gptinit.errors import ConfigError, SubjectError
from gptinit.load.python_file import code_factory

MODELS = Path(__file__).resolve().parents[1] / "support" / "models"

Write = Callable[..., Path]

LINEAR = "from torch import nn\ndef make():\n    return nn.Linear(2, {width})\n"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes files into a folder of the test and returns the first."""

    def made(**files: str) -> Path:
        paths = [tmp_path / (name.replace("__SLASH__", "/") + ".py") for name in files]
        for path, text in zip(paths, files.values(), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return paths[0]

    return made


def test_a_model_file_in_a_style_of_its_own_loads_unchanged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    factory = code_factory(MODELS / "nano.py", "GPT", {"n_layer": "2", "init_std": 0.01})

    module = factory.build()

    assert factory.name == "nano.py:GPT, n_layer=2, init_std=0.01"
    assert factory.source == str(MODELS / "nano.py")
    assert len(module.transformer["h"]) == 2  # type: ignore[index]
    shape = (factory.n_layer, factory.n_head, factory.n_embd, factory.vocab_size)
    assert shape == (2, 4, 64, 96)
    assert factory.block_size == 64
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("parameters: 0.1")


def test_a_model_with_foreign_names_of_sizes_takes_ours_too() -> None:
    factory = code_factory(MODELS / "llama.py", "Transformer", {"n_layer": 2, "n_kv_head": 2})

    module = factory.build()

    assert factory.name == "llama.py:Transformer, n_layers=2, n_kv_heads=2"
    assert len(module.layers) == 2  # type: ignore[arg-type]
    assert module.layers[0].attention.wk.weight.shape == (32, 64)  # type: ignore[index, union-attr]
    assert (factory.n_layer, factory.n_kv_head, factory.block_size) == (2, 2, 64)
    assert factory.settings["hidden_dim"] is None


@pytest.mark.parametrize(("file", "name"), [("nano.py", "GPT"), ("llama.py", "Transformer")])
def test_the_model_that_no_other_class_is_made_of_needs_no_name(file: str, name: str) -> None:
    assert code_factory(MODELS / file, None, {}).name == f"{file}:{name}"


def test_several_models_without_a_name_are_listed(write: Write) -> None:
    file = write(
        model="from torch import nn\nclass A(nn.Module): ...\nclass B(nn.Module): ...\n"
        "class C(nn.Linear): ...\n"
    )

    message = r"model\.py must be given with the name of its model, got several: A, B, C\."
    with pytest.raises(SubjectError, match=message):
        code_factory(file, None, {})


def test_a_file_without_a_model_says_so(write: Write) -> None:
    with pytest.raises(SubjectError, match="got no model class in it"):
        code_factory(write(model="x = 1\n"), None, {})


def test_a_file_without_the_name_says_what_it_has(write: Write) -> None:
    file = write(
        model="from torch import nn\nclass GPT(nn.Module): ...\n"
        "def make_gpt(): ...\ndef helper(x): ...\ndef _hidden(): ...\n"
    )

    message = r"^model\.py must define 'GTP', got only GPT, make_gpt\. Did you mean GPT\?$"
    with pytest.raises(SubjectError, match=message):
        code_factory(file, "GTP", {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model = 3\n", "an object of type int"),
        ("from torch import nn\nmodel = nn.Linear(2, 2)\n", "an object of type Linear"),
    ],
)
def test_a_name_that_cannot_build_is_refused(write: Write, text: str, told: str) -> None:
    message = f"model.py:model must be a model class or a function that returns a model, got {told}"
    with pytest.raises(SubjectError, match=message):
        code_factory(write(model=text), "model", {})


def test_a_class_that_is_no_module_is_refused(write: Write) -> None:
    factory = code_factory(write(model="class GPT: ...\n"), "GPT", {})

    with pytest.raises(SubjectError, match=r"must build a torch\.nn\.Module, got an object of"):
        factory.build()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model must be a file that exists, got '.*model\.py'"):
        code_factory(tmp_path / "model.py", "GPT", {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1\nraise ValueError('bad')\n", "ValueError: bad (model.py:2)"),
        ("import sys\nif 1: sys.exit('usage')\n", "SystemExit: usage (model.py:2)"),
        ("x = (\n", "SyntaxError: '(' was never closed (model.py:1)"),
        ("assert 1 + 1 == 3\n", "AssertionError: assert 1 + 1 == 3 (model.py:1)"),
        ("raise ImportError('build it first')\n", "ImportError: build it first (model.py:1)"),
    ],
)
def test_a_file_that_fails_is_told_in_one_line(write: Write, text: str, told: str) -> None:
    with pytest.raises(SubjectError) as caught:
        code_factory(write(model=text), "GPT", {})

    assert str(caught.value) == f"model.py must load without an error, got {told}."
    assert "model" not in sys.modules


def test_a_file_that_is_no_text_is_told_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_bytes(b"\xff\x00\x01")

    with pytest.raises(SubjectError, match=r"^model.py must load without an error, got .*$"):
        code_factory(file, "GPT", {})


def test_a_factory_that_raises_shows_its_own_message(write: Write) -> None:
    text = "def make():\n    raise RuntimeError('width must\\ndivide')\n"

    factory = code_factory(write(model=text), "make", {})

    with pytest.raises(SubjectError) as caught:
        factory.build()
    assert str(caught.value) == (
        "model.py:make must build without an error, "
        "got RuntimeError: width must divide (model.py:2)."
    )


def test_a_configuration_that_refuses_a_value_shows_its_own_message(write: Write) -> None:
    text = (
        "from dataclasses import dataclass\nfrom torch import nn\n"
        "@dataclass\nclass Config:\n    n_head: int = 2\n"
        "    def __post_init__(self):\n        assert self.n_head != 3, 'not three'\n"
        "class GPT(nn.Module):\n    def __init__(self, config):\n        super().__init__()\n"
    )

    with pytest.raises(SubjectError, match=r"AssertionError: not three \(model\.py:7\)"):
        code_factory(write(model=text), "GPT", {"n_head": 3})


def test_siblings_are_importable_while_loading_and_while_building(write: Write) -> None:
    file = write(
        model="from parts import width\ndef make():\n    from later import linear\n"
        "    return linear(width)\n",
        parts="width = 5\n",
        later="from torch import nn\ndef linear(n):\n    return nn.Linear(2, n)\n",
    )
    path = list(sys.path)

    factory = code_factory(file, "make", {})

    assert factory.build().weight.shape == (5, 2)
    assert factory.build().weight.shape == (5, 2)
    assert sys.path == path
    assert not {"model", "parts", "later"} & sys.modules.keys()


def test_files_and_siblings_of_equal_names_in_two_folders_do_not_collide(write: Write) -> None:
    made = {"model": "from parts import make\n", "parts": LINEAR}
    files = [
        write(**{f"{f}__SLASH__{k}": t.format(width=w) for k, t in made.items()})
        for f, w in (("one", 3), ("two", 4))
    ]

    factories = [code_factory(file, "make", {}) for file in files]

    widths = [factory.build().out_features for factory in (*factories, *factories)]
    assert widths == [3, 4, 3, 4]


def test_modules_of_the_caller_are_neither_used_nor_lost(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(mine__SLASH__parts="width = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    monkeypatch.delitem(sys.modules, "parts", raising=False)
    theirs = __import__("parts")
    text = "from parts import width\n" + LINEAR.format(width="width")
    file = write(two__SLASH__model=text, two__SLASH__parts="width = 7\n")

    module = code_factory(file, "make", {}).build()

    assert module.out_features == 7
    assert sys.modules["parts"] is theirs


def test_a_file_named_like_an_installed_module_does_not_replace_it(write: Write) -> None:
    factory = code_factory(write(random=LINEAR.format(width=3)), "make", {})

    assert factory.build().out_features == 3
    assert sys.modules["random"] is random


@pytest.mark.parametrize("package", [False, True])
def test_relative_imports_work_in_packages_and_plain_folders(write: Write, package: bool) -> None:
    files = {
        "lab__SLASH__gpt__SLASH__model": (
            "from ..shape import width\nfrom .parts import linear\n"
            "def make():\n    return linear(width)\n"
        ),
        "lab__SLASH__gpt__SLASH__parts": (
            "from torch import nn\ndef linear(n):\n    return nn.Linear(2, n)\n"
        ),
        "lab__SLASH__shape": "width = 6\n",
    }
    inits = {"lab__SLASH____init__": "", "lab__SLASH__gpt__SLASH____init__": ""}

    factory = code_factory(write(**files, **(inits if package else {})), "make", {})

    assert factory.build().out_features == 6
    assert not any(name.partition(".")[0] == "lab" for name in sys.modules)


def test_a_package_may_import_itself_by_its_name(write: Write) -> None:
    file = write(
        lab__SLASH__model="from lab.shape import width\nfrom torch import nn\n"
        "def make():\n    return nn.Linear(2, width)\n",
        lab__SLASH__shape="width = 6\n",
        lab__SLASH____init__="from .model import make\n",
    )

    assert code_factory(file, "make", {}).build().out_features == 6


def test_a_sibling_that_imports_the_model_gets_the_same_class(write: Write) -> None:
    file = write(
        model="from torch import nn\nclass Base(nn.Module): ...\n"
        "def make():\n    from train import check\n    return check(Base())\n",
        train="from model import Base\ndef check(m):\n    assert isinstance(m, Base)\n"
        "    return m\n",
    )

    assert type(code_factory(file, "make", {}).build()).__name__ == "Base"


def test_a_file_never_sees_our_arguments(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gptinit", "audit", "--scheme=nanogpt"])
    text = "import sys\nfor arg in sys.argv[1:]:\n    raise ValueError(arg)\n" + LINEAR

    file = write(model=text.format(width=2))
    factory = code_factory(file, "make", {})

    assert factory.build().out_features == 2
    assert sys.argv[1:] == ["audit", "--scheme=nanogpt"]


def test_loading_leaves_nothing_behind(
    write: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = (
        "import os, random, torch\nprint('loading')\ntorch.manual_seed(1)\nrandom.seed(1)\n"
        "os.chdir('/')\ntorch.set_default_dtype(torch.float64)\n" + LINEAR.format(width=2)
    )
    file = write(model=text)
    state, mine, folder = torch.get_rng_state(), random.getstate(), Path.cwd()

    code_factory(file, "make", {})

    assert capsys.readouterr() == ("", "loading\n")
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == mine
    assert Path.cwd() == folder
    assert torch.get_default_dtype() == torch.float32
    assert os.listdir(tmp_path) == ["model.py"]  # noqa: PTH208 # no __pycache__ either


def test_a_relative_path_is_still_found_after_the_folder_changed(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(
        model="def make():\n    from parts import linear\n    return linear()\n",
        parts="from torch import nn\ndef linear():\n    return nn.Linear(2, 3)\n",
    )
    monkeypatch.chdir(tmp_path)
    factory = code_factory("model.py", "make", {})

    monkeypatch.chdir("/")

    assert factory.build().out_features == 3


CONFIGS = {
    "fields": (
        "from dataclasses import dataclass\n@dataclass\nclass GPTConfig:\n"
        "    n_embd: int = 4\n    std: float = 0.02\n"
    ),
    "arguments": (
        "class GPTConfig:\n    def __init__(self, n_embd=4, std=0.02):\n"
        "        self.n_embd, self.std = n_embd, std\n"
    ),
    "attributes": "class GPTConfig:\n    n_embd = 4\n    std = 0.02\n",
    "late annotations": (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass GPTConfig:\n    n_embd: int = 4\n    std: float = 0.02\n"
    ),
}
MODEL = (
    "from torch import nn\nclass GPT(nn.Module):\n    def __init__(self, {argument}):\n"
    "        super().__init__()\n        self.head = nn.Linear(config.n_embd, 2)\n"
    "        nn.init.constant_(self.head.weight, config.std)\n"
)


@pytest.mark.parametrize("argument", ["config", "config: GPTConfig", "config: 'GPTConfig'"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_configurations_of_every_kind_take_settings(
    write: Write, config: str, argument: str
) -> None:
    file = write(model=config + MODEL.format(argument=argument))

    factory = code_factory(file, "GPT", {"n_embd": "8", "std": "0.5"})

    weight = factory.build().head.weight  # type: ignore[union-attr]
    assert weight.shape == (2, 8)
    assert (weight == 0.5).all()  # type: ignore[union-attr]
    assert factory.settings == {"n_embd": 8, "std": 0.5}


def test_a_default_that_is_a_configuration_takes_settings(write: Write) -> None:
    text = CONFIGS["fields"] + MODEL.format(argument="config=GPTConfig()")

    assert code_factory(write(model=text), "GPT", {"n_embd": 8}).n_embd == 8


def test_the_configuration_named_after_the_model_is_its_own(write: Write) -> None:
    other = "@dataclass\nclass TrainConfig:\n    steps: int = 1\n"
    text = CONFIGS["fields"] + other + MODEL.format(argument="config")

    assert code_factory(write(model=text), "GPT", {}).settings == {"n_embd": 4, "std": 0.02}


def test_several_configurations_that_would_do_are_named(write: Write) -> None:
    other = "@dataclass\nclass TrainConfig(ModelConfig):\n    steps: int = 1\n"
    text = CONFIGS["fields"].replace("GPT", "Model") + other + MODEL.format(argument="config")

    message = (
        r"^model\.py:GPT must say which configuration it takes, got ModelConfig and TrainConfig\. "
        r"Annotate its argument 'config'\.$"
    )
    with pytest.raises(SubjectError, match=message):
        code_factory(write(model=text), "GPT", {})


def test_of_several_configurations_the_one_that_has_all_that_is_read_is_taken(write: Write) -> None:
    other = "@dataclass\nclass TrainConfig:\n    n_embd: int = 1\n"
    text = CONFIGS["fields"].replace("GPT", "Model") + other + MODEL.format(argument="config")

    assert code_factory(write(model=text), "GPT", {}).settings == {"n_embd": 4, "std": 0.02}


def test_an_imported_configuration_is_found(write: Write) -> None:
    text = "from shape import GPTConfig\n" + MODEL.format(argument="config")

    factory = code_factory(write(model=text, shape=CONFIGS["fields"]), "GPT", {"n_embd": 8})

    assert factory.build().head.in_features == 8  # type: ignore[union-attr]


def test_a_field_without_a_value_is_named(write: Write) -> None:
    text = CONFIGS["fields"].replace("n_embd: int = 4", "n_embd: int")
    file = write(model=text + MODEL.format(argument="config"))

    message = r"must have a value for every setting, got no value for n_embd\. Use --set n_embd="
    with pytest.raises(ConfigError, match=message):
        code_factory(file, "GPT", {})

    assert code_factory(file, "GPT", {"n_embd": 8}).n_embd == 8


def test_an_unknown_setting_of_a_file_lists_its_fields() -> None:
    message = (
        "setting of nano.py:GPT must be one of bias, block_size, .*, got 'n_layr'. "
        "Did you mean n_layer"
    )
    with pytest.raises(ConfigError, match=message):
        code_factory(MODELS / "nano.py", "GPT", {"n_layr": 2})


def test_keywords_of_a_function_take_settings(write: Write) -> None:
    text = "from torch.nn import Linear\ndef make(width=3, bias=True):\n    return "
    text += "Linear(2, width, bias)\n"

    module = code_factory(write(model=text), "make", {"width": 4, "bias": "false"}).build()

    assert module.out_features == 4
    assert module.bias is None


def test_a_module_of_the_working_folder_is_found(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(a_lab_of_tests__SLASH__zoo=LINEAR.format(width=3), a_lab_of_tests__SLASH____init__="")
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)

    factory = code_factory("a_lab_of_tests.zoo", "make", {})

    assert factory.build().out_features == 3
    assert (factory.name, factory.source) == (
        "a_lab_of_tests.zoo:make",
        "module a_lab_of_tests.zoo",
    )
    assert sys.path == path
    assert "a_lab_of_tests" not in sys.modules


def test_a_class_of_an_installed_module_takes_settings() -> None:
    factory = code_factory("torch.nn", "Linear", {"in_features": 3, "out_features": "4"})

    assert factory.build().weight.shape == (4, 3)


@pytest.mark.parametrize("module", ["nowhere_to_be_found", "torch.nowhere_to_be_found"])
def test_a_module_that_does_not_exist_is_named(module: str) -> None:
    message = f"model must be a module that can be imported, got '{module}'"
    with pytest.raises(ConfigError, match=message):
        code_factory(module, "GPT", {})


def test_a_module_that_needs_another_one_says_which(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(a_needy_module="import nowhere_to_be_found\n")
    monkeypatch.chdir(tmp_path)

    message = r"got none named nowhere_to_be_found \(a_needy_module\.py:1\)\. Install .*--stub now"
    with pytest.raises(SubjectError, match=message):
        code_factory("a_needy_module", "GPT", {})


@pytest.mark.parametrize(("file", "name"), [("nano.py", "GPT"), ("llama.py", "Transformer")])
def test_the_models_of_these_tests_run(file: str, name: str) -> None:
    module = code_factory(MODELS / file, name, {}).build()
    tokens = torch.arange(12).reshape(2, 6)

    told, trained = module(tokens), module(tokens, tokens)

    last, every = (r[0] if isinstance(r, tuple) else r for r in (told, trained))
    assert last.shape == (2, 1, 96)
    assert every.shape == (2, 6, 96)
    # The same weights and tokens: only the order of sums differs between one row and six.
    torch.testing.assert_close(last[:, 0], every[:, -1])
