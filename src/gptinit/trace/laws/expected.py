"""What a number computed from drawn values is near to: a norm, a standard deviation, a mean.

exact for: norms and standard deviations of all entries as they become many; for those of rows, the
spread that dividing by them leaves.
"""

import math

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from gptinit.facts.distributions import Constant, Distribution, Measured
from gptinit.trace.graph import Node, Read
from gptinit.trace.laws.law import Known
from gptinit.trace.replay.replay import base_name, reduced_dims

__all__ = ["averaged", "expected", "source_of", "squared_of"]

_SAME = frozenset({"_to_copy", "clone", "detach", "lift_fresh"})


class _NotKnown(Exception):
    """Not near to any number that follows from the laws."""


def expected(known: Known, read: Read) -> float | None:
    """The number that every entry of `read` is near to; None where they spread or it is not known.

    Reductions over entries of known laws are near to what their moments say.
    """
    try:
        value = float(_near(known, read))
    except _NotKnown:
        return None
    return value if math.isfinite(value) else None


def source_of(read: Read) -> Node | None:
    """The node that a view shows all or a repetition of, copies and casts passed through."""
    writes = read.storage.visible(read.version)
    node = writes[0].node if len(writes) == 1 else None
    while node is not None and node.op is not None and base_name(node.op) in _SAME:
        inner = node.args[0]
        writes = inner.storage.visible(inner.version) if isinstance(inner, Read) else []
        node = writes[0].node if len(writes) == 1 else None
    return node


def averaged(node: Node) -> tuple[Read, int] | None:
    """What a reduction runs over and how many entries of it meet in one; None if it is none."""
    if node.op is None or node.is_random or not node.args or not isinstance(node.args[0], Read):
        return None
    read = node.args[0]
    size = read.geometry.size
    dims = reduced_dims(node.op, node.args, node.kwargs, len(size))
    return read, math.prod(size[d] for d in dims)


def squared_of(read: Read) -> Read | None:
    """The tensor that was squared; None where `read` is no square."""
    node = source_of(read)
    if node is None or node.op is None or not node.args or not isinstance(node.args[0], Read):
        return None
    name = base_name(node.op)
    is_power = name == "pow" and node.args[1] == 2
    is_product = name == "mul" and node.args[0] == node.args[1]
    return node.args[0] if is_power or is_product or name == "square" else None


def _near(known: Known, read: Read) -> Tensor:
    """As `expected`, 0-dimensional float64."""
    node = source_of(read)
    if node is None:
        raise _NotKnown
    if node.law is not None or node.constant is not None:
        return _single(known.read(read).distribution)
    if node.is_random:
        raise _NotKnown
    name = base_name(node.op)
    if name in _REDUCED:
        return torch.tensor(_reduced(known, node, name), dtype=torch.float64)
    if torch.Tag.pointwise not in node.op.tags:
        raise _NotKnown

    def near(operand: Read | Tensor) -> Tensor:
        if isinstance(operand, Read):
            return _near(known, operand)
        law = known.argument(operand)
        assert law is not None
        return _single(law.distribution)

    args, kwargs = tree_map_only((Read, Tensor), near, (node.args, node.kwargs))
    made: Tensor = node.op(*args, **kwargs)
    return made.double()


def _single(d: Distribution) -> Tensor:
    """The value of a constant."""
    if not isinstance(d, Constant):
        raise _NotKnown
    return torch.tensor(d.value, dtype=torch.float64)


_REDUCED = frozenset({"linalg_vector_norm", "mean", "norm", "std", "sum", "var"})


def _reduced(known: Known, node: Node, name: str) -> float:
    """What a reduction is near to."""
    found = averaged(node)
    if found is None:
        raise _NotKnown
    read, count = found
    square = squared_of(read)
    law = known.read(square or read)
    d = law.distribution
    if isinstance(d, Measured) or not math.isfinite(d.std):
        raise _NotKnown
    second = d.std**2 + d.mean**2
    if square is not None and name in {"mean", "sum"}:
        return second * (count if name == "sum" else 1)
    order = node.args[1] if len(node.args) > 1 else 2
    if square is not None or (name in {"norm", "linalg_vector_norm"} and order not in {2, None}):
        raise _NotKnown
    if name in {"std", "var"}:
        return d.std if name == "std" else d.std**2
    return _mean(d, name, count) if name in {"mean", "sum"} else math.sqrt(count * second)


def _mean(d: Distribution, name: str, count: int) -> float:
    """A mean, or a sum, where it is not lost in its own noise."""
    if abs(d.mean) * math.sqrt(count) < 100 * d.std:
        raise _NotKnown
    return d.mean * (count if name == "sum" else 1)
