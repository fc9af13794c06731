"""Stand-ins for modules that are missing: inert while a file loads, spoken of where they matter."""

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gptinit.errors import ConfigError, SubjectError
from gptinit.load.argument import find_factory
from gptinit.load.factory import Factory
from gptinit.load.stand_in import StandIn
from gptinit.load.stand_ins import StandIns

Load = Callable[..., Factory]

EVERY_USE = """
from __future__ import annotations
import flashy_attn
import flashy_attn.ops.triton as ops
from flashy_attn import attend, Missing
from flashy_attn.layers import Norm as FlashyNorm
from dataclasses import dataclass, field
from typing import Generic, Optional, TypeVar, Union
from torch import nn

T = TypeVar("T")
logger = flashy_attn.get_logger(__name__)
BLOCK = flashy_attn.next_power(128) * 2
Mask = Union[nn.Module, flashy_attn.Mask]

if flashy_attn.__version__ >= "2.0" and flashy_attn.is_available():
    raise RuntimeError("a stand-in has nothing")

@flashy_attn.jit
def kernel(x, size: ops.constexpr = BLOCK):
    return x

@flashy_attn.autotune(configs=[flashy_attn.Config({"a": 1}), -flashy_attn.x], key=["n"])
def tuned(x): return x

class Function(flashy_attn.Function, Generic[T]):
    pass

class Mixed(flashy_attn.Mixin, nn.Linear):
    def __init__(self): super().__init__(2, 2)

@dataclass
class Args(flashy_attn.Serializable):
    width: int = 4
    mask: Optional[ops.Mask] = None

@flashy_attn.typed
class Model(nn.Module):
    def __init__(self, args: Args):
        super().__init__()
        self.head = nn.Linear(args.width, 2)
        self.side = Mixed()
        assert not isinstance(self.head, flashy_attn.Layer)
        assert kernel(3) == 3
"""


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads `Model` of a file with some stand-ins."""

    def loaded(text: str, *stubs: str, **settings: object) -> Factory:
        file = tmp_path / "model.py"
        file.write_text(text, encoding="utf-8")
        return find_factory(f"{file}:Model", settings, stubs=stubs)

    return loaded


def test_every_use_at_import_is_inert(load: Load) -> None:
    factory = load(EVERY_USE, "flashy_attn", width=8)

    assert factory.build().head.in_features == 8  # type: ignore[union-attr]
    (note,) = factory.notes()
    assert (note.kind, note.where) == ("engine", "stub")
    assert note.message == (
        "Stand-ins were imported for flashy_attn: used by neither the init nor the forward pass."
    )
    assert "flashy_attn" not in sys.modules


def test_a_stand_in_that_nothing_imports_is_told(load: Load) -> None:
    text = "import flashy_attn\nfrom torch import nn\nclass Model(nn.ReLU):\n    pass\n"
    factory = load(text, "flashy_attn.ops", "flashy_attn", "unheard_of")

    assert [note.message.partition(":")[0] for note in factory.notes()] == [
        "Stand-ins were imported for flashy_attn",
        "Nothing imports flashy_attn.ops, unheard_of",
    ]


def test_without_a_stand_in_nothing_is_said(load: Load) -> None:
    text = "from torch import nn\nclass Model(nn.ReLU):\n    pass\n"

    assert load(text).notes() == ()


MISSING = """
import os, nowhere_a, nowhere_b.part as part
from nowhere_c import x
try:
    import nowhere_optional
except ImportError:
    nowhere_optional = None
import parts
def late():
    import nowhere_late
