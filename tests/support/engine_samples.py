"""Samples of statistics over seeds, of two engines, and the chance that they have one law.

Lazy weights are other numbers than dense ones, so two samples of seeds are compared, statistic by
statistic, by the test of Kolmogorov and Smirnov (distribution-free, exact p). Seeds are fixed, so a
test gives the same p whenever it runs. Corrected by Holm over the statistics of a model and by
Bonferroni over models: with right engines any fails with probability 1 %, and none did.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache, partial
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import ks_2samp
from torch import nn

from gptinit.config import Engine, RunConfig
from gptinit.load.huggingface import huggingface_factory
from gptinit.measure.measure import run_seeds
from gptinit.measure.plan import plan_run
from gptinit.measure.subject import Subject
from gptinit.measure.traced_subject import traced_subject
from support.foreign_models import FOREIGN, factory
from support.lazy_models import ODD
from support.subjects import tiny_subject

T = 10
"""Positions: less than the width of any model here, so that weights stay lazy."""

FAR = 100_000
"""Where the other sample's seeds begin."""

Samples = Mapping[tuple[str, str], npt.NDArray[np.float64]]
"""(place, statistic) to its value for every seed."""


def ours(model: Callable[[], nn.Module]) -> Subject:
    """A model of the tests, read as anybody's."""
    return traced_subject(factory(model))


def _transformers(**config: Any) -> Subject:
    """A transformers model from its config.json."""
    common = {"num_hidden_layers": 2, "hidden_size": 32, "vocab_size": 61}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(common | config), encoding="utf-8")
        return traced_subject(huggingface_factory(path))


_LLAMA = {
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "initializer_range": 0.2,
}

SUBJECTS: Mapping[str, Callable[[], Subject]] = {
    "built-in": lambda: tiny_subject(n_layer=2),
    "built-in, untied, no biases": lambda: tiny_subject(n_layer=2, tied=False, bias=False),
    "built-in, pytorch-default": lambda: tiny_subject("pytorch-default", n_layer=2, tied=False),
    "built-in, inv-sqrt-width, relu": lambda: tiny_subject(
        "inv-sqrt-width", n_layer=2, activation="relu"
    ),
    "built-in, free head_dim": lambda: tiny_subject("plain", n_layer=2, head_dim=5, d_ff=50),
    "ours, GPT-2-like": partial(ours, FOREIGN["eager"]),
    "ours, Llama-like": partial(ours, FOREIGN["llama"]),
    "ours, post-norm": partial(ours, FOREIGN["post-norm"]),
    "ours, tied": partial(ours, FOREIGN["tied"]),
    "ours, looped": partial(ours, FOREIGN["shared"]),
    "ours, experts in one tensor": partial(ours, FOREIGN["experts in one tensor"]),
    **{f"ours, {name}": partial(ours, model) for name, model in ODD.items()},
    "transformers' GPT-2": lambda: _transformers(
        model_type="gpt2", n_layer=2, n_embd=32, n_head=4, n_positions=64, n_inner=96
    ),
    "transformers' Llama": lambda: _transformers(model_type="llama", **_LLAMA),
    "transformers' Mixtral": lambda: _transformers(
        model_type="mixtral", num_local_experts=4, **_LLAMA
    ),
}  # fmt: skip
"""Architectures and schemes by name."""


@cache
def subject(name: str, engine: Engine) -> Subject:
    """A model of SUBJECTS, made once an engine."""
    return SUBJECTS[name]()


def run_of(engine: Engine, seed: int, *, seeds: int = 1, **settings: Any) -> RunConfig:
    """A run of some seeds, on uniform tokens unless told otherwise."""
    changed: dict[str, Any] = {"seq_len": T, "data": "uniform", "device": "cpu"} | settings
    return RunConfig(engine=engine, seed=seed, seeds=seeds, **changed)


def samples(model: Subject, engine: Engine, *, seed: int, seeds: int, **settings: Any) -> Samples:
    """Every statistic of every seed, gradients and sizes of weights included."""
    found: dict[tuple[str, str], list[float]] = {}
    results, _ = run_seeds(plan_run(model, run_of(engine, seed, seeds=seeds, **settings)))
    for result in results:
        for where, place in result.places():
            values = dict(place.values)
            for role, (grad, weight) in place.weight_grad.items():
                values |= {f"gradient of {role}": grad, f"size of {role}": weight}
            for stat, value in values.items():
                if isfinite(value):
                    found.setdefault((where, stat), []).append(value)
    return {key: np.array(values) for key, values in found.items()}


def probabilities(one: Samples, other: Samples) -> dict[tuple[str, str], float]:
    """Chances of every statistic with noise; those without must be equal.

    Without noise: every seed within 1e-5 of the others, a hundred times float32's rounding.
    """
    assert one.keys() == other.keys()
    found = {}
    for key, values in one.items():
        both = np.concatenate((values, other[key]))
        if np.ptp(both) <= 1e-5 * np.abs(both).max():
            continue
        assert len(values) == len(other[key]), key
        found[key] = float(ks_2samp(values, other[key]).pvalue)
    return found


def holm(found: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """Chances after Holm's correction: that of any as small among so many right ones, at most."""
    worst, corrected = 0.0, {}
    for rank, (key, p) in enumerate(sorted(found.items(), key=lambda item: item[1])):
        worst = max(worst, min(1.0, p * (len(found) - rank)))
        corrected[key] = worst
    return corrected


def named(*names: str) -> list[object]:
    """Names of SUBJECTS as parameters; those of transformers are marked hf."""
    hf = {name: [pytest.mark.hf] for name in names if name.startswith("transformers'")}
    return [pytest.param(name, marks=hf.get(name, [])) for name in names]


def assert_agreement(found: Mapping[tuple[str, str], float], *, family: int) -> None:
    """That nothing differs, where so many models are compared."""
    corrected = sorted(holm(found).items(), key=lambda item: item[1])
    assert corrected[0][1] * family > 0.01, corrected[:5]


def lazy_against_dense(name: str, *, seeds: int, **settings: Any) -> dict[tuple[str, str], float]:
    """Chances of every statistic of a model."""
    dense = samples(subject(name, "dense"), "dense", seed=0, seeds=seeds, **settings)
    lazy = samples(subject(name, "lazy"), "lazy", seed=FAR, seeds=seeds, **settings)
    return probabilities(dense, lazy)
