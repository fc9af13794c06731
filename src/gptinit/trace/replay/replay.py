"""Values of a record: all entries of small tensors, any chosen entries of large ones.

exact for: every operator, on tensors up to a limit; draws, elementwise operators, copies, joins and
reductions of some dimensions, at any size. approximate for: reductions of a whole large tensor,
which look at a sample of its entries. not covered: other operators on large tensors (refused).
"""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor

from gptinit.trace.graph import Node, Read, Storage, dependencies, is_traced_dtype, reads_in
from gptinit.trace.nested import map_only
from gptinit.trace.replay.drawing import draw_by_key, drawn_entries, has_blocks
from gptinit.trace.replay.noise import draw_at
from gptinit.trace.replay.operators import COPIES
from gptinit.trace.replay.partial import RULES, Unanswerable, pointwise
from gptinit.trace.replay.points import in_region, moved_from, to_storage

__all__ = ["LIMIT", "Replay"]

LIMIT = 1 << 22
"""Entries up to which a tensor is replayed whole while a model is traced."""


class Replay:
    """Values of one record, cached as long as this object lives.

    Args:
        draw: makes all entries of a draw.
        limit: entries up to which tensors are replayed whole.

    Attributes:
        held: entries in the cache.
    """

    def __init__(self, draw: Callable[[Node], Tensor] = draw_by_key, limit: int = LIMIT) -> None:
        self._draw, self.limit = draw, limit
        self._nodes: dict[int, Tensor] = {}
        self._buffers: dict[int, tuple[Storage, int, Tensor]] = {}
        self.held = 0
        self._depth = 0

    def value(self, read: Read) -> Tensor:
        """All entries of a read; treat them as read-only.

        Raises:
            Unanswerable: if it is too large, or depends on something that is.
        """
        if self._depth == 0 and read.storage.numel <= self.limit:
            # Oldest first: recursion would be too deep for long chains of operators.
            for node in dependencies(read):
                if node.numel <= self.limit:
                    with suppress(Unanswerable):  # it may turn out not to be needed
                        self.node(node)
        try:
            return self._whole(read)
        except Unanswerable:
            if read.numel > self.limit:
                raise
            return self.at(read, torch.arange(read.numel)).view(read.geometry.size)

    def _whole(self, read: Read) -> Tensor:
        node = read.whole_node()
        if node is not None and node.numel <= self.limit:
            return self.node(node).view(read.geometry.size)
        if read.storage.numel <= self.limit:
            buffer = self._buffer(read.storage, read.version)
            geometry = read.geometry
            return buffer.as_strided(geometry.size, geometry.stride, geometry.offset).clone()
        raise Unanswerable(f"{read.storage.numel} drawn entries are too many to be replayed.")

    def node(self, node: Node) -> Tensor:
        """All entries of a node."""
        if node.number not in self._nodes:
            self._depth += 1
            try:
                self._nodes[node.number] = self._compute(node)
                self.held += node.numel
            finally:
                self._depth -= 1
        return self._nodes[node.number]

    def _compute(self, node: Node) -> Tensor:
        if node.constant is not None:
            return node.constant
        if node.law is not None:
            return self._draw(node)
        args, kwargs = map_only(Read, self.value, (node.args, node.kwargs))
        if node.is_random:
            return self._draw(replace(node, args=args, kwargs=kwargs) if reads_in(node) else node)
        out: Tensor = node.result(node.op(*args, **kwargs))
        return out.to(node.dtype)

    def _buffer(self, storage: Storage, version: int) -> Tensor:
        """Contents of a storage at a version; NaN where nothing was written."""
        _, done, buffer = self._buffers.get(id(storage), (storage, -1, torch.empty(0)))
        first = version - len(storage.visible(version))
        if not first <= done <= version:
            # An entry that is used before anything wrote it must not pass for a number.
            poison = math.nan if is_traced_dtype(storage.dtype) else 0
            done, buffer = first, torch.full((storage.numel,), poison, dtype=storage.dtype)
            self.held += storage.numel
        for write in storage.writes[done:version]:
            region = write.region
            target = buffer.as_strided(region.size, region.stride, region.offset)
            target.copy_(self.node(write.node).view(region.size))
        # With the storage itself: while it is alive no other storage gets its id.
        self._buffers[id(storage)] = (storage, version, buffer)
        return buffer

    def at(self, read: Read, positions: Tensor) -> Tensor:
        """Chosen entries of a read.

        Shape:
            positions: (M,) flat indices in the order of the view; result: (M,).

        Raises:
            Unanswerable: if they depend on a large tensor that no rule here covers.
        """
        flat = to_storage(read.geometry, positions)
        out = torch.full(positions.shape, math.nan, dtype=torch.float64)
        if read.storage.dtype.is_complex:
            out = out.to(torch.complex128)
        # Newest write first: an entry shows the last write that covers it.
        missing = torch.arange(positions.numel())
        for write in reversed(read.storage.visible(read.version)):
            inside, index = in_region(write.region, flat[missing])
            if inside.any():
                out[missing[inside]] = self.at_node(write.node, index[inside]).to(out.dtype)
                missing = missing[~inside]
            if not missing.numel():
                break
        return out.to(read.storage.dtype)

    def at_node(self, node: Node, positions: Tensor) -> Tensor:
        """Chosen entries of a node, by flat indices."""
        if node.number in self._nodes:
            return self._nodes[node.number].reshape(-1)[positions]
        if node.constant is not None:
            return node.constant.reshape(-1)[positions]
        if node.law is not None:
            return draw_at(node.law, node.key, positions).to(node.dtype)
        if node.is_random and node.numel > self.limit and has_blocks(node):
            return drawn_entries(node, positions)
        entries = None if node.is_random else self._by_rule(node, positions)
        if entries is not None:
            return entries
        if node.numel <= self.limit or not reads_in(node):
            return self.node(node).reshape(-1)[positions]
        raise Unanswerable(f"{node.name} on {node.numel} drawn entries cannot be replayed in part.")

    def _by_rule(self, node: Node, positions: Tensor) -> Tensor | None:
        name = node.name
        if name in COPIES:
            return self.at(node.args[0], positions).to(node.dtype)
        if name not in RULES and torch.Tag.pointwise in node.op.tags:
            return pointwise(self, node, positions)
        source = moved_from(name, node, positions)
        if source is not None:
            return self.at(node.args[0], source)
        rule = RULES.get(name)
        return None if rule is None else rule(self, node, positions)
