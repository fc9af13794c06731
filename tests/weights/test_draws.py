"""Draws have the distribution they claim and depend on seed and name alone."""

import math
from typing import Any

import pytest
import torch
from scipy import stats
from support.subjects import cpu_draws

from gptinit.errors import MeasureError
from gptinit.facts.distributions import (
    Constant,
    Copy,
    Distribution,
    Mixture,
    Normal,
    Orthogonal,
    Piecewise,
    Scaled,
    TruncatedNormal,
    Uniform,
    Unset,
)
from gptinit.results.program import ParameterProgram
from gptinit.trace.record.tensor import TracedTensor
from gptinit.trace.record.tracing import trace
from gptinit.trace.replay.recipes import recipes
from gptinit.weights.draws import Draws, is_drawable, seed_of


def program(distribution: Distribution, *shape: int, name: str = "w") -> ParameterProgram:
    return ParameterProgram(name=name, shape=shape, role="qkv", layer=0, distribution=distribution)


@pytest.mark.parametrize(
    ("distribution", "law"),
    [
        (Normal(0.5, 0.02), stats.norm(0.5, 0.02)),
        (Uniform(-1.0, 3.0), stats.uniform(-1, 4)),
        (TruncatedNormal(0.0, 0.5, -1.0, 1.0), stats.truncnorm(-2, 2, 0, 0.5)),
        (TruncatedNormal(0.0, 1.0, -0.1, 3.0), stats.truncnorm(-0.1, 3, 0, 1)),
        (TruncatedNormal(1.0, 1.0, 0.0, 1.5), stats.truncnorm(-1, 0.5, 1, 1)),
    ],
    ids=lambda law: str(law).partition(" object")[0],
)
def test_values_have_the_law_of_the_distribution(distribution: Distribution, law: Any) -> None:
    values = cpu_draws(0).new(program(distribution, 700, 800)).flatten().double().numpy()

    # One Kolmogorov-Smirnov test each at a fixed seed.
    assert stats.kstest(values, law.cdf).pvalue > 1e-3
    # the standard error of a mean is std / sqrt(n); k = 4
    assert abs(values.mean() - distribution.mean) < 4 * distribution.std / math.sqrt(values.size)


@pytest.mark.parametrize("columns", [100, 4096, 8192, 10_000])
def test_a_product_with_normal_columns_is_that_with_those_that_are_drawn(columns: int) -> None:
    """Also beyond 2^21 numbers, 4096 columns of 512, which are drawn into one scratch at a time."""
    draws, rows = cpu_draws(5), 512
    x = torch.randn(3, rows, generator=torch.Generator().manual_seed(1))

    found = draws.times_normal("w", 2, x, columns)

    drawn = draws.normal_columns("w", 2, (rows, columns))
    assert found.shape == (3, columns)
    # Sums of 512 products near 1: 32 times as many roundings as fit in a random walk of them.
    assert float((found - x @ drawn).abs().max()) < 32 * 512**0.5 * 2**-24


def test_truncated_values_stay_inside_the_cut() -> None:
    values = cpu_draws(0).new(program(TruncatedNormal(0.0, 1.0, -0.5, 0.25), 300, 300))

    assert float(values.min()) >= -0.5
    assert float(values.max()) <= 0.25


def test_constants_and_row_blocks_stand_where_they_belong() -> None:
    pieces = Piecewise(((2, Constant(1.0)), (3, Normal(0.0, 5.0)), (1, Constant(2.0))))

    values = cpu_draws(0).new(program(pieces, 6, 4))

    assert torch.equal(values[:2], torch.ones(2, 4))
    assert torch.equal(values[5:], torch.full((1, 4), 2.0))
    assert float(values[2:5].std()) > 1


def test_values_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = program(Normal(0.0, 1.0), 1100, 1000)  # three chunks
    parallel = cpu_draws(3).new(weight)
    monkeypatch.setattr("gptinit.weights.draws._pool", lambda: SerialPool())

    serial = cpu_draws(3).new(weight)

    assert torch.equal(parallel, serial)


class SerialPool:
    """Does one after the other, from the last to the first, what a pool of threads does."""

    def map(self, function: object, items: object) -> list[object]:
        """The results, last first."""
        return [function(item) for item in reversed(list(items))]  # type: ignore[operator,call-overload]


def test_chunks_of_one_weight_differ() -> None:
    flat = cpu_draws(0).new(program(Normal(0.0, 1.0), 1 << 20)).view(2, -1)

    assert not torch.equal(flat[0], flat[1])


