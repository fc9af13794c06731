"""A function of the user's that calls a model whose forward wants more than token ids."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from torch import Tensor, nn

from gptinit.errors import ConfigError
from gptinit.load.factory import Factory, also
from gptinit.load.loaded import Loaded, load_function

__all__ = ["Forward", "called_by", "forward_function"]

Forward: TypeAlias = Callable[[nn.Module, Tensor], object]
"""(model, ids) to logits: (B, T) to (B, T, V)."""


def called_by(
    factory: Factory, forward: str | Forward | None, beside: Loaded | None = None
) -> Factory:
    """The factory with the user's way to call its model; arguments as of `forward_function`."""
    if forward is None:
        return factory
    call = forward_function(forward, beside)
    return also(factory, lambda made: replace(made, forward=call))


def forward_function(named: str | Forward, beside: Loaded | None = None) -> Forward:
    """The function that calls a model, loaded where it is named.

    Args:
        named: path.py:FUNC, package.module:FUNC, or the function itself.
        beside: the model's code, whose classes and stand-ins it sees.

    Raises:
        ConfigError: if it is none of these, or there is no such file, module or function.
        SubjectError: if its file fails.
    """
    if isinstance(named, str):
        return load_function(named, "forward", beside)[0]
    if not callable(named):
        raise ConfigError(
            "forward must be a function of (model, ids) or path.py:FUNC, got an object of type "
            f"{type(named).__name__}."
        )
    return named
