"""What is measured: how to build it, what it is drawn from, how to call it and where to listen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from gptinit.config import ModelFacts
from gptinit.forward.sites import BlockSites
from gptinit.results.profile import Note
from gptinit.results.program import Program
from gptinit.theory import TheoryModel
from gptinit.trace.replay.recipes import Recipe

__all__ = ["Lens", "Subject"]

Lens = Callable[[Tensor], Tensor]
"""The logit lens: a stream (B, T, C) to logits on some rows of the vocabulary (B, T, R)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model as measuring sees it.

    Attributes:
        facts: its name, source and shape.
        vocab_size: tokens there are.
        block_size: positions there are.
        scheme: canonical slug of its init, or None where it has none.
        program: what every parameter is drawn from.
        recipes: parameter to its record, for those that no distribution alone can draw.
        build: makes the module with parameters that have no storage (device "meta") and with
            buffers that are real.
        own: makes the module with the weights that it draws itself, for a seed; None where nothing
            but the program draws it.
        sites: where its blocks can be heard.
        call: (module, ids) to logits: (B, T) to (B, T, V).
        lens: (module, rows) to the logit lens of the module with its present weights: all that
            follows the last block, on some rows of the vocabulary. None where no lens can do that.
        notes: how it came to be known.
        is_live: whether it is a module that is built already: its own weights are all there are.
        theory: what theory knows of it, or why it has no formula.
        theory_of: what theory knows of it with another program; None where that is not known.
        theory_tokens: longest sequence for which its forward pass was read; None for any.
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
    theory: TheoryModel | Note | None = None
    theory_of: Callable[[Program], TheoryModel | Note] | None = None
    theory_tokens: int | None = None
