"""A theory model read from the program of a traced model, or the note on why there is none."""

import math
from dataclasses import replace

import pytest
from support.predictions import CONFIG, base
from support.theory import theory_model

from gptinit.config import ModelFacts
from gptinit.facts.distributions import (
    Constant,
    Copy,
    Distribution,
    Fixed,
    Mixture,
    Normal,
    Piecewise,
    Unset,
)
from gptinit.facts.schemes import get_scheme
from gptinit.results.gpt_program import gpt_program
from gptinit.results.profile import Note
from gptinit.results.program import ParameterProgram
from gptinit.theory import ForwardFacts, LayerMoments, Moments, TheoryModel, model_of_program

FACTS = ModelFacts(
    name="gpt", source="test", n_layer=4, n_head=4, n_kv_head=4, head_dim=32, n_embd=128, d_ff=512,
    block_size=64, vocab_size=500, norm="layernorm", norm_placement="pre", positions="learned",
    activation="gelu_tanh", bias=True, tied=True, n_params=1,
)  # fmt: skip


def program() -> list[ParameterProgram]:
    """The built-in model's program."""
    return list(gpt_program(CONFIG, get_scheme("nanogpt")))


def changed(where: str, **changes: object) -> tuple[ParameterProgram, ...]:
    return tuple(
        replace(p, **changes) if p.name.endswith(where) else p  # type: ignore[arg-type] # fields by name
        for p in program()
    )


def test_a_model_is_the_moments_of_its_parameters() -> None:
    small, residual = Moments(0.0, 0.02), Moments(0.0, 0.02 / math.sqrt(8))  # 4 layers
    layer = LayerMoments(
        q=small, k=small, v=small, attn_out=residual, mlp_up=small, mlp_down=residual
    )

    assert model_of_program(FACTS, tuple(program())) == TheoryModel(
        n_layer=4, n_head=4, n_kv_head=4, head_dim=32, n_embd=128, d_ff=512, vocab_size=500,
        layers=(layer,) * 4, tok_emb=small, pos_emb=small, lm_head=small, activation="gelu_tanh",
        tied=True,
    )  # fmt: skip


def test_every_matrix_and_bias_is_drawn_by_its_own_fans() -> None:
    layer = theory_model(CONFIG, get_scheme("pytorch-default")).layers[0]

    wide, down = 1 / math.sqrt(3 * 128), 1 / math.sqrt(3 * 512)  # U(+-1/sqrt(fan_in))
    for name in ("q", "k", "v", "attn_out", "mlp_up"):
        assert getattr(layer, name).std == pytest.approx(wide)
        assert getattr(layer, f"{name}_bias").std == pytest.approx(wide)
    assert layer.mlp_down.std == layer.mlp_down_bias.std == pytest.approx(down)


def test_a_fused_projection_may_have_three_laws() -> None:
    pieces = Piecewise(((128, Normal(0.0, 0.01)), (128, Normal(0.0, 0.02)), (128, Constant(0.0))))
    model = model_of_program(FACTS, changed("c_attn.weight", distribution=pieces))

    assert isinstance(model, TheoryModel)
    assert [model.layers[0].q.std, model.layers[0].k.std, model.layers[0].v.std] == [0.01, 0.02, 0]


def test_the_first_half_of_a_fused_matrix_is_the_gate_with_its_own_law() -> None:
    pieces = Piecewise(((512, Normal(0.0, 0.3)), (512, Normal(0.0, 0.1))))
    fused = [
        p
        for q in changed("c_fc.weight", distribution=pieces, shape=(1024, 128), fan_out=1024)
        for p in ([] if q.name.endswith("c_fc.bias") else [q])
    ]

    model = model_of_program(replace(FACTS, activation="silu"), tuple(fused))

    assert isinstance(model, TheoryModel), model
    assert model.gated
    assert (model.layers[0].mlp_gate, model.layers[0].mlp_up.std) == (Moments(0.0, 0.3), 0.1)


def test_the_biases_of_fused_matrices_are_split_as_their_matrices_are() -> None:
    three = Piecewise(
        ((128, Normal(0.0, 0.01)), (128, Normal(0.0, 0.02)), (128, Normal(0.0, 0.04)))
    )
    halves = Piecewise(((512, Normal(0.0, 0.3)), (512, Normal(0.0, 0.1))))
    changes: dict[str, dict[str, object]] = {
        "c_attn.bias": {"distribution": three},
        "c_fc.weight": {"shape": (1024, 128), "fan_out": 1024},
        "c_fc.bias": {"shape": (1024,), "distribution": halves},
    }
    fused = tuple(
        replace(p, **next((c for end, c in changes.items() if p.name.endswith(end)), {}))  # type: ignore[arg-type] # fields by name
        for p in program()
    )

    model = model_of_program(replace(FACTS, activation="silu"), fused)

    assert isinstance(model, TheoryModel), model
    for layer in model.layers:
        assert (layer.q_bias.std, layer.k_bias.std, layer.v_bias.std) == (0.01, 0.02, 0.04)
        assert (layer.mlp_gate_bias.std, layer.mlp_up_bias.std) == (0.3, 0.1)
        assert layer.mlp_gate == layer.mlp_up == Moments(0.0, 0.02)


def test_a_block_without_norms_that_were_told_multiplies_by_one() -> None:
    kept = tuple(p for p in program() if ".ln_" not in p.name)

    model = model_of_program(FACTS, kept)

    assert isinstance(model, TheoryModel), model
    for layer in model.layers:
        assert layer.attn_norm_weight == layer.mlp_norm_weight == Moments(1.0, 0.0)
        assert layer.attn_norm_bias == layer.mlp_norm_bias == Moments()


