"""Rules for sums, products and what follows from them; one function an operator.

A rule takes the node and what is known of its operands; it returns None where it does not apply.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gptinit.facts.algebra import affine_distribution, is_iid
from gptinit.facts.distributions import Constant, Measured, Normal, Orthogonal, Scaled
from gptinit.trace.graph import Node, Read, dependencies
from gptinit.trace.laws.expected import averaged, expected, source_of
from gptinit.trace.laws.law import Known, Law, affine
from gptinit.trace.laws.pieces import Part, joined
from gptinit.trace.replay.replay import LIMIT, Unanswerable, base_name

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
"""Entries whose mean square is near enough (0.07 standard errors of it are 3 %) to its expectation
for the spread of what another tensor is divided by not to count."""


def shape_of(value: Any) -> tuple[int, ...]:
    """Shape of an operand."""
    if isinstance(value, Read):
        return tuple(value.geometry.size)
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def multiply(known: Known, node: Node) -> Law | None:
    """A law times a number, a sign, a table of numbers or a factor that was computed."""
    for one, other in ((0, 1), (1, 0)):
        law, factor = known.argument(node.args[one]), node.args[other]
        if law is not None and shape_of(node.args[one]) == node.shape:
            made = _times(known, node, law, factor)
            if made is not None:
                return made
    return None


def _times(known: Known, node: Node, law: Law, factor: Any) -> Law | None:
    """A law of the result's shape times whatever it is multiplied by."""
    other = known.argument(factor)
    if other is None:
        return None
    if isinstance(other.distribution, Constant):
        return affine(law, other.distribution.value, 0.0)
    if other.signs and isinstance(law.distribution, Orthogonal):
        return law
    return _scaled(known, law, node, factor, invert=False) or _by_table(known, law, node, factor)


def divide(known: Known, node: Node) -> Law | None:
    """A law divided by a number or by a factor that was computed."""
    if len(node.args) > 2 or node.kwargs:
        return None
    law, other = (known.argument(a) for a in node.args[:2])
    if law is None or other is None or shape_of(node.args[0]) != node.shape:
        return None
    if isinstance(other.distribution, Constant):
        value = other.distribution.value
        return affine(law, 1 / value, 0.0) if value else None
    return _scaled(known, law, node, node.args[1], invert=True)


def add(known: Known, node: Node) -> Law | None:
    """A law shifted by a number, or the sum of independent normals."""
    return _sum(known, node, 1.0, _alpha(node))


def subtract(known: Known, node: Node) -> Law | None:
    """As `add`; what a tensor is centred by leaves a little less spread."""
    return _centred(known, node) or _sum(known, node, 1.0, -_alpha(node))


def subtract_from(known: Known, node: Node) -> Law | None:
    """As `add`, for right - alpha * left."""
    return _sum(known, node, -_alpha(node), 1.0)


def negate(known: Known, node: Node) -> Law | None:
    """The law with its sign changed."""
    law = known.argument(node.args[0])
    return None if law is None else affine(law, -1.0, 0.0)


def interpolate(known: Known, node: Node) -> Law | None:
    """A blend of two laws by a number, as lerp makes."""
    weight = known.argument(node.args[2])
    if weight is None or not isinstance(weight.distribution, Constant):
        return None
    value = weight.distribution.value
    return _sum(known, node, 1.0 - value, value)


def add_product(known: Known, node: Node) -> Law | None:
    """addcmul: a number plus a number times a law."""
    laws = [known.argument(a) for a in node.args[:3]]
    factor = float(node.kwargs.get("value", 1))
    random = [i for i, law in enumerate(laws) if law and not isinstance(law.distribution, Constant)]
    if None in laws or len(random) != 1 or shape_of(node.args[random[0]]) != node.shape:
        return None
    values = [law.distribution.mean for law in laws if law]
    law = laws[random[0]]
    assert law is not None
    if random[0] == 0:
        return affine(law, 1.0, factor * values[1] * values[2])
    return affine(law, factor * values[3 - random[0]], values[0])


def mean(known: Known, node: Node) -> Law | None:
    """The mean, or the sum, of independent normals along some dimensions."""
    found = averaged(node)
    if found is None or not found[1]:
        return None
    read, count = found
    law = known.read(read)
    if not isinstance(law.distribution, Normal):
        return None
    factor = count if base_name(node.op) == "sum" else 1.0
    d = law.distribution
    made = Normal(factor * d.mean, factor * d.std / math.sqrt(count))
    return Law(made, ("mean", law.basis, node.args[1:], node.shape) if law.basis else None)


def _alpha(node: Node) -> float:
    """What the second operand is multiplied by."""
    return float(node.kwargs.get("alpha", node.args[2] if len(node.args) > 2 else 1))


