"""What builds a model, and the sizes that its configuration names."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from gptinit.config import InitCall
from gptinit.load.initialiser import Initialiser
from gptinit.load.isolation import isolated
from gptinit.results.profile import Note
from gptinit.trace.record.branches import Watch, watched
from gptinit.trace.record.tracing import trace

__all__ = ["Built", "Factory", "TrainerInit", "also", "built", "seeded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerInit:
    """The init that a trainer runs once the constructor is done.

    Attributes:
        call: what is called, and who chose it.
        draw: draws the weights of a model by it. Raises SubjectError if the code fails.
        constructed: builds the module anew without it.
    """

    call: InitCall
    draw: Callable[[nn.Module], None]
    constructed: Callable[[], nn.Module]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """One build of a model under the trace, and what ran for it; None where nobody watched."""

    module: nn.Module
    watch: Watch | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Factory:
    """A model that can be built any number of times, and what its configuration says.

    Sizes are None where the settings do not name them.

    Attributes:
        name: its name in tables: "model.py:GPT, n_layer=48".
        source: where it comes from, in words.
        build: builds the module anew, initialised as its trainer does. The caller's random state,
            working folder and default dtype stay as they were, and prints go to stderr. Raises
            SubjectError if the model's code fails or returns something that is no module.
        builder: what builds it, in words: "its constructor", "build()".
        settings: the plain values (numbers, words, flags, None) of its configuration by name,
            those of a nested configuration as "text_config.hidden_size".
        init: the init that `build` runs after the constructor; None where there is none.
        init_functions: functions of its file that could draw its weights.
        uncalled: inits that it has and that nobody calls, where that is known already.
        within: the context in which its code runs.
        spare: builds that choosing its init took, by the function that made them.
        with_settings: returns the factory with some settings replaced; None without settings.
        notes: how its code was loaded, where a user should know; asked once it has been built and
            run, since what a stand-in was used for is known only then.
        architecture: the model_type of a Hugging Face config.
        tied: whether the settings say that the head is the token embedding; None if they do not
            say.
        vocab_size: vocabulary size.
        block_size: context length (maximum positions).
        n_layer: number of blocks.
        n_head: attention heads.
        n_kv_head: key and value heads.
        head_dim: width of a head.
        n_embd: width of the residual stream.
        d_ff: hidden width of the MLP.
        forward: (model, ids) to logits: the user's way to call it; None tries the usual ones.
    """

    name: str
    source: str
    build: Callable[[], nn.Module]
    settings: Mapping[str, object]
    with_settings: "Callable[[Mapping[str, object]], Factory] | None"
    notes: Callable[[], Sequence[Note]] = tuple
    builder: str = "its constructor"
    init: TrainerInit | None = None
    init_functions: tuple[Initialiser, ...] = ()
    uncalled: tuple[Initialiser, ...] | None = None
    within: Callable[[], AbstractContextManager[None]] = isolated
    spare: dict[Callable[[], nn.Module], Built] = field(default_factory=dict)
    architecture: str | None = None
    tied: bool | None = None
    vocab_size: int | None = None
    block_size: int | None = None
    n_layer: int | None = None
    n_head: int | None = None
    n_kv_head: int | None = None
    head_dim: int | None = None
    n_embd: int | None = None
    d_ff: int | None = None
    forward: Callable[[nn.Module, Tensor], object] | None = None


def built(factory: Factory, build: Callable[[], nn.Module], *, watch: bool) -> Built:
    """One build of a model under the trace, for nobody else: a spare one, or a new one.

    Raises:
        SubjectError: if it cannot be built.
    """
    spare = factory.spare.pop(build, None)
    if spare is not None:
        return spare
    with watched() if watch else nullcontext() as seen:
        module = trace(build)
    return Built(module=module, watch=seen)


def also(factory: Factory, change: Callable[[Factory], Factory]) -> Factory:
    """What `change` makes of a factory, and will make of it with other settings."""
    before = factory.with_settings
    made = change(factory)
    if before is None:
        return made
    return replace(made, with_settings=lambda more: also(before(more), change))


def seeded(factory: Factory) -> Callable[[int], nn.Module]:
    """A function from a seed to the model with the weights that its own code draws.

    Example:
        >>> linear = Factory(
        ...     name="linear", source="here", build=lambda: nn.Linear(2, 2), settings={},
        ...     with_settings=None,
        ... )
        >>> bool((seeded(linear)(3).weight == seeded(linear)(3).weight).all())
        True
    """

    def build(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return factory.build().eval()

    return build
