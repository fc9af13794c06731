"""The value that a number computed from draws is close to: a norm, a standard deviation, a mean.

So `w / w.norm()` has a law although the norm is random: with many entries it hardly varies.
exact for: norms and standard deviations in the limit of many entries; approximate for: those of
single rows.
"""

import math

import torch
from torch import Tensor

from gptinit.facts.distributions import Constant, Distribution, Measured
from gptinit.trace.graph import Node, Read
from gptinit.trace.laws.law import LawSource
from gptinit.trace.nested import map_only
from gptinit.trace.replay.operators import COPIES, reduced_dims

__all__ = ["REDUCED", "averaged", "expected", "source_of"]

REDUCED = frozenset({"linalg_vector_norm", "mean", "norm", "std", "sum", "var"})
"""Reductions whose result follows from the moments of what they reduce."""


class _NotKnown(Exception):
    """It varies, or does not follow from the laws of its operands."""


def expected(laws: LawSource, read: Read) -> float | None:
    """The number that every entry of `read` is close to; None if they vary or it is not known."""
    try:
        value = float(_near(laws, read))
    except _NotKnown:
        return None
    return value if math.isfinite(value) else None


def source_of(read: Read) -> Node | None:
    """The one node whose value a view shows, once or expanded, past copies and casts."""
    writes = read.storage.visible(read.version)
    node = writes[0].node if len(writes) == 1 else None
    while node is not None and node.name in COPIES:
        inner = node.args[0]
        writes = inner.storage.visible(inner.version) if isinstance(inner, Read) else []
        node = writes[0].node if len(writes) == 1 else None
    return node


def averaged(node: Node) -> tuple[Read, int] | None:
    """(operand of a reduction, entries that each result reduces); None for a real operand."""
    read = node.args[0]
    if not isinstance(read, Read):
        return None
    size = read.geometry.size
    dims = reduced_dims(node.op, node.args, node.kwargs, len(size))
    return read, math.prod(size[d] for d in dims)


def _squared_of(read: Read) -> Read | None:
    node = source_of(read)
    if node is None or not node.args or not isinstance(node.args[0], Read):
        return None
    name = node.name
    is_power = name == "pow" and node.args[1] == 2
    is_product = name == "mul" and node.args[0] == node.args[1]
    return node.args[0] if is_power or is_product or name == "square" else None


def _near(laws: LawSource, read: Read) -> Tensor:
    """The number that every entry of `read` is close to, 0-dimensional float64.

    Raises:
        _NotKnown: if there is none.
    """
    node = source_of(read)
    if node is None:
        raise _NotKnown
    if node.law is not None or node.constant is not None:
        return _single(laws.read(read).distribution)
    if node.is_random:
        raise _NotKnown
    name = node.name
    if name in REDUCED:
        return torch.tensor(_reduced(laws, node, name), dtype=torch.float64)
    if torch.Tag.pointwise not in node.op.tags:
        raise _NotKnown

    def near(operand: Read | Tensor) -> Tensor:
        if isinstance(operand, Read):
            return _near(laws, operand)
        law = laws.argument(operand)
        assert law is not None
        return _single(law.distribution)

    args, kwargs = map_only((Read, Tensor), near, (node.args, node.kwargs))
    value: Tensor = node.op(*args, **kwargs)
    return value.double()


def _single(d: Distribution) -> Tensor:
    if not isinstance(d, Constant):
        raise _NotKnown
    return torch.tensor(d.value, dtype=torch.float64)


def _reduced(laws: LawSource, node: Node, name: str) -> float:
    """The number that a reduction over entries of a known law is close to, from its moments."""
    reduced = averaged(node)
    if reduced is None:
        raise _NotKnown
    read, count = reduced
    square = _squared_of(read)
    law = laws.read(square or read)
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
    """A mean or a sum, unless it varies by more than 1 % of itself."""
    if abs(d.mean) * math.sqrt(count) < 100 * d.std:
        raise _NotKnown
    return d.mean * (count if name == "sum" else 1)
