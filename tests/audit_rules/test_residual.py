"""Scaling by depth: applied once more, in one branch only, and in models of two layers."""

import math
from dataclasses import replace

import pytest
from support.programs import D, F, L, every, llama, redrawn

from gptinit.audit_rules.matching import expectations
from gptinit.auditing.program import findings_of
from gptinit.facts.distributions import Distribution, Normal
from gptinit.facts.schemes import get_scheme
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


@pytest.mark.parametrize(
    ("claimed", "found"),
    [
        ((), True),
        (("attn_out",), True),
        (("mlp_down",), True),
        (("attn_out", "mlp_down"), False),
    ],
)
def test_unequal_branches_are_told_unless_the_claim_covers_both(
    claimed: tuple[str, ...], found: bool
) -> None:
    program = redrawn(llama(), "down_proj.weight", Normal(0.0, PLAIN / DEPTH))
    scheme = get_scheme("plain")
    claim = replace(scheme, rules={role: scheme.rules[role] for role in claimed})

    told = {f.rule for f in findings_of(program, expectations(claim, program))}

    assert ("residual-branches-unequal" in told) is found


@pytest.mark.parametrize("everywhere", [False, True], ids=["one matrix", "all"])
@pytest.mark.parametrize(("n_layer", "found"), [(2, False), (3, True)])
def test_half_of_the_usual_std_is_no_scaling_by_two_layers(
    n_layer: int, found: bool, everywhere: bool
) -> None:
    def law(role: str, _layer: int) -> Distribution:
        # Everywhere: 1/sqrt(fan_in), divided by depth in all matrices of the blocks.
        plain = (F if role == "mlp_down" else D) ** -0.5 if everywhere else PLAIN
        scaled = role not in ("tok_emb", "lm_head") if everywhere else role == "mlp_up"
        return Normal(0.0, plain / math.sqrt(2 * n_layer) if scaled else plain)

    told = {f.rule for f in findings_of(llama(law, n_layer=n_layer, d_ff=F))}

    assert ("residual-scaling-wrong-tensor" in told) is found


@pytest.mark.parametrize(("n_layer", "found"), [(1, False), (2, True), (3, True)])
def test_half_of_the_usual_std_is_no_scaling_twice_by_one_layer(n_layer: int, found: bool) -> None:
    def law(role: str, _layer: int) -> Distribution:
        return Normal(0.0, PLAIN / (2 * n_layer if role in ("attn_out", "mlp_down") else 1))

    told = {f.rule for f in findings_of(llama(law, n_layer=n_layer))}

    assert ("scaled-twice" in told) is found
