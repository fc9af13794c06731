"""What is measured: how to build it, what it is drawn from, how to reach its logits."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from gptinit.profile import ModelFacts
from gptinit.program import Program

__all__ = ["Subject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model as measuring sees it.

    Attributes:
        facts: its name, source and shape.
        scheme: canonical slug of its init, or None where it has none.
        program: what every parameter is drawn from.
        build: makes the module with parameters that have no storage (device "meta").
        readout: (module, stream, rows) to logits: all that follows the last block, on all of the
            vocabulary (rows None) or on some rows; (B, T, C) to (B, T, V) or (B, T, R).
    """

    facts: ModelFacts
    scheme: str | None
    program: Program
    build: Callable[[], nn.Module]
    readout: Callable[[nn.Module, Tensor, Tensor | None], Tensor]