@pytest.mark.parametrize(
    ("seed", "name"), [(1, "w"), (0, "v")], ids=["another seed", "another name"]
)
def test_another_seed_or_name_gives_other_values(seed: int, name: str) -> None:
    law = Normal(0.0, 1.0)

    first = cpu_draws(0).new(program(law, 64, 64))
    other = cpu_draws(seed).new(program(law, 64, 64, name=name))

    # The correlation of two independent draws has standard error 1 / sqrt(n); k = 4.
    assert abs(float((first * other).mean())) < 4 / 64


def test_lower_precision_is_the_float32_draw_rounded_once() -> None:
    weight = program(Normal(0.0, 0.02), 64, 64)

    half = cpu_draws(0, torch.bfloat16).new(weight)

    assert torch.equal(half, cpu_draws(0).new(weight).to(torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_drawing_into_memory_gives_the_same_values(dtype: torch.dtype) -> None:
    weight = program(Normal(0.0, 0.02), 800, 900)
    out = torch.full((800, 900), torch.nan, dtype=dtype)

    cpu_draws(2, dtype).into(weight, out)

    assert torch.equal(out, cpu_draws(2, dtype).new(weight))


def test_seeds_of_draws_are_those_of_the_hash() -> None:
    # sha256("gptinit/weights/0/w/0/0")[:8], little endian, without its lowest bit: values are part
    # of what a seed means, so a change of this number is a change that users notice.
    assert seed_of(0, "w") == 5995251038873184729


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_draws_have_the_same_law() -> None:
    draws = Draws(seed=0, device=torch.device("cuda"), dtype=torch.float32)

    values = draws.new(program(Normal(0.0, 0.02), 700, 800)).flatten().double().cpu().numpy()

    assert stats.kstest(values, stats.norm(0, 0.02).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("law", "expected"),
    [
        (Normal(0.0, 1.0), True),
        (Piecewise(((1, Uniform(0.0, 1.0)), (1, Constant(0.0)))), True),
        (Copy("a", Normal(0.0, 1.0)), False),
        (Piecewise(((1, Normal(0.0, 1.0)), (1, Copy("a", Normal(0.0, 1.0))))), False),
        (Orthogonal(1.0, 4), False),
        (Mixture(((1, Constant(0.0)), (1, Normal(0.0, 1.0)))), False),
        (Scaled(Normal(0.0, 1.0), 2.0), False),
        (Unset(), False),
    ],
    ids=lambda law: str(law).partition(" object")[0],
)
def test_only_independent_entries_need_no_record(law: Distribution, expected: bool) -> None:
    assert is_drawable(law) is expected


def test_a_law_that_needs_a_record_and_has_none_is_named() -> None:
    with pytest.raises(
        MeasureError,
        match=r"^w must have a distribution that can be drawn from, got orthogonal\(1\)\.$",
    ):
        cpu_draws(0).new(program(Orthogonal(1.0, 4), 4, 4))


class Halves(torch.nn.Module):
    """A matrix whose lower half is minus its upper half."""

    def __init__(self) -> None:
        super().__init__()
        half = torch.randn(3, 4)
        self.w = torch.nn.Parameter(torch.cat([half, -half]))


def recorded(seed: int, dtype: torch.dtype = torch.float32) -> Draws:
    """Draws with the record of Halves."""
    weight = trace(Halves).get_parameter("w")
    assert isinstance(weight, TracedTensor)
    return Draws(
        seed=seed, device=torch.device("cpu"), dtype=dtype, recipes=recipes([("w", weight.read())])
    )


def test_a_record_is_drawn_again_for_every_seed() -> None:
    law = Copy("itself", Normal(0.0, 1.0))  # whatever independent draws cannot make

    first, other = (recorded(seed).new(program(law, 6, 4)) for seed in (0, 1))

    for values in (first, other):
        assert torch.equal(values[3:], -values[:3])
    assert not torch.equal(first, other)
    assert torch.equal(recorded(0).new(program(law, 6, 4)), first)


def test_draws_inside_a_record_are_those_of_its_parameter() -> None:
    upper = recorded(5).new(program(Copy("itself", Normal(0.0, 1.0)), 6, 4))[:3]

    assert torch.equal(upper, cpu_draws(5).new(program(Normal(0.0, 1.0), 3, 4)))


def test_a_record_in_lower_precision_is_the_float32_one_rounded_once() -> None:
    weight = program(Copy("itself", Normal(0.0, 1.0)), 6, 4)
    out = torch.full((6, 4), torch.nan, dtype=torch.bfloat16)

    half = recorded(0, torch.bfloat16)
    half.into(weight, out)

    assert torch.equal(out, recorded(0).new(weight).to(torch.bfloat16))
