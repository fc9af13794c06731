"""What must hold on a CUDA device: the same laws, no waiting, memory of the GPU."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.subjects import TINY, tiny_subject
from torch.nn.attention import SDPBackend, sdpa_kernel

from gptinit.cli import main
from gptinit.config import Device, Engine, RunConfig
from gptinit.errors import MeasureError
from gptinit.facts.distributions import (
    Constant,
    Distribution,
    Normal,
    Piecewise,
    TruncatedNormal,
    Uniform,
)
from gptinit.facts.presets import get_config
from gptinit.facts.sampling import query_rows
from gptinit.facts.schemes import get_scheme
from gptinit.facts.vocabulary import STATISTICS
from gptinit.gate.judge import nonfinite_findings
from gptinit.gate.student_t import student_quantile
from gptinit.measure.builtin_subject import builtin_subject
from gptinit.measure.measure import measure
from gptinit.measure.memory import available_bytes
from gptinit.measure.plan import choose_device
from gptinit.measure.probes import Probes
from gptinit.measure.subject import Subject
from gptinit.results.profile import Place, Profile
from gptinit.results.program import ParameterProgram
from gptinit.weights.dense import install_dense
from gptinit.weights.draws import Draws
from gptinit.weights.stream import install_stream
from gptinit.weights.tensor import WeightTensor

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.fixture
def device() -> Device:
    """The device of these tests, as RunConfig calls it."""
    return "cuda"


def draws_on(device: Device, dtype: torch.dtype = torch.float32, seed: int = 0) -> Draws:
    return Draws(seed=seed, device=choose_device(device), dtype=dtype)


def profile_on(device: Device, scheme: str = "nanogpt", **run: Any) -> Profile:
    return measure(tiny_subject(scheme), RunConfig(device=device, **{"seeds": 1, **run}))


def gpt2_subject() -> Subject:
    """GPT-2's shape: 12 layers, 768 wide."""
    return builtin_subject(get_config("gpt2"), get_scheme("nanogpt"), name="gpt2", source="tests")


@contextmanager
def plain_attention() -> Iterator[None]:
    """Attention from matrix products: fused kernels may add gradients in any order."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def test_the_device_has_an_index_as_its_tensors_have(device: Device) -> None:
    # A wrapper keeps the device it is told, and the backward pass finds its thread by the index.
    chosen = choose_device(device)

    assert chosen == torch.empty(1, device=device).device
    assert draws_on(device).new(program(Normal(0.0, 1.0), 2, 3)).device == chosen


def test_a_streamed_weight_is_where_its_values_are(device: Device) -> None:
    subject = tiny_subject()
    module = subject.build()

    install_stream(module, subject.program, draws_on(device))

    weight = module.get_parameter("transformer.h.0.mlp.c_fc.weight")
    assert isinstance(weight.data, WeightTensor)
    assert weight.device == (weight + 0).device


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_both_policies_draw_bitwise_equal_weights(device: Device, dtype: torch.dtype) -> None:
    subject = tiny_subject("pytorch-default")
    dense, stream = subject.build(), subject.build()

    install_dense(dense, subject.program, draws_on(device, dtype))
    install_stream(stream, subject.program, draws_on(device, dtype))

    for parameter in subject.program:
        name = parameter.name
        assert torch.equal(dense.get_parameter(name), stream.get_parameter(name) + 0), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_forward_pass_of_both_policies_is_bitwise_equal(device: Device, dtype: str) -> None:
    dense, stream = (
        profile_on(device, dtype=dtype, engine=engine, seeds=2) for engine in ("dense", "stream")
    )

    assert_same_values(dense, stream)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_both_passes_of_both_policies_are_bitwise_equal(device: Device, dtype: str) -> None:
    with plain_attention():
        dense, stream = (
            profile_on(device, dtype=dtype, engine=engine, seeds=2, grad=True)
            for engine in ("dense", "stream")
        )

    assert_same_values(dense, stream)
    assert len(dense.layers[0].weight_grad) > 3


def assert_same_values(one: Profile, other: Profile) -> None:
    for (where, a), (_, b) in zip(one.places(), other.places(), strict=True):
        assert a == b, where


@pytest.mark.parametrize("engine", ["dense", "stream"])
def test_a_profile_agrees_with_the_cpu_within_noise(device: Device, engine: Engine) -> None:
    there = profile_on(device, engine=engine, seeds=6, seed=100, grad=True)
    here = profile_on("cpu", engine="dense", seeds=6, grad=True)

    pairs = [
        (where, stat, *compared(stat, a, b))
        for (where, a), (_, b) in zip(there.places(), here.places(), strict=True)
        for stat in a.values.keys() & b.values.keys()
        if a.stderr[stat] or b.stderr[stat]
    ]
    # Bonferroni: a chance of 1e-3 over all two-sided tests; k = 7.4 standard errors at ten degrees
    # of freedom and 45 comparisons, up to 15.2 at the five of one side with all the noise.
    assert len(pairs) > 40
    for where, stat, z, dof in pairs:
        assert abs(z) < student_quantile(1e-3 / len(pairs) / 2, dof), (where, stat, z)


def compared(stat: str, one: Place, other: Place) -> tuple[float, int]:
    """Difference over the joint standard error of six seeds each, and Welch's freedom."""
    a, b, sa, sb = one.values[stat], other.values[stat], one.stderr[stat], other.stderr[stat]
    gap = a - b
    if STATISTICS[stat].log:
        gap, sa, sb = math.log(a / b), sa / a, sb / b
    share = sa**2 / (sa**2 + sb**2)
    return gap / math.hypot(sa, sb), math.floor(5 / (share**2 + (1 - share) ** 2) + 1e-9)


