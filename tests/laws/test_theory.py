"""Predictions against measurements, their shape, and what theory says that it cannot do."""

import math
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pytest
from support.theory import read_theory, theory_model, theory_profile

import gptinit
from gptinit.api.prediction import measure_with_prediction
from gptinit.config import GPTConfig, ModelFacts, RunConfig
from gptinit.errors import ConfigError
from gptinit.facts.distributions import Constant, Copy, Normal, Piecewise
from gptinit.facts.schemes import Scheme, get_scheme, load_schemes
from gptinit.measure.builtin_subject import builtin_subject
from gptinit.measure.measure import measure
from gptinit.results.gpt_program import gpt_program
from gptinit.results.profile import Note, Place, Profile
from gptinit.results.program import ParameterProgram
from gptinit.theory import (
    ForwardFacts,
    LayerMoments,
    Moments,
    TheoryModel,
    angle_exponent,
    model_of_program,
    predict,
)
from gptinit.tokens import open_tokens

CONFIG = GPTConfig(n_layer=4, n_head=4, n_embd=128, block_size=64, vocab_size=500)
SEEDS, T = 12, 48

ERRORS = 6.0
"""Standard errors that are allowed: with 11 degrees of freedom one value in 10 000 is farther off,
and there are 1000 values."""

MODEL_ERROR: Mapping[str, float] = MappingProxyType(
    {
        "resid_var": 0.02,
        "attn_var": 0.04,
        "mlp_var": 0.02,
        "resid_growth": 0.02,
        "token_cosine": 0.03,
        "attn_entropy": 0.005,
        "attn_score_std": 0.03,
        "logit_std": 0.02,
        "loss": 0.01,
        "copy_logit": 0.02,
        "grad_rms": 0.03,
        "grad_growth": 0.03,
    }
)
"""Share of a value that the theory of infinite width may be off at 128 channels and 4 heads."""


def measured_and_predicted(config: GPTConfig, scheme: str, data: str) -> tuple[Profile, Profile]:
    """Both profiles of one model on the same tokens."""
    run = RunConfig(engine="dense", device="cpu", seeds=SEEDS, seq_len=T, grad=True, data=data)
    subject = builtin_subject(config, get_scheme(scheme), name="gpt", source="test")
    expected = theory_profile(config, get_scheme(scheme), run)
    return measure(subject, run), expected


def deviations(measured: Profile, expected: Profile) -> list[str]:
    """Every value that is farther off than noise and model error allow, in words."""
    found = []
    theirs = dict(expected.places())
    for where, place in measured.places():
        for stat, value in place.values.items():
            if stat not in MODEL_ERROR or stat not in theirs[where].values:
                continue
            off = abs(theirs[where].values[stat] - value)
            allowed = ERRORS * place.stderr[stat] + MODEL_ERROR[stat] * abs(value) + 1e-9
            if off > allowed:
                found.append(f"{where} {stat}: {theirs[where].values[stat]:.4g}, not {value:.4g}")
    return found


@pytest.mark.parametrize("scheme", load_schemes())
def test_every_scheme_is_predicted_as_it_is_measured(scheme: str) -> None:
    assert deviations(*measured_and_predicted(CONFIG, scheme, "zipf")) == []


SHARP = GPTConfig(n_layer=2, n_head=8, n_embd=192, block_size=24, vocab_size=300)
SHARP_SEEDS = 120


@pytest.mark.parametrize("scheme", ["plain", "pytorch-default"])
def test_a_shallow_model_is_predicted_to_one_percent(scheme: str) -> None:
    run = RunConfig(engine="dense", device="cpu", seeds=SHARP_SEEDS, seq_len=24, grad=True)
    subject = builtin_subject(SHARP, get_scheme(scheme), name="gpt", source="test")
    measured = measure(subject, run)
    expected = theory_profile(SHARP, get_scheme(scheme), run)
    theirs = dict(expected.places())
    stats = ("resid_var", "attn_var", "mlp_var", "grad_rms", "grad_growth")
    off = {
        (where, stat): (theirs[where].values[stat] / value - 1, place.stderr[stat] / value)
        for where, place in measured.places()
        for stat, value in place.values.items()
        if stat in stats
    }

    # 4 standard errors of 120 seeds and 1 % of model error. So it would see a branch that is 10 %
    # too large, or a gradient through one that is 20 % too large.
    assert {k: v for k, v in off.items() if abs(v[0]) > 4 * v[1] + 0.01} == {}


