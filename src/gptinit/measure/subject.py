"""A model as measuring sees it: how to build, draw and call it, and where its hooks go."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from gptinit.config import ModelFacts
from gptinit.forward.sites import BlockSites
from gptinit.recognise.architecture import Forwarding
from gptinit.results.profile import Note
from gptinit.results.program import Program
from gptinit.trace.replay.recipes import Recipe

__all__ = ["Lens", "Subject"]

Lens = Callable[[Tensor], Tensor]
"""The logit lens: a stream (B, T, C) to logits on some rows of the vocabulary (B, T, R)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model as measuring sees it.

    Attributes:
        facts: its name, source and shape.
        vocab_size: vocabulary size.
        block_size: context length (maximum positions).
        scheme: canonical slug of the scheme that draws it; None where its own code does.
        program: the distribution of every parameter.
        recipes: recorded operations of the parameters that no distribution alone can draw.
        build: builds the module with parameters that have no storage (device "meta") and with
            real buffers.
        own: from a seed to the module with the weights that its own code draws; None where only
            the program can draw it.
        sites: the hook points of its blocks.
        call: (module, ids) to logits: (B, T) to (B, T, V).
        lens: (module, rows) to the logit lens of the module with its present weights: everything
            after the last block, on some rows of the vocabulary. None where that is no function
            of the stream alone.
        notes: notes of the trace.
        is_live: whether it is a module that is built already, which has no weights but its own.
        recognised: the forward pass as theory's formulas describe it, or a note on why none do.
    """

    facts: ModelFacts
    vocab_size: int
    block_size: int
    scheme: str | None
    program: Program
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    build: Callable[[], nn.Module]
    own: Callable[[int], nn.Module] | None = None
    sites: tuple[BlockSites, ...]
    call: Callable[[nn.Module, Tensor], Tensor]
    lens: Callable[[nn.Module, Tensor], Lens] | None
    notes: tuple[Note, ...] = ()
    is_live: bool = False
    recognised: Forwarding | Note
