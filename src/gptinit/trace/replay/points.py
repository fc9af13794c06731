"""Index arithmetic: where an entry of a view, a region or an operand lies in another.

Every position is a flat index, in the order of the view or tensor that it belongs to.
"""

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

from gptinit.trace.graph import Geometry, Node, Read

__all__ = [
    "SAMPLE",
    "broadcast",
    "in_region",
    "marked",
    "moved_from",
    "positions_of_rows",
    "ravel",
    "sample_positions",
    "to_storage",
]

SAMPLE = 1 << 16
"""Entries of a larger tensor that stand for all of it."""


@cache
def sample_positions(shape: tuple[int, ...]) -> Tensor:
    """Flat indices that stand for all entries: all of up to SAMPLE, else whole stretches of rows.

    Shape:
        result: (M,) int64, M <= SAMPLE, about 256 columns of each of some rows.
    """
    numel = math.prod(shape)
    if numel <= SAMPLE:
        return torch.arange(numel)
    columns = shape[-1]
    across = min(columns, max(256, SAMPLE * columns // numel))
    rows = _spread(numel // columns, SAMPLE // across)
    return (rows.unsqueeze(1) * columns + _spread(columns, across)).flatten()


def _spread(size: int, count: int) -> Tensor:
    """At most `count` different indices spread over [0, size), the first and the last included."""
    if count >= size:
        return torch.arange(size)
    spread = torch.linspace(0, size - 1, count, dtype=torch.float64).round().long()
    indices: Tensor = torch.unique_consecutive(spread)
    return indices


def to_storage(geometry: Geometry, positions: Tensor) -> Tensor:
    """Indices in the storage for flat indices in a view."""
    if geometry.is_dense():
        return positions + geometry.offset
    flat = torch.full_like(positions, geometry.offset)
    rest = positions
    for size, stride in zip(reversed(geometry.size), reversed(geometry.stride), strict=True):
        flat += rest % size * stride
        rest = rest // size
    return flat


def in_region(region: Geometry, flat: Tensor) -> tuple[Tensor, Tensor]:
    """(mask of the storage indices in a region, their flat indices in it; nonsense outside).

    Strides may be in any order but must nest, as those of slices and transposes do.
    """
    rest = flat - region.offset
    inside = rest >= 0
    if region.is_dense():
        return inside & (rest < region.numel), rest
    # From the largest stride down, as one takes digits of a number apart.
    index = torch.zeros_like(flat)
    weights = [math.prod(region.size[d + 1 :]) for d in range(len(region.size))]
    dims = sorted(zip(region.stride, region.size, weights, strict=True), reverse=True)
    for stride, size, weight in dims:  # from the outside in: each leaves the rest to the next
        if size > 1:
            along = rest // stride
            inside &= (along >= 0) & (along < size)
            index += along * weight
            rest = rest - along * stride
    return inside & (rest == 0), index


def broadcast(size: tuple[int, ...], shape: tuple[int, ...], positions: Tensor) -> Tensor:
    """Flat indices in an argument for flat indices in the result that it was broadcast to."""
    if tuple(size) == tuple(shape):
        return positions
    index = torch.unravel_index(positions, shape) if shape else ()
    index = index[len(shape) - len(size) :]
    kept = [i if n > 1 else torch.zeros_like(i) for i, n in zip(index, size, strict=True)]
    return ravel(kept, size) if kept else torch.zeros_like(positions)


def ravel(index: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    """The flat index for one index per dimension."""
    flat = torch.zeros_like(index[0])
    for along, size in zip(index, shape, strict=True):
        flat = flat * size + along
    return flat


def positions_of_rows(size: tuple[int, ...], dims: set[int], rows: Tensor) -> Tensor:
    """Flat indices of all entries that each entry of a reduction sums over; (U, length)."""
    strides = [math.prod(size[d + 1 :]) for d in range(len(size))]
    base = torch.zeros_like(rows)
    rest = rows
    for d in reversed([d for d in range(len(size)) if d not in dims]):
        base += rest % size[d] * strides[d]
        rest = rest // size[d]
    offsets = torch.zeros(1, dtype=torch.int64)
    for d in sorted(dims):
        along = torch.arange(size[d]) * strides[d]
        offsets = (offsets.unsqueeze(1) + along).flatten()
    return base.unsqueeze(1) + offsets


def moved_from(name: str, node: Node, positions: Tensor) -> Tensor | None:
    """Flat indices in the argument of a flip, roll, repeat or lookup; None for other operators."""
    if name not in {"flip", "index", "index_select", "repeat", "roll"} or not isinstance(
        node.args[0], Read
    ):
        return None
    size = tuple(node.args[0].geometry.size)
    index = list(torch.unravel_index(positions, node.shape)) if node.shape else []
    if name == "repeat":
        index = [i % n for i, n in zip(index[len(index) - len(size) :], size, strict=True)]
    elif name == "flip":
        dims = {d % len(size) for d in node.args[1]}
        index = [
            n - 1 - i if d in dims else i for d, (i, n) in enumerate(zip(index, size, strict=True))
        ]
    elif name == "index" and _is_of_rows(node.args[1]):
        index[0] = node.args[1][0][index[0]]
    elif name == "index_select" and isinstance(node.args[2], Tensor):
        dim = node.args[1] % len(size)
        index[dim] = node.args[2].reshape(-1)[index[dim]]
    elif name == "roll" and len(node.args) > 2 and node.args[2]:
        for shift, dim in zip(node.args[1], node.args[2], strict=True):
            index[dim] = (index[dim] - shift) % size[dim]
    else:
        return None
    return ravel(index, size) if index else torch.zeros_like(positions)


def _is_of_rows(indices: Any) -> bool:
    """Whether an index is one real vector of row numbers."""
    if isinstance(indices, Read) or len(indices) != 1 or not isinstance(indices[0], Tensor):
        return False
    return indices[0].dim() == 1 and indices[0].dtype != torch.bool


def marked(where: Any, shape: tuple[int, ...], positions: Tensor) -> Tensor | None:
    """Mask of the entries that masked_fill or index_put overwrites; None if it is not covered.

    Covered of index_put: whole rows at one list of indices, and entries at one mask.
    """
    if isinstance(where, Tensor):
        return where.reshape(-1)[broadcast(tuple(where.shape), shape, positions)]
    if isinstance(where, Read) or len(where) != 1 or not isinstance(where[0], Tensor):
        return None
    if where[0].dtype == torch.bool:
        return where[0].reshape(-1)[positions // math.prod(shape[where[0].dim() :])]
    rows = torch.zeros(shape[0], dtype=torch.bool)
    rows[where[0]] = True
    return rows[positions // math.prod(shape[1:])]
