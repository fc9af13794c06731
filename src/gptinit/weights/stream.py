"""Weights of blocks drawn when an operator touches them and dropped after it.

exact for: everything a program can hold, bitwise equal to `dense` on one device, torch version and
dtype. Embeddings, final norm and head stay resident. In the backward pass autograd has kept the
wrapper, not the weight, so the weight is drawn again.
not covered: writing to a weight in the forward pass (refused).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from gptinit.errors import MeasureError
from gptinit.program import ParameterProgram, Program
from gptinit.weights.draws import Draws
from gptinit.weights.policy import put_parameter, tied_names

__all__ = ["StreamedWeight", "install_stream"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the values of a streamed weight come from.

    Attributes:
        draws: the draws of this seed.
        parameter: which parameter of them.
        views: operators applied to it one after the other, as (operator, its other arguments).
    """

    draws: Draws
    parameter: ParameterProgram
    views: tuple[tuple[Any, tuple[Any, ...], dict[str, Any]], ...] = ()

    def values(self) -> Tensor:
        """The values, drawn now."""
        tensor = self.draws.new(self.parameter)
        for view, args, kwargs in self.views:
            tensor = view(tensor, *args, **kwargs)
        return tensor


class StreamedWeight(torch.Tensor):
    """A tensor without storage that draws its values for the operator that asks.

    Views of it are wrappers too and remember how they came about, so a saved transpose costs no
    memory either. Any other operator gets the values, and its result is an ordinary tensor.

    Shape:
        That of the parameter it stands for.
    """

    source: Source

    @staticmethod
    def __new__(cls, like: Tensor, source: Source) -> "StreamedWeight":
        """Wrap `source`; `like` (on meta) gives shape and strides."""
        wrapper = torch.Tensor._make_wrapper_subclass(
            cls,
            like.shape,
            strides=like.stride(),
            dtype=source.draws.dtype,
            device=source.draws.device,
        )
        wrapper.source = source
        return wrapper

    @classmethod
    def __torch_dispatch__(  # type: ignore[override] # torch declares it as a plain function
        cls,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Answer a view by a wrapper, anything else by the operator on drawn values.

        Raises:
            MeasureError: if the operator writes to a weight.
        """
        kwargs = kwargs or {}
        if func._schema.is_mutable:
            raise MeasureError(
                f"weights must not be written while engine=stream measures, got {func}. "
                "Use --engine dense."
            )
        weight = args[0] if args else None
        if func.is_view and isinstance(weight, StreamedWeight):
            like = torch.empty_strided(weight.shape, weight.stride(), device="meta")
            viewed = func(like, *args[1:], **kwargs)
            if isinstance(viewed, Tensor):
                views = (*weight.source.views, (func, args[1:], kwargs))
                return StreamedWeight(viewed, replace(weight.source, views=views))
        drawn: dict[int, Tensor] = {}

        def materialise(weight: StreamedWeight) -> Tensor:
            if id(weight) not in drawn:
                drawn[id(weight)] = weight.source.values()
            return drawn[id(weight)]

        real_args, real_kwargs = tree_map_only(StreamedWeight, materialise, (args, kwargs))
        return func(*real_args, **real_kwargs)


def install_stream(module: nn.Module, program: Program, draws: Draws) -> None:
    """Make the parameters inside blocks streamed ones, and draw the few outside for good."""
    names = tied_names(module)
    for parameter in program:
        if parameter.layer is None:
            put_parameter(module, names[parameter.name], draws.new(parameter))
            continue
        like = torch.empty(parameter.shape, device="meta")
        streamed = StreamedWeight(like, Source(draws=draws, parameter=parameter))
        put_parameter(module, names[parameter.name], streamed)
