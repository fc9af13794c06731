"""A module that is already built: its parameters are measured, with standard errors."""

from collections.abc import Iterable
from hashlib import sha256

import torch
from torch import Tensor, nn

from gptinit.trace.graph import Read
from gptinit.trace.laws.laws import Law, Laws, measured
from gptinit.trace.record.tensor import TracedTensor, traced

__all__ = ["LiveLaws", "digest", "stand_ins", "with_dependent_rows"]

_FEW, _MANY = 16, 512
"""Fewest rows and columns of a matrix that is tested, and most that are used of it."""

_BEYOND = 6.0
"""Standard errors from which rows count as dependent."""


class LiveLaws:
    """`Laws` of live tensors: moments instead of distributions; equal values have equal bases."""

    def __init__(self) -> None:
        self._fixed = Laws()

    def of(self, read: Read) -> Law:
        """The moments of a live tensor, or its value where all entries are equal."""
        node = read.whole_node()
        values = None if node is None else node.constant
        law = self._fixed.of(read)
        if values is None or values.numel() < 2 or law.distribution.kind != "fixed":
            return law
        return Law(measured(values), ("values", digest(values)))


def stand_ins(module: nn.Module) -> dict[str, TracedTensor]:
    """A traced tensor for every float parameter and buffer of a live module, sharing its memory."""
    by_id: dict[int, TracedTensor] = {}  # tied tensors share one
    by_name = {}
    named = (*module.named_parameters(remove_duplicate=False), *module.named_buffers())
    for name, tensor in named:
        if tensor.is_floating_point() and not tensor.is_meta:
            if id(tensor) not in by_id:
                by_id[id(tensor)] = traced(_plain(tensor))
            by_name[name] = by_id[id(tensor)]
    return by_name


def with_dependent_rows(parameters: Iterable[tuple[str, Tensor]]) -> str | None:
    """Name of the first matrix whose rows are too alike for independent draws; None without one.

    For independent rows of m entries the squared correlations times m have mean 1 and variance
    near 2. A mean over all pairs that is six standard errors higher is a sign of training.

    Args:
        parameters: names and values.
    """
    for name, tensor in parameters:
        if tensor.ndim != 2 or min(tensor.shape) < _FEW:
            continue
        # A corner is enough: 512 rows make 130,000 pairs.
        rows = _plain(tensor)[:_MANY, :_MANY].double()
        unit = rows / rows.square().mean(1, keepdim=True).sqrt().clamp(min=1e-30)
        n, m = unit.shape
        squares = (unit @ unit.T).square() / m  # m times squared correlations
        pairs = n * (n - 1) / 2
        above = (float(squares.sum() - squares.diagonal().sum()) / 2 - pairs) / (2 * pairs) ** 0.5
        if above > _BEYOND:
            return name
    return None


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu")


def digest(values: Tensor) -> str:
    """A hash of the values of a tensor on the CPU, whatever its dtype."""
    raw = values.contiguous().reshape(-1).view(torch.uint8)
    return sha256(raw.numpy().tobytes()).hexdigest()
