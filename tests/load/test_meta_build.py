# ruff: noqa: D102 # small methods are documented by their class
"""Building as sharded trainers do: on meta, storage after, weights last."""

from typing import Any

import pytest
import torch
from support.foreign_models import Decoder, factory
from torch import nn

from gptinit.load.meta_build import on_meta
from gptinit.read.reading import read_model
from gptinit.results.profile import Note
from gptinit.trace.laws.laws import Laws
from gptinit.trace.record.tensor import TracedTensor
from gptinit.trace.record.tracing import trace


class OwnMethod(nn.Module):
    """Has a method for the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(4))

    def init_weights(self, std: float = 0.5) -> None:
        nn.init.normal_(self.up.weight, std=std)
        nn.init.zeros_(self.up.bias)


class ByModule(nn.Module):
    """Has a method for one module."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(4, 4)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.25)
            nn.init.zeros_(module.bias)


class NeedsArgument(ByModule):
    """Its method for the whole cannot be called as it is."""

    def init_weights(self, std: float) -> None:
        raise AssertionError(std)


class Neither(nn.Module):
    """Only torch's modules know how to draw themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(4, 4)
        self.gain = nn.Parameter(torch.ones(4))


def laws(build: Any) -> dict[str, str]:
    """What every parameter of the meta build is drawn from, as text."""
    module = trace(on_meta(factory(build)).build)
    found = {}
    for name, p in module.named_parameters():
        assert isinstance(p, TracedTensor)
        found[name] = str(Laws().of(p.read()).distribution)
    return found


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (OwnMethod, {"up.weight": "N(0, 0.5)", "up.bias": "0", "scale": "never written"}),
        (ByModule, {"up.weight": "N(0, 0.25)", "up.bias": "0"}),
        (NeedsArgument, {"up.weight": "N(0, 0.25)", "up.bias": "0"}),
        (
            Neither,
            {"up.weight": "U(-0.5, 0.5)", "up.bias": "U(-0.5, 0.5)", "gain": "never written"},
        ),
    ],
)
def test_what_only_the_constructor_sets_is_never_written(build: Any, expected: Any) -> None:
    assert laws(build) == expected


@pytest.mark.parametrize(
    ("build", "how"),
    [
        (OwnMethod, "init_weights()"),
        (ByModule, "apply(_init_weights)"),
        (NeedsArgument, "apply(_init_weights)"),
        (Neither, "reset_parameters() of every module"),
    ],
)
def test_the_way_is_told(build: Any, how: str) -> None:
    told: list[Note] = []

    on_meta(factory(build), told)

    assert told == [Note(kind="engine", where="build", message=f"Built on meta, to_empty, {how}.")]


def test_the_factory_is_otherwise_the_same() -> None:
    made = on_meta(factory(OwnMethod, n_layer=3))

    assert (made.name, made.n_layer) == ("foreign", 3)


def test_the_real_build_has_memory_and_its_weights() -> None:
    module: Any = on_meta(factory(ByModule)).build()

    assert not module.up.weight.is_meta
    assert not module.up.bias.any()


def test_the_way_of_building_is_in_the_program() -> None:
    found = read_model(on_meta(factory(Decoder)), build="meta")

    assert found.program.build == "meta"
