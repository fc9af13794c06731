"""A weight without storage: a tensor that asks its owner whenever an operator needs it.

exact for: whatever its owner is. Views of it are wrappers too, so a saved transpose costs no
memory; any other operator is the owner's, and its result an ordinary tensor.
not covered: writing to a weight (refused).
"""

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from gptinit.errors import MeasureError

__all__ = ["Owner", "WeightTensor", "weights_in"]


class Owner(Protocol):
    """Where the values of a weight come from."""

    @property
    def engine(self) -> str:
        """Name of the policy, for messages."""
        ...

    def operate(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of an operator that is no view, some of whose arguments are weights."""
        ...


class WeightTensor(torch.Tensor):
    """A view of a parameter that has no storage.

    Attributes:
        owner: of the parameter.
        place: a meta tensor with the view's size, strides and offset in the parameter, which is
            contiguous.
        parent: the wrapper that this one is a view of, or None.
        factor: what the parameter's values are multiplied by.
        uses: what the owner notes about products with this very wrapper.
        parameter: canonical name of the parameter.

    Shape:
        That of the view.
    """

    owner: Owner
    place: Tensor
    parent: "WeightTensor | None"
    factor: float
    uses: list[Any]
    parameter: str

    @staticmethod
    def __new__(  # noqa: PLR0913 - one argument a field
        cls,
        place: Tensor,
        owner: Owner,
        *,
        parameter: str,
        dtype: torch.dtype,
        device: torch.device,
        parent: "WeightTensor | None" = None,
        factor: float = 1.0,
    ) -> "WeightTensor":
        """Wrap the part of the owner's parameter that `place` describes."""
        wrapper: WeightTensor = torch.Tensor._make_wrapper_subclass(
            cls, place.shape, strides=place.stride(), dtype=dtype, device=device
        )
        wrapper.place, wrapper.owner, wrapper.parent = place, owner, parent
        wrapper.factor, wrapper.uses, wrapper.parameter = factor, [], parameter
        return wrapper

    def like(
        self,
        place: Tensor | None = None,
        *,
        dtype: torch.dtype | None = None,
        factor: float = 1.0,
    ) -> "WeightTensor":
        """A wrapper derived from this one."""
        return WeightTensor(
            self.place if place is None else place,
            self.owner,
            parameter=self.parameter,
            dtype=dtype or self.dtype,
            device=self.device,
            parent=self,
            factor=self.factor * factor,
        )

    @classmethod
    def __torch_dispatch__(  # type: ignore[override] # torch declares it as a plain function
        cls,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Answer a view by a wrapper, leave anything else to the owner.

        Raises:
            MeasureError: if the operator writes to a weight.
        """
        kwargs = kwargs or {}
        first = args[0] if args else None
        weights = weights_in((args, kwargs))
        if func._schema.is_mutable:
            raise MeasureError(
                f"weights must not be written while engine={weights[0].owner.engine} measures, got "
                f"{func}. Use --engine dense."
            )
        if func.is_view and isinstance(first, WeightTensor):
            viewed = _viewed(func, first, args[1:], kwargs)
            if viewed is not None:
                return viewed
        return weights[0].owner.operate(func, args, kwargs)


def _viewed(func: Any, weight: WeightTensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A view of a weight as wrappers; None where its strides do not allow it."""
    try:
        places = func(weight.place, *args, **kwargs)
    except (RuntimeError, ValueError):  # after a copy was left out, say
        return None
    return tree_map_only(Tensor, weight.like, places)


def weights_in(value: Any) -> list[WeightTensor]:
    """All wrappers in a nest of arguments, in order."""
    found: list[WeightTensor] = []
    tree_map_only(WeightTensor, found.append, value)
    return found
