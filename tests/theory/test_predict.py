"""What theory predicts: limits that are exact, one measurement, and what it leaves out."""

import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.predictions import (
    CONFIG,
    SHARP,
    T,
    base,
    deviations,
    everything,
    measured_and_predicted,
    measured_sharply,
    sharp_deviations,
)
from support.theory import read_theory, theory_model, theory_profile

import gptinit
from gptinit.config import GPTConfig, RunConfig
from gptinit.errors import ConfigError
from gptinit.facts.schemes import get_scheme
from gptinit.results.profile import Note, Place
from gptinit.theory import Moments, TheoryModel, angle_exponent, predict
from gptinit.theory.predict import _pool
from gptinit.tokens import open_tokens


def test_a_model_is_predicted_as_it_is_measured() -> None:
    """One scheme and shape; all of them are in tests/laws."""
    assert deviations(*measured_and_predicted(CONFIG, "pytorch-default", "zipf")) == []


def test_a_shallow_model_is_predicted_to_one_percent_and_a_tenth_is_seen() -> None:
    measured, model = measured_sharply("plain", seeds=40), theory_model(SHARP, get_scheme("plain"))

    assert sharp_deviations(measured, model) == {}
    for role in ("v", "attn_out", "mlp_up", "mlp_down"):
        wrong = tuple(
            replace(m, **{role: Moments(0.0, 1.1 * getattr(m, role).std)}) for m in model.layers
        )
        assert sharp_deviations(measured, replace(model, layers=wrong)) != {}, role


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


def test_a_score_ratio_is_a_wider_query_to_every_statistic_and_gradient() -> None:
    # Scores of std C std^2 = 1.2: the path through the queries counts.
    model = theory_model(GPTConfig(n_layer=2, n_embd=64, n_head=4), get_scheme("nanogpt"))
    drawn, wide = Moments(0.0, 0.1), Moments(0.0, 0.2)
    layers = [
        tuple(replace(m, q=q, k=drawn, v=drawn, attn_out=drawn) for m in model.layers)
        for q in (drawn, wide)
    ]
    ids = np.arange(17)[None, None]

    found = predict(replace(model, layers=layers[0], score_ratio=2.0), ids, grad=True)
    expected = predict(replace(model, layers=layers[1]), ids, grad=True)

    assert "grad_rms" in expected.embedding
    assert found.embedding == pytest.approx(expected.embedding, rel=1e-5)
    for mine, theirs in zip(found.layers, expected.layers, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)


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


@pytest.mark.parametrize("std", [0.6, 5.0, 1e10])
def test_scores_beyond_all_tables_are_refused_and_never_stop_a_measurement(
    std: float, tmp_path: Path
) -> None:
    scheme = everything(std, tmp_path)
    run = RunConfig(seeds=1, seq_len=16, device="cpu", grad=True)

    with pytest.raises(ConfigError, match=r"attention scores of std .* are beyond the tables"):
        gptinit.inspect("nanogpt-char", scheme=scheme, run=replace(run, engine="theory"))
    profile = gptinit.inspect("nanogpt-char", scheme=scheme, n_layer=2, run=run)

    assert len(profile.layers) == 2
    assert any(note.kind == "theory-missing" for note in profile.notes)


