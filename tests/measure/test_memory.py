"""Estimates of memory: the formula, the limits of machine and container, and real runs."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.lazy_models import program_of
from support.subjects import tiny_subject

import gptinit
from gptinit.facts.distributions import Normal
from gptinit.measure import memory
from gptinit.measure.memory import Workload, available_bytes, required_bytes
from gptinit.results.program import ParameterProgram

CPU = torch.device("cpu")


def work(*, grad: bool = False, dtype: torch.dtype = torch.float32, tokens: int = 48) -> Workload:
    return Workload(tokens=tokens, dtype=dtype, grad=grad)


# The tiny shape: 3 layers, 4 heads of 8, 32 wide, d_ff 128, 48 positions, 101 tokens, biases, tied.
BLOCK = (32 * 96 + 96) + (32 * 32 + 32) + (32 * 128 + 128) + (128 * 32 + 32) + 4 * 32
OUTSIDE = 101 * 32 + 48 * 32 + 2 * 32
LARGEST_MATRIX = 128 * 32
"""mlp.c_fc and mlp.c_proj: the largest parameters, in a block or not."""
ACTIVATIONS = 6 * 32 + 5 * 32 + 2 * 128
"""A token and layer: stream and norms, qkv and attention, MLP."""


def test_the_tiny_model_has_the_parameters_that_the_formulas_count() -> None:
    assert tiny_subject().facts.n_params == 3 * BLOCK + OUTSIDE


@pytest.mark.parametrize(
    ("engine", "grad", "expected"),
    [
        # float32 draws need no second copy: weights, one layer's activations, logits and the
        # two float32 tensors of the loss
        ("dense", False, 4 * (3 * BLOCK + OUTSIDE) + 48 * 4 * (ACTIVATIONS + 3 * 101)),
        # one gradient of the largest matrix, all layers' activations, and the logits' gradient
        (
            "dense",
            True,
            4 * (3 * BLOCK + OUTSIDE + LARGEST_MATRIX) + 48 * 4 * (3 * ACTIVATIONS + 4 * 101),
        ),
        # what is outside the blocks, and one matrix at a time
        ("stream", False, 4 * (OUTSIDE + LARGEST_MATRIX) + 48 * 4 * (ACTIVATIONS + 3 * 101)),
        (
            "stream",
            True,
            4 * (OUTSIDE + 2 * LARGEST_MATRIX) + 48 * 4 * (3 * ACTIVATIONS + 4 * 101),
        ),
    ],
)
def test_the_estimate_is_the_formula(engine: str, grad: bool, expected: int) -> None:
    assert required_bytes(tiny_subject(), work(grad=grad), engine) == expected


BLOCK_SIDES = (96 + 32) + (32 + 32) + (128 + 32) + (32 + 128)
OUTSIDE_SIDES = (101 + 32) + (48 + 32)
"""Outputs and inputs of a block's matrices and of the tables: so many values a query."""


def test_experts_are_asked_one_by_one_and_vectors_never() -> None:
    def part(*shape: int, layer: int | None = 0) -> ParameterProgram:
        return program_of(shape, Normal(0.0, 0.02), layer=layer)

    experts = 2 * (20 + 8)  # outputs and inputs of each
    layers = (part(2, 20, 8), part(30), part(6, 30, layer=1), part(4, 4, layer=None))
    subject = replace(tiny_subject(), program=layers)

    held = [
        memory._query_bytes(subject, work(tokens=n, grad=g)) for n in (16, 3) for g in (False, True)
    ]

    outside = 4 * 8 * 4
    assert held[:2] == [4 * experts * 8 + outside, 4 * 2 * (experts * 8 + 36 * 6) + outside]
    assert held[2:] == [
        4 * 3 * (experts + 8),
        4 * 3 * (2 * (experts + 36) + 8),
    ]


@pytest.mark.parametrize(
    ("what", "blocks", "activations"),
    [
        # One block's queries and responses; with gradients all of them, twice.
        (work(tokens=16), 1, ACTIVATIONS + 3 * 101),
        (work(tokens=16, grad=True), 2 * 3, 3 * ACTIVATIONS + 4 * 101),
        # Recomputed: one block again, and the stream between the three.
        (
            replace(work(tokens=16, grad=True), recompute=True),
            2 * 1,
            ACTIVATIONS + 3 * 32 + 4 * 101,
        ),
    ],
    ids=["forward", "grad", "recompute"],
)
def test_lazy_weights_are_a_query_and_a_response_a_token(
    what: Workload, blocks: int, activations: int
) -> None:
    held = 16 * 4 * (blocks * BLOCK_SIDES + OUTSIDE_SIDES)

    assert required_bytes(tiny_subject(), what, "lazy") == held + 16 * 4 * activations


def test_a_lazy_matrix_has_no_more_queries_than_its_shorter_side() -> None:
    # From 128 tokens on no matrix has more: sides of 96 x 32 count 32 times, of 101 x 32 too.
    few, many = (
        required_bytes(tiny_subject(), work(tokens=n), "lazy") - n * 4 * (ACTIVATIONS + 3 * 101)
        for n in (128, 1000)
    )

    assert few == many == 32 * 4 * (BLOCK_SIDES + OUTSIDE_SIDES)


