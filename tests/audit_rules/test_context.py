"""What the std of a matrix says of the scaling by depth, beside the input matrices of its block."""

import math
from dataclasses import replace

import pytest
from support.programs import by_role, every, gpt2, llama, redrawn

from gptinit.audit_rules.context import make_context
from gptinit.facts.distributions import Constant, Measured, Normal

PLAIN = 0.02
WANG = 1 / math.sqrt(256)
"""1/sqrt(n_embd): GPT-NeoX draws residual projections with 2/n_layer times that."""


def depth_scaled(std: float, *, layer: int, n_layer: int, surely: bool = False) -> bool:
    """Whether attn_out of that std counts as scaled by depth where input matrices have PLAIN."""
    law = by_role({"attn_out": Normal(0.0, std)}, Normal(0.0, PLAIN))
    program = llama(law, n_layer=n_layer)
    (projection,) = (p for p in program.parameters if p.layer == layer and p.role == "attn_out")
    return (
        make_context(program).layers[layer].depth_scaled(projection, program.facts, surely=surely)
    )


@pytest.mark.parametrize(
    ("divisor", "layer", "n_layer", "scaled"),
    [
        (2 * 12, 3, 12, True),
        (12, 3, 12, True),
        (2 * (3 + 1), 3, 12, True),  # by the layer's own number
        (2 * (3 + 1), 4, 12, False),
        (2 * (12 + 1), 3, 12, True),
        (3 * 12, 3, 12, False),
        (1, 3, 12, False),
        # Of one layer: 2, 2 (0 + 1) and 2 (1 + 1); to divide by n_layer is not to divide.
        (1, 0, 1, False),
        (2, 0, 1, True),
        (4, 0, 1, True),
        (3, 0, 1, False),
    ],
)
@pytest.mark.parametrize("surely", [False, True])
def test_a_std_over_the_root_of_a_depth_is_scaled(
    divisor: int, layer: int, n_layer: int, scaled: bool, surely: bool
) -> None:
    std = PLAIN / math.sqrt(divisor)

    assert depth_scaled(std, layer=layer, n_layer=n_layer, surely=surely) is scaled


@pytest.mark.parametrize(
    ("std", "scaled"),
    [
        (1 / 12 * WANG, True),
        (2 / 12 * WANG, True),
        (3 / 12 * WANG, False),
        (1.0009 * 2 / 12 * WANG, True),
        (1.0011 * 2 / 12 * WANG, False),
    ],
)
def test_a_std_over_the_depth_and_the_root_of_the_width_is_scaled(std: float, scaled: bool) -> None:
    assert depth_scaled(std, layer=3, n_layer=12) is scaled


@pytest.mark.parametrize(
    ("off", "maybe", "surely"),
    [(1.0009, True, True), (1.0011, True, False), (1.019, True, False), (1.021, False, False)],
)
def test_a_std_may_be_a_scaled_one_within_two_percent(
    off: float, maybe: bool, surely: bool
) -> None:
    std = off * PLAIN / math.sqrt(24)

    assert depth_scaled(std, layer=8, n_layer=12) is maybe
    assert depth_scaled(std, layer=8, n_layer=12, surely=True) is surely


@pytest.mark.parametrize(("error", "told"), [(0.039, True), (0.041, False)])
def test_a_std_that_is_hardly_known_is_that_of_no_rule(error: float, told: bool) -> None:
    # Five standard errors of 4 % are a fifth of the std.
    law = Measured(
        mean=0.0, std=PLAIN, mean_stderr=0.0, std_stderr=error * PLAIN, low=-0.1, high=0.1,
        kurtosis=3.0, count=300,
    )  # fmt: skip
    program = every(llama(), lambda p: p.role == "q", lambda p: replace(p, distribution=law))
    layer = make_context(program).layers[0]
    (query,) = (p for p in layer.parameters if p.role == "q")

    assert layer.unscaled(query) is told


def test_the_unit_of_a_block_is_the_median_of_its_input_matrices_by_each_rule() -> None:
    # q, k, v, gate, up of 256 inputs and 256, 128, 128, 768, 768 outputs; v is 0.
    stds = {"q": 0.03, "k": 0.01, "v": 0.0, "mlp_gate": 0.02, "mlp_up": 0.04}
    law = by_role({role: Normal(0.0, std) for role, std in stds.items()}, Normal(0.0, 1.0))

    units = make_context(llama(law, n_layer=1)).layers[0].units

    assert units == pytest.approx(
        (
            0.03,  # of 0.01, 0.02, 0.03, 0.04 the upper one
            0.03 * 16,
            0.03 * math.sqrt(256 + 256),  # of 0.20, 0.64, 0.68, 1.28
            0.03 * 16,  # of 0.23, 0.32, 0.48, 0.64: k alone has more inputs than outputs
        )
    )


def test_matrices_of_zeros_tell_nothing_of_a_layer() -> None:
    program = redrawn(gpt2(n_layer=1), "attn.c_proj.weight", Constant(0.0))

    (layer,) = make_context(program).layers

    assert layer.of("attn_out") == ()
    assert [p.role for p in layer.of("mlp_down", "attn_out", "qkv")] == ["qkv", "mlp_down"]
