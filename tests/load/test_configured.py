"""Factories of callables, and the promise of every build: the caller's state stays as it was."""

import os
import random
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from gptinit.errors import ConfigError, MeasureError, SubjectError
from gptinit.load.argument import factory_of
from gptinit.load.settings import Setting, kinds_of, resolve, sizes, typed


@dataclass
class WidthConfig:
    """The one configuration of this module."""

    n_embd: int = 4
    n_layers: int = 2
    scale: float = 1
    bias: bool = True
    act: str = "gelu"
    d_ff: int | None = None


class Stack(nn.Module):
    """Some linear layers."""

    def __init__(self, config: WidthConfig) -> None:
        super().__init__()
        width = config.n_embd
        self.h = nn.ModuleList(nn.Linear(width, width) for _ in range(config.n_layers))


class Untold(nn.Module):
    """A model whose argument says nothing of itself."""

    def __init__(self, config) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.head = nn.Linear(config.n_embd, 2)


class Spelled(nn.Module):
    """A model with arguments of its own."""

    def __init__(self, n_embd: int, n_layer: int, *, bias: bool = True) -> None:
        super().__init__()
        self.h = nn.ModuleList(nn.Linear(n_embd, n_embd, bias=bias) for _ in range(n_layer))


def linear() -> nn.Module:
    return nn.Linear(2, 3)


def test_a_callable_without_arguments_is_a_factory() -> None:
    factory = factory_of(linear)

    assert factory.name == "linear"
    assert isinstance(factory.build(), nn.Linear)
    assert (factory.settings, factory.with_settings, factory.n_layer) == ({}, None, None)


def test_what_builds_the_model_is_named() -> None:
    class Own(nn.Linear):
        def __init__(self, width: int = 2) -> None:
            super().__init__(width, width)

    def build() -> nn.Module:
        return Own()

    made = (factory_of(call).builder for call in (Own, build, lambda: Own(), partial(Own, 3)))

    assert list(made) == ["its constructor", "build()", "a function", "a function"]


def test_every_build_is_a_new_module() -> None:
    factory = factory_of(linear)

    assert factory.build() is not factory.build()


def test_a_factory_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        factory_of(linear).name = "other"  # type: ignore[misc]


def test_a_class_gets_the_configuration_of_its_annotation() -> None:
    factory = factory_of(Stack, {"n_layers": 3})

    module = factory.build()

    assert len(module.h) == 3  # type: ignore[arg-type]
    assert factory.name == "Stack, n_layers=3"
    assert (factory.n_layer, factory.n_embd, factory.d_ff) == (3, 4, None)
    assert factory.settings == {
        "n_embd": 4,
        "n_layers": 3,
        "scale": 1,
        "bias": True,
        "act": "gelu",
        "d_ff": None,
    }


def test_an_argument_that_says_nothing_gets_the_only_configuration_of_the_module() -> None:
    module = factory_of(Untold, {"n_embd": 8}).build()

    assert module.head.weight.shape == (2, 8)  # type: ignore[union-attr]


def test_arguments_of_its_own_are_given_by_their_names() -> None:
    factory = factory_of(Spelled, {"n_embd": "8", "n_layer": 2, "bias": "false"})

    module = factory.build()

    assert [tuple(p.shape) for p in module.parameters()] == [(8, 8), (8, 8)]
    assert (factory.n_embd, factory.n_layer) == (8, 2)


def test_arguments_that_are_not_given_are_named() -> None:
    message = r"Spelled must take no argument or a configuration, got the required n_layer\."
    with pytest.raises(ConfigError, match=message):
        factory_of(Spelled, {"n_embd": 8})


def test_settings_can_be_replaced_again() -> None:
    factory = factory_of(Stack, {"n_embd": 8})

    assert factory.with_settings
    other = factory.with_settings({"n_layers": 5, "bias": False})

    assert other.name == "Stack, n_embd=8, n_layers=5, bias=false"
    assert len(other.build().h) == 5  # type: ignore[arg-type]
    assert len(factory.build().h) == 2  # type: ignore[arg-type]


def test_our_name_of_a_size_means_the_models_own() -> None:
    assert factory_of(Stack, {"n_layer": 7}).settings["n_layers"] == 7