"""


def test_the_error_names_all_modules_that_are_missing_and_how_to_go_on(
    load: Load, tmp_path: Path
) -> None:
    (tmp_path / "parts.py").write_text("from nowhere_d.more import y\n", encoding="utf-8")

    with pytest.raises(SubjectError) as caught:
        load(MISSING, "nowhere_c")

    assert str(caught.value) == (
        "model.py must import modules that are installed, got none named nowhere_a, nowhere_b, "
        "nowhere_d (model.py:2). Install what the model needs, and add "
        "--stub nowhere_a,nowhere_b,nowhere_d for what it does not."
    )


USED = """
import wandy
from torch import nn
class Model(nn.Module):
    def __init__(self, width=2):
        super().__init__()
        wandy.watch(self)
        self.norm = wandy.layers.Norm(width)
        self.head = nn.Linear({width}, 2)
"""


def test_what_the_init_used_is_noted(load: Load) -> None:
    factory = load(USED.format(width="width"), "wandy")

    factory.build()

    (note,) = factory.notes()
    assert note.kind == "approximate"
    assert "the model used wandy.watch(), wandy.layers.Norm(), which did nothing" in note.message


@pytest.mark.parametrize(
    ("width", "needed"),
    [
        ("wandy.width", "wandy.width"),
        ("wandy.size(3) * 2", "wandy.size()"),
        ("int(wandy.width)", "wandy.width"),
        ("len(wandy.sizes)", "wandy.sizes"),
        ("[w for w in wandy.sizes]", "wandy.sizes"),
    ],
)
def test_a_value_that_only_the_real_module_has_is_an_error_that_names_it(
    load: Load, width: str, needed: str
) -> None:
    factory = load(USED.format(width=width), "wandy")

    with pytest.raises(SubjectError) as caught:
        factory.build()

    assert str(caught.value) == (
        f"{needed} must have a value here, got the stand-in of --stub: the model computes with it. "
        "Install wandy, or name a function that builds the model without it."
    )


def test_a_stand_in_in_a_computation_is_named() -> None:
    stand_in: Any = StandIn(StandIns(names=("flashy",)), "flashy.attend()")

    with pytest.raises(SubjectError, match=r"^flashy\.attend\(\) must have a value here"):
        torch.ones(2) + stand_in
    with pytest.raises(SubjectError, match=r"^flashy\.attend\(\) must have a value here"):
        torch.cat([torch.ones(2), stand_in])


def test_a_model_on_a_framework_that_is_missing_is_a_module(load: Load) -> None:
    text = (
        "import lightly as L\nfrom torch import nn\nclass Model(L.LightlyModule):\n"
        "    def __init__(self):\n        super().__init__()\n        self.head = nn.Linear(2, 2)\n"
    )

    factory = load(text, "lightly")

    assert isinstance(factory.build(), nn.Module)
    assert "lightly.LightlyModule" in factory.notes()[0].message


@pytest.mark.parametrize(
    "line", ["from .gone import x", "from . import gone", "from lab import gone"]
)
def test_a_part_of_a_package_may_be_stood_in_for(tmp_path: Path, line: str) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    (lab / "__init__.py").touch()
    text = f"{line}\nfrom torch import nn\ndef make():\n    return nn.Linear(2, 2)\n"
    (lab / "model.py").write_text(text, encoding="utf-8")

    with pytest.raises(SubjectError, match=r"got none named lab\.gone .*add --stub lab\.gone for"):
        find_factory(f"{lab}/model.py:make")

    assert find_factory(f"{lab}/model.py:make", stubs=["lab.gone"]).build()


def test_a_file_of_kernels_that_cannot_load_here_may_be_stood_in_for(
    load: Load, tmp_path: Path
) -> None:
    (tmp_path / "kernels.py").write_text("raise RuntimeError('no GPU')\n", encoding="utf-8")
    text = "from kernels import fused\nfrom torch import nn\nclass Model(nn.Linear):\n    pass\n"

    with pytest.raises(SubjectError) as caught:
        load(text)

    assert str(caught.value) == (
        "model.py must load without an error, got RuntimeError: no GPU (kernels.py:1). If the "
        "model does not need kernels, add --stub kernels."
    )
    assert load(text, "kernels", in_features=2, out_features=2).build()


def test_installed_packages_never_see_a_stand_in(load: Load) -> None:
    # torch looks for numpy by importing it: a stand-in would not have numpy's arrays.
    text = (
        "import numpy, torch\nfrom torch import nn\nassert torch.ones(2).numpy().sum() == 2\n"
        "class Model(nn.Linear):\n    pass\n"
    )

    load(text, "numpy", in_features=2, out_features=2).build()


def test_names_may_be_listed_with_commas() -> None:
    assert StandIns.of(["a,b.c", "a"]).names == ("a", "b.c")


def test_a_config_takes_no_stand_in(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^stub cannot be used with a config, got triton for "):
        find_factory(str(tmp_path), stubs=["triton"])


def test_an_import_that_fails_while_the_model_is_built_says_what_to_do(load: Load) -> None:
    text = "from torch import nn\nclass Model(nn.Module):\n    def __init__(self):\n"
    text += "        super().__init__()\n        import nowhere_late.part\n"

    with pytest.raises(SubjectError) as caught:
        load(text).build()

    assert str(caught.value) == (
        "model.py:Model must build without an error, got ModuleNotFoundError: No module named "
        "'nowhere_late' (model.py:5). Install what the model needs, and add --stub nowhere_late "
        "for what it does not."
    )
    assert load(text, "nowhere_late").build()


PACKAGE = {
    "__init__.py": "from an_installed_zoo.model import make\n",
    "model.py": "from torch import nn\nimport nowhere_a.kernels\nfrom . import optional, stern\n"
    "if optional.nowhere_b or stern.nowhere_c.version < 2: raise ValueError\n"
    "def make():\n    return nn.Linear(2, 2)\n",
    "optional.py": "try:\n    from . import deep\n    nowhere_b = deep\n"
    "except ImportError:\n    nowhere_b = None\n",
    "deep.py": "import nowhere_b\n",
    "stern.py": "try:\n    import nowhere_c\nexcept ImportError as error:\n"
    "    raise RuntimeError('pip install nowhere_c') from error\n",
}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package as an installer leaves it, with imports of modules that are not there."""
    package = tmp_path / "site-packages" / "an_installed_zoo"
    package.mkdir(parents=True)
    for name, text in PACKAGE.items():
        (package / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    "text", ["from an_installed_zoo import make\n", "def make():\n    import an_installed_zoo\n"]
)
def test_what_an_installed_package_lacks_is_offered(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.py").write_text(text, encoding="utf-8")

    with pytest.raises(SubjectError, match=r"add --stub nowhere_a,nowhere_c for"):
        find_factory(f"{tmp_path}/model.py:make").build()


@pytest.mark.usefixtures("installed")
def test_an_installed_package_gets_a_stand_in_where_it_cannot_go_on_without() -> None:
    with pytest.raises(SubjectError) as caught:
        find_factory("an_installed_zoo:make")

    assert str(caught.value) == (
        "an_installed_zoo must import modules that are installed, got none named nowhere_a, "
        "nowhere_c (model.py:2). Install what the model needs, and add "
        "--stub nowhere_a,nowhere_c for what it does not."
    )
    # What it does without stays away, and the caller's modules hold no stand-ins.
    assert find_factory("an_installed_zoo:make", stubs=["nowhere_a,nowhere_b,nowhere_c"]).build()
    assert "an_installed_zoo" not in sys.modules


def test_what_is_missing_behind_what_is_missing_is_named_at_once(
    load: Load, tmp_path: Path
) -> None:
    (tmp_path / "parts.py").write_text("import nowhere_b\nimport nowhere_c\n")
    text = "import importlib, nowhere_a\nimportlib.import_module('parts')\n"

    with pytest.raises(SubjectError, match=r"named nowhere_a, nowhere_b, nowhere_c \(model\.py:1"):
        load(text)


REGISTRY = """
import nowhere
from abc import ABC
from typing import Protocol
from torch import nn
class Config: pass
class Mixer(Config, nowhere.Registrable, ABC): pass
class Shape(nowhere.Shape, Protocol): pass
class Registry(nowhere.Registry):
    def register(self, name, *, func=None): return super().register(name, func=func)
@Mixer.register("linear")
class Linear(nn.Linear): pass
mixers = Registry()
@mixers.register("other")
class Other(nn.Linear): pass
def plain(): return Linear(2, 2)
def by_name(): return mixers["linear"](2, 2)
def by_test(): return Linear(2, 2) if "linear" in mixers else None
"""


def test_a_registry_of_a_missing_package_registers_and_finds_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(REGISTRY, encoding="utf-8")

    def build(name: str) -> nn.Module:
        return find_factory(f"{tmp_path}/model.py:{name}", stubs=["nowhere"]).build()

    assert isinstance(build("plain"), nn.Linear)
    for name in ("by_name", "by_test"):
        with pytest.raises(
            SubjectError, match=r"^nowhere\.Registry must have a value here, .* Inst"
        ):
            build(name)


@pytest.mark.parametrize(
    "question", ["not bool(Need('torch>=2.1'))", "Need.version != 2", "Need.version < 2"]
)
def test_a_file_that_stops_after_a_question_to_a_stand_in_says_which(
    load: Load, question: str
) -> None:
    text = f"from nowhere.imports import Need\nif {question} or True:\n    raise ImportError('old')"

    with pytest.raises(SubjectError) as caught:
        load(text, "nowhere")

    assert str(caught.value).startswith(
        "model.py must load without an error, got ImportError: old (model.py:3). Before that, it "
        "asked nowhere.imports.Need"
    )
    assert str(caught.value).endswith(
        ", and a stand-in says no to everything: install nowhere if that is why."
    )


def test_a_base_class_is_no_question_to_a_stand_in(load: Load) -> None:
    text = "import nowhere\nclass Mine(nowhere.Base): pass\nraise ValueError('no')\n"

    with pytest.raises(SubjectError, match=r"got ValueError: no \(model\.py:3\)\.$"):
        load(text, "nowhere")


def test_the_package_of_a_model_is_not_offered_to_be_stubbed(tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    (lab / "__init__.py").write_text("raise ValueError('no')\n", encoding="utf-8")
    (lab / "model.py").touch()

    with pytest.raises(SubjectError, match=r"got ValueError: no \(__init__\.py:1\)\.$"):
        find_factory(f"{lab}/model.py:make")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "os.environ['NOBODY_SET_THIS']",
            "KeyError: 'NOBODY_SET_THIS' (model.py:2). Set it as its launcher does: "
            "NOBODY_SET_THIS=VALUE gptinit ...",
        ),
        (
            "open('sizes/of.json')",
            "FileNotFoundError: [Errno 2] No such file or directory: 'sizes/of.json' (model.py:2). "
            "Run gptinit in the folder from which sizes/of.json is found.",
        ),
    ],
)
def test_what_a_launcher_gives_is_named(load: Load, line: str, told: str) -> None:
    with pytest.raises(SubjectError) as caught:
        load(f"import os\n{line}\n")

    assert str(caught.value) == f"model.py must load without an error, got {told}"


