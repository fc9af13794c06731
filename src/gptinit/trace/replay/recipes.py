"""Recipes: draw a traced tensor again for any seed, from its record.

Draws are named after parameters, so that every engine gives the same draw the same numbers.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gptinit.facts.distributions import Distribution
from gptinit.trace.graph import Node, Read, draws_behind
from gptinit.trace.replay.drawing import random_operator
from gptinit.trace.replay.replay import Replay

__all__ = ["Recipe", "recipes"]

DrawFrom = Callable[[str, int, tuple[int, ...], Distribution], Tensor]
"""(parameter, number of the draw, shape, law) -> float32 values, the same at every call."""
SeedFor = Callable[[str, int], int]
"""(parameter, number of the draw) -> seed, for draws that have no law of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One tensor's record.

    Attributes:
        read: what was recorded.
        names: key of a draw -> (canonical name of the first parameter that uses it, number).
    """

    read: Read
    names: Mapping[int, tuple[str, int]]

    @property
    def is_random(self) -> bool:
        """Whether its values depend on a draw."""
        return bool(draws_behind(self.read))

    def values(self, draw: DrawFrom, seed: SeedFor) -> Tensor:
        """All entries computed from new draws, in the shape and dtype of the trace.

        Args:
            draw: gives the draws that have a law.
            seed: seeds the others.
        """

        def node_values(node: Node) -> Tensor:
            name, number = self.names.get(node.key, ("", 0))
            if node.law is not None:
                return draw(name, number, node.shape, node.law).to(node.dtype)
            generator = torch.Generator().manual_seed(seed(name, number))
            return random_operator(node, node.shape, generator)

        # Without a limit: the caller wants a whole tensor that the model holds in memory anyway.
        return Replay(node_values, limit=1 << 62).value(self.read)


def recipes(reads: Iterable[tuple[str, Read]]) -> dict[str, Recipe]:
    """A recipe for every traced tensor; draws that several share are named after the first."""
    names: dict[int, tuple[str, int]] = {}
    by_name = {}
    for name, read in reads:
        number = 0
        for node in draws_behind(read):
            if node.key not in names:
                names[node.key] = (name, number)
                number += 1
        by_name[name] = Recipe(read=read, names=names)
    return by_name