@pytest.mark.parametrize("grad", [False, True])
def test_a_model_without_parameters_in_blocks_holds_all_of_them(grad: bool) -> None:
    subject = tiny_subject()
    outside = tuple(p for p in subject.program if p.layer is None)
    bare = replace(subject, program=outside, facts=replace(subject.facts, n_params=OUTSIDE))

    found = {required_bytes(bare, work(tokens=0, grad=grad), e) for e in ("dense", "stream")}

    assert found == {4 * OUTSIDE}


def test_half_precision_halves_the_weights_but_draws_in_float32() -> None:
    full = required_bytes(tiny_subject(), work(tokens=0), "dense")
    half = required_bytes(tiny_subject(), work(tokens=0, dtype=torch.bfloat16), "dense")

    assert half == full // 2 + 4 * LARGEST_MATRIX


def test_stream_does_not_grow_with_depth_and_dense_does() -> None:
    shallow, deep = tiny_subject(n_layer=2), tiny_subject(n_layer=20)

    assert required_bytes(shallow, work(), "stream") == required_bytes(deep, work(), "stream")
    assert (
        required_bytes(deep, work(), "dense")
        == required_bytes(shallow, work(), "dense") + 18 * 4 * BLOCK
    )


def test_activations_grow_with_the_tokens() -> None:
    one, two = (required_bytes(tiny_subject(), work(tokens=n), "dense") for n in (100, 200))

    assert two - one == 100 * 4 * (ACTIVATIONS + 3 * 101)


def limit(folder: Path, monkeypatch: pytest.MonkeyPatch, **files: str) -> None:
    """A container whose files say so, on a machine with 10 GB free."""
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content, encoding="ascii")
    monkeypatch.setattr(memory, "_CGROUP", folder)
    monkeypatch.setattr(memory, "_free_physical_bytes", lambda: 10_000_000_000)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory_max": "2000000000\n", "memory_current": "500000000\n"}, 1_500_000_000),
        ({"memory_max": "max\n", "memory_current": "500000000\n"}, 10_000_000_000),
        ({"memory_max": "20000000000\n", "memory_current": "0\n"}, 10_000_000_000),
        ({"memory_max": "100\n", "memory_current": "200\n"}, 0),
        ({"memory_max": "2000000000\n"}, 10_000_000_000),
        ({"memory_max": "garbled", "memory_current": "0\n"}, 10_000_000_000),
        ({}, 10_000_000_000),
    ],
    ids=["limited", "unlimited", "generous", "over", "half", "garbled", "none"],
)
def test_what_is_free_is_the_tighter_of_machine_and_container(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(tmp_path, monkeypatch, **files)

    assert available_bytes(CPU) == expected


def test_files_in_the_page_cache_are_not_memory_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 1.8 GB of a container of 2 GB are a cached data set: nearly all of it can be had.
    limit(tmp_path, monkeypatch, memory_max="2000000000", memory_current="1900000000")
    (tmp_path / "memory.stat").write_text("anon 100000000\ninactive_file 1800000000\n", "ascii")

    assert available_bytes(CPU) == 1_900_000_000


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="Linux tells it in a file")
def test_free_memory_is_between_nothing_and_all_there_is() -> None:
    free = memory._free_physical_bytes()

    assert free is not None
    assert 0 < free <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


# A process of its own: what it prints is (estimate, growth of its peak resident memory).
REAL_RUN = """
import json, sys
import torch
from gptinit.config import RunConfig
from gptinit.measure.measure import measure
from gptinit.measure.memory import Workload, peak_bytes, required_bytes
from gptinit.facts.presets import get_config
from gptinit.facts.schemes import get_scheme
from gptinit.measure.builtin_subject import builtin_subject

engine, grad = sys.argv[1], sys.argv[2] == "grad"

def subject(**shape):
    config = get_config("gpt2", **shape)
    return builtin_subject(config, get_scheme("nanogpt"), name="m", source="s")

def run(subject, tokens):
    run = RunConfig(engine=engine, grad=grad, seeds=1, seq_len=tokens, device="cpu")
    measure(subject, run)

run(subject(n_layer=1, n_embd=64, vocab_size=101), 16)  # what torch itself loads on first use
before = peak_bytes("cpu")
model = subject(n_layer=N_LAYER, n_embd=N_EMBD)
work = Workload(tokens=TOKENS, dtype=torch.float32, grad=grad)
run(model, TOKENS)
print(json.dumps([required_bytes(model, work, engine), peak_bytes("cpu") - before]))
"""


def measured_ratio(engine: str, passes: str, **shape: int) -> float:
    """The estimate over what a run really took."""
    code = REAL_RUN
    for name, value in shape.items():
        code = code.replace(name, str(value))
    done = subprocess.run(
        [sys.executable, "-c", code, engine, passes],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(gptinit.__file__).parents[1])},
    )
    estimate, growth = json.loads(done.stdout)
    return float(estimate / growth)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is counted otherwise")
@pytest.mark.parametrize("engine", ["dense", "stream"])
@pytest.mark.parametrize("passes", ["forward", "grad"])
def test_the_estimate_is_near_what_a_run_takes(engine: str, passes: str) -> None:
    # dense: 101 M parameters, 405 MB; stream: 26 M outside the blocks, 105 MB. Beyond these bounds
    # a run that would fit is refused, or one that does not fit is started.
    ratio = measured_ratio(engine, passes, N_LAYER=24, N_EMBD=512, TOKENS=512)

    assert 0.6 < ratio < 1.8
