"""The ratios that wrong fans leave, in closed form."""

import math

import pytest
from support.programs import facts, gpt2, matrix, plain

from gptinit.audit_rules.blame import _fan_ratios, blame
from gptinit.audit_rules.context import make_context
from gptinit.facts.distributions import (
    Constant,
    Distribution,
    Normal,
    TruncatedNormal,
    Uniform,
    Unset,
)


@pytest.mark.parametrize(
    ("role", "fan_in", "fan_out", "layer", "ratios"),
    [
        # Xavier on a packed q, k, v: 2/(D + 3 D) for 2/(D + D); and fan_out for fan_in.
        ("qkv", 64, 192, 0, [math.sqrt(2 / 4), math.sqrt(1 / 3)]),
        ("qkv", 64, 384, 0, [math.sqrt(3 / 7), math.sqrt(1 / 6)]),
        ("qkv", 64, 192, None, [math.sqrt(2 / 4)]),
        ("mlp_up", 64, 256, 0, [0.5]),
        ("mlp_down", 256, 64, 0, [2.0]),
        ("q", 64, 64, 0, []),
        ("lm_head", 64, 256, None, []),
    ],
)
def test_wrong_fans_leave_the_root_of_their_ratio(
    role: str, fan_in: int, fan_out: int, layer: int | None, ratios: list[float]
) -> None:
    parameter = matrix("w", role, plain(role, 0), fan_in, fan_out, layer=layer)

    found = list(_fan_ratios(parameter, facts()))

    assert [rule for rule, _ in found] == ["fan-in-wrong"] * len(ratios)
    assert [ratio for _, ratio in found] == pytest.approx(ratios)


@pytest.mark.parametrize(
    ("role", "drawn", "expected", "rule"),
    [
        ("linear_bias", Normal(0.0, 0.02), Constant(0.0), "bias-nonzero"),
        ("norm_bias", Constant(1.0), Constant(0.0), "bias-nonzero"),
        ("linear_bias", Normal(0.0, 0.02), Uniform(-0.1, 0.1), "role-std-mismatch"),
        ("norm_weight", Constant(0.0), Constant(1.0), "norm-weight-wrong"),
        ("linear_bias", Unset(), Constant(0.0), None),
        ("q", Constant(0.0), Normal(0.0, 0.02), "zeros"),
        ("q", Normal(0.0, 0.02), Constant(0.0), "role-std-mismatch"),
        ("q", Uniform(-0.02 * 3**0.5, 0.02 * 3**0.5), Normal(0.0, 0.02), "wrong-distribution"),
        ("q", TruncatedNormal(0.0, 0.02, -0.02, 0.02), Normal(0.0, 0.02), "wrong-distribution"),
        ("q", Normal(0.0, 0.02), TruncatedNormal(0.0, 0.02, -0.02, 0.02), "wrong-distribution"),
        ("q", TruncatedNormal(0.0, 0.03, -0.03, 0.03), Normal(0.0, 0.02), "role-std-mismatch"),
        ("q", Uniform(-0.05, 0.05), Uniform(-0.02, 0.02), "role-std-mismatch"),
    ],
)
def test_a_difference_is_blamed_on_what_a_parameter_is_and_on_its_ratio(
    role: str, drawn: Distribution, expected: Distribution, rule: str | None
) -> None:
    parameter = matrix("w", role, drawn, 64, 64, layer=0)

    assert blame(parameter, expected, facts(), make_context(gpt2(n_layer=1))) == rule
