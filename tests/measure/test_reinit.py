"""A foreign model is drawn by a scheme; norms and what has no rule keep their own."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from support.foreign_models import FF, FOREIGN, C, L, factory

from gptinit.api.prediction import theory_of
from gptinit.config import RunConfig
from gptinit.errors import ConfigError
from gptinit.facts.distributions import Distribution, Normal, Piecewise
from gptinit.facts.schemes import get_scheme
from gptinit.measure.measure import measure
from gptinit.measure.reinit import reinit
from gptinit.measure.subject import Subject
from gptinit.measure.traced_subject import traced_subject
from gptinit.theory import TheoryModel


def redrawn(name: str, scheme: str) -> tuple[Subject, Subject]:
    """A model as it is, and by a scheme."""
    subject = traced_subject(factory(FOREIGN[name]))
    return subject, reinit(subject, get_scheme(scheme))


@pytest.mark.parametrize("name", ["pre-norm", "llama", "eager", "experts in one tensor"])
def test_every_role_is_drawn_as_the_scheme_says(name: str) -> None:
    _, subject = redrawn(name, "nanogpt")

    scaled = Normal(0.0, 0.02 / math.sqrt(2 * L))
    for p in subject.program:
        if p.role in {"attn_out", "mlp_down"}:
            assert p.distribution == scaled, p.name
        elif p.role in {"qkv", "q", "k", "v", "mlp_up", "mlp_gate", "tok_emb", "lm_head"}:
            assert p.distribution == Normal(0.0, 0.02), p.name
        elif p.role == "linear_bias":
            assert str(p.distribution) == "0", p.name
    assert subject.scheme == "nanogpt"


def test_norms_and_weights_without_a_role_stay_as_they_are() -> None:
    before, after = redrawn("layer scale", "nanogpt")

    kept = {p.name for p, q in zip(before.program, after.program, strict=True) if p is q}

    assert {"h.0.ls_1.gamma", "h.0.ln_1.weight", "ln_f.bias"} <= kept
    assert "h.0.mlp.c_fc.weight" not in kept


def test_fans_of_a_scheme_are_those_of_the_matrix() -> None:
    _, subject = redrawn("pre-norm", "pytorch-default")

    laws = {p.name: p.distribution for p in subject.program}
    assert laws["h.0.mlp.c_proj.weight"].std == pytest.approx(1 / math.sqrt(3 * FF))
    assert laws["h.0.mlp.c_fc.weight"].std == pytest.approx(1 / math.sqrt(3 * C))
    # A bias is drawn by the fan_in of its matrix.
    assert laws["h.0.mlp.c_proj.bias"].std == pytest.approx(1 / math.sqrt(3 * FF))


SCHEME = """
[mine.roles]
q = {dist = "normal", std = "sqrt(2 / (fan_in + fan_out))"}
k = {dist = "normal", std = "sqrt(2 / (fan_in + fan_out))"}
v = {dist = "normal", std = "V"}
"""


@pytest.mark.parametrize(
    ("v", "law"),
    [
        # Of one of the three, not of all of them together.
        ("sqrt(2 / (fan_in + fan_out))", Normal(0.0, math.sqrt(2 / (C + C)))),
        (
            "0.5",
            Piecewise(
                (
                    (C, Normal(0.0, math.sqrt(2 / (C + C)))),
                    (C, Normal(0.0, math.sqrt(2 / (C + C)))),
                    (C, Normal(0.0, 0.5)),
                )
            ),
        ),
    ],
    ids=["alike", "v differs"],
)
def test_a_fused_matrix_is_drawn_as_q_k_and_v(tmp_path: Path, v: str, law: Distribution) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SCHEME.replace("V", v), encoding="utf-8")

    before, subject = redrawn("pre-norm", str(path))

    assert {p.distribution for p in subject.program if p.role == "qkv"} == {law}
    # Where the scheme has no rule, the model keeps its own.
    assert subject.program[0].distribution == before.program[0].distribution


def test_columns_of_q_k_and_v_must_be_drawn_alike(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SCHEME.replace("V", "0.5"), encoding="utf-8")
    subject = traced_subject(factory(FOREIGN["pre-norm"]))
    turned = tuple(
        replace(p, shape=p.shape[::-1]) if p.role == "qkv" and len(p.shape) == 2 else p
        for p in subject.program
    )

    with pytest.raises(ConfigError, match=r"must draw q, k and v alike for h\.0\.\S*c_attn"):
        reinit(replace(subject, program=turned), get_scheme(str(path)))


def test_theory_is_of_the_new_weights() -> None:
    before, after = map(theory_of, redrawn("pre-norm", "nanogpt"))

    assert isinstance(before, TheoryModel)
    assert isinstance(after, TheoryModel)
    assert {layer.mlp_up.std for layer in before.layers} == {0.3}
    assert {layer.mlp_up.std for layer in after.layers} == {0.02}
    assert after.attn_multiplier == before.attn_multiplier


def test_what_is_redrawn_has_no_recipe_and_no_draw_of_its_own() -> None:
    before, after = redrawn("pre-norm", "nanogpt")

    assert after.own is None
    assert "h.0.mlp.c_fc.weight" in before.recipes
    assert "h.0.mlp.c_fc.weight" not in after.recipes
    assert "h.0.ln_1.weight" in after.recipes


def test_the_redrawn_model_is_measured_with_its_new_weights() -> None:
    before, after = redrawn("pre-norm", "nanogpt")
    run = RunConfig(seeds=1, seq_len=8, device="cpu")

    old, new = measure(before, run), measure(after, run)

    assert new.scheme == "nanogpt"
    # tok_emb and pos_emb at 0.02 in place of 0.3: the variance falls by (0.3 / 0.02)^2 = 225. It is
    # estimated from the same draws, rescaled.
    ratio = old.embedding.values["resid_var"] / new.embedding.values["resid_var"]
    assert ratio == pytest.approx(225, rel=1e-3)