def _sum(known: Known, node: Node, one: float, other: float) -> Law | None:
    """The law of one * left + other * right."""
    left, right = (known.argument(a) for a in node.args[:2])
    if left is None or right is None:
        return None
    full = [shape_of(a) == node.shape for a in node.args[:2]]
    if isinstance(right.distribution, Constant) and full[0]:
        return affine(left, one, other * right.distribution.value)
    if isinstance(left.distribution, Constant) and full[1]:
        return affine(right, other, one * left.distribution.value)
    return _sum_of_draws(node, left, right, (one, other)) if all(full) else None


def _sum_of_draws(node: Node, left: Law, right: Law, factors: tuple[float, float]) -> Law | None:
    """The sum of two laws of the result's shape: of one draw, or of independent normals."""
    one, other = factors
    if left.basis is not None and left.basis == right.basis and left.scale:
        return affine(left, one + other * right.scale / left.scale, 0.0)
    a, b = left.distribution, right.distribution
    if isinstance(a, Normal) and isinstance(b, Normal) and _are_independent(node):
        return Law(Normal(one * a.mean + other * b.mean, math.hypot(one * a.std, other * b.std)))
    return None


def _centred(known: Known, node: Node) -> Law | None:
    """A tensor minus its mean, of all or along dimensions: variance (1 - 1/n) of it."""
    if (
        not isinstance(node.args[0], Read)
        or not isinstance(node.args[1], Read)
        or _alpha(node) != 1
    ):
        return None
    source = source_of(node.args[1])
    if source is None or source.op is None or base_name(source.op) != "mean":
        return None
    found = averaged(source)
    law = known.read(node.args[0])
    if found is None or not is_iid(law.distribution) or not _are_same(known, law, found[0]):
        return None
    centred = affine_distribution(law.distribution, 1.0, -law.distribution.mean)
    basis = (law.basis, "centred", source.args[1:]) if law.basis else None
    return Law(Scaled(centred, math.sqrt(1 - 1 / found[1])), basis, law.scale)


def _scaled(known: Known, law: Law, node: Node, factor: Any, *, invert: bool) -> Law | None:
    """A law times one factor, or one a row, that depends on drawn values."""
    if not isinstance(factor, Read):
        return None
    value = expected(known, factor) if _is_steady(known, law, factor) else None
    if value is None and factor.numel == 1:
        value = _seen(known, factor)
    if value is None or not math.isfinite(value) or (invert and value == 0):
        return None
    value = 1 / value if invert else value
    d = law.distribution
    if isinstance(d, Measured):
        return affine(replace(law, basis=None), value, 0.0)
    base = d if not isinstance(d, Scaled) else d.base
    total = value if not isinstance(d, Scaled) else d.factor * value
    basis = (law.basis, "scaled", node.number) if law.basis else None
    return Law(Scaled(base, total), basis, law.scale * value)


def _is_steady(known: Known, law: Law, factor: Read) -> bool:
    """Whether the factor comes from many entries, or from the rows that it scales."""
    for node in dependencies(factor):
        found = averaged(node) if node.op and base_name(node.op) in _REDUCING else None
        if found and found[1] < _MANY and not _are_same(known, law, found[0]):
            return False
    return True


_REDUCING = frozenset({"linalg_vector_norm", "mean", "norm", "std", "sum", "var"})


def _are_same(known: Known, law: Law, read: Read) -> bool:
    """Whether a tensor that was read has the values of a law, times a number at most."""
    other = known.read(read)
    return law.basis is not None and _root(law.basis) == _root(other.basis)


def _root(basis: Any) -> Any:
    """The basis before it was centred or scaled."""
    while isinstance(basis, tuple) and len(basis) == 3 and basis[1] in {"centred", "scaled"}:
        basis = basis[0]
    return basis


def _seen(known: Known, read: Read) -> float | None:
    """The factor of this very draw."""
    try:
        return float(known.replay.at(read, torch.zeros(1, dtype=torch.int64)))
    except Unanswerable:
        return None


def _by_table(known: Known, law: Law, node: Node, factor: Any) -> Law | None:
    """A law of independent entries times known numbers, one a row, a column or an entry."""
    if isinstance(factor, Read):
        if factor.numel > LIMIT or any(d.is_random for d in dependencies(factor)):
            return None
        factor = known.replay.value(factor)
    if not isinstance(factor, Tensor) or not is_iid(law.distribution) or node.numel > LIMIT:
        return None
    table = factor.expand(node.shape).flatten()
    values, run = table.unique_consecutive(return_counts=True)
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


def _are_independent(node: Node) -> bool:
    """Whether two operands share no draw."""
    keys = [{d.key for d in dependencies(r) if d.is_random} for r in node.args[:2]]
    return not keys[0] & keys[1]