def used_of(use: Callable[[Any], object], *, loading: bool = False) -> list[str]:
    """What is said to be used of a stand-in called lab.part."""
    stand_ins = StandIns(names=("lab",), is_loading=loading)
    use(StandIn(stand_ins, "lab.part"))
    return list(stand_ins.used)


def test_a_stand_in_is_nothing() -> None:
    whole: Any = StandIn(StandIns(names=("lab",)), "lab")

    assert not isinstance(3, whole)
    assert not issubclass(int, whole)
    assert not whole
    assert not any((whole < 1, whole <= 1, whole > 1, whole >= 1))
    assert copy.deepcopy([whole]) == [whole]
    with whole.context() as entered:
        assert repr(entered) == "<stand-in for lab.context()>"
    with pytest.raises(KeyError), whole.context():
        raise KeyError
    with pytest.raises(AttributeError, match=r"^__wrapped__$"):
        _ = whole.__wrapped__


def test_a_stand_in_decorates_functions_and_classes_and_nothing_else() -> None:
    whole: Any = StandIn(StandIns(names=("lab",)), "lab")

    assert whole.jit(used_of) is used_of
    assert whole.typed(int) is int
    assert [repr(whole.call(*args)) for args in ((), (3,), (int, int))] == [
        "<stand-in for lab.call()>"
    ] * 3
    assert repr(whole.call(int, by=3)(3)) == "<stand-in for lab.call()>"


