"""Tell-tale ratios in words, and what is said where two of them meet."""

import math

import pytest
from support.programs import facts

from gptinit.audit_rules.hints import AMBIGUOUS, HINTS, hint_of


@pytest.mark.parametrize(
    ("ratio", "n_layer", "std", "start"),
    [
        (math.sqrt(24), 12, 0.01, "sqrt(2 n_layer): residual scaling missing"),
        (1 / math.sqrt(24), 12, 0.01, "1/sqrt(2 n_layer): "),
        (1 / 24, 12, 0.01, "1/(2 n_layer): "),
        (math.sqrt(0.5), 12, 0.01, "1/sqrt(2): q, k and v counted as one"),
        (16.0, 12, 0.01, "sqrt(n_embd): unit variance"),
        (0.98658, 12, 0.01, "0.9866: cut at 3 sigma without correction, not a fault"),
        (0.87963, 12, 0.01, "0.8796: cut at 2 sigma"),
        (math.sqrt(12 / 13), 12, 0.01, "sqrt(n_layer/(n_layer + 1)): n_layer + 1"),
        (0.01, 12, 0.01, "the expected std: variance given for std"),
        (1 / math.sqrt(3), 12, 0.01, "1/sqrt(3): a std used as the bound"),
    ],
)
def test_a_tell_tale_ratio_is_told(ratio: float, n_layer: int, std: float, start: str) -> None:
    hint = hint_of(ratio, facts(n_layer=n_layer), std)

    assert hint is not None
    assert hint.startswith(start)
    assert hint.count(": ") == 1  # one meaning only


def test_every_hint_has_the_value_that_its_formula_writes() -> None:
    # n_layer = 12, n_embd = 256, an expected std of 0.01.
    found = {hint.formula: hint.value(facts(), 0.01) for hint in HINTS}

    assert found == pytest.approx(
        {
            "sqrt(2 n_layer)": 4.898979486,
            "1/sqrt(2 n_layer)": 0.2041241452,
            "sqrt(n_layer)": 3.464101615,
            "1/sqrt(n_layer)": 0.2886751346,
            "1/(2 n_layer)": 0.04166666667,
            "sqrt(n_layer/(n_layer + 1))": 0.9607689228,
            "sqrt((n_layer + 1)/n_layer)": 1.040833,
            "sqrt(2)": 1.414213562,
            "1/sqrt(2)": 0.7071067812,
            "1/sqrt(3)": 0.5773502692,
            "sqrt(3)": 1.732050808,
            "sqrt(n_embd)": 16.0,
            "1/sqrt(n_embd)": 0.0625,
            "0.9866": 0.9865783,  # the std of a standard normal cut at 3
            "0.8796": 0.8796257,  # and at 2
            "1/0.8796": 1.136847,
            "0.02": 0.02,
            "the expected std": 0.01,
            "1/sqrt(the expected std)": 10.0,
        },
        rel=1e-6,
    )


@pytest.mark.parametrize("ratio", [1.0, 1 + 1e-6, 1.234, 0.0, -1.0, math.inf, math.nan])
def test_most_ratios_tell_nothing(ratio: float) -> None:
    assert hint_of(ratio, facts(), 0.01) is None


def test_two_meanings_of_one_ratio_are_both_told() -> None:
    # 2 n_layer = 16 and n_embd = 16: sqrt(2 n_layer) = sqrt(n_embd) = 4; 1/sqrt(std) is 10.
    hint = hint_of(4.0, facts(n_layer=8, n_embd=16), 0.01)

    assert hint is not None
    assert set(hint.split(" or ")) >= {
        "sqrt(2 n_layer): residual scaling missing",
        "sqrt(n_embd): unit variance where 1/sqrt(n_embd) is expected",
    }


def test_meanings_half_a_percent_apart_are_both_told() -> None:
    # The ratio is 0.02 exactly; the expected std, 0.02005, lies 0.25 % from it.
    hint = hint_of(0.02, facts(), 0.02005)

    assert hint is not None
    assert "multiplied by 0.02" in hint
    assert "variance given for std" in hint


def test_a_measured_ratio_may_miss_by_its_error_but_not_by_more_than_ambiguity() -> None:
    near, far = math.sqrt(24) * (1 + 0.003), math.sqrt(24) * (1 + 2 * AMBIGUOUS)

    assert hint_of(near, facts(), 0.01) is None
    assert hint_of(near, facts(), 0.01, 0.004) is not None
    assert hint_of(far, facts(), 0.01, 1.0) is None


def test_hints_without_layers_are_silent() -> None:
    assert all(
        not (h.value(facts(n_layer=0), 0.0) > 0) or math.isfinite(h.value(facts(n_layer=0), 0.0))
        for h in HINTS
    )
    assert hint_of(math.sqrt(2), facts(n_layer=0), 0.0) is not None
