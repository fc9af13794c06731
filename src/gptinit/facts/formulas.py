"""Arithmetic formulas of schemes: parsed once, evaluated without running anybody's code."""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType

from gptinit.errors import ConfigError, unknown_name

__all__ = ["FUNCTIONS", "VARIABLES", "evaluate", "parse"]

VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        "n_layer": "number of blocks",
        "layer": "0-based block index (0 outside the blocks)",
        "n_embd": "width of the residual stream",
        "d_ff": "hidden width of the MLP",
        "n_head": "attention heads",
        "head_dim": "width of a head",
        "vocab_size": "rows of the token embedding",
        "fan_in": "columns of the matrix, as torch.nn.init counts (a bias: of its matrix)",
        "fan_out": "rows of the matrix, as torch.nn.init counts (a bias: of its matrix)",
    }
)
"""What a formula may name."""

FUNCTIONS: Mapping[str, Callable[..., float]] = MappingProxyType(
    {"sqrt": math.sqrt, "log": math.log, "exp": math.exp, "min": min, "max": max}
)
"""What a formula may call."""

_BINARY: Mapping[type[ast.operator], Callable[[float, float], float]] = MappingProxyType(
    {
        ast.Add: operator.add,
        ast.Sub: operator.sub,
        ast.Mult: operator.mul,
        ast.Div: operator.truediv,
        ast.Pow: math.pow,  # on floats: overflows at once where a power of integers would not end
    }
)
_LONGEST = 200


def parse(text: object) -> ast.expr:
    """The syntax tree of a formula that uses only numbers, VARIABLES, FUNCTIONS and + - * / **.

    Raises:
        ConfigError: if the text is anything else.

    Example:
        >>> evaluate(parse("0.02 / sqrt(2 * n_layer)"), {"n_layer": 8})
        0.005
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        text = repr(text)
    if not isinstance(text, str) or not text.strip() or len(text) > _LONGEST:
        raise ConfigError(
            f"formula must be a number or a text of 1 to {_LONGEST} characters, "
            f"got {repr(text)[:60]}."
        )
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"formula must be arithmetic, got {text!r}.") from error
    _check(tree, text)
    return tree


def evaluate(tree: ast.expr, variables: Mapping[str, float]) -> float:
    """The value of a parsed formula; every variable of it must be given.

    Raises:
        ConfigError: if the value is not a finite number (a division by zero, say).
    """
    try:
        value = _value(tree, variables)
    except (ArithmeticError, ValueError) as error:
        raise ConfigError(
            f"formula must have a finite value, got {ast.unparse(tree)!r}: {error}."
        ) from error
    if not math.isfinite(value):
        raise ConfigError(f"formula must have a finite value, got {ast.unparse(tree)!r}.")
    return value


def _check(node: ast.expr, text: str) -> None:
    """Raise unless the node and all below it are of the allowed kinds."""
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return
        case ast.Name(id=name):
            if name not in VARIABLES:
                raise unknown_name(f"variable in formula {text!r}", name, VARIABLES)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            _check(left, text)
            _check(right, text)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            _check(operand, text)
        case ast.Call(func=ast.Name(id=name), args=[_, *_] as args, keywords=[]):
            if name not in FUNCTIONS:
                raise unknown_name(f"function in formula {text!r}", name, FUNCTIONS)
            if (len(args) > 1) != (name in ("min", "max")):
                count = "two or more arguments" if name in ("min", "max") else "one argument"
                raise ConfigError(f"{name} must have {count}, got {text!r}.")
            for arg in args:
                _check(arg, text)
        case _:
            raise ConfigError(
                f"formula must use only numbers, names, + - * / ** and "
                f"{', '.join(FUNCTIONS)}, got {text!r}."
            )


def _value(node: ast.expr, variables: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return float(variables[name])
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_value(left, variables), _value(right, variables))
        case ast.UnaryOp(op=op, operand=operand):
            value = _value(operand, variables)
            return -value if isinstance(op, ast.USub) else value
        case ast.Call(func=ast.Name(id=name), args=args):
            return FUNCTIONS[name](*(_value(arg, variables) for arg in args))
    raise AssertionError(ast.dump(node))  # _check lets nothing else through
