"""An inert stand-in: an object that may be anything, and that has no value."""

import re
from types import FunctionType
from typing import Any, Protocol

from torch import nn

from gptinit.errors import SubjectError

__all__ = ["Owner", "StandIn"]

_VALUES = ("__index__", "__int__", "__float__", "__complex__", "__len__", "__iter__", "__array__")
"""Protocols that ask for the value of an object, which a stand-in does not have."""

_OPERATIONS = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor",
    "lshift", "rshift",
)  # fmt: skip
_UNARY = ("neg", "pos", "abs", "invert")
_COMPARISONS = ("lt", "le", "gt", "ge")


class Owner(Protocol):
    """Who gave a stand-in away, and wants to know what becomes of it."""

    def touch(self, what: str, *, is_question: bool = False) -> None:
        """Record a use; a question is one whose answer is no: a truth, a comparison."""

    def refusal(self, path: str) -> SubjectError:
        """The error where a value is needed."""


class StandIn:
    """An object that may be anything: a module, a function, a class, a decorator, a constant."""

    def __init__(self, owner: Owner, path: str) -> None:
        self._gptinit = (owner, path)

    @property
    def __version__(self) -> str:
        return "0"  # a version that has nothing

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # protocols that it does not have
            raise AttributeError(name)
        owner, path = self._gptinit
        return StandIn(owner, f"{path}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What it decorates, if that is how it is called, else another stand-in."""
        owner, path = self._gptinit
        owner.touch(f"{path}()")
        if len(args) == 1 and not kwargs and isinstance(args[0], FunctionType | type):
            return args[0]  # used as a decorator: what it decorates stays as it is
        return StandIn(owner, path if path.endswith("()") else f"{path}()")

    def __getitem__(self, key: Any) -> Any:
        return _computed(self)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        if next(base for base in bases if isinstance(base, StandIn)) is not self:
            return ()  # of several stand-ins one is enough
        real = [base for base in bases if isinstance(base, type)]
        if any(getattr(base, "_is_protocol", False) for base in real):
            return ()  # which takes no other base
        name = self._gptinit[1].rpartition(".")[2]
        kind: tuple[type, ...] = (_Base,)
        if real:
            kind = (_Beside,)
        elif re.search("Module|Model", name):
            # What frameworks call a module or a model (LightningModule) is one of torch.
            kind = (_Base, nn.Module)
        return (type(name, kind, {"_stand_in": self}),)

    def __instancecheck__(self, instance: Any) -> bool:
        return False

    def __subclasscheck__(self, subclass: type) -> bool:
        return False

    def __bool__(self) -> bool:
        return _denied(self)

    def __eq__(self, other: object) -> bool:
        is_annotation = isinstance(other, type) or type(other).__module__ == "typing"
        return self is other if is_annotation else _denied(self)

    __hash__ = object.__hash__

    def __enter__(self) -> Any:
        return _computed(self)

    def __exit__(self, *error: object) -> None:
        return None

    def __deepcopy__(self, memo: Any) -> "StandIn":
        return self

    def __repr__(self) -> str:
        return f"<stand-in for {self._gptinit[1]}>"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [*args, *(kwargs or {}).values()]
        nested = [part for value in given if isinstance(value, list | tuple) for part in value]
        found = next(value for value in (*given, *nested) if isinstance(value, StandIn))
        return _needed(found)


class _Beside:
    """Base of a class that has a stand-in among its bases, and a real class, which makes it."""

    _stand_in: StandIn

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__()

    @property
    def _gptinit(self) -> tuple[Owner, str]:
        return self._stand_in._gptinit

    @classmethod
    def register(cls, *args: Any, **kwargs: Any) -> Any:
        """That of a registry: the one of ABC, which would be found, takes classes only."""
        return cls._stand_in.register(*args, **kwargs)


class _Base(_Beside):
    """Base of a class whose only base is a stand-in: it takes any arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        _computed(self)


def _computed(stand_in: Any, *_: Any) -> Any:
    owner, path = stand_in._gptinit
    owner.touch(path)
    return stand_in


def _needed(stand_in: Any, *_: Any) -> Any:
    """Refuse to invent a value.

    Raises:
        SubjectError: always.
    """
    owner, path = stand_in._gptinit
    raise owner.refusal(path)


def _denied(stand_in: StandIn, *_: Any) -> bool:
    owner, path = stand_in._gptinit
    owner.touch(path, is_question=True)
    return False


for _name in (*(f"__{n}__" for n in _OPERATIONS), *(f"__r{n}__" for n in _OPERATIONS)):
    setattr(StandIn, _name, _computed)
for _name in _UNARY:
    setattr(StandIn, f"__{_name}__", _computed)
for _name in _COMPARISONS:
    setattr(StandIn, f"__{_name}__", _denied)
for _name in _VALUES:
    setattr(StandIn, _name, _needed)
for _name in ("__contains__", "__getitem__", "__iter__"):  # of a registry or a configuration
    setattr(_Base, _name, _needed)
