"""What is measured: how to build it, what it is drawn from, how to reach its logits."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from gptinit.profile import ModelFacts
from gptinit.program import Program

__all__ = ["Lens", "Subject"]

Lens = Callable[[Tensor], Tensor]
"""The logit lens: a stream (B, T, C) to logits on some rows of the vocabulary (B, T, R)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model as measuring sees it.

    Attributes:
        facts: its name, source and shape.
        scheme: canonical slug of its init, or None where it has none.
        program: what every parameter is drawn from.
        build: makes the module with parameters that have no storage (device "meta").
        lens: (module, rows) to the logit lens of the module with its present weights: all that
            follows the last block, on some rows of the vocabulary.
    """

    facts: ModelFacts
    scheme: str | None
    program: Program
    build: Callable[[], nn.Module]
    lens: Callable[[nn.Module, Tensor], Lens]
