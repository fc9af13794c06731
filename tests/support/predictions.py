"""Predictions of built-in models against their measurements, with the deviation that is allowed."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from gptinit.config import GPTConfig, RunConfig
from gptinit.facts.schemes import Scheme, get_scheme
from gptinit.measure.builtin_subject import builtin_subject
from gptinit.measure.measure import measure
from gptinit.results.profile import Profile
from gptinit.theory import TheoryModel, predict
from gptinit.tokens import open_tokens
from support.theory import theory_model, theory_profile

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


SHARP = GPTConfig(n_layer=2, n_head=8, n_embd=192, block_size=24, vocab_size=300)
"""Few layers with many channels: a shape whose predictions are off by 1 % at most."""


SHARP_STATS = frozenset({"resid_var", "attn_var", "mlp_var", "grad_rms", "grad_growth"})


def measured_sharply(scheme: str, seeds: int) -> Profile:
    """SHARP under a scheme, both passes."""
    run = RunConfig(engine="dense", device="cpu", seeds=seeds, seq_len=24, grad=True)
    subject = builtin_subject(SHARP, get_scheme(scheme), name="gpt", source="test")
    return measure(subject, run)


def sharp_deviations(measured: Profile, model: TheoryModel) -> dict[tuple[str, str], float]:
    """Relative errors of a prediction of SHARP beyond 4 standard errors and 1 % of model error."""
    source = open_tokens("zipf", vocab_size=300, batch_size=1, seq_len=24)
    ids = np.stack([source.draw(seed) for seed in range(measured.run.seeds)])
    expected = predict(model, ids, grad=True)
    values = {"embedding": expected.embedding}
    values |= {f"layer {i}": layer for i, layer in enumerate(expected.layers)}
    found = {}
    for where, place in measured.places():
        for stat in {"resid_var", "attn_var", "mlp_var", "grad_rms", "grad_growth"} & set(
            place.values
        ):
            value = place.values[stat]
            off = values[where][stat] / value - 1
            if abs(off) > 4 * place.stderr[stat] / value + 0.01:
                found[where, stat] = off
    return found


def base() -> TheoryModel:
    return theory_model(CONFIG, get_scheme("nanogpt"))


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
