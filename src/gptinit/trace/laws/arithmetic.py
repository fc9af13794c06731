"""Rules for sums, products and quotients; one function for each operator.

A rule takes a node and the source of its operands' laws; it returns None if it does not apply.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gptinit.facts.algebra import affine_distribution, is_iid
from gptinit.facts.distributions import Constant, Measured, Normal, Orthogonal, Scaled
from gptinit.trace.graph import Node, Read, dependencies, draws_behind
from gptinit.trace.laws.expected import REDUCED, averaged, expected, source_of
from gptinit.trace.laws.law import Law, LawSource, affine
from gptinit.trace.laws.pieces import Part, joined
from gptinit.trace.replay.partial import Unanswerable
from gptinit.trace.replay.replay import LIMIT

__all__ = [
    "add",
    "add_product",
    "divide",
    "interpolate",
    "mean",
    "multiply",
    "negate",
    "shape_of",
    "subtract",
    "subtract_from",
]

_MANY = 1000
"""Entries from which a norm or std counts as its expectation when another tensor is divided by it:
the std of a mean square of 1000 normals is 4.5 % of it, so that of the norm is 2.2 %."""


def shape_of(value: Any) -> tuple[int, ...]:
    """Shape of an operand."""
    if isinstance(value, Read):
        return tuple(value.geometry.size)
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def multiply(laws: LawSource, node: Node) -> Law | None:
    """A law times a number, signs, a table of numbers or a computed factor."""
    # Either operand may be the law, if it has the shape of the result: were it broadcast, its
    # entries would occur several times and not be independent.
    for operand, factor in (node.args[:2], node.args[1::-1]):
        law = laws.argument(operand)
        if law is not None and shape_of(operand) == node.shape:
            product = _times(laws, node, law, factor)
            if product is not None:
                return product
    return None


def _times(laws: LawSource, node: Node, law: Law, factor: Any) -> Law | None:
    """The product, for a law that has the shape of the result."""
    factor_law = laws.argument(factor)
    if factor_law is None:
        return None
    if isinstance(factor_law.distribution, Constant):
        return affine(law, factor_law.distribution.value, 0.0)
    # As orthogonal_ does by the signs of R's diagonal: a uniform rotation stays uniform.
    if factor_law.signs and isinstance(law.distribution, Orthogonal):
        return law
    return _scaled(laws, law, node, factor, invert=False) or _by_table(laws, law, node, factor)


def divide(laws: LawSource, node: Node) -> Law | None:
    """A law divided by a number or by a computed factor."""
    if len(node.args) > 2 or node.kwargs:
        return None
    law, divisor = (laws.argument(a) for a in node.args[:2])
    if law is None or divisor is None or shape_of(node.args[0]) != node.shape:
        return None
    if isinstance(divisor.distribution, Constant):
        value = divisor.distribution.value
        return affine(law, 1 / value, 0.0) if value else None
    return _scaled(laws, law, node, node.args[1], invert=True)


def add(laws: LawSource, node: Node) -> Law | None:
    """A law plus a number, or the sum of independent normals."""
    return _sum(laws, node, 1.0, _alpha(node))


def subtract(laws: LawSource, node: Node) -> Law | None:
    """A law minus a number, another law, or its own mean."""
    return _centred(laws, node) or _sum(laws, node, 1.0, -_alpha(node))


def subtract_from(laws: LawSource, node: Node) -> Law | None:
    """The law of rsub: right - alpha * left."""
    return _sum(laws, node, -_alpha(node), 1.0)


def negate(laws: LawSource, node: Node) -> Law | None:
    """A law with its sign changed."""
    law = laws.argument(node.args[0])
    return None if law is None else affine(law, -1.0, 0.0)


def interpolate(laws: LawSource, node: Node) -> Law | None:
    """The law of lerp by a number: a blend of two laws."""
    weight = laws.argument(node.args[2])
    if weight is None or not isinstance(weight.distribution, Constant):
        return None
    value = weight.distribution.value
    return _sum(laws, node, 1.0 - value, value)


def add_product(laws: LawSource, node: Node) -> Law | None:
    """The law of addcmul: x + value * y * z, one of the three random."""
    operands = [laws.argument(a) for a in node.args[:3]]
    factor = float(node.kwargs.get("value", 1))
    random = [
        i for i, law in enumerate(operands) if law and not isinstance(law.distribution, Constant)
    ]
    if None in operands or len(random) != 1 or shape_of(node.args[random[0]]) != node.shape:
        return None
    values = [law.distribution.mean for law in operands if law]
    law = operands[random[0]]
    assert law is not None
    if random[0] == 0:
        return affine(law, 1.0, factor * values[1] * values[2])
    return affine(law, factor * values[3 - random[0]], values[0])


def mean(laws: LawSource, node: Node) -> Law | None:
    """The mean, or the sum, of independent normals along some dimensions."""
    reduced = averaged(node)
    if reduced is None or not reduced[1]:
        return None
    read, count = reduced
    law = laws.read(read)
    if not isinstance(law.distribution, Normal):
        return None
    factor = count if node.name == "sum" else 1.0
    d = law.distribution
    basis = ("mean", law.basis, node.args[1:], node.shape) if law.basis else None
    return Law(Normal(factor * d.mean, factor * d.std / math.sqrt(count)), basis)


def _alpha(node: Node) -> float:
    return float(node.kwargs.get("alpha", node.args[2] if len(node.args) > 2 else 1))


def _sum(laws: LawSource, node: Node, a: float, b: float) -> Law | None:
    """The law of a * left + b * right: multiples of one draw, or independent normals."""
    left, right = (laws.argument(a) for a in node.args[:2])
    if left is None or right is None:
        return None
    full = [shape_of(a) == node.shape for a in node.args[:2]]
    if isinstance(right.distribution, Constant) and full[0]:
        return affine(left, a, b * right.distribution.value)
    if isinstance(left.distribution, Constant) and full[1]:
        return affine(right, b, a * left.distribution.value)
    if all(full) and left.basis is not None and left.basis == right.basis and left.scale:
        return affine(left, a + b * right.scale / left.scale, 0.0)
    x, y = left.distribution, right.distribution
    if all(full) and isinstance(x, Normal) and isinstance(y, Normal):
        keys, others = ({d.key for d in draws_behind(r)} for r in node.args[:2])
        if not keys & others:
            return Law(Normal(a * x.mean + b * y.mean, math.hypot(a * x.std, b * y.std)))
    return None


def _centred(laws: LawSource, node: Node) -> Law | None:
    """A tensor minus its own mean over n entries, which leaves (1 - 1/n) of its variance."""
    whole, own_mean = node.args[:2]
    if not isinstance(whole, Read) or not isinstance(own_mean, Read) or _alpha(node) != 1:
        return None
    source = source_of(own_mean)
    if source is None or source.name != "mean":
        return None
    reduced = averaged(source)
    law = laws.read(whole)
    if reduced is None or not is_iid(law.distribution) or not _are_same(laws, law, reduced[0]):
        return None
    centred = affine_distribution(law.distribution, 1.0, -law.distribution.mean)
    basis = (law.basis, "centred", source.args[1:]) if law.basis else None
    return Law(Scaled(centred, math.sqrt(1 - 1 / reduced[1])), basis, law.scale)


def _scaled(laws: LawSource, law: Law, node: Node, factor: Any, *, invert: bool) -> Law | None:
    """A law times a factor that depends on drawn values: one number, or one for each row."""
    if not isinstance(factor, Read):
        return None
    value = expected(laws, factor) if _is_steady(laws, law, factor) else None
    if value is None and factor.numel == 1:
        value = _value_in_trace(laws, factor)
    if value is None or not math.isfinite(value) or (invert and value == 0):
        return None
    value = 1 / value if invert else value
    d = law.distribution
    if isinstance(d, Measured):
        return affine(replace(law, basis=None), value, 0.0)
    # `Scaled` and not the law times a number: a common random factor ties the entries together.
    base = d if not isinstance(d, Scaled) else d.base
    total = value if not isinstance(d, Scaled) else d.factor * value
    basis = (law.basis, "scaled", node.number) if law.basis else None
    return Law(Scaled(base, total), basis, law.scale * value)


def _is_steady(laws: LawSource, law: Law, factor: Read) -> bool:
    """Whether the factor may be taken for its expectation.

    It may if every reduction behind it runs over many entries, or over the very rows it scales:
    what is divided by its own norm has exactly the expected mean square.
    """
    for node in dependencies(factor):
        reduced = averaged(node) if node.name in REDUCED else None
        if reduced and reduced[1] < _MANY and not _are_same(laws, law, reduced[0]):
            return False
    return True


def _are_same(laws: LawSource, law: Law, read: Read) -> bool:
    """Whether a read has the values that a law describes, up to centring and scaling."""
    return law.basis is not None and _root(law.basis) == _root(laws.read(read).basis)


def _root(basis: Any) -> Any:
    while isinstance(basis, tuple) and len(basis) == 3 and basis[1] in {"centred", "scaled"}:
        basis = basis[0]
    return basis


def _value_in_trace(laws: LawSource, read: Read) -> float | None:
    """The value that a scalar has under the seed of the trace; other seeds give others."""
    try:
        return float(laws.replay.at(read, torch.zeros(1, dtype=torch.int64)))
    except Unanswerable:
        return None


def _by_table(laws: LawSource, law: Law, node: Node, factor: Any) -> Law | None:
    """A law of independent entries times fixed numbers, one per row, column or entry."""
    if isinstance(factor, Read):
        if factor.numel > LIMIT or draws_behind(factor):
            return None
        factor = laws.replay.value(factor)
    if not isinstance(factor, Tensor) or not is_iid(law.distribution) or node.numel > LIMIT:
        return None
    table = factor.expand(node.shape).flatten()
    values, run = table.unique_consecutive(return_counts=True)
    # Few runs of equal numbers keep their order, as row blocks; few numbers make a mixture.
    in_order = len(values) <= 64
    if not in_order:
        values, run = table.unique(return_counts=True)
    if len(values) > 64:
        return None
    parts = [
        Part(count=n, law=Law(affine_distribution(law.distribution, value, 0.0)))
        for value, n in zip(values.tolist(), run.tolist(), strict=True)
    ]
    return joined(parts, node.shape, in_order=in_order)