SHAPES = {
    "relu": replace(CONFIG, activation="relu"),
    "gelu by erf": replace(CONFIG, activation="gelu"),
    "a head of its own": replace(CONFIG, tied=False),
    "no biases": replace(CONFIG, bias=False),
    "free head width": replace(CONFIG, head_dim=16),
    "other MLP": replace(CONFIG, d_ff=200),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scheme", ["nanogpt", "pytorch-default"])
def test_every_shape_is_predicted_as_it_is_measured(shape: str, scheme: str) -> None:
    assert deviations(*measured_and_predicted(SHAPES[shape], scheme, "uniform")) == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", load_schemes())
def test_the_stream_of_a_deep_model_is_predicted_to_two_percent(scheme: str) -> None:
    config = GPTConfig(n_layer=24, n_head=6, n_embd=384, block_size=128, vocab_size=2000)
    run = RunConfig(engine="dense", device="cpu", seeds=16, seq_len=128)
    subject = builtin_subject(config, get_scheme(scheme), name="gpt", source="test")
    measured = measure(subject, run).layers[-1]
    expected = theory_profile(config, get_scheme(scheme), run)
    value = measured.values["resid_var"]

    # 5 standard errors of 16 seeds and 2 % of model error.
    allowed = 5 * measured.stderr["resid_var"] + 0.02 * value
    assert abs(expected.layers[-1].values["resid_var"] - value) < allowed


def test_what_theory_names_is_what_measuring_names() -> None:
    measured, expected = measured_and_predicted(CONFIG, "nanogpt", "zipf")
    unknown = {"max_abs", "attn_score_max", "nonfinite"}

    for name in ("embedding", "final"):
        ours, theirs = (getattr(p, name).values for p in (expected, measured))
        assert set(ours) == set(theirs) - unknown
    assert set(expected.layers[0].values) == set(measured.layers[0].values) - unknown
    assert expected.model == measured.model
    assert expected.run == replace(
        measured.run, engine="theory", device_name=expected.run.device_name
    )
    assert [n.where for n in expected.notes if n.kind == "theory-missing"]
    assert expected.torch is None


def test_one_token_has_no_cosine_and_no_entropy() -> None:
    run = RunConfig(seq_len=1, seeds=2, grad=True)
    profile = theory_profile(CONFIG, get_scheme("nanogpt"), run)

    assert "token_cosine" not in profile.embedding.values
    assert not {"token_cosine", "attn_entropy"} & set(profile.layers[0].values)
    assert profile.layers[-1].values["grad_growth"] == 1.0


def test_a_vocabulary_of_one_token_has_no_loss() -> None:
    config = replace(CONFIG, vocab_size=1)
    run = RunConfig(seq_len=8, seeds=1, grad=True)
    profile = theory_profile(config, get_scheme("nanogpt"), run)

    assert profile.final.values["loss"] == pytest.approx(0.0)
    assert not {"grad_rms", "logit_std"} & profile.layers[-1].values.keys()
    assert any("1 tokens are too few" in note.message for note in profile.notes)


def values(model: TheoryModel, **changes: object) -> Place:
    """The last layer's statistics of a changed model."""
    ids = open_tokens("zipf", vocab_size=500, batch_size=2, seq_len=T).draw(0)[None]
    return Place(values=predict(replace(model, **changes), ids).layers[-1])  # type: ignore[arg-type] # fields by name


def base() -> TheoryModel:
    return theory_model(CONFIG, get_scheme("nanogpt"))


def test_branches_drawn_at_zero_leave_the_stream_as_it_is() -> None:
    model = base()
    layers = tuple(replace(m, attn_out=Moments(), mlp_down=Moments()) for m in model.layers)
    last = values(model, layers=layers).values

    assert last["resid_growth"] == pytest.approx(1.0)
    assert last["attn_var"] == last["mlp_var"] == 0.0


def test_scores_drawn_at_zero_give_full_entropy() -> None:
    model = base()
    layers = tuple(replace(m, q=Moments()) for m in model.layers)
    last = values(model, layers=layers).values

    assert last["attn_entropy"] == pytest.approx(1.0)
    assert last["attn_score_std"] == 0.0


def test_a_multiplier_is_a_larger_std() -> None:
    model = base()
    layers = tuple(replace(m, mlp_down=Moments(0.0, 2 * m.mlp_down.std)) for m in model.layers)

    doubled = values(model, mlp_multiplier=2.0).values
    assert doubled == pytest.approx(values(model, layers=layers).values)
    assert values(model, logit_multiplier=3.0).values["logit_std"] == pytest.approx(
        3 * values(model).values["logit_std"]
    )


def test_grouped_queries_do_not_change_means() -> None:
    model = base()

    assert values(model, n_kv_head=2).values == values(model).values


def test_deep_models_reuse_blocks_without_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, n_layer=200)
    run = RunConfig(seeds=1, seq_len=32)
    fast = theory_profile(config, get_scheme("nanogpt"), run)
    monkeypatch.setattr("gptinit.theory.sequence._STALE", -1.0)
    full = theory_profile(config, get_scheme("nanogpt"), run)

    # A block is at most 1 % of growth old, and what it adds moves by less than the stream grows.
    for ours, theirs in zip(fast.layers, full.layers, strict=True):
        assert ours.values["resid_var"] == pytest.approx(theirs.values["resid_var"], rel=5e-3)


