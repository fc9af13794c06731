"""Draws that a low precision spoils: the limits of what no right draw shows."""

from dataclasses import replace

import pytest
from support.programs import facts, gpt2, matrix

from gptinit.audit_rules.context import make_context
from gptinit.audit_rules.precision import dtype_rounding
from gptinit.facts.distributions import Distribution, Measured, Normal


def severities(law: Distribution, dtype: str) -> list[str]:
    made = replace(matrix("w", "mlp_up", law, 4, 4), dtype=dtype)
    program = replace(gpt2(), facts=facts(), parameters=(made,))
    return [hit.severity for hit in dtype_rounding(program, make_context(program))]


def measured(low: float, high: float, *, kurtosis: float = 31.0, mean: float = 0.5) -> Measured:
    return Measured(
        mean=mean, std=1.0, mean_stderr=0.0, std_stderr=0.0, low=mean + low, high=mean + high,
        kurtosis=kurtosis, count=1000,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("law", "dtype", "found"),
    [
        # Normal numbers of float16 end at 2^-14.
        (Normal(0.0, 2.0**-14), "float16", []),
        (Normal(0.0, 0.99 * 2.0**-14), "float16", ["warning"]),
        (Normal(0.0, 0.0), "float16", []),
        (Normal(0.0, 2.0**-20), "bfloat16", []),
        (Normal(0.0, 2.0**-20), "float32", []),
        # A heavy tail, beyond 10 std, and on one side alone.
        (measured(-11, 2), "bfloat16", ["error"]),
        (measured(-2, 11), "bfloat16", ["error"]),
        (measured(-2, 11), "float16", ["error"]),
        (measured(-11, 2), "float32", []),
        (measured(-11, 2, kurtosis=30.0), "bfloat16", []),
        (measured(-10, 1), "bfloat16", []),
        (measured(-11, 2.2), "bfloat16", []),
        (measured(-11, 2.1), "bfloat16", ["error"]),
        (measured(-11, 11), "bfloat16", []),
    ],
)
def test_a_draw_is_spoilt_by_small_numbers_or_by_a_far_end(
    law: Distribution, dtype: str, found: list[str]
) -> None:
    assert severities(law, dtype) == found
