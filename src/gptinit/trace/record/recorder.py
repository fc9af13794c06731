"""What the trace makes of an operator: a view, a write, a draw, a node, or values."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch

from gptinit.errors import SubjectError
from gptinit.facts.distributions import Normal
from gptinit.facts.step import Step
from gptinit.trace.graph import Geometry, Node, draws_behind, is_traced_dtype, mark_looked
from gptinit.trace.nested import map_only, only
from gptinit.trace.record.creation import created, drawn, is_like, new_like
from gptinit.trace.record.provenance import draw_key, made_here, numbers_in, step_here
from gptinit.trace.record.shapes import broadcast_shape, dummy_results, results_like, twin
from gptinit.trace.record.tensor import TracedTensor, of_node, traced
from gptinit.trace.record.writing import DRAWS, SNAPSHOT, as_copied, as_written, functional_of_out
from gptinit.trace.replay.operators import Args, Kwargs, base_name
from gptinit.trace.replay.partial import Unanswerable
from gptinit.trace.replay.replay import LIMIT, Replay

__all__ = ["Recorder"]

aten = torch.ops.aten

# Operators that return Python values, on which init code may branch.
_LOOKS = frozenset({"_local_scalar_dense", "equal", "is_nonzero"})
# torch says that these are views, but their entries differ from those of their storage ...
_NOT_VIEWS = frozenset({"view_as_complex", "view_as_real", "_conj", "_neg_view", "real", "imag"})
# ... and that these are none, though they show the same entries.
_ALSO_VIEWS = frozenset({"_unsafe_view", "lift_fresh", "_reshape_alias", "lift"})
_HELD = 1 << 24
"""Entries of replayed values that are cached; beyond that the cache is dropped."""


class Recorder:
    """Records every operator on traced tensors; tensors that a factory creates become traced.

    Args:
        dummy: whether an integer or a truth value that depends on traced values may be made up: for
            a forward pass of which only the flow of data is wanted.
    """

    def __init__(self, *, dummy: bool = False) -> None:
        self._dummy = dummy
        self._replay = Replay()

    def make(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """Run an operator without traced arguments; a floating point result becomes traced."""
        name = base_name(func)
        real = only(Tensor, (args, kwargs))
        if name == "lift_fresh" and is_traced_dtype(args[0].dtype) and not args[0].is_meta:
            return traced(args[0].clone())
        target = kwargs.get("device") or (real[0].device if real else "cpu")
        if torch.device(target).type == "meta" or func._schema.is_mutable:
            return func(*args, **kwargs)
        if is_like(name) and real:
            return new_like(func, args, kwargs)
        return (
            self._converted(func, args, kwargs, real) if real else self._factory(func, args, kwargs)
        )

    def handle(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """The result of an operator with at least one traced argument."""
        # In this order: an operator that needs no values (a view, a change of shape) must not be
        # taken for the write or the computation that its schema also says it is.
        name = base_name(func)
        first = args[0] if args else None
        if name in _LOOKS:
            return func(*map_only(TracedTensor, self.values_of, args), **kwargs)
        if isinstance(first, TracedTensor):
            made = self._without_values(func, name, args, kwargs)
            if made is not NotImplemented:
                return made
        if func._schema.is_mutable:
            return self._mutate(func, name, args, kwargs)
        return self._compute(func, args, kwargs)

    def values_of(self, tensor: TracedTensor) -> Tensor:
        """Replayed values of a tensor; the draws behind it are marked as looked at.

        Raises:
            SubjectError: if they are too many and no sample can stand for them.
        """
        read = tensor.read()
        mark_looked(read)
        if self._replay.held > _HELD:
            self._replay = Replay()
        try:
            with no_dispatch():  # numpy() and tolist() come here outside of any operator
                return self._replay.value(read).clone()
        except Unanswerable as error:
            raise SubjectError(
                "init code must not depend on the values of a large random tensor, got "
                f"{step_here(Step('a use of them', None))[0]}. {error}"
            ) from error

    # --- tensors out of nothing

    def _factory(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        made = created(func, args, kwargs)
        if made is not None:
            return made
        kwargs = {k: v for k, v in kwargs.items() if k not in {"device", "pin_memory", "layout"}}
        like = func(*args, **kwargs)
        if isinstance(like, Tensor) and is_traced_dtype(like.dtype):
            return of_node(self._node(func, args, kwargs, like))
        return like

    def _converted(self, func: Any, args: Args, kwargs: Kwargs, real: list[Tensor]) -> Any:
        """Run an operator on real tensors; floats made of integers or masks become traced."""
        made = func(*args, **kwargs)
        if self._dummy or any(is_traced_dtype(t.dtype) or t.is_meta for t in real):
            return made
        return map_only(Tensor, _if_float, made)

    # --- views and writes

    def _without_values(self, func: Any, name: str, args: Args, kwargs: Kwargs) -> Any:
        """The result if it needs no values of the first argument; else NotImplemented."""
        first = args[0]
        if (func.is_view or name in _ALSO_VIEWS) and name not in _NOT_VIEWS:
            return self._view(func, first, args, kwargs)
        if name == "set_":  # to another tensor's entries, or to real memory as torch.load does
            is_tensor = any(isinstance(a, Tensor) for a in args[1:2])
            empty = torch.empty(0, dtype=first.dtype)
            first.data = args[1] if is_tensor else func(empty, *args[1:], **kwargs)
            return first
        if torch.Tag.inplace_view in func.tags:  # t_, unsqueeze_: the tensor itself changes shape
            with no_dispatch():
                func(*args, **kwargs)
            return first
        if torch.device(kwargs.get("device") or "cpu").type == "meta":
            return func(twin(first), *args[1:], **kwargs)
        return new_like(func, args, kwargs) if is_like(name) else NotImplemented

    def _view(self, func: Any, tensor: TracedTensor, args: Args, kwargs: Kwargs) -> Any:
        if base_name(func) in {"detach", "alias", "lift_fresh"}:
            return TracedTensor(tensor._store, tensor.geometry)
        if base_name(func) == "view" and func._overloadname == "dtype":
            return self._compute(func, args, kwargs)
        # Views are taken on meta, where torch itself works out strides and offset.
        made = func(twin(tensor), *args[1:], **kwargs)

        def wrap(meta: Tensor) -> TracedTensor:
            geometry = Geometry(tuple(meta.shape), meta.stride(), int(meta.storage_offset()))
            return TracedTensor(tensor._store, geometry)

        return map_only(Tensor, wrap, made)

    def _mutate(self, func: Any, name: str, args: Args, kwargs: Kwargs) -> Any:
        if name.startswith("_foreach_"):
            return self._each(name, args, kwargs)
        outs = [a.name for a in func._schema.arguments if a.is_out]
        if outs:
            return self._write_out(func, outs, args, kwargs)
        target = args[0]
        if not isinstance(target, TracedTensor):  # a real tensor takes traced values in
            args, kwargs = map_only(TracedTensor, self.values_of, (args, kwargs))
            return func(*args, **kwargs)
        if name == "copy_" or (name == "fill_" and isinstance(args[1], Tensor)):
            target.write(as_copied(target, args[1], name))
        elif target.numel():
            node = as_written(func, target, args, kwargs)
            target.write(node or self._in_place(func, name, args, kwargs))
        return target

    def _in_place(self, func: Any, name: str, args: Args, kwargs: Kwargs) -> Node:
        """The value that an in-place operator leaves: what its functional variant returns."""
        like = torch.empty(1, dtype=args[0].dtype).expand(args[0].shape)
        if name in DRAWS:  # whatever the target held: the operator itself, on memory of its own
            return self._node(func, args[1:], kwargs, like)
        return self._node(_functional(func, name), args, kwargs, like)

    def _each(self, name: str, args: Args, kwargs: Kwargs) -> None:
        method = name.removeprefix("_foreach_")
        for index, tensor in enumerate(args[0]):
            rest = [a[index] if isinstance(a, list | tuple) else a for a in args[1:]]
            getattr(tensor, method)(*rest, **kwargs)

    def _write_out(self, func: Any, outs: list[str], args: Args, kwargs: Kwargs) -> Any:
        rest = {k: v for k, v in kwargs.items() if k not in outs}
        targets = [kwargs[name] for name in outs]
        plain = functional_of_out(func)
        tensors = only(Tensor, (args, rest))
        if not tensors:
            rest["dtype"] = targets[0].dtype
        is_traced = bool(only(TracedTensor, tensors))
        made = (self.handle if is_traced else self.make)(plain, args, rest)
        for target, value in zip(targets, [made] if len(outs) == 1 else made, strict=True):
            target.copy_(value)
        return targets[0] if len(outs) == 1 else tuple(targets)

    # --- operators

    def _compute(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        drawn_values = self._composed(func, args, kwargs)
        if drawn_values is not None:
            return drawn_values
        try:
            like = results_like(func, args, kwargs)
        except (RuntimeError, NotImplementedError) as error:
            if not self._dummy:
                return self._by_value(func, args, kwargs)
            like = dummy_results(func, args, kwargs, error)
        if isinstance(like, Tensor):
            return self._result(self._node(func, args, kwargs, like))
        if isinstance(like, tuple | list):
            made = [
                self._result(self._node(func, args, kwargs, m, i)) if isinstance(m, Tensor) else m
                for i, m in enumerate(like)
            ]
            return type(like)(made) if type(like) in {list, tuple} else tuple(made)
        return self._by_value(func, args, kwargs)

    def _composed(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """normal(mean, std) with a tensor among its arguments, as mean + std * standard normal."""
        if base_name(func) != "normal":
            return None
        mean, std = args[0], args[1] if len(args) > 1 else kwargs.get("std", 1.0)
        shapes = [a.shape for a in (mean, std) if isinstance(a, Tensor)]
        like = mean if isinstance(mean, Tensor) else std
        shape = broadcast_shape(shapes) or tuple(like.shape)
        generator = kwargs.get("generator")
        z = of_node(drawn(Normal(0.0, 1.0), shape, like.dtype, Step("normal"), generator))
        return aten.add.Tensor(aten.mul.Tensor(z, std), mean)

    def _result(self, node: Node) -> Any:
        """A tensor for a node; integers and truth values that no draw decides are computed."""
        tensor = of_node(node)
        if is_traced_dtype(node.dtype):
            return tensor
        is_random = bool(draws_behind(tensor.read()))
        if self._dummy and is_random:
            return _made_up(node)
        # A single value is computed at once, random or not: code branches on it.
        is_kept = node.numel > 1 and (is_random or node.numel > LIMIT)
        return tensor if is_kept else self.values_of(tensor)

    def _by_value(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """The result of an operator whose output shape depends on values: run on them."""
        real_args, real_kwargs = map_only(TracedTensor, self.values_of, (args, kwargs))
        made = func(*real_args, **real_kwargs)
        if isinstance(made, Tensor) and is_traced_dtype(made.dtype):
            return of_node(self._node(func, args, kwargs, made))
        return map_only(Tensor, _if_float, made)

    def _node(
        self, func: Any, args: Args, kwargs: Kwargs, like: Tensor, index: int | None = None
    ) -> Node:
        args, kwargs = map_only(Tensor, _recorded, (args, kwargs))
        generator = kwargs.get("generator")
        # A node is computed on the CPU, from a generator that its key seeds.
        kwargs = {k: v for k, v in kwargs.items() if k not in {"device", "pin_memory", "generator"}}
        node = made_here(
            Step(base_name(func), numbers_in(args)), op=func, args=args, kwargs=kwargs,
            index=index, shape=tuple(like.shape), dtype=like.dtype,
        )  # fmt: skip
        # Only the first result carries a key: the others of the same call draw nothing more.
        if torch.Tag.nondeterministic_seeded in func.tags and not index:
            node.key = draw_key(generator, node.numel)
        return node


def _if_float(tensor: Tensor) -> Tensor:
    return traced(tensor) if is_traced_dtype(tensor.dtype) else tensor


def _recorded(tensor: Tensor) -> Any:
    """An argument as a node keeps it: a read, or a copy of a real tensor that may change later."""
    if isinstance(tensor, TracedTensor):
        return tensor.read()
    return tensor.detach().clone() if tensor.numel() <= SNAPSHOT else tensor.detach()


def _functional(func: Any, name: str) -> Any:
    """The functional variant of an in-place operator.

    Raises:
        SubjectError: if there is none.
    """
    packet = getattr(aten, name.removesuffix("_"), None) if name.endswith("_") else None
    found = getattr(packet, func._overloadname, None)
    if found is None:
        raise SubjectError(f"init code must use operators that can be traced, got {func}.")
    return found


def _made_up(node: Node) -> Tensor:
    """Integers 0, 1, 2 ... along the last dimension, or True, in the shape of a node."""
    if node.dtype == torch.bool:
        return torch.ones(node.shape, dtype=torch.bool)
    last = node.shape[-1] if node.shape else 1
    return torch.arange(last).expand(node.shape or (1,)).to(node.dtype).view(node.shape).clone()
