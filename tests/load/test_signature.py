"""What a class or function takes, and what it does with it."""

from functools import wraps
from typing import Any

import pytest

from gptinit.load.settings import MISSING
from gptinit.load.signature import (
    default_of,
    hints_of,
    parameters,
    reads,
    required_parameters,
    takes_any,
)


class Model:
    """It reads its configuration in both ways."""

    def __init__(self, cfg: Any, other: Any = None, *rest: int, bias: bool = True) -> None:
        self.width = cfg["dim"] + cfg.n_layer
        self.depth = other["depth"] + other.heads


def decorated(call: Any) -> Any:
    @wraps(call)
    def inner(*args: object) -> object:
        return call(*args)

    return inner


@decorated
def make(cfg: Any, **more: Any) -> Any:
    """A function behind a decorator."""
    return cfg.outer["inner"]


@pytest.mark.parametrize(
    ("call", "parameter", "keys", "attributes"),
    [
        (Model, "cfg", {"dim"}, {"n_layer"}),
        (Model, "other", {"depth"}, {"heads"}),
        (Model, "self", set(), {"width", "depth"}),
        (Model.__init__, "cfg", {"dim"}, {"n_layer"}),
        (make, "cfg", set(), {"outer"}),
        (len, "cfg", set(), set()),
    ],
    ids=["class", "other", "self", "method", "decorated", "builtin"],
)
def test_what_is_read_of_a_parameter_is_in_the_source(
    call: Any, parameter: str, keys: set[str], attributes: set[str]
) -> None:
    found = reads(call, parameter)

    assert tuple(map(set, found)) == (keys, attributes)


def test_parameters_are_those_with_a_name_of_their_own() -> None:
    assert [p.name for p in parameters(Model)] == ["cfg", "other", "bias"]
    assert [p.name for p in required_parameters(Model)] == ["cfg"]
    assert [default_of(p) for p in parameters(Model)] == [MISSING, None, True]
    assert takes_any(make)
    assert not takes_any(Model)
    assert hints_of(Model.__init__)["bias"] is bool
