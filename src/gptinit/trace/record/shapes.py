"""Shape and dtype of an operator's results, without the memory that they would take.

Running the operator on meta tensors would do, but torch's meta kernels import its symbolic shapes
first: about one second, of an audit that takes three for a 405B model. So small operands are put
through the operator itself, common operators on large ones have a rule here, and meta is left for
the rest.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from gptinit.trace.graph import is_traced_dtype
from gptinit.trace.nested import map_only, only
from gptinit.trace.record.tensor import TracedTensor
from gptinit.trace.replay.operators import REDUCTIONS, Args, Kwargs, base_name, named, reduced_dims
from gptinit.trace.replay.replay import LIMIT

__all__ = ["broadcast_shape", "dummy_results", "results_like", "twin"]

_SMALL = 1 << 16
"""Entries of all operands together up to which the operator itself is run."""

_SAME_SHAPE = frozenset(
    {
        "_softmax", "_log_softmax", "_to_copy", "alias_copy", "bernoulli", "clone", "cumsum",
        "dropout", "flip", "gelu", "index_add", "index_copy", "index_fill", "index_put",
        "masked_scatter", "renorm", "roll", "scatter", "scatter_add", "slice_scatter",
        "select_scatter", "tril", "triu",
    }
)  # fmt: skip
Shape = tuple[int, ...]


def results_like(func: Any, args: Args, kwargs: Kwargs) -> Any:
    """Tensors with the shapes and dtypes that the operator would return; their values mean nothing.

    Raises:
        RuntimeError: as the operator does, where shapes do not fit.
        NotImplementedError: if the shape depends on values.
    """
    if torch.Tag.dynamic_output_shape in func.tags and not _is_known_index(func, args):
        raise NotImplementedError(f"the shape of {func} depends on values")
    kwargs = {k: v for k, v in kwargs.items() if k not in {"device", "pin_memory"}}
    is_random = torch.Tag.nondeterministic_seeded in func.tags
    tensors = only(Tensor, (args, kwargs))
    if not is_random and sum(t.numel() for t in tensors) <= _SMALL:
        try:
            return _quietly(func, *map_only(TracedTensor, _ones, (args, kwargs)))
        except RuntimeError:  # some operators refuse ones, not the shape
            return _on_meta(func, args, kwargs)
    if base_name(func) == "linalg_qr" and args[1:] in {(), ("reduced",)}:
        return _qr_factors(args[0])
    shape = _shape_of(func, args)
    if shape is None:
        return _on_meta(func, args, kwargs)
    # The shape is known by rule; the dtype is what the operator makes of two entries a dimension.
    made = _quietly(func, *map_only(Tensor, _tiny, (args, kwargs)))
    return map_only(Tensor, lambda t: t.flatten()[0].expand(shape), made)


def dummy_results(func: Any, args: Any, kwargs: Any, error: Exception) -> Any:
    """Results of an operator without a meta kernel, run on zeros in place of traced tensors.

    Raises:
        Exception: `error`, where that would take too much memory.
    """
    operands = only(TracedTensor, (args, kwargs))
    # Of grouped products (experts) only the shape matters, and zeros would be as large as they are.
    if "grouped_mm" in base_name(func) and len(operands) == 2 and args[1].ndim == 3:
        shape = (args[0].shape[0], args[1].shape[-1])
        return torch.empty(shape, dtype=args[0].dtype, device="meta")
    if any(t.numel() > LIMIT for t in operands):
        raise error

    def zeros(tensor: TracedTensor) -> Tensor:
        return torch.zeros(tensor.shape, dtype=tensor.dtype)

    real_args, real_kwargs = map_only(TracedTensor, zeros, (args, kwargs))
    return func(*real_args, **real_kwargs)


def twin(tensor: Tensor) -> Tensor:
    """A meta tensor of the same shape, strides and offset."""
    if not isinstance(tensor, TracedTensor):
        return tensor.to("meta")
    base = torch.empty(tensor._store.numel, dtype=tensor.dtype, device="meta")
    return base.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def _on_meta(func: Any, args: Args, kwargs: Kwargs) -> Any:
    args, kwargs = map_only(Tensor, twin, (args, kwargs))
    return func(*args, **kwargs)


def _is_known_index(func: Any, args: Args) -> bool:
    """Whether an operator indexes by real tensors, so that the result's shape is known."""
    is_real = not only(TracedTensor, args[1:])
    return base_name(func) in {"index", "repeat_interleave"} and is_real