def test_the_same_setting_by_two_names_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"n_layers must be given once, got it twice\."):
        factory_of(Stack, {"n_layer": 7, "n_layers": 7})


def test_an_unknown_setting_names_the_known_ones() -> None:
    message = "setting of Stack must be one of act, bias, .*, got 'n_embed'. Did you mean n_embd"
    with pytest.raises(ConfigError, match=message):
        factory_of(Stack, {"n_embed": 8})


def test_a_setting_of_something_that_takes_none_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"must be one that it takes, got 'x'. It takes no settings\."
    ):
        factory_of(linear, {"x": 1})


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("n_embd", "wide", "an integer, got 'wide'"),
        ("n_embd", True, "an integer, got True"),
        ("n_embd", 1.5, "an integer, got 1.5"),
        ("bias", 1, "true or false, got 1"),
        ("scale", "big", "a number, got 'big'"),
        ("act", 3, "a text, got 3"),
        ("d_ff", "wide", "an integer or none, got 'wide'"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(name: str, value: object, rule: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be {rule}"):
        factory_of(Stack, {name: value})


@pytest.mark.parametrize(
    ("text", "kinds", "value"),
    [
        ("12", {int}, 12),
        ("12", {float}, 12.0),
        ("12", {str}, "12"),
        ("12", set(), 12),
        ("1e-3", {float}, 1e-3),
        ("1e-3", set(), 1e-3),
        ("TRUE", {bool}, True),
        ("true", {str}, "true"),
        ("none", {int, type(None)}, None),
        ("null", set(), None),
        ("[1, 2]", set(), [1, 2]),
        ("[1, 2]", {str}, "[1, 2]"),
        ("swiglu", set(), "swiglu"),
    ],
)
def test_a_text_is_read_as_it_was_meant(text: str, kinds: set[type], value: object) -> None:
    read = typed("key", text, frozenset(kinds))

    assert read == value
    assert type(read) is type(value)


def test_a_default_speaks_where_an_annotation_does_not() -> None:
    assert kinds_of(None, 0.1) == {float}
    assert kinds_of(None, None) == frozenset()
    assert kinds_of(list[int], [1]) == frozenset()
    assert kinds_of(int, None) == {int, type(None)}
    assert Setting().kinds == frozenset()


def test_sizes_are_found_under_foreign_names() -> None:
    found = sizes({"n_positions": 64, "num_key_value_heads": 2, "dim": 8, "weight_tying": False})

    assert (found["block_size"], found["n_kv_head"], found["n_embd"]) == (64, 2, 8)
    assert found["tied"] is False
    assert found["d_ff"] is None


def test_a_size_that_is_no_positive_integer_is_not_told() -> None:
    assert sizes({"n_layer": True, "n_head": 0, "vocab_size": -1, "n_embd": 8.0})["n_layer"] is None
    assert sizes({"n_head": 0})["n_head"] is None
    assert sizes({"n_embd": 8.0})["n_embd"] is None


def test_the_models_own_name_of_a_size_comes_first() -> None:
    assert resolve("setting", "n_layer", ["n_layer", "n_layers"]) == "n_layer"
    assert resolve("setting", "n_layer", ["text_config.num_hidden_layers"]) == (
        "text_config.num_hidden_layers"
    )


def numpy_key() -> np.ndarray:
    key: np.ndarray = np.random.get_state(legacy=False)["state"]["key"]
    return key.copy()


def draw_everywhere() -> nn.Module:
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    return nn.Linear(4, 4)


def test_a_factory_that_seeds_and_draws_leaves_the_callers_random_state() -> None:
    states = torch.get_rng_state(), numpy_key(), random.getstate()

    factory_of(draw_everywhere).build()

    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(numpy_key(), states[1])
    assert random.getstate() == states[2]


def test_the_callers_seed_decides_what_a_factory_draws() -> None:
    factory = factory_of(linear)

    with torch.random.fork_rng():
        torch.manual_seed(1)
        first, again = factory.build(), factory.build()
        torch.manual_seed(2)
        other = factory.build()

    assert torch.equal(first.weight, again.weight)  # type: ignore[arg-type]
    assert not torch.equal(first.weight, other.weight)  # type: ignore[arg-type]


def change_everything() -> nn.Module:
    os.chdir(Path(__file__).parents[3])
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_grad_enabled(False)
    assert len(sys.argv) == 1
    sys.argv.append("--changed")
    return nn.Linear(2, 2)


def raising(change: Callable[[], object]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        change()
        raise ValueError("no")

    return make


@pytest.mark.parametrize("fails", [False, True])
def test_a_factory_leaves_folder_dtype_device_gradients_and_arguments(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = list(sys.argv)
    factory = factory_of(raising(change_everything) if fails else change_everything)

    if fails:
        with pytest.raises(SubjectError):
            factory.build()
    else:
        assert next(factory.build().parameters()).dtype == torch.float64

    assert Path.cwd() == tmp_path
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_default_device() == torch.device("cpu")
    assert torch.is_grad_enabled()
    assert sys.argv == argv


def test_prints_of_a_factory_land_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    def make() -> nn.Module:
        sys.stdout.write("hello\n")
        return nn.Linear(2, 2)

    factory_of(make).build()

    assert capsys.readouterr() == ("", "hello\n")


def test_what_a_factory_raises_is_told_in_one_line_with_its_place() -> None:
    def make() -> nn.Module:
        raise ValueError("first line\nsecond   line.")

    line = make.__code__.co_firstlineno + 1
    with pytest.raises(SubjectError) as caught:
        factory_of(make).build()

    assert str(caught.value) == (
        "make must build without an error, got ValueError: first line second line "
        f"(test_configured.py:{line})."
    )
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_error_inside_torch_is_placed_at_the_users_line() -> None:
    def make() -> nn.Module:
        return nn.Linear(2, 3)(torch.ones(5))  # type: ignore[no-any-return]

    line = make.__code__.co_firstlineno + 1
    with pytest.raises(SubjectError, match=rf"RuntimeError: .*\(test_configured\.py:{line}\)\.$"):
        factory_of(make).build()


def test_a_long_message_is_cut() -> None:
    with pytest.raises(SubjectError) as caught:
        factory_of(raising(lambda: exec("raise KeyError('x' * 10_000)"))).build()

    assert len(str(caught.value)) < 600


def test_an_error_of_our_own_passes_as_it_is() -> None:
    def make() -> nn.Module:
        raise MeasureError("no memory")

    with pytest.raises(MeasureError, match=r"^no memory$"):
        factory_of(make).build()


def test_a_factory_that_exits_is_an_error() -> None:
    with pytest.raises(SubjectError, match="got SystemExit: 3"):
        factory_of(lambda: sys.exit(3)).build()


def test_control_c_is_no_error_of_the_model() -> None:
    def make() -> nn.Module:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        factory_of(make).build()


@pytest.mark.parametrize(
    ("made", "told"), [(None, "None"), (3, "an object of type int"), (nn.Linear, "type type")]
)
def test_what_is_no_module_is_refused(made: object, told: str) -> None:
    message = f"must build a torch.nn.Module, got .*{told}. Name a model class"
    with pytest.raises(SubjectError, match=message):
        factory_of(lambda: made).build()


@pytest.mark.parametrize("what", [nn.Identity(), 3])
def test_only_what_builds_a_model_has_a_factory(what: object) -> None:
    with pytest.raises(SubjectError, match="must be a class or a function that builds a model"):
        factory_of(what)  # type: ignore[arg-type]


class Counting(TorchDispatchMode):
    """Counts operators."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Count and run one."""
        self.seen += 1
        return func(*args, **(kwargs or {}))


def test_a_build_touches_no_tensor_but_the_models_own() -> None:
    factory = factory_of(linear)

    with Counting() as alone:
        linear()
    with Counting() as guarded:
        factory.build()

    assert guarded.seen == alone.seen > 0


def test_a_factory_builds_on_meta() -> None:
    with torch.device("meta"):
        module = factory_of(Stack).build()

    assert {p.device.type for p in module.parameters()} == {"meta"}
    assert torch.get_default_device() == torch.device("cpu")
