"""Arguments and results of operators: values within lists, tuples and dicts.

torch's own functions for this are private and take any registered type; called for every operator
that is recorded or run, they took up to a fifth of a run.
"""

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["map_only", "only"]

T = TypeVar("T")


def only(kind: type[T] | tuple[type[T], ...], value: object) -> list[T]:
    """The leaves of a kind, in order.

    Example:
        >>> only(int, ([1, ("a", 2)], {"b": 3}))
        [1, 2, 3]
    """
    found: list[T] = []
    _collect(kind, value, found)
    return found


def _collect(kind: type[T] | tuple[type[T], ...], value: object, found: list[T]) -> None:
    if isinstance(value, (tuple, list)):
        for item in value:
            _collect(kind, item, found)
    elif isinstance(value, dict):
        for item in value.values():
            _collect(kind, item, found)
    elif isinstance(value, kind):
        found.append(value)


def map_only(kind: type | tuple[type, ...], function: Callable[[Any], Any], value: Any) -> Any:
    """The same structure, with what `function` makes of each leaf of a kind.

    Example:
        >>> map_only(int, float, ([1, "a"], {"b": 2}))
        ([1.0, 'a'], {'b': 2.0})
    """
    if isinstance(value, (tuple, list)):
        items = [map_only(kind, function, item) for item in value]
        # A named tuple takes its fields one by one; those of torch's operators take a sequence.
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        return {key: map_only(kind, function, item) for key, item in value.items()}
    return function(value) if isinstance(value, kind) else value
