"""A distribution, together with which random numbers it is made of."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

from gptinit.facts.algebra import affine_distribution
from gptinit.facts.distributions import Constant, Distribution
from gptinit.trace.graph import Read
from gptinit.trace.replay.replay import Replay

__all__ = ["Basis", "Known", "Law", "affine"]

Basis = tuple[object, ...] | None
"""Names the random numbers behind every entry in order; equal bases give equal values."""


@dataclass(frozen=True, slots=True)
class Law:
    """A distribution and which draw it is an affine map of.

    Attributes:
        distribution: of the entries.
        basis: names the draw, entry for entry; None where it is no map of a single draw.
        scale: factor on the draw.
        signs: whether every entry is +1 or -1.
    """

    distribution: Distribution
    basis: Basis = None
    scale: float = 1.0
    signs: bool = False


class Known(Protocol):
    """What a rule may ask: the laws of what an operator read."""

    replay: Replay

    def argument(self, value: Any) -> Law | None:
        """The law of an operand: a tensor that was read, a real one, or a number."""
        ...

    def read(self, read: Read) -> Law:
        """The law of a view."""
        ...


def affine(law: Law, scale: float, shift: float) -> Law:
    """The law of scale * x + shift."""
    made = affine_distribution(law.distribution, scale, shift)
    if isinstance(made, Constant):
        return Law(made)
    basis = law.basis if shift == 0 or law.basis is None else (law.basis, law.scale * scale, shift)
    return replace(law, distribution=made, basis=basis, scale=law.scale * scale, signs=False)
