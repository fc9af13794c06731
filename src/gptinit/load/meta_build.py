"""Build a model the way sharded trainers do: on meta, then to_empty, then initialise."""

from dataclasses import replace

import torch
from torch import nn

from gptinit.load.factory import Factory
from gptinit.load.isolation import blamed_on
from gptinit.load.signature import required_parameters
from gptinit.results.profile import Note

__all__ = ["META_INITIALISERS", "initialise", "on_meta"]

META_INITIALISERS: tuple[str, ...] = ("init_weights", "initialize_weights", "reset_parameters")
"""Methods of a model that draw all its weights; the first that it has is called."""


def on_meta(factory: Factory, notes: list[Note] | None = None) -> Factory:
    """The factory's model built on meta, given storage by `to_empty`, then initialised.

    Args:
        factory: the model.
        notes: a list that takes a note of how the weights were initialised.

    Returns:
        A factory whose `build` raises SubjectError too where the model's own init fails.
    """

    def build() -> nn.Module:
        with torch.device("meta"):
            module = factory.build()
        module.to_empty(device="cpu")  # which takes no memory under the trace
        with blamed_on(type(module).__name__, "draw its weights after to_empty"):
            how = initialise(module)
        if notes is not None:
            notes.append(
                Note(kind="engine", where="build", message=f"Built on meta, to_empty, {how}.")
            )
        return module

    return replace(factory, build=build)


def initialise(module: nn.Module) -> str:
    """Draw all weights as a trainer would, and return the call that did it.

    Calls the model's own method if it has one (see META_INITIALISERS), else applies its
    `_init_weights` to every module, else calls `reset_parameters` of every module that has it.
    """
    with torch.no_grad():
        for name in META_INITIALISERS:
            method = getattr(module, name, None)
            if callable(method) and not required_parameters(method):
                method()
                return f"{name}()"
        method = getattr(module, "_init_weights", None)
        if callable(method) and len(required_parameters(method)) == 1:
            module.apply(method)
            return "apply(_init_weights)"
        for child in module.modules():
            reset = getattr(child, "reset_parameters", None)
            if callable(reset) and not required_parameters(reset):
                reset()
    return "reset_parameters() of every module"