def rotary_model(scheme: str, n_embd: int, angles: tuple[float, ...]) -> TheoryModel:
    """The built-in GPT turned by some angles instead of learned positions."""
    config = GPTConfig(n_layer=2, n_embd=n_embd, n_head=n_embd // 4, vocab_size=97, block_size=8)
    model = theory_model(config, get_scheme(scheme))
    return replace(model, positions="rotary", pos_emb=Moments(), rotary_angles=angles)


def test_scores_that_are_turned_by_nothing_are_those_without_positions() -> None:
    # Eight rows: all of their pairs are looked at.
    ids = np.arange(9)[None, None] % 5
    turned = rotary_model("plain", 64, (0.0, 0.0))
    still = replace(turned, positions="none")

    found, expected = (predict(m, ids).layers[-1]["attn_score_std"] for m in (turned, still))

    # Grams are float32; the overlaps of few channels stand in both.
    assert found == pytest.approx(expected, rel=1e-4)


def test_gradients_behind_sharp_rotary_attention_are_left_out_with_a_note() -> None:
    ids = np.arange(9)[None, None]
    # Scores of std C std^2: 0.02^2 64, and 128 times that.
    near = rotary_model("plain", 64, (1.0, 0.1))
    loud = tuple(replace(layer, q=Moments(0.0, 128 * 0.02)) for layer in near.layers)
    known, rough = (predict(m, ids, grad=True) for m in (near, replace(near, layers=loud)))

    assert "grad_rms" in known.embedding
    assert "grad_rms" not in {*rough.embedding, *rough.layers[0]}
    assert "token_cosine" in rough.layers[0]
    assert [note.kind for note in rough.notes] == ["approximate"]
    assert "off by up to 20 %, of token_cosine by up to 0.05" in rough.notes[0].message
    assert not known.notes


@pytest.mark.parametrize(("std", "is_known"), [(0.02, True), (0.07, False)])
def test_gradients_behind_sharp_attention_are_left_out_with_learned_positions_too(
    std: float, is_known: bool
) -> None:
    # Scores of std C std^2: 0.31 and 3.8; the formulas of gradients are trusted to 2.
    model = theory_model(GPTConfig(n_layer=1), get_scheme("nanogpt"))
    drawn = Moments(0.0, std)
    layers = tuple(replace(layer, q=drawn, k=drawn) for layer in model.layers)

    found = predict(replace(model, layers=layers), np.arange(17)[None, None], grad=True)

    assert ("grad_rms" in found.embedding) == is_known
    assert [note.kind for note in found.notes] == ([] if is_known else ["approximate"])
    for note in found.notes:
        assert "off by up to 10 %, of token_cosine by up to 0.02" in note.message


@pytest.mark.parametrize(
    ("shape", "std", "why"),
    [
        # Scores of std C std^2 = 123: beyond what the tables hold.
        ({}, 0.4, "attention scores of std 12"),
        ({"n_embd": 8, "n_head": 1}, 0.02, "8 channels are too few"),
    ],
)
def test_nothing_is_predicted_where_no_formula_holds(
    shape: dict[str, Any], std: float, why: str
) -> None:
    model = theory_model(GPTConfig(n_layer=1, **shape), get_scheme("nanogpt"))
    drawn = Moments(0.0, std)
    layers = tuple(replace(layer, q=drawn, k=drawn) for layer in model.layers)

    found = predict(replace(model, layers=layers), np.arange(17)[None, None], grad=True)

    assert set(found.embedding) == {"resid_var", "token_cosine"}
    assert not any((*found.layers, found.final, found.whole))
    (note,) = found.notes
    assert note.kind == "theory-missing"
    assert why in note.message


def test_the_spread_of_scores_is_not_predicted_for_very_few_tokens() -> None:
    model = theory_model(GPTConfig(n_layer=1), get_scheme("nanogpt"))

    few, more = (predict(model, np.arange(n + 1)[None, None]).layers[0] for n in (7, 8))

    assert "attn_score_std" not in few
    assert "attn_score_std" in more


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"vocab_size": 16}, None),
        ({"vocab_size": 15}, "15 tokens are too few"),
        ({"n_embd": 32}, None),
        ({"n_embd": 31}, "31 channels are too few"),
        ({"n_embd": 16, "vocab_size": 15}, "15 tokens and 16 channels are too few"),
        ({"n_embd": 15}, "15 channels are too few"),
    ],
)
def test_averages_over_too_few_are_not_predicted(
    changes: dict[str, Any], missing: str | None
) -> None:
    plain = theory_model(GPTConfig(n_layer=2, n_embd=32, n_head=1), get_scheme("nanogpt"))
    model = replace(plain, **changes)

    found = predict(model, np.arange(9)[None, None], grad=True)

    gone = {"grad_rms", "grad_growth", "gradient_exponent", "logit_std"}
    assert all(bool(layer) == (model.n_embd > 15) for layer in found.layers)
    if missing is None:
        assert "grad_rms" in found.embedding
        assert all(gone & set(layer) for layer in found.layers)
        assert not found.notes
        return
    for place in (found.embedding, *found.layers, found.final, found.whole):
        assert not gone & set(place)
    (note,) = found.notes
    assert note.kind == "theory-missing"
    assert missing in note.message
    if model.n_embd > 15:
        assert note.where == "grad_rms, grad_growth, logit_std"


def test_a_statistic_that_one_sequence_lacks_is_that_of_none() -> None:
    """Sequences of a batch are pooled: means, and roots of mean squares."""
    pooled = _pool([{"loss": 1.0, "grad_rms": 3.0, "only": 1.0}, {"loss": 2.0, "grad_rms": 4.0}])

    assert pooled == pytest.approx({"loss": 1.5, "grad_rms": math.sqrt(12.5)})