@pytest.mark.parametrize(
    ("use", "used"),
    [
        (lambda s: s(), ["lab.part()"]),
        (lambda s: s.more(1), ["lab.part.more()"]),
        (lambda s: s + 1, ["lab.part"]),
        (lambda s: 1 @ s, ["lab.part"]),
        (lambda s: -s, ["lab.part"]),
        (lambda s: s >= 1, ["lab.part"]),
        (lambda s: s[3], ["lab.part"]),
        (bool, ["lab.part"]),
        (lambda s: s.more, []),
        (lambda s: isinstance(3, s), []),
        (lambda s: type("Sub", s.__mro_entries__((s,)), {})(1, by=2), ["lab.part"]),
    ],
)
def test_calls_and_computations_are_uses_after_loading(
    use: Callable[[Any], object], used: list[str]
) -> None:
    assert used_of(use) == used
    assert used_of(use, loading=True) == []


@pytest.mark.parametrize(
    ("names", "said"),
    [("abcd", "a, b, c, d, which"), ("abcdef", "a, b, c, d and 2 more, which")],
)
def test_four_uses_are_listed(names: str, said: str) -> None:
    (note,) = StandIns(names=("lab",), wanted={"lab"}, used=dict.fromkeys(names)).notes()

    assert f"the model used {said} did nothing" in note.message


