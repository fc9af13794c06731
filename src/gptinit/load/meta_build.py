"""Build a model the way sharded trainers do: on meta, then to_empty, then initialise."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from gptinit.load.candidates import methods_of
from gptinit.load.factory import Factory
from gptinit.load.init_choice import plain_init
from gptinit.load.init_trial import drawing
from gptinit.load.initialiser import calls_of, method_init
from gptinit.results.profile import Note
from gptinit.trace.record.tracing import trace

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
    how, draw = _redrawing(factory)
    constructed = factory.init.constructed if factory.init else factory.build
    if notes is not None:
        message = f"Built on meta, to_empty, {how}."
        notes.append(Note(kind="engine", where="build", message=message))

    def build() -> nn.Module:
        with torch.device("meta"):
            module = constructed()
        module.to_empty(device="cpu")  # which takes no memory under the trace
        draw(module)
        return module

    return replace(factory, build=build, uncalled=())


def _redrawing(factory: Factory) -> tuple[str, Callable[[nn.Module], None]]:
    """What draws all weights of a model again, in words and as a function.

    That is the init after its constructor, else those that its own code calls, else the only one
    that nobody calls, else `reset_parameters` of every module.
    """
    if factory.init is not None:
        return factory.init.call.call, factory.init.draw
    spare = factory.spare.get(factory.build)
    module = spare.module if spare else trace(factory.build)
    inits = [i for i in (*methods_of(module), *factory.init_functions) if i.is_named]
    with calls_of(inits) as calls:
        module = trace(factory.build)
    called = [i for f in calls.outermost for i in inits if i.function is f]
    settings = factory.settings
    usable = [i for i in called if not i.missing(module, settings)]
    uncalled = [i for i in inits if i.function not in calls.all]
    inits = usable or [trial.init for trial in plain_init(factory, module, uncalled)]
    if not inits:
        return "reset_parameters() of every module", _reset_all

    def draw(module: nn.Module) -> None:
        for init in inits:
            drawing(factory, init)(module)

    return " and ".join(i.facts(module, settings, "found").call for i in inits), draw


def _reset_all(module: nn.Module) -> None:
    with torch.no_grad():
        for child in module.modules():
            reset = method_init(type(child), "reset_parameters")
            if reset is not None and not reset.missing(child, {}):
                reset.run(child, {})
