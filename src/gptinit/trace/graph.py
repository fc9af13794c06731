"""The record of a trace: storages with every write to them, and the nodes whose values they hold.

A `Storage` is one allocation; a view of it is a `Geometry`. Every write is kept with the region it
covers, so a `Read` (storage, version, geometry) names a value that later writes cannot change.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from gptinit.facts.distributions import Distribution
from gptinit.facts.step import Step
from gptinit.trace.nested import only

__all__ = [
    "Geometry",
    "Node",
    "Read",
    "Storage",
    "Write",
    "dependencies",
    "draws_behind",
    "is_traced_dtype",
    "keys_behind",
    "mark_looked",
    "ordered",
    "reads_in",
]

_numbers = itertools.count()


def is_traced_dtype(dtype: torch.dtype) -> bool:
    """Whether tensors of it are traced: real and complex numbers, not indices or truth values."""
    return dtype.is_floating_point or dtype.is_complex


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where a view lies in its storage, in entries."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int = 0

    @property
    def numel(self) -> int:
        """Number of entries."""
        return math.prod(self.size)

    def span(self) -> tuple[int, int] | None:
        """(first, end) if the entries fill one block of memory, in any order; else None."""
        # By stride: a transposed view fills its block too. Dimensions of 1 have any stride.
        dims = sorted((s, n) for n, s in zip(self.size, self.stride, strict=True) if n > 1)
        expected = 1
        for stride, size in dims:
            if stride != expected:
                return None
            expected *= size
        return self.offset, self.offset + self.numel

    def is_dense(self) -> bool:
        """Whether the entries fill one block of memory in the order of their indices."""
        expected = 1
        for size, stride in zip(reversed(self.size), reversed(self.stride), strict=True):
            if size > 1 and stride != expected:
                return False
            expected *= size
        return True


@dataclass(eq=False, slots=True, kw_only=True)
class Node:
    """One value: a draw, a constant, or the result of an operator without side effects.

    Attributes:
        op: the operator (an OpOverload), or None for a draw from `law` or a value of `constant`.
        args: its arguments with a Read in place of every traced tensor.
        kwargs: its keyword arguments, likewise.
        index: which of its results, where it has several.
        shape: of the value.
        dtype: of the value.
        law: the distribution of every entry of a draw.
        constant: a tensor that existed before the trace.
        key: names the random numbers of a draw; equal keys give equal numbers; 0 for no draw.
        step: the call that made it; None for a tensor that existed before the trace.
        by_default: whether the constructor of a torch module did it.
    """

    op: Any = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    index: int | None = None
    shape: tuple[int, ...]
    dtype: torch.dtype
    law: Distribution | None = None
    constant: torch.Tensor | None = None
    key: int = 0
    step: Step | None = None
    by_default: bool = False
    number: int = field(default_factory=lambda: next(_numbers))

    @property
    def numel(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def name(self) -> str:
        """Name of the operator without its overload; "draw" or "constant" where there is none."""
        if self.op is None:
            return "draw" if self.law is not None else "constant"
        return str(self.op.overloadpacket.__name__)

    def result(self, made: Any) -> Any:
        """The value of this node among all that its operator returned."""
        return made if self.index is None else made[self.index]

    @property
    def is_random(self) -> bool:
        """Whether it draws itself; what it reads may be random too."""
        return self.key != 0


@dataclass(frozen=True, slots=True)
class Write:
    """A value put into a region of a storage."""

    region: Geometry
    node: Node


@dataclass(eq=False, slots=True)
class Storage:
    """One allocation: its entries and everything that was written to it, oldest first.

    Attributes:
        numel: entries.
        dtype: of the entries.
        writes: what was written.
        looked: whether init code looked at drawn values that came from here.
    """

    numel: int
    dtype: torch.dtype
    writes: list[Write] = field(default_factory=list)
    looked: bool = False

    @property
    def version(self) -> int:
        """How many writes there have been."""
        return len(self.writes)

    def visible(self, version: int) -> list[Write]:
        """The writes that `version` still shows: from the last that covered the whole storage."""
        first = 0
        for index in range(version - 1, -1, -1):
            if self.writes[index].region.span() == (0, self.numel):
                first = index
                break
        return self.writes[first:version]


@dataclass(frozen=True, slots=True)
class Read:
    """The value of a view at one version of its storage."""

    storage: Storage
    version: int
    geometry: Geometry

    @property
    def numel(self) -> int:
        """Number of entries."""
        return self.geometry.numel

    def whole_node(self) -> Node | None:
        """The node whose value this is, entry for entry and in order; None if there is no such."""
        writes = self.storage.visible(self.version)
        if len(writes) != 1:
            return None
        region, node = writes[0].region, writes[0].node
        if region == self.geometry:
            return node
        # A view in another shape still shows the node's entries in order.
        same = region.is_dense() and self.geometry.is_dense() and region.numel == self.numel
        return node if same and region.offset == self.geometry.offset else None


def reads_in(node: Node) -> list[Read]:
    """The reads among a node's arguments."""
    return only(Read, (node.args, node.kwargs))


def dependencies(read: Read) -> list[Node]:
    """Every node that a value depends on, each before those that read it."""
    return ordered(_seen(read), _seen)


def draws_behind(read: Any) -> list[Node]:
    """The draws that an operand depends on; none for one that is not traced."""
    return [d for d in dependencies(read) if d.is_random] if isinstance(read, Read) else []


def keys_behind(write: Write, storage: Storage) -> frozenset[int]:
    """Keys of the draws that a write to `storage` depends on.

    What it read from the very entries that it overwrites is left out: `w[:2].mul_(0.5)` shares no
    draw with w[2:], though both come from one node.
    """
    last = [
        node
        for read in reads_in(write.node)
        if read.storage is not storage or read.geometry != write.region
        for node in _seen(read)
    ]
    own = {write.node.key} if write.node.is_random else set()
    return frozenset({d.key for d in ordered(last, _seen) if d.is_random} | own)


def ordered(last: list[Node], sources: Callable[[Read], list[Node]]) -> list[Node]:
    """The nodes and all that they depend on, each before those that read it.

    Args:
        last: where to begin.
        sources: the nodes whose values a read sees.
    """
    # Without recursion: records are deeper than Python's limit for it.
    order: list[Node] = []
    done: set[int] = set()
    stack: list[tuple[Node, bool]] = [(node, False) for node in last]
    while stack:
        node, is_complete = stack.pop()
        if is_complete:
            order.append(node)
        elif node.number not in done:
            done.add(node.number)
            stack.append((node, True))
            stack += [(n, False) for r in reads_in(node) for n in sources(r)]
    return order


def _seen(read: Read) -> list[Node]:
    return [w.node for w in reversed(read.storage.visible(read.version))]


def mark_looked(read: Read) -> None:
    """Mark every storage of drawn values behind `read`, and its own, as looked at by init code."""
    drawn: set[int] = set()
    for node in dependencies(read):
        random_reads = [r for r in reads_in(node) if any(n.number in drawn for n in _seen(r))]
        for random_read in random_reads:
            random_read.storage.looked = True
        if node.is_random or random_reads:
            drawn.add(node.number)
    if any(n.number in drawn for n in _seen(read)):
        read.storage.looked = True
