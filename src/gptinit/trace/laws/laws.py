"""The law of a read, derived from its nodes without sampling noise.

exact for: draws, constants, casts, copies, affine maps, sums and means of independent normals, row
blocks, joins, masks, inverse error functions of uniforms, orthogonal factors, tensors divided by
their own norm. Everything else is `Measured` on a sample of its entries, with standard errors.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from gptinit.facts.algebra import is_iid, moments_only
from gptinit.facts.distributions import Constant, Unset
from gptinit.trace.graph import (
    Node,
    Read,
    Write,
    dependencies,
    is_traced_dtype,
    keys_behind,
    reads_in,
)
from gptinit.trace.laws import arithmetic, selection
from gptinit.trace.laws.law import Basis, Law, LawSource
from gptinit.trace.laws.moments import measured, of_fixed_values, unanswered
from gptinit.trace.laws.pieces import Part, covers, joined, reshaped, seen_blocks, without_order
from gptinit.trace.replay.operators import COPIES
from gptinit.trace.replay.partial import Unanswerable
from gptinit.trace.replay.points import sample_positions
from gptinit.trace.replay.replay import LIMIT, Replay

__all__ = ["Law", "Laws", "measured"]

_FEW = 256
"""Parts of a tensor up to which they are checked for draws that they share."""


class Laws:
    """Derives laws from records; each node's is derived once, so that layers share the work.

    Args:
        replay: computes the values that a rule needs.
    """

    def __init__(self, replay: Replay | None = None) -> None:
        self.replay = replay or Replay()
        self._nodes: dict[int, Law] = {}
        self._random: dict[int, bool] = {}

    def of(self, read: Read) -> Law:
        """The law of a read."""
        # Oldest first, as rules recurse: the record is deeper than Python's stack.
        for node in dependencies(read):
            self._law_of(node)
        return self.read(read)

    def read(self, read: Read) -> Law:
        """The law of a read, from those of the writes that it shows."""
        node = read.whole_node()
        if node is not None:
            law = self._law_of(node)
            return reshaped(law, read.geometry.size, read.numel)
        writes = read.storage.visible(read.version)
        if not writes:
            return Law(Unset())
        if len(writes) == 1 and covers(writes[0].region, read.geometry):
            part = self._of_part(writes[0], read)
            if part is not None:
                return part
        return self._pieces(read)

    def argument(self, value: Any) -> Law | None:
        """The law of an operand: a recorded tensor, a real one, or a number."""
        if isinstance(value, Read):
            return self.read(value)
        if isinstance(value, Tensor):
            return Law(of_fixed_values(value))
        if isinstance(value, int | float) and math.isfinite(value):
            return Law(Constant(float(value)))
        return None

    def _law_of(self, node: Node) -> Law:
        if node.number not in self._nodes:
            self._random[node.number] = node.is_random or any(self._behind(node))
            self._nodes[node.number] = self._node(node)
        return self._nodes[node.number]

    def _behind(self, node: Node) -> Iterator[bool]:
        for read in reads_in(node):
            for write in read.storage.visible(read.version):
                self._law_of(write.node)
                yield self._random[write.node.number]

    # --- parts of a tensor

    def _of_part(self, write: Write, read: Read) -> Law | None:
        """The law of a view of one write: some of its entries, in some order; None if unclear."""
        # The view's own basis: the same part taken twice is a copy, another part is not.
        law, numel = self._law_of(write.node), write.node.numel
        basis: Basis = (law.basis, write.region, read.geometry) if law.basis else None
        if _repeats(read):
            if not is_iid(law.distribution) or isinstance(law.distribution, Constant):
                return None if read.numel != numel else replace(law, basis=None)
            return Law(moments_only(law.distribution.mean, law.distribution.std))
        if is_iid(law.distribution):
            return replace(law, basis=basis)
        if read.numel == numel:
            return replace(without_order(law, numel), basis=basis)
        return None

    def _pieces(self, read: Read) -> Law:
        writes = read.storage.visible(read.version)
        blocks, in_order = seen_blocks(read)
        is_few = len(blocks) <= _FEW
        parts = [self._part(n, writes[i] if i >= 0 else None, read, is_few) for n, i in blocks]
        return joined(parts, read.geometry.size, in_order=in_order)

    def _part(self, count: int, write: Write | None, read: Read, is_few: bool) -> Part:
        if write is None:
            return Part(count=count, law=Law(Unset()))
        law = self._law_of(write.node)
        keys: frozenset[int] = frozenset()
        if is_few and self._random[write.node.number]:
            keys = keys_behind(write, read.storage)
        if count != write.node.numel:  # the basis names all entries, not these
            law = replace(without_order(law, write.node.numel), basis=None)
        return Part(count=count, law=law, keys=keys, source=write.node.number)

    # --- operators

    def _node(self, node: Node) -> Law:
        if node.law is not None:
            return Law(node.law, ("draw", node.key, node.shape) if node.key else None)
        if not self._random[node.number]:  # buffers of angles, masks, constants of a formula
            return self._fixed(node)
        if node.is_random:
            return self._sampled(node, basis=("draw", node.key, node.shape))
        name = node.name
        if name in COPIES and isinstance(node.args[0], Read):
            law = self.read(node.args[0])
            return self._sampled(node) if _is_lossy(node) else law
        rule = _RULES.get(name)
        return (rule(self, node) if rule else None) or self._sampled(node)

    def _fixed(self, node: Node) -> Law:
        try:
            if node.numel <= LIMIT:
                return Law(of_fixed_values(self.replay.node(node)))
            return Law(of_fixed_values(self.replay.at_node(node, sample_positions(node.shape))))
        except Unanswerable:
            return Law(unanswered())

    def _sampled(self, node: Node, basis: Basis = None) -> Law:
        """The law of a value that no rule covers: moments of a sample of its entries."""
        # Signs of R's diagonal, by which orthogonal_ multiplies: that they are signs is enough.
        signs = node.name in {"sgn", "sign"}
        try:
            values = self.replay.at_node(node, sample_positions(node.shape))
        except Unanswerable:
            return Law(unanswered(), basis, signs=signs)
        if values.dtype.is_complex:
            values = torch.view_as_real(values.resolve_conj())
        if not values.numel() or not bool(torch.isfinite(values).all()):
            return Law(of_fixed_values(values), basis)
        return Law(measured(values), basis, signs=signs)


def _repeats(read: Read) -> bool:
    pairs = zip(read.geometry.size, read.geometry.stride, strict=True)
    return any(n > 1 and s == 0 for n, s in pairs)


def _is_lossy(node: Node) -> bool:
    """Whether a cast changes the kind of the values: complex to real, float to integer."""
    read = node.args[0]
    is_other_kind = bool(read.storage.dtype.is_complex) != bool(node.dtype.is_complex)
    return is_other_kind or not is_traced_dtype(node.dtype)


Rule = Callable[[LawSource, Node], Law | None]
_RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "add": arithmetic.add,
        "addcmul": arithmetic.add_product,
        "cat": selection.concatenated,
        "clamp": selection.clamp,
        "clamp_max": selection.clamp,
        "clamp_min": selection.clamp,
        "div": arithmetic.divide,
        "erfinv": selection.inverse_error_function,
        "flip": selection.shuffled,
        "index": selection.picked,
        "index_put": selection.indexed,
        "index_select": selection.picked,
        "lerp": arithmetic.interpolate,
        "linalg_qr": selection.factor,
        "masked_fill": selection.masked,
        "mean": arithmetic.mean,
        "mul": arithmetic.multiply,
        "neg": arithmetic.negate,
        "repeat": selection.repeated,
        "roll": selection.shuffled,
        "rsub": arithmetic.subtract_from,
        "stack": selection.concatenated,
        "sub": arithmetic.subtract,
        "sum": arithmetic.mean,
        "tril": selection.triangle,
        "triu": selection.triangle,
        "where": selection.chosen,
    }
)
