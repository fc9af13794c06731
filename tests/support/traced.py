"""Traces of init code, and real draws of the same code to compare them with."""

import math
from collections.abc import Callable, Iterator
from dataclasses import astuple

import pytest
import torch
from torch import Tensor

from gptinit.facts.distributions import Distribution, Scaled
from gptinit.trace.record.tensor import TracedTensor
from gptinit.trace.record.tracing import trace
from support.trace_styles import COLUMNS, ROWS, Holder

SEEDS = 24
K = 5.0
"""Standard errors allowed: Student's t at 23 degrees of freedom is beyond them once in 20 000."""


def flat(law: Distribution) -> Iterator[float | str]:
    """Kind and numbers of a distribution, nested ones too."""
    yield law.kind

    def numbers(value: object) -> Iterator[float | str]:
        if isinstance(value, tuple | list):
            for item in value:
                yield from numbers(item)
        elif isinstance(value, int | float):
            yield float(value)

    yield from numbers(astuple(law))


def traced(make: Callable[[], Tensor]) -> TracedTensor:
    module = trace(lambda: Holder(make()))
    assert isinstance(module, Holder)
    assert isinstance(module.w, TracedTensor)
    return module.w


def real(make: Callable[[], Tensor]) -> list[Tensor]:
    """The values that code draws with several seeds."""
    draws = []
    for seed in range(SEEDS):
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed formats the stack for every kind of device that has not been used.
            torch.default_generator.manual_seed(1000 + seed)
            draws.append(make().detach().double())
    return draws


def room(values: list[float], law: Distribution, spread: float, *, looks: bool) -> float:
    """How far a law may be from the mean over seeds: k standard errors and float32's rounding.

    A law that depends on its own draw is one more seed, with a seed's own spread.
    """
    count = len(values)
    mean = sum(values) / count
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (count - 1))
    is_one_more = looks or any(k == "measured" for k in flat(law)) or isinstance(law, Scaled)
    error = K * deviation * math.sqrt(1 / count + is_one_more)
    # What was looked at became a number, so that the spread of the whole draw is in the law.
    error += K * spread * math.sqrt(2 / (ROWS * COLUMNS)) if looks else 0.0
    return error + 3e-5 * (spread + abs(mean)) + 1e-9


def assert_agree(law: Distribution, draws: list[Tensor], *, looks: bool = False) -> None:
    """Mean and mean square of a law are those of real draws.

    The mean square is compared in place of the std: it is linear in what is averaged, so that seeds
    may be averaged even where one seed has few entries that count.
    """
    means = [float(d.mean()) for d in draws]
    squares = [float((d**2).mean()) for d in draws]
    spread = math.sqrt(sum(squares) / len(squares))
    assert law.mean == pytest.approx(
        sum(means) / len(means), abs=room(means, law, spread, looks=looks)
    )
    second = law.std**2 + law.mean**2
    allowed = room(squares, law, spread**2, looks=looks)
    assert second == pytest.approx(sum(squares) / len(squares), abs=allowed)
