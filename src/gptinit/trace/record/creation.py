"""Tensors made from nothing: by size, in the likeness of another tensor, or filled with a value."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from gptinit.facts.distributions import Constant, Distribution, Normal, Uniform
from gptinit.facts.step import Step
from gptinit.trace.graph import Node, is_traced_dtype
from gptinit.trace.record.provenance import draw_key, made_here
from gptinit.trace.record.tensor import TracedTensor, of_node, unset
from gptinit.trace.replay.operators import Args, Kwargs, base_name, named

__all__ = ["created", "drawn", "is_like", "new_like"]

_EMPTY = frozenset({"empty", "empty_permuted", "empty_strided"})
_LAWS: Mapping[str, Distribution] = MappingProxyType(
    {
        "zeros": Constant(0.0),
        "ones": Constant(1.0),
        "randn": Normal(0.0, 1.0),
        "rand": Uniform(0.0, 1.0),
    }
)


def _kind(name: str) -> str:
    """The factory that an operator is a variant of: "empty" of new_empty and of empty_like."""
    return name.removeprefix("new_").removesuffix("_like")


def is_like(name: str) -> bool:
    """Whether an operator takes shape and dtype from its first argument."""
    kind = _kind(name)
    return kind != name and (kind in _EMPTY or kind in _LAWS or kind == "full")


def drawn(
    law: Distribution,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    called: Step,
    generator: torch.Generator | None = None,
) -> Node:
    """A node for a draw of independent entries; a constant is a draw without a key."""
    node = made_here(called, shape=shape, dtype=dtype, law=law)
    if not isinstance(law, Constant):
        node.key = draw_key(generator, node.numel)
    return node


def created(func: Any, args: Args, kwargs: Kwargs) -> TracedTensor | None:
    """The tensor that a factory such as `torch.randn` returns; None if it is of no kind we know."""
    name, dtype = base_name(func), kwargs.get("dtype") or torch.get_default_dtype()
    generator = kwargs.get("generator")
    if name == "full":
        value = args[1]
        inferred = value.dtype if isinstance(value, Tensor) else torch.full((), value).dtype
        return _filled(value, tuple(args[0]), kwargs.get("dtype") or inferred, name)
    # Complex draws have no law of ours: the caller records the operator itself.
    if not is_traced_dtype(dtype) or (dtype.is_complex and name in {"normal", "rand", "randn"}):
        return None
    if name in _EMPTY or name in _LAWS:
        return _made(name, tuple(args[0]), dtype, generator)
    if name == "normal" and len(args) > 2:
        mean, std, size = args[:3]
        law = Normal(float(mean), float(std))
        return of_node(drawn(law, tuple(size), dtype, Step(name, (law.mean, law.std)), generator))
    return None


def new_like(func: Any, args: Args, kwargs: Kwargs) -> TracedTensor | Tensor:
    """The result of a `*_like` or `new_*` operator: a traced tensor if it is floating point."""
    name, example = base_name(func), args[0]
    shape = tuple(example.shape if name.endswith("_like") else args[1])
    dtype = kwargs.get("dtype") or example.dtype
    given = named(func, args, kwargs)
    if "fill_value" in given:
        made = _filled(given["fill_value"], shape, dtype, name)
        return torch.full(shape, given["fill_value"], dtype=dtype) if made is None else made
    if not is_traced_dtype(dtype):  # indices and masks are real, for code branches on them
        return torch.full(shape, 1 if _kind(name) == "ones" else 0, dtype=dtype)
    return _made(name, shape, dtype, kwargs.get("generator"))


def _made(
    name: str, shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator | None
) -> TracedTensor:
    law = _LAWS.get(_kind(name))
    if law is None:
        return unset(shape, dtype)
    return of_node(drawn(law, shape, dtype, Step(name), generator))


def _filled(
    value: Any, shape: tuple[int, ...], dtype: torch.dtype, name: str
) -> TracedTensor | None:
    """A tensor of one value, which may itself be traced; None unless it is floating point."""
    if not is_traced_dtype(dtype):
        return None
    if isinstance(value, Tensor | complex):
        made = unset(shape, dtype)
        made.copy_(torch.as_tensor(value))
        return made
    return of_node(constant(value, shape, dtype, Step(name, (float(value),))))


def constant(value: float, shape: tuple[int, ...], dtype: torch.dtype, called: Step) -> Node:
    """A node for one value everywhere: a `Constant` if it is finite, else `full` itself."""
    if math.isfinite(value):
        return drawn(Constant(float(value)), shape, dtype, called)
    full, kwargs = torch.ops.aten.full.default, {"dtype": dtype}
    return made_here(called, op=full, args=(shape, value), kwargs=kwargs, shape=shape, dtype=dtype)
