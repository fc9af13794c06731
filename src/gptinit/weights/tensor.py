"""A weight without storage: its owner computes the result of every operator that meets it.

exact for: whatever its owner is. Views of it are wrappers too, so a saved transpose costs no
memory; any other operator is the owner's, and its result an ordinary tensor.
not covered: writing to a weight (refused). Writes to a copy of one are left to its owner.
"""

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor

from gptinit.errors import MeasureError
from gptinit.trace.nested import map_only, only
from gptinit.trace.record.tensor import outside_inference_mode

__all__ = ["Owner", "WeightTensor"]


class Owner(Protocol):
    """Where the values of a weight come from."""

    @property
    def engine(self) -> str:
        """Name of the policy, for messages."""

    def operate(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of an operator that is no view, some of whose arguments are weights."""


class WeightTensor(torch.Tensor):
    """A view of a parameter that has no storage.

    Attributes:
        owner: of the parameter.
        place: a meta tensor with the view's size, strides and offset in the parameter, which is
            contiguous.
        parent: the wrapper that this one is a view of, or None.
        factor: what the parameter's values are multiplied by.
        uses: the owner's record of products with this very wrapper.
        parameter: canonical name of the parameter.
        is_detached: whether no gradient of it is wanted.
        is_copy: whether the program holds a copy of the parameter, which is its own to write to.

    Shape:
        That of the view.
    """

    owner: Owner
    place: Tensor
    parent: "WeightTensor | None"
    factor: float
    uses: list[Any]
    parameter: str
    is_copy: bool
    is_detached: bool

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
        with outside_inference_mode():
            wrapper: WeightTensor = torch.Tensor._make_wrapper_subclass(
                cls, place.shape, strides=place.stride(), dtype=dtype, device=device
            )
        wrapper.place, wrapper.owner, wrapper.parent = place, owner, parent
        wrapper.factor, wrapper.uses, wrapper.parameter = factor, [], parameter
        wrapper.is_copy = wrapper.is_detached = False
        return wrapper

    @property
    def data(self) -> Tensor:
        """The weight without a gradient."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        raise _written(self, "an assignment to .data")

    def like(
        self,
        place: Tensor | None = None,
        *,
        dtype: torch.dtype | None = None,
        factor: float = 1.0,
        is_copy: bool = False,
    ) -> "WeightTensor":
        """A wrapper derived from this one."""
        made = WeightTensor(
            self.place if place is None else place,
            self.owner,
            parameter=self.parameter,
            dtype=dtype or self.dtype,
            device=self.device,
            parent=self,
            factor=self.factor * factor,
        )
        made.is_copy = self.is_copy or is_copy
        made.is_detached = self.is_detached
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override] # torch declares it as a plain function
        cls,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Return a view as a wrapper, leave any other operator to the owner.

        Raises:
            MeasureError: if the operator writes to a weight.
        """
        kwargs = kwargs or {}
        first = args[0] if args else None
        weights = only(WeightTensor, (args, kwargs))
        if func._schema.is_mutable:
            for weight in only(WeightTensor, _written_to(func, args, kwargs)):
                if not weight.is_copy:
                    raise _written(weight, str(func))
        if func.is_view and isinstance(first, WeightTensor):
            viewed = _viewed(func, first, args[1:], kwargs)
            if func is torch.ops.aten.detach.default:
                viewed.is_detached = True
            if viewed is not None:
                return viewed
        return weights[0].owner.operate(func, args, kwargs)


def _viewed(func: Any, weight: WeightTensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A view of a weight as wrappers; None where its strides do not allow it."""
    try:
        places = func(weight.place, *args, **kwargs)
    except (RuntimeError, ValueError):  # its strides do not allow it, as after a copy
        return None
    if isinstance(places, Tensor) and not _is_part(places, weight.place):
        return None
    return map_only(Tensor, weight.like, places)


def _is_part(place: Tensor, whole: Tensor) -> bool:
    """Whether a place holds the same numbers in the same memory; not after a copy or a bit cast."""
    if place.dtype != whole.dtype or place.is_neg():
        return False
    return bool(place.untyped_storage()._cdata == whole.untyped_storage()._cdata)


def _written_to(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The arguments that an operator writes to."""
    named = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
    return [
        named.get(a.name)
        for a in func._schema.arguments
        if a.alias_info is not None and a.alias_info.is_write
    ]


def _written(weight: WeightTensor, what: str) -> MeasureError:
    return MeasureError(
        f"weights must not be written while engine={weight.owner.engine} measures, got {what}. "
        "Use --engine dense."
    )
