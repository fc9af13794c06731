"""Values for a part of a recorded forward pass: its inputs are given, its outputs computed.

Everything is computed in float64, whatever the model's dtype, so that a formula can be compared
with it to nine digits.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gptinit.facts.distributions import Constant
from gptinit.forward.graph import MATMULS, Graph, Vertex
from gptinit.trace.graph import Read
from gptinit.trace.nested import map_only

__all__ = ["LOOKUPS", "Uncomputable", "Values", "in_double", "is_product"]

LOOKUPS = frozenset({"embedding"})


class Uncomputable(Exception):
    """A part of a pass that does not follow from what is given: where, and why."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(why)
        self.where = where


class Values:
    """The values of some nodes of a graph.

    Args:
        graph: of one forward pass.
        given: index of a node -> its value; nothing behind these is computed.
        weights: name of a parameter -> its value, in the order of its storage; a number stands
            for as many entries.
    """

    def __init__(
        self,
        graph: Graph,
        given: Mapping[int, Tensor],
        weights: Mapping[str, Tensor | float] | None = None,
    ) -> None:
        self._graph, self._weights = graph, weights or {}
        self._values = dict(given)

    def read(self, read: Any) -> Tensor:
        """The value of a view.

        Raises:
            Uncomputable: if it depends on more than what is given.
        """
        graph, geometry = self._graph, read.geometry
        name = graph.weight_read(read)
        if name is not None:
            flat = self._weight(name, read.storage.numel)
        else:
            # A single write of the whole view needs no buffer; others are painted over each other.
            writes = graph.writes(read)
            if len(writes) == 1 and writes[0][0] == geometry:
                return self.vertex(writes[0][1])
            kind = torch.complex128 if read.storage.dtype.is_complex else torch.float64
            flat = torch.full((read.storage.numel,), torch.nan, dtype=kind)
            for region, index in writes:
                value = self.vertex(index).reshape(region.size)
                flat.as_strided(region.size, region.stride, region.offset).copy_(value)
        return flat.as_strided(geometry.size, geometry.stride, geometry.offset)

    def _weight(self, name: str, numel: int) -> Tensor:
        value = self._weights.get(name)
        if isinstance(value, int | float):
            return torch.full((numel,), float(value), dtype=torch.float64)
        if value is None or value.numel() != numel:
            raise Uncomputable(name, "this parameter has an effect that no formula covers.")
        return value

    def vertex(self, index: int) -> Tensor:
        """The value of a node.

        Raises:
            Uncomputable: if it depends on more than what is given.
        """
        if index not in self._values:
            self._values[index] = self._compute(self._graph.vertices[index])
        return self._values[index]

    def _compute(self, v: Vertex) -> Tensor:
        node = v.node
        if node.constant is not None:
            return in_double(node.constant)
        if isinstance(node.law, Constant):
            return torch.full(node.shape, node.law.value, dtype=torch.float64)
        # torch tags fused attention as random, for its dropout; without any it is not.
        is_without_dropout = "scaled_dot_product" in v.name and not any(node.args[3:4])
        if node.op is None or (node.is_random and not is_without_dropout):
            raise Uncomputable(v.name, "its forward pass draws random numbers.")
        if is_product(self._graph, v):
            raise Uncomputable(
                next(o.weight for o in v.operands if o.weight) or "",
                "what this parameter does has no formula.",
            )
        args, kwargs = map_only(object, self._argument, (node.args, node.kwargs))
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        try:
            value: Tensor = node.result(node.op(*args, **kwargs))
        except Exception as error:  # an operator that does not exist in float64
            raise Uncomputable(v.name, f"{v.name} could not be computed.") from error
        return in_double(value)

    def _argument(self, value: Any) -> Any:
        if isinstance(value, Read):
            return self.read(value)
        if isinstance(value, Tensor):
            return in_double(value)
        is_dtype = isinstance(value, torch.dtype)
        return in_double(torch.empty(0, dtype=value)).dtype if is_dtype else value


def is_product(graph: Graph, v: Vertex) -> bool:
    """Whether a node multiplies tokens by a parameter or looks rows of one up: a cut."""
    has_weight = any(o.weight for o in v.operands)
    return v.name in MATMULS | LOOKUPS and has_weight and graph.is_token(v.index)


def in_double(tensor: Tensor) -> Tensor:
    """A float tensor in float64, a complex one in complex128, any other as it is."""
    if tensor.is_complex():
        return tensor.to(torch.complex128)
    return tensor.double() if tensor.is_floating_point() else tensor
