"""The ratios that wrong fans leave, in closed form."""

import math

import pytest
from support.programs import facts, matrix, plain

from gptinit.audit_rules.blame import _fan_ratios


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
