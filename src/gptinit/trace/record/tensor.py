"""The tensor that records: shape, dtype and strides of a real one, a storage of writes, no memory.

While a `Recorder` is active every operator on such a tensor becomes nodes, views and writes. When
none is, the operator runs on replayed values: nothing can read memory that does not exist.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch
from torch.utils._pytree import tree_map_only

from gptinit.trace.graph import Geometry, Node, Read, Storage, Write
from gptinit.trace.replay.replay import Replay

__all__ = [
    "Handler",
    "TracedTensor",
    "handled_by",
    "of_node",
    "outside_inference_mode",
    "traced",
    "unset",
]


class Handler(Protocol):
    """What decides about an operator on traced tensors."""

    def handle(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The operator's result."""
        ...

    def ask(self, tensor: "TracedTensor") -> Tensor:
        """The values of a tensor, for code that looks at them."""
        ...


class _Values:
    """The handler while nothing is traced: operators run on values."""

    def handle(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the operator on replayed values."""
        args, kwargs = tree_map_only(TracedTensor, self.ask, (args, kwargs))
        return func(*args, **kwargs)

    def ask(self, tensor: "TracedTensor") -> Tensor:
        """The replayed values."""
        with no_dispatch():
            return Replay().value(tensor.read())


_handlers: list[Handler] = [_Values()]

_NOTHING = nullcontext()


def outside_inference_mode() -> AbstractContextManager[object]:
    """Where a view of what was made outside of an inference mode is no inference tensor."""
    return torch.inference_mode(mode=False) if torch.is_inference_mode_enabled() else _NOTHING


@contextmanager
def handled_by(handler: Handler) -> Iterator[None]:
    """Let `handler` decide about operators inside."""
    _handlers.append(handler)
    try:
        yield
    finally:
        _handlers.remove(handler)


class TracedTensor(torch.Tensor):
    """A tensor without memory that knows how each of its entries came about.

    Shape:
        That of the tensor it stands for.
    """

    _store: Storage
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment] # torch does so

    @staticmethod
    def __new__(cls, store: Storage, geometry: Geometry) -> "TracedTensor":
        """A view of `store`."""
        with outside_inference_mode():
            made: TracedTensor = torch.Tensor._make_wrapper_subclass(
                cls,
                geometry.size,
                strides=geometry.stride,
                storage_offset=geometry.offset,
                dtype=store.dtype,
                device=torch.device("cpu"),
            )
        made._store = store
        return made

    @property
    def geometry(self) -> Geometry:
        """Where it lies in its storage."""
        return Geometry(tuple(self.shape), self.stride(), int(self.storage_offset()))

    def read(self) -> Read:
        """Its value as it is now."""
        return Read(self._store, self._store.version, self.geometry)

    def write(self, node: Node) -> None:
        """Put the value of `node` into its entries."""
        self._store.writes.append(Write(self.geometry, node))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override] # torch declares a function
        cls,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Hand the operator to the handler of the moment."""
        return _handlers[-1].handle(func, args, kwargs or {})

    @property
    def data(self) -> Tensor:
        """The same entries outside autograd."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        """Become another tensor's entries: what `parameter.data = ...` does."""
        if not isinstance(value, TracedTensor):
            value = traced(value)
        torch.Tensor.data.__set__(self, value)  # type: ignore[attr-defined] # shape, strides, dtype
        self._store = value._store

    def __deepcopy__(self, memo: dict[int, Any]) -> "TracedTensor":
        """A copy with entries of its own, equal to these."""
        if id(self) in memo:
            found: TracedTensor = memo[id(self)]
            return found
        with torch.no_grad():
            made = self.clone(memory_format=torch.preserve_format)
        assert isinstance(made, TracedTensor)
        made.requires_grad_(self.requires_grad)
        for name, value in self.__dict__.items():
            if name != "_store":
                setattr(made, name, value)
        memo[id(self)] = made
        return made

    def __copy__(self) -> "TracedTensor":
        """Another tensor of the same entries."""
        made = TracedTensor(self._store, self.geometry)
        made.requires_grad_(self.requires_grad)
        for name, value in self.__dict__.items():
            setattr(made, name, value)
        return made

    def numpy(self, *, force: bool = False) -> Any:
        """The values, for code that looks at them."""
        with no_dispatch():
            return _handlers[-1].ask(self).numpy(force=force)

    def __array__(self, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        return self.numpy() if dtype is None else self.numpy().astype(dtype)

    def tolist(self) -> Any:
        """The values, for code that looks at them."""
        with no_dispatch():
            return _handlers[-1].ask(self).tolist()

    def apply_(self, function: Any) -> "TracedTensor":
        """Put every value through a Python function; torch would read memory for it."""
        with no_dispatch():
            values = _handlers[-1].ask(self).clone().apply_(function)
        self.copy_(values)
        return self

    def map_(self, other: Tensor, function: Any) -> "TracedTensor":
        """As `apply_`, with the values of another tensor."""
        other = _handlers[-1].ask(other) if isinstance(other, TracedTensor) else other
        with no_dispatch():
            values = _handlers[-1].ask(self).clone().map_(other, function)
        self.copy_(values)
        return self

    def data_ptr(self) -> int:
        """A number that views of one storage share and others do not: there is no address."""
        return id(self._store) + int(self.storage_offset()) * self.element_size()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickled by value."""
        with no_dispatch():
            return _handlers[-1].ask(self).__reduce_ex__(protocol)

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override] # untyped in torch
        try:
            with no_dispatch():
                return repr(_handlers[-1].ask(self))
        except Exception:  # a print must not end the program that is traced
            return f"tensor(..., size={tuple(self.shape)}, dtype={self.dtype})"

    def __format__(self, spec: str) -> str:
        return self.item().__format__(spec) if self.dim() == 0 else repr(self)


def traced(value: Tensor) -> TracedTensor:
    """A tensor that was there before, as a traced one with the same values."""
    node = Node(shape=tuple(value.shape), dtype=value.dtype, constant=value.detach().contiguous())
    return of_node(node)


def of_node(node: Node) -> TracedTensor:
    """A fresh tensor with the value of `node`."""
    made = unset(node.shape, node.dtype)
    made.write(node)
    return made


def unset(shape: tuple[int, ...], dtype: torch.dtype) -> TracedTensor:
    """A fresh tensor that nothing has written to."""
    stride, count = [], 1
    for size in reversed(shape):
        stride.append(count)
        count *= max(size, 1)
    numel = 0 if 0 in shape else count
    store = Storage(numel, dtype)
    return TracedTensor(store, Geometry(tuple(shape), tuple(reversed(stride))))
