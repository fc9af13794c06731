"""Scaling by depth: applied once more, in one branch only, and in models of two layers."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from support.programs import D, F, L, every, gpt2, llama, redrawn, torch_default

from gptinit.audit_rules.matching import expectations
from gptinit.auditing.program import findings_of
from gptinit.facts.distributions import Distribution, Normal, TruncatedNormal, Uniform
from gptinit.facts.schemes import get_scheme
from gptinit.facts.step import Step
from gptinit.results.program import Draw, ParameterProgram

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


def _without_role(p: ParameterProgram, roles: tuple[str, ...], *, writes: bool) -> ParameterProgram:
    return replace(p, role="other", writes_stream=writes) if p.role in roles else p


INPUTS = ("q", "k", "v", "mlp_gate", "mlp_up")
UNNAMED: dict[str, Callable[[ParameterProgram], ParameterProgram]] = {
    # One matrix makes queries, keys, values and hidden units, as in PaLM.
    "fused inputs": lambda p: _without_role(p, INPUTS, writes=False),
    # Linear attention or a recurrence.
    "a branch without a role": lambda p: _without_role(
        _without_role(p, ("q", "k", "v"), writes=False), ("attn_out",), writes=True
    ),
    "no role at all": lambda p: _without_role(
        _without_role(p, INPUTS, writes=False), ("attn_out", "mlp_down"), writes=True
    ),
}


@pytest.mark.parametrize("which", UNNAMED)
@pytest.mark.parametrize(
    ("scaled", "plain"), [("o_proj", "down_proj"), ("down_proj", "o_proj"), (None, None)]
)
def test_half_scaled_blocks_are_found_whatever_the_roles_of_their_matrices(
    which: str, scaled: str | None, plain: str | None
) -> None:
    deep = Normal(0.0, PLAIN / DEPTH)
    ends = [f"{scaled}.weight"] if scaled else ["o_proj.weight", "down_proj.weight"]
    program = llama()
    for end in ends:
        program = redrawn(program, end, deep)
    program = every(program, lambda _: True, UNNAMED[which])

    found = [f for f in findings_of(program) if f.rule.startswith("residual-")]

    where = {f.rule: f.where.split(".")[-2] for f in found}
    assert where == (
        {"residual-scaling-missing": plain, "residual-branches-unequal": scaled} if scaled else {}
    )


def test_inputs_at_the_default_of_their_module_do_not_hide_a_half_scaled_block() -> None:
    # pytorch/examples' minGPT-ddp: nn.MultiheadAttention draws its own packed matrix.
    wide = Uniform(-0.1, 0.1)
    default = Draw(distribution=wide, step=Step("uniform_", (-0.1, 0.1)), by_default=True)
    program = redrawn(llama(), "o_proj.weight", Normal(0.0, PLAIN / DEPTH))
    program = every(
        program,
        lambda p: p.role in ("q", "k", "v"),
        lambda p: replace(p, distribution=wide, history=(default,)),
    )

    told = {f.rule for f in findings_of(program)}

    assert {"residual-scaling-missing", "residual-branches-unequal"} <= told


def test_a_wide_matrix_at_the_default_of_torch_is_not_scaled_twice() -> None:
    # RWKV of transformers in two layers: 16 times the inputs, a std of a quarter.
    wide = Uniform(-((16 * D) ** -0.5), (16 * D) ** -0.5)
    program = every(
        torch_default(llama(n_layer=2)),
        lambda p: p.role == "attn_out",
        lambda p: replace(p, role="other", writes_stream=True, fan_in=16 * D, distribution=wide),
    )

    assert "scaled-twice" not in {f.rule for f in findings_of(program)}


@pytest.mark.parametrize(("cut", "found"), [(3.0, True), (2.0, True), (1.0, False)])
def test_a_scaling_of_every_matrix_is_known_through_the_usual_cuts(cut: float, found: bool) -> None:
    def law(role: str, _layer: int) -> Distribution:
        if role in ("tok_emb", "lm_head"):
            return Normal(0.0, PLAIN)
        std = (F if role == "mlp_down" else D) ** -0.5 / math.sqrt(6)
        return TruncatedNormal(0.0, std, -cut * std, cut * std)

    told = {f.rule for f in findings_of(llama(law, n_layer=3, d_ff=F))}

    assert ("residual-scaling-wrong-tensor" in told) is found


@pytest.mark.parametrize(("factor", "found"), [(1.0, True), (math.sqrt(2.5), False)])
def test_what_is_unscaled_by_one_rule_of_width_alone_is_not_missing_its_scaling(
    factor: float, found: bool
) -> None:
    # By Xavier's rule, sqrt(2.5) times the std of the MLP's (D, 4 D) is right for (D, D).
    program = redrawn(gpt2(), "attn.c_proj.weight", Normal(0.0, factor * PLAIN))

    told = findings_of(replace(program, architecture="gpt2"))

    assert any(f.rule == "residual-scaling-missing" for f in told) is found


@pytest.mark.parametrize("known", [True, False])
def test_a_matrix_of_unknown_fans_is_not_known_to_be_scaled(known: bool) -> None:
    def law(role: str, _layer: int) -> Distribution:
        outside = role in ("tok_emb", "lm_head")
        return Normal(0.0, PLAIN if outside else D**-0.5 / math.sqrt(6))

    program = every(
        llama(law, n_layer=3, d_ff=D),
        lambda p: p.role == "v",
        lambda p: replace(p, fan_in=p.fan_in if known else None),
    )

    told = {f.rule for f in findings_of(program)}

    assert ("residual-scaling-wrong-tensor" in told) is known


@pytest.mark.parametrize(("off", "found"), [(1.0, True), (1.0009, True), (1.01, False)])
def test_a_branch_is_scaled_beside_one_that_is_not_only_where_that_is_sure(
    off: float, found: bool
) -> None:
    unscaled = redrawn(gpt2(), "attn.c_proj.weight", Normal(0.0, PLAIN))
    program = redrawn(unscaled, "mlp.c_proj.weight", Normal(0.0, off * PLAIN / DEPTH))

    told = {f.rule for f in findings_of(program)}

    assert bool(told & {"residual-branches-unequal", "residual-scaling-missing"}) is found