def program(distribution: Distribution, *shape: int) -> ParameterProgram:
    return ParameterProgram(name="w", shape=shape, role="qkv", layer=0, distribution=distribution)


@pytest.mark.parametrize(
    "distribution",
    [
        Normal(0.5, 0.02),
        Uniform(-1.0, 3.0),
        TruncatedNormal(0.0, 0.5, -1.0, 1.0),
        TruncatedNormal(0.0, 1.0, -0.1, 3.0),
    ],
    ids=str,
)
def test_draws_have_the_moments_of_their_law(device: Device, distribution: Distribution) -> None:
    values = draws_on(device).new(program(distribution, 1000, 1000)).double()

    count, mean, std = values.numel(), distribution.mean, distribution.std
    deviation = values - mean
    kurtosis = float(deviation.pow(4).mean() / deviation.pow(2).mean().square())
    # Standard errors: std/sqrt(n) of the mean, std sqrt((kurtosis - 1)/(4n)) of the std; k = 5.
    assert abs(float(values.mean()) - mean) < 5 * std / math.sqrt(count)
    assert abs(float(values.std(correction=0)) - std) < 5 * std * math.sqrt(
        (kurtosis - 1) / (4 * count)
    )
    # Chunks have generators of their own: no value of the second is the first's.
    flat = values.flatten()
    assert not torch.equal(flat[: 1 << 18], flat[1 << 19 : (1 << 19) + (1 << 18)])


def test_truncated_draws_stay_inside_the_cut(device: Device) -> None:
    values = draws_on(device).new(program(TruncatedNormal(0.0, 1.0, -0.5, 0.25), 1000, 600))

    assert float(values.min()) >= -0.5
    assert float(values.max()) <= 0.25


def test_constants_and_row_blocks_stand_where_they_belong(device: Device) -> None:
    pieces = Piecewise(((2, Constant(1.0)), (3, Normal(0.0, 5.0)), (1, Constant(2.0))))

    values = draws_on(device, torch.bfloat16).new(program(pieces, 6, 4)).float().cpu()

    assert torch.equal(values[:2], torch.ones(2, 4))
    assert torch.equal(values[5:], torch.full((1, 4), 2.0))
    assert float(values[2:5].std()) > 1


def test_draws_do_not_touch_the_global_generator(device: Device) -> None:
    torch.manual_seed(0)
    expected = torch.rand(4, device=device)

    torch.manual_seed(0)
    draws_on(device).new(program(TruncatedNormal(0.0, 1.0, -1.0, 1.0), 100, 100))

    assert torch.equal(torch.rand(4, device=device), expected)


