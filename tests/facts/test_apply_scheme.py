"""What a scheme draws a parameter from: its fans, and the parts of a fused projection."""

from dataclasses import replace

import pytest
from support.programs import ZERO, facts, matrix, vector

from gptinit.config import ModelFacts
from gptinit.errors import ConfigError
from gptinit.facts.apply_scheme import apply_scheme
from gptinit.facts.distributions import Distribution, Mixture, Normal, Piecewise, Uniform
from gptinit.facts.schemes import get_scheme
from gptinit.results.program import ParameterProgram

FAN_IN = get_scheme("pytorch-default")  # bounds of 1 / sqrt(fan_in)
MIXED = replace(
    get_scheme("nanogpt"), rules={**get_scheme("nanogpt").rules, "v": FAN_IN.rules["v"]}
)
N, TENTH = Normal(0.0, 0.02), Uniform(-0.1, 0.1)
SHAPE = facts()  # 4 heads of 64


def drawn(
    *parameters: ParameterProgram, mixed: bool = False, shape: ModelFacts = SHAPE
) -> list[Distribution | None]:
    found = apply_scheme(MIXED if mixed else FAN_IN, parameters, shape)
    return [found.get(p.name) for p in parameters]


def test_a_bias_has_the_fans_of_its_matrix_unless_it_has_its_own() -> None:
    weight = matrix("up.weight", "mlp_up", ZERO, 100, 25)
    bias = vector("up.bias", "linear_bias", ZERO)
    own = replace(bias, fan_in=25, fan_out=100)
    alone = replace(bias, name="down.bias")

    assert drawn(weight, bias) == [TENTH, TENTH]
    assert drawn(weight, own) == [TENTH, Uniform(-0.2, 0.2)]
    assert drawn(weight, alone) == [TENTH, None]


@pytest.mark.parametrize(
    ("shape", "fan_out", "rows"),
    [
        ((768, 100), 768, (256, 256, 256)),  # 4 heads of 64 each
        ((90, 100), 90, (30, 30, 30)),  # not of these heads: a third each
    ],
)
def test_a_fused_projection_has_the_rows_of_q_k_and_v(
    shape: tuple[int, int], fan_out: int, rows: tuple[int, int, int]
) -> None:
    fused = replace(matrix("qkv.weight", "qkv", ZERO, 100, fan_out, layer=0), shape=shape)
    q, k, v = rows
    parts = ((q, N), (k, N), (v, TENTH))

    assert drawn(fused, mixed=True) == [Piecewise(parts)]
    assert drawn(replace(fused, shape=shape[::-1]), mixed=True) == [Mixture(parts)]
    assert drawn(fused) == [TENTH]


def test_grouped_heads_have_fewer_rows_of_k_and_v() -> None:
    fused = matrix("qkv.weight", "qkv", ZERO, 100, 512, layer=0)
    grouped = replace(SHAPE, n_kv_head=2)

    assert drawn(fused, mixed=True, shape=grouped) == [
        Piecewise(((256, N), (128, N), (128, TENTH)))
    ]
    assert drawn(fused, mixed=True) == [None]  # 512 rows are no three equal parts
    with pytest.raises(ConfigError, match=r"qkv\.weight must be of q, k and v of known sizes"):
        apply_scheme(MIXED, [fused], SHAPE, complete=True)


def test_an_embedding_has_its_width_for_fan_in() -> None:
    scheme = replace(
        FAN_IN, rules={**FAN_IN.rules, "tok_emb": FAN_IN.rules["q"], "pos_emb": FAN_IN.rules["q"]}
    )
    table = replace(matrix("wte", "tok_emb", ZERO, 7, 7), shape=(25, 100))
    places = replace(table, name="wpe", role="pos_emb")
    stacked = replace(table, name="stack", shape=(2, 25, 4), fan_in=100)

    found = apply_scheme(scheme, [table, places, stacked], SHAPE)

    assert found == {"wte": TENTH, "wpe": TENTH, "stack": TENTH}
