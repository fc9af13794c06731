"""Tell-tale ratios in words, and what is said where two of them meet."""

import math
from dataclasses import replace
from typing import Any

import pytest
from support.programs import facts

from gptinit.audit_rules.hints import AMBIGUOUS, HINTS, Comparison, hint_of
from gptinit.config import ModelFacts
from gptinit.facts.algebra import affine_distribution
from gptinit.facts.distributions import Distribution, Normal, TruncatedNormal, Uniform


def told(
    ratio: float,
    expected: Distribution,
    *,
    role: str = "other",
    by_depth: bool = False,
    shape: ModelFacts | None = None,
    tolerance: float = 1e-4,
) -> str | None:
    """The hint for a normal of `ratio` times the expected std."""
    comparison = Comparison(
        role=role,
        drawn=affine_distribution(expected, ratio, 0.0),
        expected=expected,
        by_depth=by_depth,
        facts=facts() if shape is None else shape,
    )
    return hint_of(comparison, ratio, tolerance)


SMALL = Normal(0.0, 0.01)
DEEP: dict[str, Any] = {"role": "attn_out", "by_depth": True}


@pytest.mark.parametrize(
    ("ratio", "expected", "settings", "start"),
    [
        (math.sqrt(24), SMALL, DEEP, "sqrt(2 n_layer): residual scaling missing"),
        (1 / math.sqrt(24), SMALL, DEEP, "1/sqrt(2 n_layer): residual scaling applied twice"),
        (
            1 / math.sqrt(24), SMALL, {"role": "mlp_up"},
            "1/sqrt(2 n_layer): residual scaling applied where none is expected",
        ),
        (1 / 24, SMALL, {"role": "mlp_down"}, "1/(2 n_layer): "),
        (math.sqrt(0.5), SMALL, {"role": "qkv"}, "1/sqrt(2): q, k and v counted as one"),
        (math.sqrt(0.5), SMALL, DEEP, "1/sqrt(2): two branches a layer counted"),
        (math.sqrt(2), SMALL, DEEP, "sqrt(2): one branch a layer counted"),
        (math.sqrt(2), SMALL, {"role": "mlp_up"}, "sqrt(2): a gain of sqrt(2)"),
        (16.0, Normal(0.0, 1 / 16), {}, "sqrt(n_embd): unit variance"),
        (math.sqrt(12 / 13), SMALL, DEEP, "sqrt(n_layer/(n_layer + 1)): n_layer + 1"),
        (0.01, SMALL, {}, "the expected std: variance given for std"),
        (1 / math.sqrt(3), Uniform(-0.1, 0.1), {}, "1/sqrt(3): a std used as the bound"),
    ],
)  # fmt: skip
def test_a_tell_tale_ratio_is_told(
    ratio: float, expected: Distribution, settings: dict[str, Any], start: str
) -> None:
    hint = told(ratio, expected, **settings)

    assert hint is not None
    assert hint.startswith(start)
    assert hint.count(": ") == 1  # one meaning only


@pytest.mark.parametrize("cut", [3.0, 2.0])
def test_a_cut_is_told_of_what_is_cut_alone(cut: float) -> None:
    cut_law = TruncatedNormal(0.0, 0.02, -0.02 * cut, 0.02 * cut)
    comparison = Comparison(
        role="q", drawn=cut_law, expected=Normal(0.0, 0.02), by_depth=False, facts=facts()
    )
    shrunk = replace(comparison, drawn=Normal(0.0, cut_law.std))

    assert f"cut at {cut:.0f} sigma" in str(hint_of(comparison, cut_law.std / 0.02))
    assert hint_of(shrunk, cut_law.std / 0.02) is None


@pytest.mark.parametrize(
    ("ratio", "expected", "settings"),
    [
        # Factors of the depth where no scheme scales by depth, or on what no scheme scales.
        (math.sqrt(24), SMALL, {"role": "mlp_down"}),
        (math.sqrt(12), SMALL, {"role": "mlp_down"}),
        (math.sqrt(13 / 12), SMALL, {"role": "qkv"}),
        (math.sqrt(12 / 13), SMALL, {"role": "q", "by_depth": True}),
        (1 / math.sqrt(24), SMALL, {"role": "lm_head"}),
        # In two layers 1/sqrt(2 n_layer) is a half, which rules of other reasons have.
        (0.5, SMALL, {"role": "mlp_up", "shape": facts(n_layer=2)}),
        (math.sqrt(3), Uniform(-0.1, 0.1), {"role": "q"}),  # as drawn: uniform too
        (1 / math.sqrt(3), SMALL, {"role": "q"}),  # neither is
        (16.0, SMALL, {"role": "lm_head"}),  # 0.16 is no unit variance
        (0.02, Normal(0.0, 1.0), {"role": "tok_emb"}),  # 0.02 was not multiplied by anything
        (math.sqrt(0.5), SMALL, {"role": "q"}),  # not fused
    ],
)
def test_a_ratio_tells_nothing_of_what_cannot_have_its_cause(
    ratio: float, expected: Distribution, settings: dict[str, Any]
) -> None:
    assert told(ratio, expected, **settings) is None


def test_a_factor_that_the_inputs_explain_is_none_of_the_depth() -> None:
    # lingua's w2 at three layers and a hidden width of 3 n_embd: 1/sqrt(fan_in), not 1/sqrt(3).
    shape = facts(n_layer=3)
    comparison = Comparison(
        role="mlp_down",
        drawn=Normal(0.0, 0.01 / math.sqrt(3)),
        expected=SMALL,
        by_depth=False,
        facts=shape,
        fan_in=3 * shape.n_embd,
    )

    assert hint_of(comparison, 1 / math.sqrt(3)) is None
    assert hint_of(replace(comparison, fan_in=shape.n_embd), 1 / math.sqrt(3)) is not None


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
    comparison = Comparison(role="q", drawn=SMALL, expected=SMALL, by_depth=False, facts=facts())

    assert hint_of(comparison, ratio) is None


def test_two_meanings_of_one_ratio_are_both_told() -> None:
    # 2 n_layer = 16 and n_embd = 16: sqrt(2 n_layer) = sqrt(n_embd) = 4.
    hint = told(4.0, Normal(0.0, 0.25), **DEEP, shape=facts(n_layer=8, n_embd=16))

    assert hint is not None
    assert set(hint.split(" or ")) == {
        "sqrt(2 n_layer): residual scaling missing",
        "sqrt(n_embd): unit variance where 1/sqrt(n_embd) is expected",
    }


def test_meanings_half_a_percent_apart_are_both_told() -> None:
    # The ratio is 0.02 exactly; the expected std, 0.02005, lies 0.25 % from it.
    hint = told(0.02, Normal(0.0, 0.02005))

    assert hint is not None
    assert "multiplied by 0.02" in hint
    assert "variance given for std" in hint


def test_a_measured_ratio_may_miss_by_its_error_but_not_by_more_than_ambiguity() -> None:
    near, far = math.sqrt(24) * (1 + 0.003), math.sqrt(24) * (1 + 2 * AMBIGUOUS)

    assert told(near, SMALL, **DEEP) is None
    assert told(near, SMALL, **DEEP, tolerance=0.004) is not None
    assert told(far, SMALL, **DEEP, tolerance=1.0) is None


def test_hints_without_layers_are_silent() -> None:
    assert all(
        not (h.value(facts(n_layer=0), 0.0) > 0) or math.isfinite(h.value(facts(n_layer=0), 0.0))
        for h in HINTS
    )
    assert told(math.sqrt(2), SMALL, role="q", shape=facts(n_layer=0)) is not None
