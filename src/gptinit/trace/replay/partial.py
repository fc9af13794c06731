"""Rules for a few entries of an operator's result, from the few entries of its arguments they need.

They let one look into tensors too large to compute whole. A rule returns None if it does not apply.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor

from gptinit.errors import SubjectError
from gptinit.trace.graph import Node, Read
from gptinit.trace.nested import map_only
from gptinit.trace.replay.operators import REDUCTIONS, reduced_dims
from gptinit.trace.replay.points import (
    broadcast,
    marked,
    positions_of_rows,
    ravel,
    sample_positions,
)

__all__ = ["RULES", "Unanswerable", "Values", "pointwise"]


class Unanswerable(SubjectError):
    """A value that neither a replay nor a sample of entries can give."""


class Values(Protocol):
    """The part of `Replay` that rules use."""

    limit: int

    def at(self, read: Read, positions: Tensor) -> Tensor:
        """Some entries of what was read."""
        ...

    def node(self, node: Node) -> Tensor:
        """The whole value of a node."""
        ...


def _full(values: Values, node: Node, positions: Tensor) -> Tensor:
    return torch.full(positions.shape, node.args[1], dtype=node.dtype)


def _eye(values: Values, node: Node, positions: Tensor) -> Tensor:
    return (positions // node.shape[1] == positions % node.shape[1]).to(node.dtype)


def pointwise(values: Values, node: Node, positions: Tensor) -> Tensor:
    """Entries of an elementwise operator: the operator applied to those of its arguments."""

    def entries(operand: Read | Tensor) -> Tensor:
        size = tuple(operand.geometry.size if isinstance(operand, Read) else operand.shape)
        at = broadcast(size, node.shape, positions) if size else torch.zeros((), dtype=torch.int64)
        if isinstance(operand, Read):
            return values.at(operand, at.reshape(-1)).view(at.shape)
        return operand.reshape(-1)[at]

    args, kwargs = map_only((Read, Tensor), entries, (node.args, node.kwargs))
    out: Tensor = node.op(*args, **kwargs)
    return out.expand(positions.shape).to(node.dtype)


def _reduce(values: Values, node: Node, positions: Tensor) -> Tensor:
    """Entries of a reduction: rows in full if some dimensions are kept, else from a sample."""
    read = node.args[0]
    if read.storage.numel <= values.limit:
        return values.node(node).reshape(-1)[positions]
    dims = reduced_dims(node.op, node.args, node.kwargs, len(read.geometry.size))
    if len(dims) == len(read.geometry.size):
        return _reduce_all(values, node, read).expand(positions.shape)
    kept = [n for d, n in enumerate(read.geometry.size) if d not in dims]
    # Each row once, however many of the positions ask for it.
    rows, back = positions.unique(return_inverse=True)
    length = read.numel // max(1, math.prod(kept))
    if rows.numel() * length > 4 * values.limit:
        raise Unanswerable(f"{rows.numel()} rows of {length} entries are too many to be replayed.")
    entries = positions_of_rows(read.geometry.size, dims, rows)  # (U, length)
    table = values.at(read, entries.flatten()).view(-1, length)
    args, kwargs = _along_rows(node)
    out: Tensor = node.result(node.op(table, *args, **kwargs))
    return out.reshape(-1)[back]


def _reduce_all(values: Values, node: Node, read: Read) -> Tensor:
    positions = sample_positions(read.geometry.size)
    sample = values.at(read, positions)
    args = list(node.args)
    index = _argument(node, "dim")
    if index is not None and args[index] is not None:
        args[index] = 0 if isinstance(args[index], int) else [0]
    keywords = {k: v for k, v in node.kwargs.items() if k not in {"dim", "keepdim"}}
    keepdim = _argument(node, "keepdim")
    if keepdim is not None:
        args[keepdim] = False
    out: Tensor = node.result(node.op(sample, *args[1:], **keywords))
    return out.reshape(()) * _count_factor(node, read.numel / positions.numel())


def _count_factor(node: Node, ratio: float) -> float:
    """The factor from a sum or norm of a sample to that of all entries."""
    name = node.name
    if name in {"sum", "nansum"}:
        return ratio
    if name in {"linalg_vector_norm", "norm"}:
        order = node.args[1] if len(node.args) > 1 and node.args[1] is not None else 2
        return 1.0 if math.isinf(float(order)) else ratio ** (1 / float(order))
    return 1.0


def _joined(values: Values, node: Node, positions: Tensor) -> Tensor:
    is_stack = node.name == "stack"
    dim = (node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)) % len(node.shape)
    index = list(torch.unravel_index(positions, node.shape))
    out = torch.empty(positions.shape, dtype=node.dtype)
    start = 0
    for part in node.args[0]:
        shape = tuple(part.geometry.size if isinstance(part, Read) else part.shape)
        length = 1 if is_stack else shape[dim]
        inside = (index[dim] >= start) & (index[dim] < start + length)
        where = [i[inside] - (start if d == dim else 0) for d, i in enumerate(index)]
        if is_stack:
            del where[dim]
        flat = ravel(where, shape) if where else torch.zeros(int(inside.sum()), dtype=torch.int64)
        entries = values.at(part, flat) if isinstance(part, Read) else part.reshape(-1)[flat]
        out[inside] = entries.to(node.dtype)
        start += length
    return out


def _product(values: Values, node: Node, positions: Tensor) -> Tensor | None:
    left, right = node.args
    if not isinstance(left, Read) or not isinstance(right, Read):
        return None
    inner, columns = right.geometry.size
    rows, row = (positions // columns).unique(return_inverse=True)
    across, column = (positions % columns).unique(return_inverse=True)
    if inner * (rows.numel() + across.numel()) > 4 * values.limit:
        raise Unanswerable(f"{rows.numel()} rows of {inner} entries are too many to be replayed.")
    along = torch.arange(inner)
    a = values.at(left, (rows.unsqueeze(1) * inner + along).flatten()).view(-1, inner)
    b = values.at(right, (along.unsqueeze(1) * columns + across).flatten()).view(inner, -1)
    out: Tensor = (a @ b)[row, column]
    return out


def _overwritten(values: Values, node: Node, positions: Tensor) -> Tensor | None:
    """Entries of index_put or masked_fill of one number, at real indices or a real mask."""
    target, where, value = node.args[:3]
    if isinstance(where, Read):
        marks: Tensor | None = values.at(
            where, broadcast(where.geometry.size, node.shape, positions)
        )
    else:
        marks = marked(where, node.shape, positions)
    if marks is None or not isinstance(target, Read) or node.args[3:] == (True,):
        return None
    if isinstance(value, Read):
        if value.numel != 1:
            return None
        value = values.at(value, torch.zeros(1, dtype=torch.int64))
    elif isinstance(value, Tensor) and value.numel() != 1:
        return None
    return torch.where(marks, value, values.at(target, positions)).to(node.dtype)


def _triangle(values: Values, node: Node, positions: Tensor) -> Tensor:
    *_, row, column = torch.unravel_index(positions, node.shape)
    diagonal = node.args[1] if len(node.args) > 1 else node.kwargs.get("diagonal", 0)
    is_lower = node.name == "tril"
    kept = column - row <= diagonal if is_lower else column - row >= diagonal
    return torch.where(kept, values.at(node.args[0], positions), 0).to(node.dtype)


def _argument(node: Node, name: str) -> int | None:
    """Index of an operator's argument if it was passed by position; else None."""
    for index, argument in enumerate(node.op._schema.arguments):
        if argument.name == name:
            return index if index < len(node.args) else None
    return None


def _along_rows(node: Node) -> tuple[list[Any], dict[str, Any]]:
    """The reduction's arguments for a table of rows: dim=1, keepdim=False, spelled as they were."""
    args, kwargs = list(node.args[1:]), dict(node.kwargs)
    for name, single in (("dim", 1), ("keepdim", False)):
        index = _argument(node, name)
        old = kwargs.get(name) if index is None else args[index - 1]
        value: Any = [1] if name == "dim" and not isinstance(old, int) else single
        if index is not None:
            args[index - 1] = value
        elif name in kwargs:
            kwargs[name] = value
    return args, kwargs


RULES: Mapping[str, Callable[[Values, Node, Tensor], Tensor | None]] = MappingProxyType(
    dict.fromkeys(REDUCTIONS, _reduce)
    | dict.fromkeys(("cat", "concat", "stack"), _joined)
    | dict.fromkeys(("index_put", "masked_fill"), _overwritten)
    | dict.fromkeys(("tril", "triu"), _triangle)
    | {"eye": _eye, "full": _full, "mm": _product}
)
