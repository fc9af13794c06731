"""What an init is given, and which of them ran, by their code."""

from functools import partial

import pytest
import torch
from torch import nn

from gptinit.load.initialiser import (
    calls_of,
    function_init,
    method_init,
)


class Model(nn.Linear):
    """An init that needs an attribute."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.std = 0.5

    @torch.no_grad()
    def init_weights(self, std: float) -> None:
        """Needs it by its name."""
        nn.init.constant_(self.weight, std)


def test_what_it_needs_is_a_setting_and_else_an_attribute() -> None:
    init = method_init(Model, "init_weights")
    assert init is not None

    assert init.arguments(Model(), {"std": 0.1}) == {"std": 0.1}
    assert init.arguments(Model(), {}) == {"std": 0.5}


def test_calls_are_known_by_their_code_and_not_by_their_name() -> None:
    def inner(model: nn.Module, depth: int) -> None: ...

    def init_weights(model: nn.Module) -> None:
        partial(inner, depth=1)(model)

    def never(model: nn.Module) -> None: ...

    watched = [function_init(f.__name__, f) for f in (inner, init_weights, never)]
    renamed = init_weights

    with calls_of(watched) as calls:
        renamed(nn.Linear(1, 1))

    assert {f.__name__ for f in calls.all} == {"inner", "init_weights"}
    assert [f.__name__ for f in calls.outermost] == ["init_weights"]


def test_only_what_no_other_init_calls_is_outermost() -> None:
    def inner(model: nn.Module) -> None:
        len([])  # builtins are calls of the frame that makes them

    def first(model: nn.Module) -> None:
        len([])
        inner(model)
        inner(model)

    def failing(model: nn.Module) -> None:
        inner(model)
        raise ValueError

    def last(model: nn.Module) -> None:
        len([])
        len([])
        inner(model)

    watched = [function_init(f.__name__, f) for f in (inner, first, failing, last)]
    model = nn.Linear(1, 1)

    with calls_of(watched) as calls:
        last(model)
        with pytest.raises(ValueError, match=r"^$"):
            failing(model)
        first(model)
        last(model)

    assert [f.__name__ for f in calls.outermost] == ["last", "failing", "first"]
    assert {f.__name__ for f in calls.all} == {"inner", "first", "failing", "last"}