@pytest.mark.parametrize(
    ("gain", "expected"),
    [(None, Moments(1.0, 0.0)), (1.0, Moments(1.0, 0.0)), (1.5, Moments(1.5, 0.0))],
)
def test_what_the_module_makes_of_its_norm_s_weight_counts(
    gain: float | None, expected: Moments
) -> None:
    model = model_of_program(FACTS, changed("ln_1.weight", gain=gain))

    assert isinstance(model, TheoryModel), model
    assert {layer.attn_norm_weight for layer in model.layers} == {expected}
    assert {layer.mlp_norm_weight for layer in model.layers} == {Moments(1.0, 0.0)}


def test_a_third_norm_in_a_block_is_a_note() -> None:
    third = [
        replace(p, name=p.name.replace("ln_2", "ln_3")) for p in program() if ".ln_2." in p.name
    ]

    note = model_of_program(FACTS, (*program(), *third))

    assert isinstance(note, Note)
    assert note.where == "transformer.h.0.ln_3.weight"
    assert "block 0 has 3 norms." in note.message


ROWS = Normal(0.0, 0.03)


@pytest.mark.parametrize(
    ("pieces", "silent"),
    [
        ([(1, Constant(0.0)), (499, ROWS)], {0}),
        ([(10, ROWS), (2, Constant(0.0)), (488, ROWS)], {10, 11}),
        ([(499, ROWS), (1, Constant(0.0))], {499}),
    ],
)
def test_rows_of_padding_are_silent_tokens(
    pieces: list[tuple[int, Distribution]], silent: set[int]
) -> None:
    model = model_of_program(FACTS, changed("wte.weight", distribution=Piecewise(tuple(pieces))))

    assert isinstance(model, TheoryModel), model
    assert model.silent_tokens == silent
    assert model.tok_emb == Moments(0.0, 0.03)


@pytest.mark.parametrize("other", [Normal(0.0, 0.02), Constant(1.0)])
def test_an_embedding_of_two_kinds_of_rows_is_a_note(other: Distribution) -> None:
    pieces = Piecewise(((100, ROWS), (400, other)))

    note = model_of_program(FACTS, changed("wte.weight", distribution=pieces))

    assert isinstance(note, Note)
    assert note.where.endswith("wte.weight")
    assert "rows are drawn from several distributions" in note.message


def test_a_transposed_matrix_is_read_by_its_fans() -> None:
    turned = tuple(replace(p, shape=p.shape[::-1]) for p in program())

    assert model_of_program(FACTS, turned) == base()


def test_one_norm_a_block_means_parallel_branches() -> None:
    kept = tuple(p for p in program() if ".ln_2." not in p.name)
    model = model_of_program(FACTS, kept)

    assert isinstance(model, TheoryModel)
    assert model.parallel


@pytest.mark.parametrize(
    ("facts", "where", "why"),
    [
        ({"norm_placement": "post"}, "norm_placement", "must be pre, got post"),
        ({"positions": "alibi"}, "positions", "got alibi"),
        ({"positions": None}, "positions", "got None"),
        ({"activation": "mish"}, "activation", "got mish"),
        ({"n_head": None}, "n_head", "n_head is not known"),
        ({"tied": False}, "head", "lm_head must be one parameter, got 0"),
    ],
)
def test_a_model_without_a_formula_is_a_note(
    facts: dict[str, object], where: str, why: str
) -> None:
    note = model_of_program(replace(FACTS, **facts), tuple(program()))  # type: ignore[arg-type] # fields by name

    assert isinstance(note, Note)
    assert (note.kind, note.where) == ("theory-missing", where)
    assert why in note.message


@pytest.mark.parametrize(
    ("name", "changes", "why"),
    [
        ("h.0.mlp.c_fc.weight", {"role": "other"}, "what this parameter does"),
        ("h.1.mlp.c_fc.weight", {"distribution": Normal(0.5, 0.02)}, "drawn around 0"),
        ("h.1.ln_1.weight", {"shape": (32,)}, "other than the stream"),
        ("h.2.attn.c_proj.weight", {"role": "mlp_down"}, "several matrices of role mlp_down"),
        ("h.0.mlp.c_fc.weight", {"fan_out": 300}, "makes 300 hidden units"),
        (
            "h.3.mlp.c_fc.weight",
            {"distribution": Copy("h.0", Normal(0.0, 0.02))},
            "not drawn independently",
        ),
        *[
            (f"h.{layer}.{name}", {"distribution": law}, "not drawn independently")
            for layer, name in ((0, "mlp.c_fc.weight"), (3, "mlp.c_proj.bias"))
            for law in (
                Fixed(0.0, 0.02, -0.1, 0.1),
                Unset(),
                Mixture(((1, Normal(0.0, 0.01)), (1, Normal(0.0, 0.02)))),
            )
        ],
    ],
)
def test_a_parameter_without_a_formula_is_a_note(
    name: str, changes: dict[str, object], why: str
) -> None:
    note = model_of_program(FACTS, changed(name, **changes))

    assert isinstance(note, Note)
    assert why in note.message


def test_branches_that_do_more_are_a_note() -> None:
    note = model_of_program(FACTS, tuple(program()), ForwardFacts(has_plain_branches=False))

    assert isinstance(note, Note)
    assert note.where == "branches"