def test_of_several_bases_that_are_missing_one_stands_in() -> None:
    first, second = (StandIn(StandIns(names=("lab",)), f"lab.{name}") for name in ("A", "B"))

    bases = (first, second)

    (base,) = first.__mro_entries__(bases)
    assert base.__name__ == "A"
    assert not issubclass(base, nn.Module)
    assert second.__mro_entries__(bases) == ()


def test_loading_within_loading_does_not_end_it() -> None:
    stand_ins = StandIns(names=("lab",))

    with stand_ins.loading():
        with stand_ins.loading():
            pass
        assert stand_ins.is_loading
    assert not stand_ins.is_loading


def test_a_module_is_covered_by_its_own_name_and_by_a_package_around_it() -> None:
    stand_ins = StandIns.of(["lab.ops", " other "])

    covered = ("lab.ops", "lab.ops.triton", "other", "lab", "lab.opsize", "ops")
    assert [stand_ins.covers(name) for name in covered] == [True] * 3 + [False] * 3


@pytest.mark.parametrize("name", ["", "a b", "a..b", "torch", "torch.nn"])
def test_a_stand_in_is_named_by_a_module_other_than_torch(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^stub must be .*, got '{name}'"):
        StandIns.of(["lab", name])


def test_an_import_of_a_part_gives_the_whole_and_from_it_gives_what_it_names(load: Load) -> None:
    text = (
        "import wandy.inner.deep\nfrom wandy.ops import f\nimport wandy.named as w\n"
        "from torch import nn\nclass Model(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        wandy.other.g(), f(), w.h()\n"
    )
    factory = load(text, "wandy")

    factory.build()

    assert "the model used wandy.other.g(), wandy.ops.f(), wandy.named.h(), " in (
        factory.notes()[0].message
    )
