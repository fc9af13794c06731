"""Rules for operators that join, pick, mask or move entries, for clamp, erfinv and QR."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gptinit.facts.algebra import is_iid, moments_only
from gptinit.facts.distributions import Constant, Normal, Orthogonal, TruncatedNormal, Uniform
from gptinit.trace.graph import Node, Read, draws_behind
from gptinit.trace.laws.arithmetic import shape_of
from gptinit.trace.laws.law import Law, LawSource
from gptinit.trace.laws.pieces import Part, joined, mixed
from gptinit.trace.replay.replay import LIMIT

__all__ = [
    "chosen",
    "clamp",
    "concatenated",
    "factor",
    "indexed",
    "inverse_error_function",
    "masked",
    "picked",
    "repeated",
    "shuffled",
    "triangle",
]

_FAR = 6.0
"""Standard deviations beyond which a cut changes nothing: 2e-9 of a normal lies there."""


def concatenated(laws: LawSource, node: Node) -> Law | None:
    """The law of cat or stack."""
    dim = (node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)) % len(node.shape)
    are_apart = _are_apart(node.args[0])
    parts = []
    for value in node.args[0]:
        law = laws.argument(value)
        if law is None:
            return None
        keys = frozenset(() if are_apart else (d.key for d in draws_behind(value)))
        parts.append(Part(count=math.prod(shape_of(value)), law=law, keys=keys))
    return joined(parts, node.shape, in_order=dim == 0)


def masked(laws: LawSource, node: Node) -> Law | None:
    """The law of masked_fill with a number at a real mask."""
    law, mask, value = laws.argument(node.args[0]), node.args[1], laws.argument(node.args[2])
    # A mask is as large as its tensor: beyond the limit it is not looked at.
    if law is None or value is None or not isinstance(mask, Tensor) or node.numel > LIMIT:
        return None
    if not is_iid(law.distribution) or not isinstance(value.distribution, Constant):
        return None
    return _marked(mask.expand(node.shape), value, law)


def chosen(laws: LawSource, node: Node) -> Law | None:
    """The law of where: one law or another, by a real mask."""
    if len(node.args) != 3 or not isinstance(node.args[0], Tensor) or node.numel > LIMIT:
        return None
    inside, outside = (laws.argument(a) for a in node.args[1:])
    if inside is None or outside is None:
        return None
    for operand, law in zip(node.args[1:], (inside, outside), strict=True):
        # Were a random one broadcast, its entries would occur several times.
        is_whole = shape_of(operand) == node.shape or isinstance(law.distribution, Constant)
        if not is_whole or not is_iid(law.distribution):
            return None
    return _marked(node.args[0].expand(node.shape), inside, outside)


def indexed(laws: LawSource, node: Node) -> Law | None:
    """The law of index_put of a number, or of independent entries, at real indices."""
    law, indices, value = laws.argument(node.args[0]), node.args[1], laws.argument(node.args[2])
    if law is None or value is None or (len(node.args) > 3 and node.args[3]):
        return None
    if not (is_iid(law.distribution) and is_iid(value.distribution)):
        return None
    is_small = node.numel <= LIMIT
    if not all(isinstance(i, Tensor | None) for i in indices) or not (
        is_small or len(indices) == 1
    ):
        return None
    marks = torch.zeros(node.shape if is_small else node.shape[:1], dtype=torch.bool)
    marks[tuple(slice(None) if i is None else i for i in indices)] = True
    count = int(marks.sum()) * (node.numel // max(1, marks.numel()))
    if is_small and isinstance(value.distribution, Constant):
        return _marked(marks, value, law)
    return mixed(node.numel, count, value.distribution, law.distribution)


def triangle(laws: LawSource, node: Node) -> Law | None:
    """The law of tril or triu of independent entries."""
    law = laws.argument(node.args[0])
    if law is None or not is_iid(law.distribution) or node.numel > LIMIT:
        return None
    ones = torch.ones(node.shape)
    kept = int(node.op(ones, *node.args[1:], **node.kwargs).sum())
    return mixed(node.numel, node.numel - kept, Constant(0.0), law.distribution)


def picked(laws: LawSource, node: Node) -> Law | None:
    """Rows taken at real indices; if one is taken twice, entries are not independent."""
    is_select = node.name == "index_select"  # (tensor, dim, index), not (tensor, indices)
    law, where = laws.argument(node.args[0]), node.args[2 if is_select else 1]
    if law is None or not is_iid(law.distribution):
        return None
    indices = [where] if isinstance(where, Tensor) else where
    if isinstance(indices, Read) or any(not isinstance(i, Tensor | None) for i in indices):
        return None
    tables = [i for i in indices if i is not None]
    is_once = len(tables) == 1 and (
        tables[0].dtype == torch.bool or tables[0].unique().numel() == tables[0].numel()
    )
    if not is_once:
        return _dependent(law)
    if len(indices) != 1 or law.basis is None or law.scale != 1.0 or tables[0].numel() > 1 << 16:
        return Law(law.distribution)
    # Picking the same rows again makes a copy.
    rows = tuple(tables[0].flatten().tolist())
    return Law(law.distribution, (law.basis, node.name, rows, node.shape))


def shuffled(laws: LawSource, node: Node) -> Law | None:
    """The law of flip or roll: all entries in another order."""
    law = laws.argument(node.args[0])
    if law is None or not is_iid(law.distribution):
        return None
    basis = (law.basis, node.name, str(node.args[1:])) if law.basis else None
    return Law(law.distribution, basis, law.scale)


def repeated(laws: LawSource, node: Node) -> Law | None:
    """The law of repeat: moments, since entries that occur several times are not independent."""
    law = laws.argument(node.args[0])
    if law is None or not is_iid(law.distribution):
        return None
    return law if node.numel == math.prod(shape_of(node.args[0])) else _dependent(law)


def inverse_error_function(laws: LawSource, node: Node) -> Law | None:
    """The law of erfinv of a uniform: a normal, truncated where the uniform ends."""
    law = laws.argument(node.args[0])
    if law is None or not isinstance(law.distribution, Uniform):
        return None
    low, high = law.distribution.low, law.distribution.high
    if not -1 <= low < high <= 1:
        return None
    ends = torch.erfinv(torch.tensor([low, high], dtype=torch.float64)).tolist()
    if not ends[0] <= 0.0 <= ends[1]:
        return None
    cut = TruncatedNormal(0.0, math.sqrt(0.5), ends[0], ends[1])
    return Law(cut, (law.basis, "erfinv", law.scale) if law.basis else None)


def clamp(laws: LawSource, node: Node) -> Law | None:
    """The law under clamp, if it stays within the limits anyway, up to rounding."""
    law = laws.argument(node.args[0])
    low = node.args[1] if len(node.args) > 1 else node.kwargs.get("min")
    high = node.args[2] if len(node.args) > 2 else node.kwargs.get("max")
    if node.name == "clamp_max":
        low, high = None, low
    if law is None or isinstance(low, Read | Tensor) or isinstance(high, Read | Tensor):
        return None
    d = law.distribution
    if isinstance(d, Normal):
        least, most = d.mean - _FAR * d.std, d.mean + _FAR * d.std
    elif isinstance(d, TruncatedNormal | Uniform):
        least, most = d.low, d.high
    else:
        return None
    slack = 1e-5 * max(abs(least), abs(most))
    above = low is None or least >= float(low) - slack
    return law if above and (high is None or most <= float(high) + slack) else None


def factor(laws: LawSource, node: Node) -> Law | None:
    """Q of the QR decomposition of a matrix of independent normals."""
    law = laws.argument(node.args[0])
    if law is None or node.index != 0 or len(node.shape) != 2:
        return None
    d = law.distribution
    rows, columns = shape_of(node.args[0])
    if isinstance(d, Normal) and d.mean == 0 and d.std > 0 and rows >= columns:
        return Law(Orthogonal(1.0, max(node.shape)), (law.basis, "q") if law.basis else None)
    return None


def _are_apart(values: Sequence[Read | Tensor]) -> bool:
    """Whether operands are disjoint views of one tensor of independent entries."""
    reads = [v for v in values if isinstance(v, Read)]
    if len(reads) != len(values) or len({(id(r.storage), r.version) for r in reads}) != 1:
        return False
    storage = reads[0].storage
    writes = storage.visible(reads[0].version)
    if storage.numel > LIMIT or len(writes) != 1 or writes[0].node.law is None:
        return False
    entries = torch.arange(storage.numel)
    views = [r.geometry for r in reads]
    shown = torch.cat([entries.as_strided(g.size, g.stride, g.offset).flatten() for g in views])
    return len(shown.unique()) == len(shown)


def _marked(marks: Tensor, inside: Law, outside: Law) -> Law:
    values, counts = marks.flatten().unique_consecutive(return_counts=True)
    in_order = len(values) <= 64
    if in_order:
        parts = [
            Part(count=n, law=Law((inside if mark else outside).distribution))
            for mark, n in zip(values.tolist(), counts.tolist(), strict=True)
        ]
        return joined(parts, tuple(marks.shape), in_order=True)
    count = int(marks.sum())
    return mixed(marks.numel(), count, inside.distribution, outside.distribution)


def _dependent(law: Law) -> Law:
    """The moments of a law whose entries occur several times."""
    d = law.distribution
    if isinstance(d, Constant):
        return Law(d)
    return Law(moments_only(d.mean, d.std))