def test_free_memory_is_that_of_the_gpu(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.cuda.empty_cache()  # what earlier tests left may count as free
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda *_: (1_000_000, 80_000_000_000))

    free = available_bytes(choose_device(device))

    assert free is not None
    assert free < 200_000_000  # GPT-2's weights alone are 497 MB
    with pytest.raises(MeasureError, match=r"engine=dense needs .* on cuda, got .* GB free"):
        measure(gpt2_subject(), RunConfig(device=device, engine="dense"))


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """Leaves the debug mode of waits as it was, whatever a test does with it."""
    torch.cuda.synchronize()
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("grad", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("install", [install_dense, install_stream])
def test_nothing_waits_for_the_device_while_probes_listen(
    device: Device, install: Any, grad: bool
) -> None:
    subject, draws = tiny_subject(), draws_on(device)
    module = subject.build()
    idx = torch.randint(TINY["vocab_size"], (2, 16)).to(draws.device)
    vocabulary = torch.arange(TINY["vocab_size"], device=draws.device)
    rows = torch.tensor(query_rows(16, 8), device=draws.device)

    def run(mode: str) -> Probes:
        torch.cuda.set_sync_debug_mode(mode)
        installed = install(module, subject.program, draws)
        assert subject.lens is not None  # the built-in GPT has one
        lens = subject.lens(module, vocabulary)
        probes = Probes(module, subject.sites, lens=lens, rows=rows, step=lambda: None)
        weights = (
            probes.attached_to_weights(module, subject.program, installed)
            if grad
            else nullcontext()
        )
        with torch.set_grad_enabled(grad), weights:
            with probes.attached():
                logits = module(idx)
            loss = F.cross_entropy(logits.flatten(0, 1), idx.flatten(), reduction="sum")
            probes.record_logits(logits, idx, loss / idx.numel())
            if grad:
                loss.backward()
        torch.cuda.set_sync_debug_mode("default")
        return probes

    run("default").result(idx.numel())  # libraries wait when they are loaded
    result = run("error").result(idx.numel())

    assert len(result.layers) == TINY["n_layer"]


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
@pytest.mark.usefixtures("no_waiting")
def test_the_guard_against_waiting_does_raise(device: Device) -> None:
    value = torch.ones((), device=device)
    torch.cuda.set_sync_debug_mode("error")

    with pytest.raises(RuntimeError, match="synchronizing CUDA operation"):
        value.item()


def test_overflow_in_float16_is_a_finding_that_names_the_layer(device: Device) -> None:
    # Weights of std 30000 pass 65504, float16's maximum, at 2.2 sigma: the second MLP writes
    # infinities whatever it reads.
    subject = tiny_subject()
    overflowing = tuple(
        replace(p, distribution=Normal(0.0, 30000.0)) if (p.role, p.layer) == ("mlp_down", 1) else p
        for p in subject.program
    )

    profile = measure(
        replace(subject, program=overflowing), RunConfig(seeds=1, dtype="float16", device=device)
    )

    assert profile.embedding.values["nonfinite"] == 0
    assert nonfinite_findings(profile)[0].where == "layer 1"
    assert [f.severity for f in nonfinite_findings(profile)] == ["error"]


def test_the_command_line_runs_on_the_device(
    device: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--n-layer", "2", "--seq-len", "16", "--grad", "--timing", "--format", "json", "-q"]

    code = main(["inspect", "nanogpt-char", "--device", device, *options])

    document = json.loads(capsys.readouterr().out)
    assert code == 0
    assert document["run"]["device"] == device
    assert document["run"]["device_name"] == device_name(device)


def device_name(device: Device) -> str:
    return torch.cuda.get_device_name(device)


def test_streaming_keeps_the_weights_of_blocks_out_of_the_gpu(device: Device) -> None:
    subject = gpt2_subject()
    in_blocks = 4 * sum(p.numel for p in subject.program if p.layer is not None)  # bytes

    measure(subject, RunConfig(device=device, seeds=1, engine="dense"))  # libraries' workspaces
    dense, stream = (peak_bytes(subject, device, engine) for engine in ("dense", "stream"))

    # Both peak at the logits, where dense holds twelve blocks and stream none; one is slack.
    assert dense - stream > in_blocks * 11 / 12


def peak_bytes(subject: Subject, device: Device, engine: Engine) -> int:
    """Most bytes of tensors during a forward pass, beyond those there before."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    measure(subject, RunConfig(device=device, seeds=1, engine=engine))
    return torch.cuda.max_memory_allocated() - before
