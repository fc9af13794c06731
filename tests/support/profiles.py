"""Small made-up profiles for tests of what reads profiles."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gptinit.config import ModelFacts
from gptinit.facts.vocabulary import STATISTICS
from gptinit.results.profile import Place, Profile, RunFacts

ROUNDING = 64 * 2.0**-23
"""What the order of sums may change: some ten products of rows of up to 64, float32."""

_FACTS = ModelFacts(
    name="gpt2",
    source="preset",
    n_layer=4,
    n_head=2,
    n_kv_head=2,
    head_dim=32,
    n_embd=64,
    d_ff=256,
    block_size=128,
    vocab_size=1000,
    norm="layernorm",
    norm_placement="pre",
    positions="learned",
    activation="gelu_tanh",
    bias=True,
    tied=True,
    n_params=272_320,
)
_RUN = RunFacts(
    engine="dense",
    weights="traced",
    device="cpu",
    device_name="a CPU",
    dtype="float32",
    seed=0,
    seeds=6,
    batch_size=1,
    seq_len=64,
    data="zipf",
    data_sha256="0" * 64,
    lens_rows=512,
    query_rows=32,
)


def make_profile(n_layer: int = 4, seeds: int = 6, grad: bool = False, **changes: Any) -> Profile:
    """A healthy profile, every value with a standard error of 1 % (none with one seed).

    The stream starts at variance 0.001 and gains 0.001 a layer, so that growth at layer i is i + 2.

    Args:
        n_layer: number of layers.
        seeds: seeds that it claims to have been measured with.
        grad: whether it has statistics of gradients.
        changes: fields of Profile in place of the usual ones.
    """
    embedding = {"resid_var": 0.001, "token_cosine": 0.1, "max_abs": 0.15, "nonfinite": 0.0}
    layers = [_layer(i) for i in range(n_layer)]
    if grad:
        embedding |= {"grad_rms": 0.02 * (n_layer + 1), "grad_growth": n_layer + 1.0}
        layers = [
            values | {"grad_rms": 0.02 * (n_layer - i), "grad_growth": float(n_layer - i)}
            for i, values in enumerate(layers)
        ]
    final = {
        "logit_std": 0.16,
        "loss": 6.92,
        "loss_excess": 0.0122,
        "copy_logit": 0.6,
        "nonfinite": 0.0,
    }
    profile = Profile(
        torch="2.13.0",
        model=replace(_FACTS, n_layer=n_layer),
        scheme="nanogpt",
        run=replace(_RUN, seeds=seeds),
        embedding=_place(embedding, seeds),
        layers=tuple(_place(values, seeds) for values in layers),
        final=_place(final, seeds),
        whole=_place({"resid_growth": n_layer + 1.0}, seeds),
    )
    return replace(profile, **changes)


def with_value(
    profile: Profile, where: str, stat: str, value: float | None, stderr: float | None = None
) -> Profile:
    """The same profile with another value at a place; without the statistic if it is None.

    Args:
        profile: what to start from.
        where: a name of `Profile.places`, such as "layer 3".
        stat: a statistic that the place can have.
        value: the new mean, or None to take the statistic away.
        stderr: its standard error; None leaves none.
    """
    place = dict(profile.places())[where]
    values = {k: v for k, v in place.values.items() if k != stat}
    errors = {k: v for k, v in place.stderr.items() if k != stat}
    if value is not None:
        values[stat] = value
    if stderr is not None:
        errors[stat] = stderr
    new = replace(place, values=_in_order(values), stderr=_in_order(errors))
    if not where.startswith("layer"):
        return replace(profile, **{where: new})  # type: ignore[arg-type] # a place's own field
    layer = int(where.removeprefix("layer "))
    return replace(profile, layers=(*profile.layers[:layer], new, *profile.layers[layer + 1 :]))


def _layer(i: int) -> dict[str, float]:
    """Statistics of layer i without gradients."""
    return {
        "resid_var": 0.001 * (i + 2),
        "attn_var": 0.0002,
        "mlp_var": 0.0008,
        "resid_growth": i + 2.0,
        "logit_std": 0.16,
        "attn_score_std": 0.2,
        "attn_score_max": 0.9,
        "attn_entropy": 0.98,
        "token_cosine": 0.1,
        "max_abs": 0.2 + 0.05 * i,
        "nonfinite": 0.0,
    }


def _place(values: Mapping[str, float], seeds: int) -> Place:
    """A place whose values have standard errors of 1 % once there are several seeds."""
    stderr = {k: abs(v) / 100 for k, v in values.items()} if seeds > 1 else {}
    return Place(values=_in_order(values), stderr=_in_order(stderr))


def _in_order(values: Mapping[str, float]) -> dict[str, float]:
    """Statistics in the order of tables, as measuring gives them."""
    return {name: values[name] for name in STATISTICS if name in values}


def assert_equal_to_rounding(one: Profile, other: Profile) -> None:
    """That two profiles hold the same numbers, whichever kernels and layouts computed them.

    Weights that are equal to the last bit may be stored transposed in one of two runs: then other
    kernels multiply them, in another order, on some processors.
    """
    for (name, a), (_, b) in zip(one.places(), other.places(), strict=True):
        assert dict(a.values) == pytest.approx(dict(b.values), rel=ROUNDING, abs=ROUNDING), name
        assert a.weight_grad.keys() == b.weight_grad.keys(), name
        for role, grad in a.weight_grad.items():
            expected = b.weight_grad[role]
            assert grad.grad_rms == pytest.approx(expected.grad_rms, rel=ROUNDING), (name, role)
            assert grad.weight_rms == pytest.approx(expected.weight_rms, rel=ROUNDING), (name, role)