def _quietly(func: Any, args: Args, kwargs: Kwargs) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return func(*args, **kwargs)


def _ones(tensor: TracedTensor) -> Tensor:
    """A real tensor shaped like a traced one: of ones, or of zeros where it holds indices."""
    last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    base = torch.full(
        (last + 1 if tensor.numel() else 0,), int(is_traced_dtype(tensor.dtype)), dtype=tensor.dtype
    )
    return base.as_strided(tensor.shape, tensor.stride())


def _tiny(tensor: Tensor) -> Tensor:
    return torch.full((2,) * tensor.dim(), int(is_traced_dtype(tensor.dtype)), dtype=tensor.dtype)


def _shape_of(func: Any, args: Args) -> Shape | None:
    name = base_name(func)
    if torch.Tag.pointwise in func.tags or name in {"masked_fill", "where", "lerp"}:
        shapes = [a.shape for a in only(Tensor, args)]
        return broadcast_shape(shapes)
    rule = _RULES.get(name)
    return None if rule is None else rule(func, args)


def _qr_factors(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Stand-ins for the reduced factors Q and R of a matrix, or of a batch."""
    *lead, rows, columns = matrix.shape
    least = min(rows, columns)
    one = torch.ones((), dtype=matrix.dtype)
    return one.expand(*lead, rows, least), one.expand(*lead, least, columns)


def broadcast_shape(shapes: Sequence[Shape]) -> Shape | None:
    """The shape that others broadcast to; None where they do not fit.

    torch's own function loads its symbolic shapes first, which takes longer than a trace.
    """
    out = [1] * max(len(shape) for shape in shapes)
    for shape in shapes:
        for index, size in enumerate(reversed(shape)):
            if size != 1 and out[index] not in {1, size}:
                return None
            out[index] = size if size != 1 else out[index]
    return tuple(reversed(out))


def _first(func: Any, args: Args) -> Shape:
    return tuple(args[0].shape)


def _reduced(func: Any, args: Args) -> Shape:
    dims, sizes = reduced_dims(func, args, {}, args[0].dim()), enumerate(args[0].shape)
    keep = named(func, args, {}).get("keepdim", False)
    return tuple(1 if d in dims else n for d, n in sizes if keep or d not in dims)


def _matrix(func: Any, args: Args) -> Shape | None:
    left, right = args[-2:]
    if left.dim() != right.dim() or left.shape[-1] != right.shape[-2]:
        return None
    return (*left.shape[:-1], right.shape[-1])


def _joined(func: Any, args: Args) -> Shape | None:
    """The shape of a concatenation; None for torch's special case of empty parts."""
    parts = args[0]
    first = list(parts[0].shape)
    if any(p.dim() != len(first) for p in parts):
        return None
    dim = (args[1] if len(args) > 1 else 0) % len(first)
    first[dim] = sum(p.shape[dim] for p in parts)
    return tuple(first)


def _stacked(func: Any, args: Args) -> Shape:
    size = list(args[0][0].shape)
    size.insert((args[1] if len(args) > 1 else 0) % (len(size) + 1), len(args[0]))
    return tuple(size)


def _repeated(func: Any, args: Args) -> Shape:
    lead = (1,) * (len(args[1]) - args[0].dim())
    return tuple(n * times for n, times in zip((*lead, *args[0].shape), args[1], strict=True))


def _looked_up(func: Any, args: Args) -> Shape:
    return (*args[1].shape, args[0].shape[1])


_RULES: Mapping[str, Callable[[Any, tuple[Any, ...]], Shape | None]] = MappingProxyType(
    dict.fromkeys(_SAME_SHAPE, _first)
    | dict.fromkeys(REDUCTIONS - {"max", "median", "min"}, _reduced)
    | dict.fromkeys(("addmm", "baddbmm", "bmm", "mm"), _matrix)
    | {"cat": _joined, "embedding": _looked_up, "repeat": _repeated, "stack": _stacked}
)
