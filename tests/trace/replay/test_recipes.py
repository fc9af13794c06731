# ruff: noqa: D102 # small methods are documented by their class
"""A traced tensor is drawn again for any seed, its draws named after their first user."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gptinit.facts.distributions import Distribution, Normal
from gptinit.trace.record.tensor import TracedTensor
from gptinit.trace.record.tracing import trace
from gptinit.trace.replay.recipes import Recipe, recipes


def recipes_of(build: Callable[[], nn.Module]) -> dict[str, Recipe]:
    """A recipe for every parameter."""
    found = []
    for name, parameter in trace(build).named_parameters():
        assert isinstance(parameter, TracedTensor)
        found.append((name, parameter.read()))
    return recipes(found)


class Asked:
    """Draws by torch, and writes down what it was asked for, constants left out."""

    def __init__(self) -> None:
        self.draws: list[tuple[str, int, tuple[int, ...], Distribution]] = []
        self.seeds: list[tuple[str, int]] = []

    def draw(self, name: str, number: int, shape: tuple[int, ...], law: Distribution) -> Tensor:
        if law.std:
            self.draws.append((name, number, shape, law))
        seed = sum(name.encode()) * 31 + number
        values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        return values * law.std + law.mean

    def seed(self, name: str, number: int) -> int:
        self.seeds.append((name, number))
        return sum(name.encode()) + number

    def values(self, recipe: Recipe) -> Tensor:
        return recipe.values(self.draw, self.seed)


class Fused(nn.Module):
    """One draw for each third of a matrix, the last a copy of the first at half the size."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Parameter(torch.zeros(9, 4))
        with torch.no_grad():
            self.qkv[:3].normal_(0, 1.0)
            self.qkv[3:6].normal_(0, 2.0)
            self.qkv[6:] = self.qkv[:3] * 0.5
        self.other = nn.Parameter(self.qkv.detach().clone())


def test_draws_are_numbered_within_their_parameter() -> None:
    asked, found = Asked(), recipes_of(Fused)

    values = asked.values(found["qkv"])

    assert asked.draws == [
        ("qkv", 0, (3, 4), Normal(0.0, 1.0)), ("qkv", 1, (3, 4), Normal(0.0, 2.0)),
    ]  # fmt: skip
    assert torch.equal(values[6:], values[:3] * 0.5)
    assert not torch.equal(values[3:6], values[:3] * 2)


def test_a_draw_that_two_share_is_named_after_the_first() -> None:
    asked, found = Asked(), recipes_of(Fused)

    assert torch.equal(asked.values(found["other"]), asked.values(found["qkv"]))
    assert {name for name, *_ in asked.draws} == {"qkv"}


def test_a_draw_without_a_law_of_ours_is_seeded() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.empty(50, 40).exponential_(2.0))

    asked = Asked()

    first, again = (asked.values(recipes_of(Odd)["w"]) for _ in range(2))

    assert asked.seeds == [("w", 0)] * 2
    assert torch.equal(first, again)
    # Mean and std of an exponential of rate 2 are both 1/2: k = 5 standard errors of 2000 entries.
    assert abs(float(first.mean()) - 0.5) < 5 * 0.5 / 2000**0.5


def test_shape_and_dtype_are_those_of_the_trace() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter((torch.randn(6, 4) * 0.1).T.to(torch.bfloat16))

    values = Asked().values(recipes_of(Half)["w"])

    assert (values.shape, values.dtype) == ((4, 6), torch.bfloat16)


def test_orthogonal_stays_orthogonal_for_every_draw() -> None:
    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.empty(8, 8))
            nn.init.orthogonal_(self.w, gain=2.0)

    values = Asked().values(recipes_of(Square)["w"])

    # Float32 sums of 8 products of numbers up to 2: a few units of 6e-8 times 4.
    assert torch.allclose(values @ values.T, 4 * torch.eye(8), atol=1e-5)


def test_the_record_is_not_changed_by_drawing() -> None:
    asked, found = Asked(), recipes_of(Fused)

    first: Any = asked.values(found["qkv"])
    first.zero_()

    assert bool(asked.values(found["qkv"]).any())
