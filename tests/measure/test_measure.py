"""A profile is what a person would compute from the module, its tokens and autograd."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.lazy_models import Borrowing
from support.subjects import TINY, dense_module, tiny_subject
from torch import Tensor, nn

from gptinit.config import RunConfig
from gptinit.errors import ConfigError, MeasureError
from gptinit.facts.distributions import Normal
from gptinit.facts.schemes import load_schemes
from gptinit.gate.judge import nonfinite_findings
from gptinit.load.argument import factory_of
from gptinit.measure.measure import measure, run_seeds
from gptinit.measure.plan import choose_device, plan_run
from gptinit.measure.traced_subject import traced_subject
from gptinit.model import GPT
from gptinit.results.profile import Profile
from gptinit.tokens import open_tokens

# Sums of up to 1e4 float32 terms in another order: 2^-24 * sqrt(1e4) = 6e-6.
ORDER = 6e-6


def profile_of(scheme: str = "nanogpt", shape: dict[str, Any] | None = None, **run: Any) -> Profile:
    return measure(tiny_subject(scheme, **(shape or {})), RunConfig(**{"seeds": 1, **run}))


def by_hand(scheme: str) -> dict[str, Any]:
    """One seed of the tiny model with plain hooks and autograd."""
    subject = tiny_subject(scheme)
    module = dense_module(subject)
    assert isinstance(module, GPT)
    ids = torch.as_tensor(open_tokens("zipf", vocab_size=101, batch_size=2, seq_len=40).draw(0))
    idx, targets = ids[:, :-1], ids[:, 1:]
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            output.retain_grad()
            kept[name] = output

        return hook

    blocks = module.transformer.h
    module.requires_grad_(True)
    for i, block in enumerate(blocks):
        block.register_forward_hook(keep(f"stream {i}"))
        block.get_submodule("attn").register_forward_hook(keep(f"attn {i}"))
        block.get_submodule("mlp").register_forward_hook(keep(f"mlp {i}"))
    logits = module(idx)
    F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum").backward()
    return {"kept": kept, "logits": logits.detach(), "module": module, "targets": targets}


@pytest.mark.parametrize("engine", ["dense", "stream"])
@pytest.mark.parametrize("scheme", ["nanogpt", "pytorch-default"])
def test_a_profile_equals_plain_hooks_and_autograd(scheme: str, engine: str) -> None:
    profile = profile_of(scheme, engine=engine, batch_size=2, seq_len=40, grad=True)

    plain = by_hand(scheme)
    kept, tokens = plain["kept"], plain["targets"].numel()
    for i, place in enumerate(profile.layers):
        values = place.values
        for stat, name in (("resid_var", "stream"), ("attn_var", "attn"), ("mlp_var", "mlp")):
            expected = float(kept[f"{name} {i}"].detach().double().var(correction=0))
            assert values[stat] == pytest.approx(expected, rel=ORDER), (stat, i)
        gradient = kept[f"stream {i}"].grad.double()
        assert values["grad_rms"] == pytest.approx(float(gradient.square().mean().sqrt()), rel=1e-4)
        block = plain["module"].transformer.h[i]
        weight, mine = block.mlp.c_proj.weight, place.weight_grad["mlp_down"]
        expected_grad = float(weight.grad.double().square().mean().sqrt()) / tokens
        assert mine.grad_rms == pytest.approx(expected_grad, rel=1e-4)
        assert mine.weight_rms == pytest.approx(
            float(weight.detach().double().square().mean().sqrt()), rel=ORDER
        )
    losses = F.cross_entropy(plain["logits"].double().flatten(0, 1), plain["targets"].flatten())
    assert profile.final.values["loss"] == pytest.approx(float(losses), rel=ORDER)
    assert profile.final.values["logit_std"] == pytest.approx(
        float(plain["logits"].double().std(-1, correction=0).mean()), rel=ORDER
    )


@pytest.mark.parametrize("slug", load_schemes())
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dense_and_stream_give_equal_profiles(slug: str, dtype: str) -> None:
    dense = profile_of(slug, engine="dense", dtype=dtype, grad=True, seeds=2)
    stream = profile_of(slug, engine="stream", dtype=dtype, grad=True, seeds=2)

    # The same operators on the same values in the same order: equal to the last bit.
    assert replace(stream, run=dense.run, notes=dense.notes) == dense


def test_equal_runs_give_equal_profiles_and_other_seeds_do_not() -> None:
    first, again, other = profile_of(seed=1), profile_of(seed=1), profile_of(seed=2)

    assert first == again
    assert first.final.values["loss"] != other.final.values["loss"]


def test_several_seeds_are_the_mean_of_single_ones() -> None:
    both = profile_of(seed=4, seeds=2)
    single = [profile_of(seed=s).layers[-1].values["resid_var"] for s in (4, 5)]

    last = both.layers[-1]
    assert last.values["resid_var"] == pytest.approx(sum(single) / 2, rel=1e-12)
    assert last.stderr["resid_var"] == pytest.approx(abs(single[0] - single[1]) / 2, rel=1e-9)


def test_measuring_seeds_gives_what_a_profile_of_each_alone_has() -> None:
    run = RunConfig(seed=4, seeds=3, grad=True)

    found, _ = run_seeds(plan_run(tiny_subject(n_layer=4), run))

    assert len(found) == 3
    for i, result in enumerate(found):
        alone = measure(tiny_subject(n_layer=4), replace(run, seed=4 + i, seeds=1))
        for (where, mine), (same, place) in zip(result.places(), alone.places(), strict=True):
            assert where == same
            assert {k: mine.values[k] for k in place.values} == pytest.approx(place.values)
            assert {r: g.grad_rms for r, g in place.weight_grad.items()} == pytest.approx(
                {role: grad for role, (grad, _) in mine.weight_grad.items()}
            )


def test_seeds_are_measured_with_one_build() -> None:
    subject = tiny_subject()
    built: list[None] = []

    def counted() -> nn.Module:
        built.append(None)
        return subject.build()

    run_seeds(plan_run(replace(subject, build=counted), RunConfig(seeds=5)))

    assert len(built) == 1


def test_growth_is_over_the_embedding_and_over_the_last_layer() -> None:
    profile = profile_of(grad=True)

    last = profile.layers[-1].values
    start = profile.embedding.values
    assert profile.whole.values["resid_growth"] == pytest.approx(
        last["resid_var"] / start["resid_var"]
    )
    assert start["grad_growth"] == pytest.approx(start["grad_rms"] / last["grad_rms"])
    assert last["grad_growth"] == 1


def test_gradients_do_not_depend_on_the_number_of_sequences() -> None:
    one, four = profile_of(grad=True), profile_of(grad=True, batch_size=4)

    # Four sequences average four times the positions; their RMS differs by sampling alone. The
    # RMS of a sequence has a relative standard error of about 1/sqrt(2 T) = 0.10; k = 4.
    ratio = four.embedding.values["grad_rms"] / one.embedding.values["grad_rms"]
    assert abs(math.log(ratio)) < 4 * math.sqrt((1 + 1 / 4) / (2 * 48))


def test_the_module_runs_forward_once_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = GPT.forward

    def counted(self: GPT, idx: Tensor) -> Tensor:
        calls.append(idx.shape)
        return original(self, idx)

    monkeypatch.setattr(GPT, "forward", counted)

    profile_of(seeds=3, grad=True)

    assert calls == [(1, 48)] * 3


def test_one_position_measures_what_is_defined() -> None:
    profile = profile_of(seq_len=1, batch_size=3)

    assert "token_cosine" not in profile.embedding.values
    assert "attn_entropy" not in profile.layers[0].values
    assert profile.layers[0].values["resid_var"] > 0


def test_every_layer_lens_reads_at_most_512_rows_and_the_final_all() -> None:
    wide = profile_of(shape={"vocab_size": 700})
    narrow = profile_of()

    assert (wide.run.lens_rows, narrow.run.lens_rows) == (512, 101)
    # With all rows read and the same final norm and head, lens and logits agree.
    assert narrow.layers[-1].values["logit_std"] == pytest.approx(
        narrow.final.values["logit_std"], rel=ORDER
    )


def test_overflow_is_a_finding_that_names_the_first_layer() -> None:
    # Weights of std 30000 pass 65504, float16's maximum, at 2.2 sigma: the second MLP writes
    # infinities whatever it reads.
    profile = measure(overflowing_subject(), RunConfig(seeds=1, dtype="float16"))

    assert profile.embedding.values["nonfinite"] == 0
    assert "resid_var" not in profile.layers[1].values
    findings = nonfinite_findings(profile)
    assert [f.severity for f in findings] == ["error"]
    assert findings[0].where == "layer 1"


def overflowing_subject() -> Any:
    """A tiny GPT whose second MLP writes values that float16 cannot hold."""
    subject = tiny_subject()
    program = tuple(
        replace(p, distribution=Normal(0.0, 30000.0))
        if p.role == "mlp_down" and p.layer == 1
        else p
        for p in subject.program
    )
    return replace(subject, program=program)


def test_progress_counts_every_block_of_both_passes() -> None:
    told: list[tuple[int, int]] = []

    measure(
        tiny_subject(),
        RunConfig(seeds=2, grad=True),
        progress=lambda done, total: told.append((done, total)),
    )

    # a seed: 3 blocks forward; 3 blocks and the embedding backward
    assert told == [(i + 1, 14) for i in range(14)]


def test_a_pass_that_starts_over_counts_its_blocks_anew() -> None:
    told: list[int] = []

    run = RunConfig(engine="lazy", seeds=2, seq_len=8, device="cpu")
    plan = plan_run(traced_subject(factory_of(Borrowing, {})), run)

    results, _ = run_seeds(plan, lambda done, total: told.append(done))

    # Two passes end in the second block, which uses a weight of the first; the third goes through.
    assert len(results) == 2
    assert told == [1, 1, 1, 2, 3, 4, 5, 6]


def test_no_memory_for_the_model_is_said_before_allocating(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gptinit.measure.plan.available_bytes", lambda device: 300_000)
    monkeypatch.setattr("gptinit.weights.draws.Draws.new", pytest.fail)

    with pytest.raises(
        MeasureError,
        match=r"tiny must fit in memory: engine=dense needs .* on cpu, got 0.0003 GB free. "
        r"--engine stream needs",
    ):
        profile_of(engine="dense")


def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    with pytest.raises(MeasureError, match="device must be available here, got 'cuda'"):
        choose_device("cuda")


def test_a_sequence_beyond_the_block_is_refused() -> None:
    with pytest.raises(ConfigError, match="seq_len must be at most block_size=48"):
        profile_of(seq_len=49)


def test_tiny_shape_is_the_one_the_tests_assume() -> None:
    assert (TINY["n_layer"], TINY["block_size"], TINY["vocab_size"]) == (3, 48, 101)
