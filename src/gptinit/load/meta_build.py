"""Building a model the way sharded trainers do: on meta, storage given, then initialised."""

from collections.abc import Callable
from dataclasses import replace
from inspect import Parameter, signature
from typing import Any

import torch
from torch import nn

from gptinit.errors import SubjectError
from gptinit.load.factory import Factory
from gptinit.results.profile import Note

__all__ = ["META_INITIALISERS", "initialise", "on_meta"]

META_INITIALISERS: tuple[str, ...] = ("init_weights", "initialize_weights", "reset_parameters")
"""Methods of a whole model that draw its weights; the first that it has is called."""


def on_meta(factory: Factory, told: list[Note] | None = None) -> Factory:
    """The same model, built on meta, given storage by `to_empty` and initialised after that.

    Args:
        factory: the model.
        told: takes a note of how the weights were initialised, if given.

    Returns:
        A factory whose `build` raises SubjectError too where the model's own init fails.
    """

    def build() -> nn.Module:
        with torch.device("meta"):
            module = factory.build()
        module.to_empty(device="cpu")
        how = _initialised(module)
        if told is not None:
            told.append(
                Note(kind="engine", where="build", message=f"Built on meta, to_empty, {how}.")
            )
        return module

    return replace(factory, build=build)


def _initialised(module: nn.Module) -> str:
    """How the weights were drawn.

    Raises:
        SubjectError: if the model's own code fails at it.
    """
    try:
        return initialise(module)
    except Exception as error:  # whatever the model's code raises
        said = " ".join(str(error).split()).removesuffix(".")
        raise SubjectError(
            f"{type(module).__name__} must draw its weights after to_empty, got "
            f"{type(error).__name__}: {said}."
        ) from error


def initialise(module: nn.Module) -> str:
    """Draw all weights as a trainer would; the words say how.

    Calls the model's own method if it has one (see META_INITIALISERS), else applies its
    `_init_weights` to every module, else calls `reset_parameters` of every module that has it.
    """
    with torch.no_grad():
        for name in META_INITIALISERS:
            method = getattr(module, name, None)
            if callable(method) and not _required(method):
                method()
                return f"{name}()"
        method = getattr(module, "_init_weights", None)
        if callable(method) and len(_required(method)) == 1:
            module.apply(method)
            return "apply(_init_weights)"
        for child in module.modules():
            reset = getattr(child, "reset_parameters", None)
            if callable(reset) and not _required(reset):
                reset()
    return "reset_parameters() of every module"


def _required(method: Callable[..., Any]) -> list[str]:
    """Names of the arguments that a method cannot do without."""
    kinds = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    parameters = signature(method).parameters.values()
    return [p.name for p in parameters if p.default is Parameter.empty and p.kind not in kinds]
