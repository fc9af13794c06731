"""Nodes for in-place writes: a draw, a number, another tensor's values."""

from typing import Any

import torch
from torch import Tensor

from gptinit.errors import SubjectError
from gptinit.facts.distributions import Normal, Uniform
from gptinit.facts.step import Step
from gptinit.trace.graph import Geometry, Node
from gptinit.trace.record.creation import constant, drawn
from gptinit.trace.record.provenance import made_here
from gptinit.trace.record.tensor import TracedTensor, traced
from gptinit.trace.replay.operators import Args, Kwargs, base_name, named

__all__ = ["DRAWS", "SNAPSHOT", "as_copied", "as_written", "functional_of_out"]

SNAPSHOT = 1 << 20
"""Entries up to which a real tensor is copied when it is recorded, since it may change later."""

DRAWS = frozenset(
    {"bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "normal_", "random_"}
)
"""In-place operators that replace all entries by drawn ones; most have no distribution of ours."""


def as_written(func: Any, target: TracedTensor, args: Args, kwargs: Kwargs) -> Node | None:
    """The node that a draw with a law, or a fill, writes to `target`; None for other operators."""
    name, shape, dtype = base_name(func), tuple(target.shape), target.dtype
    given = named(func, args, kwargs)
    generator = given.get("generator")
    if name == "normal_" and not dtype.is_complex:
        mean, std = float(given.get("mean", 0.0)), float(given.get("std", 1.0))
        return drawn(Normal(mean, std), shape, dtype, Step(name, (mean, std)), generator)
    if name == "uniform_":
        low, high = float(given.get("from", 0.0)), float(given.get("to", 1.0))
        return drawn(Uniform(low, high), shape, dtype, Step(name, (low, high)), generator)
    if name == "zero_":
        return constant(0.0, shape, dtype, Step(name))
    if name == "fill_" and not isinstance(args[1], complex):
        return constant(float(args[1]), shape, dtype, Step(name, (float(args[1]),)))
    return None


def as_copied(target: TracedTensor, source: Tensor, name: str) -> Node:
    """The node that copying `source` to `target` writes: its value, broadcast and cast."""
    if not isinstance(source, TracedTensor):
        source = traced(source.clone() if source.numel() <= SNAPSHOT else source)
    shape, dtype = tuple(target.shape), target.dtype
    expanded = TracedTensor(source._store, _expanded(source.geometry, shape))
    cast, args = torch.ops.aten._to_copy.default, (expanded.read(),)
    return made_here(
        Step(name, None), op=cast, args=args, kwargs={"dtype": dtype}, shape=shape, dtype=dtype
    )


def functional_of_out(func: Any) -> Any:
    """The overload of `func` that returns its results instead of writing them to `out` arguments.

    Raises:
        SubjectError: if there is none.
    """
    wanted = [(a.name, str(a.type)) for a in func._schema.arguments if not a.is_out]
    packet = func.overloadpacket
    for overload in (getattr(packet, name) for name in packet.overloads()):
        takes = [(a.name, str(a.type)) for a in overload._schema.arguments]
        if takes[: len(wanted)] == wanted and not overload._schema.is_mutable:
            return overload
    raise SubjectError(f"init code must use operators that can be traced, got {func}.")


def _expanded(geometry: Geometry, shape: tuple[int, ...]) -> Geometry:
    lead = len(shape) - len(geometry.size)
    if lead < 0:  # copy_ takes extra leading dimensions of 1
        size, stride = geometry.size[-lead:], geometry.stride[-lead:]
        return _expanded(Geometry(size, stride, geometry.offset), shape)
    torch.empty(()).expand(geometry.size).expand(shape)  # raises torch's own error if it must
    stride = (0,) * lead + tuple(
        0 if n == 1 and m != 1 else s
        for n, s, m in zip(geometry.size, geometry.stride, shape[lead:], strict=True)
    )
    return Geometry(tuple(shape), stride, geometry.offset)
