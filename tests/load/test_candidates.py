"""What counts as an init: by its name, or by what it, and own code that it calls, does."""

import pytest
import torch
from torch import nn

from gptinit.load.candidates import functions_in, methods_of, methods_of_parts


class Model(nn.Linear):
    """Its base has a reset_parameters of torch's own."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.std = 0.5

    @torch.no_grad()
    def init_weights(self, std: float) -> None:
        """Needs an attribute."""
        nn.init.constant_(self.weight, std)

    def _init_weights(self, module: nn.Module) -> None:
        """For one module."""

    def init_hidden(self, size: int) -> None:
        """Of a state, not of weights."""

    def fill(self) -> None:
        """Named as no init."""
        self.data()

    def data(self) -> None:
        """Neither: a function that it calls draws."""
        self.weight.data = cut(torch.empty(2, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What every module has is no init."""
        return x.fill_(1.0)


def cut(x: torch.Tensor) -> torch.Tensor:
    return x.normal_().clamp_(-1, 1)


def test_methods_are_those_of_the_class_and_not_of_torch() -> None:
    found = {init.name: init for init in methods_of(Model())}

    assert set(found) == {"init_weights", "_init_weights", "fill", "data"}
    assert found["_init_weights"].is_applied
    assert (found["init_weights"].takes, found["init_weights"].needs) == (None, ("std",))


def test_functions_are_those_of_the_file_that_take_a_module() -> None:
    def of_here(name: str, **annotations: object) -> object:
        def call(model, depth=1):  # type: ignore[no-untyped-def]
            """Untyped, as many are."""

        call.__name__, call.__module__, call.__annotations__ = name, "here", annotations
        return call

    def drawing(model):  # type: ignore[no-untyped-def]
        cut(model.weight)

    drawing.__module__ = "here"
    namespace = {
        "__name__": "here",
        "init_weights": of_here("init_weights"),
        "reset_parameters": of_here("reset_parameters", model=dict),
        "initialize_weights": nn.init.normal_,
        "make": of_here("make"),
        "draw": drawing,
    }

    assert [init.name for init in functions_in(namespace)] == ["init_weights", "draw"]


class Part(nn.Linear):
    """One method draws, and two neither draw nor belong to every module."""

    def draw(self, std: float = 1.0) -> None:
        """Draw the weight."""
        nn.init.normal_(self.weight, std=std)

    def reset_parameters(self) -> None:
        """Draw it as the base does."""
        super().reset_parameters()

    def show(self) -> str:
        """Neither draws nor fills."""
        return str(self.weight)


class Special(Part):
    """Inherits it."""


class Whole(nn.Sequential):
    """Two parts."""

    def draw(self) -> None:
        """Draw the parts."""
        for part in self:
            part.draw()  # type: ignore[operator]


@pytest.mark.parametrize("parts", [(Part, Special), (Special, Special)])
def test_methods_of_parts_belong_to_the_class_that_defines_them(parts: tuple[type, type]) -> None:
    (init,) = methods_of_parts(nn.Sequential(*(part(2, 2) for part in parts)))

    assert (init.name, init.owner) == ("Part.draw", Part)
    whole = Whole(*(part(2, 2) for part in parts))
    assert [i.name for i in methods_of(whole)] == ["draw"]
