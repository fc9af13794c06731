"""The traced tensor: shape, dtype and strides of a real one, a storage of writes, no memory.

torch hands every operator on such a tensor to `TracedTensor.__torch_dispatch__`, which has no
argument that could name a recorder. So the one in charge is state: `handled_by(recorder)` makes it
the current handler of this thread, innermost first, until the block ends. While no recorder is
active operators run on replayed values: nothing ever reads memory that does not exist.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch

from gptinit.trace.graph import Geometry, Node, Read, Storage, Write
from gptinit.trace.nested import map_only
from gptinit.trace.replay.operators import Args, Kwargs
from gptinit.trace.replay.replay import Replay

__all__ = [
    "Handler",
    "TracedTensor",
    "current_handler",
    "handled_by",
    "of_node",
    "outside_inference_mode",
    "traced",
    "unset",
]

_T = TypeVar("_T")


class Handler(Protocol):
    """Runs operators on traced tensors: a recorder, or the replay of their values."""

    def handle(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        """The operator's result."""
        ...

    def values_of(self, tensor: "TracedTensor") -> Tensor:
        """The values of a tensor, for code that looks at them."""
        ...


class _OnValues:
    """The handler while nothing is traced: operators run on replayed values."""

    def handle(self, func: Any, args: Args, kwargs: Kwargs) -> Any:
        args, kwargs = map_only(TracedTensor, self.values_of, (args, kwargs))
        return func(*args, **kwargs)

    def values_of(self, tensor: "TracedTensor") -> Tensor:
        with no_dispatch():
            return Replay().value(tensor.read())


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.stack: list[Handler] = []


_ON_VALUES = _OnValues()
_of_thread = _OfThread()
_of_all_threads: list[Handler] = []
_changing = threading.Lock()
_NOTHING = nullcontext()


def outside_inference_mode() -> AbstractContextManager[object]:
    """A context in which a view of an ordinary tensor is no inference tensor."""
    return torch.inference_mode(mode=False) if torch.is_inference_mode_enabled() else _NOTHING


@contextmanager
def handled_by(handler: Handler) -> Iterator[None]:
    """Make `handler` the current one of this thread inside the block."""
    _of_thread.stack.append(handler)
    with _changing:
        _of_all_threads.append(handler)
    try:
        yield
    finally:
        _of_thread.stack.pop()
        with _changing:  # by identity: the traces of several threads end in any order
            at = next(i for i, h in enumerate(_of_all_threads) if h is handler)
            del _of_all_threads[at]


def current_handler() -> Handler:
    """The innermost handler of this thread; in a thread without one, the newest of any thread.

    The latter is for worker threads that a factory starts to initialise its parameters.
    """
    stack = _of_thread.stack or _of_all_threads
    return stack[-1] if stack else _ON_VALUES


class TracedTensor(torch.Tensor):
    """A tensor without memory that knows how each of its entries was computed.

    Shape:
        That of the tensor it stands for.
    """

    _store: Storage
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment] # torch does so

    @staticmethod
    def __new__(cls, store: Storage, geometry: Geometry) -> "TracedTensor":
        """A view of `store`."""
        # An inference tensor could not be written in place once the block of inference is over.
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
        """Its value as it is now: later writes do not change it."""
        return Read(self._store, self._store.version, self.geometry)

    def write(self, node: Node) -> None:
        """Put the value of `node` into its entries."""
        self._store.writes.append(Write(self.geometry, node))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override] # torch declares a function
        cls,
        func: Any,
        types: Iterable[type],
        args: Args = (),
        kwargs: Kwargs | None = None,
    ) -> Any:
        """Hand the operator to the current handler."""
        return current_handler().handle(func, args, kwargs or {})

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
        """A copy with its own entries, equal to these."""
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
        """Another tensor that shares its entries."""
        made = TracedTensor(self._store, self.geometry)
        made.requires_grad_(self.requires_grad)
        for name, value in self.__dict__.items():
            setattr(made, name, value)
        return made

    def _known(self, use: Callable[[Tensor], _T]) -> _T:
        """What `use` makes of the values, for code that looks at them."""
        with no_dispatch():
            return use(current_handler().values_of(self))

    def numpy(self, *, force: bool = False) -> Any:
        """The values, for code that looks at them."""
        return self._known(lambda values: values.numpy(force=force))

    def __array__(self, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        return self.numpy() if dtype is None else self.numpy().astype(dtype)

    def tolist(self) -> Any:
        """The values, for code that looks at them."""
        return self._known(Tensor.tolist)

    def apply_(self, function: Any) -> "TracedTensor":
        """Apply a Python function to every value; torch itself would read the memory."""
        self.copy_(self._known(lambda values: values.clone().apply_(function)))
        return self

    def map_(self, other: Tensor, function: Any) -> "TracedTensor":
        """Apply a Python function to every value and the one of `other` at its place."""
        other = current_handler().values_of(other) if isinstance(other, TracedTensor) else other
        self.copy_(self._known(lambda values: values.clone().map_(other, function)))
        return self

    def data_ptr(self) -> int:
        """A number that views of one storage share and others do not: there is no address."""
        return id(self._store) + int(self.storage_offset()) * self.element_size()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickled by value."""
        return self._known(lambda values: values.__reduce_ex__(protocol))

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override] # untyped in torch
        try:
            return self._known(repr)
        except Exception:  # a print must not end the program that is traced
            return f"tensor(..., size={tuple(self.shape)}, dtype={self.dtype})"

    def __format__(self, spec: str) -> str:
        return self.item().__format__(spec) if self.dim() == 0 else repr(self)


def traced(value: Tensor) -> TracedTensor:
    """A traced tensor with the values of a real one."""
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
