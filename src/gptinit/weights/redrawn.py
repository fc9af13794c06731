"""A weight that is drawn anew, with equal values, for every operator that needs it.

exact for: everything a program can hold.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gptinit.results.program import ParameterProgram
from gptinit.trace.nested import map_only
from gptinit.weights.draws import Draws
from gptinit.weights.tensor import WeightTensor

__all__ = ["Redrawn", "redrawn"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Redrawn:
    """Owner of a weight that is drawn for one operator at a time.

    Attributes:
        draws: the draws of this seed.
        parameter: which parameter of them.
        engine: name of the policy, for messages.
    """

    draws: Draws
    parameter: ParameterProgram
    engine: str = "stream"

    def operate(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The operator on drawn values; a weight that occurs twice is drawn once."""
        drawn: dict[int, Tensor] = {}

        def materialise(weight: WeightTensor) -> Tensor:
            owner = weight.owner
            if not isinstance(owner, Redrawn):  # its own owner computes with it
                return weight
            if id(owner) not in drawn:
                drawn[id(owner)] = owner.draws.new(owner.parameter).contiguous()
            place = weight.place
            return drawn[id(owner)].as_strided(place.shape, place.stride(), place.storage_offset())

        real_args, real_kwargs = map_only(WeightTensor, materialise, (args, kwargs))
        return func(*real_args, **real_kwargs)


def redrawn(parameter: ParameterProgram, draws: Draws, *, engine: str = "stream") -> WeightTensor:
    """Return a parameter without storage that draws its values for one operator at a time."""
    place = torch.empty(parameter.shape, device="meta")
    owner = Redrawn(draws=draws, parameter=parameter, engine=engine)
    return WeightTensor(
        place, owner, parameter=parameter.name, dtype=draws.dtype, device=draws.device
    )
