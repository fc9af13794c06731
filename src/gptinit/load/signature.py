"""What a class or function takes: its parameters, their annotations and defaults."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from inspect import Parameter
from typing import Any, get_type_hints

from gptinit.load.settings import MISSING

__all__ = [
    "default_of",
    "function_of",
    "hints_of",
    "parameters",
    "reads",
    "required_parameters",
    "takes_any",
]


def parameters(call: Callable[..., object]) -> list[Parameter]:
    """The parameters of a call without *args and **kwargs.

    Example:
        >>> [parameter.name for parameter in parameters(lambda config, *rest, bias=True: None)]
        ['config', 'bias']
    """
    starred = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return [p for p in _all(call) if p.kind not in starred]


def required_parameters(call: Callable[..., object]) -> list[Parameter]:
    """The parameters of a call that have no default.

    Example:
        >>> [parameter.name for parameter in required_parameters(lambda config, bias=True: None)]
        ['config']
    """
    return [p for p in parameters(call) if p.default is Parameter.empty]


def takes_any(call: Callable[..., object]) -> bool:
    """Whether a call takes keywords that it does not name (**kwargs)."""
    return any(p.kind is Parameter.VAR_KEYWORD for p in _all(call))


def default_of(parameter: Parameter) -> object:
    """The default of a parameter; MISSING if it has none."""
    return MISSING if parameter.default is Parameter.empty else parameter.default


def function_of(call: Callable[..., object]) -> Callable[..., object]:
    """The function whose parameters a call takes: of a class, its `__init__`."""
    return call.__init__ if isinstance(call, type) else call  # type: ignore[misc]


def hints_of(described: object) -> dict[str, Any]:
    """The annotations of a class or function, evaluated; none where that fails."""
    try:
        return get_type_hints(described)
    except Exception:  # annotations are the user's code; if it fails, names decide
        return {}


def reads(call: Callable[..., object], parameter: str) -> tuple[frozenset[str], frozenset[str]]:
    """What the source of a class or function reads of one of its parameters.

    Args:
        call: of a class, its `__init__` is meant.
        parameter: the name of the parameter.

    Returns:
        The texts that it is indexed with: {"emb_dim", "model.dim"} of cfg["emb_dim"] and
        cfg["model"]["dim"]; and the names that are taken of it: {"emb_dim"} of cfg.emb_dim.
    """
    try:
        source = inspect.getsource(inspect.unwrap(function_of(call)))
        tree = ast.parse(textwrap.dedent(source))
    except (OSError, TypeError, SyntaxError):
        return frozenset(), frozenset()
    keys, attributes = {""}, set()
    for node in ast.walk(tree):
        match node:
            case ast.Subscript():
                keys.add(_key_of(node, parameter))
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name == parameter:
                attributes.add(attribute)
    whole = {key for key in keys if key and not any(k.startswith(f"{key}.") for k in keys)}
    return frozenset(whole), frozenset(attributes)


def _key_of(node: ast.expr, parameter: str) -> str:
    """The "a.b" of parameter["a"]["b"]; "" for another expression."""
    match node:
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(key))):
            return key if name == parameter else ""
        case ast.Subscript(value=inner, slice=ast.Constant(value=str(key))):
            above = _key_of(inner, parameter)
            return f"{above}.{key}" if above else ""
        case _:
            return ""


def _all(call: Callable[..., object]) -> list[Parameter]:
    try:
        return list(inspect.signature(call).parameters.values())
    except (TypeError, ValueError):
        return []
