"""A distribution together with the name of the random numbers behind it."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

from gptinit.facts.algebra import affine_distribution
from gptinit.facts.distributions import Constant, Distribution
from gptinit.trace.graph import Read
from gptinit.trace.replay.replay import Replay

__all__ = ["Basis", "Law", "LawSource", "affine"]

Basis = tuple[object, ...] | None
"""Names the random numbers behind every entry, in order: a draw's key and what was done to it.

Two tensors with equal bases have equal values, up to `Law.scale`, whatever the seed. That finds
copies and ties of separate tensors, adds x + 0.5 x as 1.5 x and not as independent draws, and
recognises a tensor that is divided by its own norm. None where entries mix several draws.
"""


@dataclass(frozen=True, slots=True)
class Law:
    """A distribution, and the draw that its values are an affine map of.

    Attributes:
        distribution: of the entries.
        basis: names the draw, entry for entry; None if there is no single one.
        scale: the factor on the draw.
        signs: whether every entry is +1 or -1.
    """

    distribution: Distribution
    basis: Basis = None
    scale: float = 1.0
    signs: bool = False


class LawSource(Protocol):
    """Where a rule gets the laws of an operator's arguments from: the part of `Laws` it uses."""

    replay: Replay

    def argument(self, value: Any) -> Law | None:
        """The law of an operand: a recorded tensor, a real one, or a number."""
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