def test_the_exponents_are_those_of_the_predicted_layers() -> None:
    profile = theory_profile(CONFIG, get_scheme("plain"), RunConfig(seeds=2, seq_len=T))
    cosines = [place.values["token_cosine"] for place in profile.layers]

    assert profile.whole.values["angle_exponent"] == angle_exponent(cosines)
    assert "gradient_exponent" not in profile.whole.values


def test_theory_loads_no_torch() -> None:
    code = (
        "import sys; import gptinit; "
        "run = gptinit.RunConfig(engine='theory', seq_len=4); "
        "gptinit.inspect('gpt2', n_layer=1, run=run); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"


def test_weights_around_a_mean_are_refused(tmp_path: Path) -> None:
    roles = "\n".join(
        f'{role} = {{ dist = "normal", std = "0.02" }}' for role in get_scheme("nanogpt").rules
    )
    roles = roles.replace('mlp_up = { dist = "normal"', 'mlp_up = { dist = "normal", mean = "0.1"')
    path = tmp_path / "mine.toml"
    path.write_text(f"[mine]\n[mine.roles]\n{roles}\n", encoding="utf-8")

    why = r"weights drawn around 0, and mlp_up has mean 0\.1"
    found = read_theory(CONFIG, get_scheme(str(path)))

    assert isinstance(found, Note)
    assert re.search(why, found.message)
    with pytest.raises(ConfigError, match=why):
        gptinit.inspect("gpt2", scheme=str(path), run=RunConfig(engine="theory"))


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


def sampled_llama(seed: int, ids: npt.NDArray[np.int64]) -> float:
    """Final variance of a small gated, grouped, rotary RMS-norm model, drawn and run in numpy."""
    rng = np.random.default_rng(seed)
    C, F, nh, nkv, hs, std = 96, 128, 6, 2, 16, 0.12
    x = std * rng.standard_normal((500, C))[ids]
    angle = np.arange(len(ids))[:, None] * 10000.0 ** (-np.arange(0, hs, 2) / hs)

    def turn(a: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        one, two = np.split(a, 2, axis=-1)
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        turned: npt.NDArray[np.float64] = np.concatenate(
            [one * cos - two * sin, two * cos + one * sin], -1
        )
        return turned

    def norm(a: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        normed: npt.NDArray[np.float64] = a / np.sqrt((a**2).mean(-1, keepdims=True) + 1e-5)
        return normed

    def draw(*shape: int) -> npt.NDArray[np.float64]:
        return std * rng.standard_normal(shape)

    for _ in range(3):
        n = norm(x)
        q = turn((n @ draw(C, nh * hs)).reshape(-1, nh, hs))
        k = turn((n @ draw(C, nkv * hs)).reshape(-1, nkv, hs)).repeat(nh // nkv, 1)
        v = (n @ draw(C, nkv * hs)).reshape(-1, nkv, hs).repeat(nh // nkv, 1)
        scores = np.einsum("ihd,jhd->hij", q, k) / math.sqrt(hs)
        scores += np.triu(np.full(scores.shape[1:], -np.inf), 1)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        x = x + np.einsum("hij,jhd->ihd", weights, v).reshape(-1, nh * hs) @ draw(nh * hs, C)
        n = norm(x)
        gate = n @ draw(C, F)
        x = x + (gate / (1 + np.exp(-gate)) * (n @ draw(C, F))) @ draw(F, C)
    return float(x.var())


def test_a_gated_grouped_rotary_model_is_predicted_as_it_is_sampled() -> None:
    w = Moments(0.0, 0.12)
    layer = replace(base().layers[0], q=w, k=w, v=w, attn_out=w, mlp_up=w, mlp_gate=w, mlp_down=w)
    model = TheoryModel(
        n_layer=3, n_head=6, n_kv_head=2, head_dim=16, n_embd=96, d_ff=128, vocab_size=500,
        layers=(layer,) * 3, tok_emb=w, lm_head=w, activation="silu", norm="rmsnorm",
        positions="rotary", gated=True,
    )  # fmt: skip
    seeds = range(150)
    source = open_tokens("zipf", vocab_size=500, batch_size=1, seq_len=32)
    ids = np.stack([source.draw(seed) for seed in seeds])
    sample = np.array([sampled_llama(seed, ids[seed, 0, :-1]) for seed in seeds])
    expected = predict(model, ids).layers[-1]["resid_var"]

    # 4.5 standard errors, and 2 % for rotary positions and 96 channels.
    error = 4.5 * float(sample.std()) / math.sqrt(len(sample)) + 0.02 * float(sample.mean())
    assert abs(expected - float(sample.mean())) < error


def everything(std: float, folder: Path) -> Scheme:
    """A scheme that draws all matrices alike."""
    roles = ["tok_emb", "pos_emb", "q", "k", "v", "attn_out", "mlp_up", "mlp_down", "lm_head"]
    lines = [f'{role} = {{ dist = "normal", std = "{std!r}" }}' for role in roles]
    lines += [
        f'{role} = {{ dist = "const", value = "0" }}' for role in ("linear_bias", "norm_bias")
    ]
    file = folder / "everything.toml"
    head = 'title = "t"\nyear = 2026\nsource = ["t"]\nnotes = "t"\n\n[everything.roles]\n'
    rest = 'norm_weight = { dist = "const", value = "1" }\n'
    file.write_text("[everything]\n" + head + "\n".join(lines) + "\n" + rest, encoding="utf-8")
    return get_scheme(str(file))


@pytest.mark.parametrize("std", [0.6, 5.0, 1e10])
def test_scores_beyond_all_tables_are_refused_and_never_stop_a_measurement(
    std: float, tmp_path: Path
) -> None:
    scheme = everything(std, tmp_path)
    run = RunConfig(seeds=1, seq_len=16, device="cpu", grad=True)

    with pytest.raises(ConfigError, match="got none"):
        gptinit.inspect("nanogpt-char", scheme=scheme, run=replace(run, engine="theory"))
    profile = gptinit.inspect("nanogpt-char", scheme=scheme, n_layer=2, run=run)

    assert len(profile.layers) == 2
    assert any(note.kind == "theory-missing" for note in profile.notes)


@pytest.mark.parametrize("std", [1e-4, 4e-4, 1e-3])
def test_scores_behind_a_norm_whose_eps_is_large_are_predicted(std: float, tmp_path: Path) -> None:
    config = GPTConfig(n_layer=1, n_embd=64, n_head=4, block_size=32, vocab_size=256)
    small = everything(std, tmp_path)
    run = RunConfig(seeds=40, seq_len=32, device="cpu", data="uniform")

    subject = builtin_subject(config, small, name="small", source="test")
    place = measure_with_prediction(subject, run).layers[0]

    gap = place.values["attn_score_std"] - place.predicted["attn_score_std"]
    assert abs(gap) < 5 * place.stderr["attn_score_std"]
