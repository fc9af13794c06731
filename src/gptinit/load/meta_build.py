"""Build a model the way sharded trainers do: on meta, then to_empty, then initialise."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from gptinit.load.factory import Factory
from gptinit.load.init_choice import redrawing
from gptinit.results.profile import Note

__all__ = ["on_meta"]


def on_meta(factory: Factory, notes: list[Note] | None = None) -> Factory:
    """The factory's model built on meta, given storage by `to_empty`, then initialised.

    Its init is the one that runs after the constructor, else what the constructor calls, else
    `reset_parameters` of every module.

    Args:
        factory: the model.
        notes: a list that takes a note of how the weights were initialised.

    Returns:
        A factory whose `build` raises SubjectError too where the model's own init fails.

    Raises:
        ConfigError: if several inits would do.
        SubjectError: if the model cannot be built.
    """
    how, draw = redrawing(factory)
    constructed = factory.init.constructed if factory.init else factory.build
    if notes is not None:
        message = f"Built on meta, to_empty, {how}."
        notes.append(Note(kind="engine", where="build", message=message))
    return replace(factory, build=_on_meta(constructed, draw), uncalled=())


def _on_meta(
    constructed: Callable[[], nn.Module], draw: Callable[[nn.Module], None]
) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        with torch.device("meta"):
            module = constructed()
        module.to_empty(device="cpu")  # which takes no memory under the trace
        draw(module)
        return module

    return build
