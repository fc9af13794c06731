"""A step after the last draw that divides a residual projection by the depth once more."""

import math
from dataclasses import replace

import pytest
from support.programs import L, every, llama, redrawn

from gptinit.auditing.program import findings_of
from gptinit.facts.distributions import Normal
from gptinit.facts.step import Step
from gptinit.results.program import Draw

DEPTH = math.sqrt(2 * L)
PLAIN = 0.02


def scaled_twice(std: float, step: Step | None, drawn: float) -> list[str]:
    """What is said to be scaled twice, of a model whose down projections ended up with `std`.

    The other projection of each block has 0.02, as all else; `step` gave the last entry of the
    history, whose std is `drawn`.
    """
    first = Draw(distribution=Normal(0.0, 1.0), step=Step("normal_", (0, 1)), by_default=True)
    history = (first, Draw(distribution=Normal(0.0, drawn), step=step))
    program = every(
        redrawn(llama(), "down_proj.weight", Normal(0.0, std)),
        lambda p: p.role == "mlp_down",
        lambda p: replace(p, history=history),
    )
    return [f.where for f in findings_of(program) if f.rule == "scaled-twice"]


FOUND = ["model.layers.*.mlp.down_proj.weight"]


@pytest.mark.parametrize(
    ("step", "found"),
    [
        (Step("mul", (1 / DEPTH,)), FOUND),
        (Step("div", (DEPTH,)), FOUND),
        # Within and beyond 0.1 % of the ratio of the two projections.
        (Step("mul", (1.0005 / DEPTH,)), FOUND),
        (Step("div", (1.0005 * DEPTH,)), FOUND),
        (Step("mul", (1.002 / DEPTH,)), []),
        (Step("div", (0.998 * DEPTH,)), []),
        # Another factor made it smaller, or it was made larger.
        (Step("mul", (0.5,)), []),
        (Step("div", (2.0,)), []),
        (Step("mul", (DEPTH,)), []),
        (Step("div", (1 / DEPTH,)), []),
        (Step("mul", (1.0,)), []),
        (Step("div", (1.0,)), []),
    ],
)
def test_a_factor_counts_if_it_is_the_ratio_of_the_two_projections(
    step: Step, found: list[str]
) -> None:
    # After the step: the distribution is the final one already.
    assert scaled_twice(PLAIN / DEPTH, step, PLAIN / DEPTH) == found


@pytest.mark.parametrize(
    "step",
    [
        Step("normal_", (0, PLAIN)),
        Step("fill_", (1 / DEPTH,)),
        Step("mul", ()),
        Step("div", None),
        Step("mul", (1 / DEPTH, 1.0)),
        None,
    ],
)
@pytest.mark.parametrize(
    ("drawn", "found"),
    [
        (PLAIN, FOUND),
        (1.02 * PLAIN / DEPTH, FOUND),
        (1.005 * PLAIN / DEPTH, []),  # the std fell by less than 1 %
        (PLAIN / DEPTH, []),
        (0.5 * PLAIN / DEPTH, []),
        (0.0, []),
    ],
)
def test_without_one_factor_it_counts_if_the_std_is_below_that_of_the_last_draw(
    step: Step | None, drawn: float, found: list[str]
) -> None:
    assert scaled_twice(PLAIN / DEPTH, step, drawn) == found
