"""Formulas of schemes: arithmetic, and nothing else."""

import math

import pytest

from gptinit.errors import ConfigError
from gptinit.facts.formulas import evaluate, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.02", 0.02),
        (0.03, 0.03),
        (1, 1.0),
        ("0.02 / sqrt(2 * n_layer)", 0.02 / math.sqrt(24)),
        ("-(layer + 1) ** 2", -16.0),
        ("min(1, sqrt(fan_out / fan_in)) / sqrt(fan_in)", math.sqrt(0.25) / math.sqrt(768)),
        ("max(1, 2, 3) - +1", 2.0),
        ("exp(log(vocab_size))", 50257.0),
        ("2 ** 3 ** 2", 512.0),
    ],
)
def test_arithmetic_has_its_usual_value(text: object, expected: float) -> None:
    variables = {"n_layer": 12, "layer": 3, "fan_in": 768, "fan_out": 192, "vocab_size": 50257}

    assert evaluate(parse(text), variables) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("__import__('os').system('true')", "formula must use only numbers"),
        ("().__class__", "formula must use only numbers"),
        ("open('x')", "function in formula .* must be one of"),
        ("[1, 2]", "formula must use only numbers"),
        ("1 if 2 else 3", "formula must use only numbers"),
        ("lambda: 1", "formula must use only numbers"),
        ("'a' * 9", "formula must use only numbers"),
        ("True", "formula must use only numbers"),
        ("1j", "formula must use only numbers"),
        ("7 % 3", "formula must use only numbers"),
        ("sqrt(x=2)", "formula must use only numbers"),
        ("sqrt()", "formula must use only numbers"),
        ("sqrt(1, 2)", "sqrt must have one argument"),
        ("min(1)", "min must have two or more arguments"),
        ("n_layers", r"got 'n_layers'. Did you mean n_layer"),
        ("0.02 /", "formula must be arithmetic"),
        ("", "formula must be a number or a text of 1 to 200 characters"),
        ("1" * 201, "formula must be a number or a text of 1 to 200 characters"),
        (True, "formula must be a number or a text"),
        (None, "formula must be a number or a text"),
        ("(" * 100 + ")" * 100, "formula must use only numbers"),
        ("(" * 190, "formula must be arithmetic"),
    ],
)
def test_anything_else_is_refused(text: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(text)


@pytest.mark.parametrize(
    "text", ["1 / layer", "sqrt(-1)", "9 ** 9 ** 9 ** 9", "log(0)", "exp(1000)", "1e308 * 10"]
)
def test_values_that_are_not_finite_are_refused_at_once(text: str) -> None:
    with pytest.raises(ConfigError, match="formula must have a finite value"):
        evaluate(parse(text), {"layer": 0})
