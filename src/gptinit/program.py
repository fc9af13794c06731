"""What is known about every parameter before a model runs: its shape, role and distribution."""

from dataclasses import dataclass

from gptinit.distributions import Distribution

__all__ = ["ParameterProgram", "Program"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterProgram:
    """How one parameter comes into being.

    Attributes:
        name: canonical name, the first that `named_parameters` gives; ties appear once.
        shape: its shape.
        role: one of `vocabulary.ROLES`.
        layer: 0-based block index, or None outside the blocks.
        distribution: what its entries are drawn from.
    """

    name: str
    shape: tuple[int, ...]
    role: str
    layer: int | None
    distribution: Distribution

    @property
    def numel(self) -> int:
        """Number of entries."""
        count = 1
        for size in self.shape:
            count *= size
        return count


Program = tuple[ParameterProgram, ...]
"""The init program of a model: one entry a parameter, in the order of `named_parameters`."""
