"""Sums, products and quotients of draws: the law in closed form, or no exact law at all."""

import math
from collections.abc import Callable
from itertools import count

import pytest
import torch
from support.traced import traced
from torch import Tensor

from gptinit.facts.distributions import (
    Constant,
    Distribution,
    Measured,
    Mixture,
    Normal,
    Piecewise,
    Scaled,
    Uniform,
)
from gptinit.trace.laws.laws import Laws

SHAPE = (4, 6)
N = 24


def w(mean: float = 3.0, std: float = 0.5) -> Tensor:
    """A draw of its own."""
    return torch.empty(SHAPE).normal_(mean, std)


def u() -> Tensor:
    return torch.empty(SHAPE).uniform_(1.0, 2.0)


def law(make: Callable[[], Tensor]) -> Distribution:
    return Laws().of(traced(make).read()).distribution


def same(make: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
    """A function of one draw."""
    return lambda: make(w())


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        # Numbers.
        (lambda: w() * 4, Normal(12.0, 2.0)),
        (lambda: -4 * w(), Normal(-12.0, 2.0)),
        (lambda: w() / 4, Normal(0.75, 0.125)),
        (lambda: -w(), Normal(-3.0, 0.5)),
        (lambda: w() + 4, Normal(7.0, 0.5)),
        (lambda: 4 - w(), Normal(1.0, 0.5)),
        (lambda: w() - 4, Normal(-1.0, 0.5)),
        (lambda: u() * 2 - 1, Uniform(1.0, 3.0)),
        (lambda: torch.add(w(), torch.tensor(2.0), alpha=3), Normal(9.0, 0.5)),
        (lambda: torch.sub(w(), torch.tensor(2.0), alpha=3), Normal(-3.0, 0.5)),
        (lambda: torch.add(torch.full(SHAPE, 2.0), w(), alpha=3), Normal(11.0, 1.5)),
        (lambda: torch.sub(torch.full(SHAPE, 2.0), w(), alpha=3), Normal(-7.0, 1.5)),
        (lambda: torch.rsub(w(), 2.0, alpha=3), Normal(-7.0, 1.5)),
        (lambda: w() * 0, Constant(0.0)),
        (lambda: torch.full(SHAPE, 8.0) * w(), Normal(24.0, 4.0)),
        (lambda: w() * torch.full(SHAPE, 8.0), Normal(24.0, 4.0)),
        (lambda: w() / torch.full(SHAPE, 8.0), Normal(0.375, 0.0625)),
        # Independent draws.
        (lambda: w(1.0, 3.0) + w(2.0, 4.0), Normal(3.0, 5.0)),
        (lambda: w(1.0, 3.0) - w(2.0, 4.0), Normal(-1.0, 5.0)),
        (lambda: torch.add(w(1.0, 6.0), w(2.0, 4.0), alpha=2), Normal(5.0, 10.0)),
        (lambda: torch.sub(w(1.0, 6.0), w(2.0, 4.0), alpha=2), Normal(-3.0, 10.0)),
        (lambda: torch.lerp(w(1.0, 4.0), w(5.0, 12.0), 0.25), Normal(2.0, math.hypot(3, 3))),
        # One draw twice.
        (same(lambda x: x + x), Normal(6.0, 1.0)),
        (same(lambda x: x - 0.5 * x), Normal(1.5, 0.25)),
        (same(lambda x: 2 * x + 3 * x), Normal(15.0, 2.5)),
        (same(lambda x: torch.add(2 * x, 4 * x, alpha=0.5)), Normal(12.0, 2.0)),
        (same(lambda x: torch.lerp(x, 5 * x, 0.25)), Normal(6.0, 1.0)),
        # Products of three.
        (
            lambda: torch.addcmul(w(), torch.full(SHAPE, 2.0), torch.full(SHAPE, 5.0)),
            Normal(13, 0.5),
        ),
        (
            lambda: torch.addcmul(w(), torch.full(SHAPE, 2.0), torch.full(SHAPE, 5.0), value=0.5),
            Normal(8.0, 0.5),
        ),
        (
            lambda: torch.addcmul(torch.full(SHAPE, 2.0), w(), torch.full(SHAPE, 5.0), value=2),
            Normal(32.0, 5.0),
        ),
        (
            lambda: torch.addcmul(torch.full(SHAPE, 2.0), torch.full(SHAPE, 4.0), w(), value=2),
            Normal(26.0, 4.0),
        ),
        # Means and sums.
        (lambda: w().mean(), Normal(3.0, 0.5 / math.sqrt(24))),
        (lambda: w().mean(dim=1), Normal(3.0, 0.5 / math.sqrt(6))),
        (lambda: w().mean(dim=0), Normal(3.0, 0.25)),
        (lambda: w().sum(dim=0), Normal(12.0, 1.0)),
        (lambda: w().sum(), Normal(72.0, 0.5 * math.sqrt(24))),
        # Centred by their own mean: 1 - 1/n of the variance is left.
        (same(lambda x: x - x.mean()), Scaled(Normal(0.0, 0.5), math.sqrt(23 / 24))),
        (same(lambda x: x - x.mean(1, keepdim=True)), Scaled(Normal(0.0, 0.5), math.sqrt(5 / 6))),
        # Divided by their own norm, as rows or whole: the mean square is exact.
        (
            lambda: (lambda x: x / x.norm())(w(0.0, 0.5)),
            Scaled(Normal(0.0, 0.5), 1 / (0.5 * math.sqrt(24))),
        ),
        (
            lambda: (lambda x: 3 * x / x.norm(dim=1, keepdim=True))(w(0.0, 0.5)),
            Scaled(Normal(0.0, 1.5), 1 / (0.5 * math.sqrt(6))),
        ),
        # Tables of numbers: rows stay blocks, anything else is a mixture.
        (
            lambda: w() * torch.tensor([[1.0], [1.0], [2.0], [2.0]]),
            Piecewise(((2, Normal(3.0, 0.5)), (2, Normal(6.0, 1.0)))),
        ),
        (
            lambda: w() * torch.tensor([1.0, 1.0, 1.0, 1.0, 2.0, 2.0]),
            Mixture(((16, Normal(3.0, 0.5)), (8, Normal(6.0, 1.0)))),
        ),
    ],
    ids=count(),
)
def test_arithmetic_of_draws_has_the_law_of_its_formula(
    make: Callable[[], Tensor], expected: Distribution
) -> None:
    found = law(make)

    assert found.kind == expected.kind
    assert found.mean == pytest.approx(expected.mean, rel=1e-6, abs=1e-12)
    assert found.std == pytest.approx(expected.std, rel=1e-6)
    if not isinstance(expected, Scaled):
        assert str(found) == str(expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: w() + u(),
        lambda: w() * w(),
        lambda: torch.empty(6).normal_() + torch.zeros(SHAPE),  # a row four times
        lambda: w() + torch.empty(6).normal_(),
        lambda: torch.empty(6).normal_() * torch.full(SHAPE, 2.0),
        lambda: torch.div(w(), 2, rounding_mode="floor"),
        same(lambda x: x + x.flip(0)),  # the same numbers in another order
        same(lambda x: torch.addcmul(x, x, torch.ones(SHAPE))),
        lambda: u().mean(dim=0),
    ],
    ids=count(),
)
def test_what_no_formula_covers_is_measured(make: Callable[[], Tensor]) -> None:
    assert isinstance(law(make), Measured)


def test_a_norm_of_few_entries_of_another_draw_is_the_number_of_the_trace() -> None:
    def by(count: int) -> Distribution:
        return law(lambda: w(0.0, 0.5) / torch.linalg.vector_norm(torch.empty(count).normal_()))

    assert by(1000).std == pytest.approx(0.5 / math.sqrt(1000), rel=1e-6)
    assert by(999).std == pytest.approx(0.5 / math.sqrt(999), rel=0.12)  # five errors
    assert by(999).std != pytest.approx(0.5 / math.sqrt(999), rel=1e-6)
    assert by(9).std != pytest.approx(0.5 / 3, rel=1e-6)


@pytest.mark.parametrize(("rows", "exact"), [(64, True), (65, False)])
def test_a_table_of_few_numbers_is_exact(rows: int, exact: bool) -> None:
    def make() -> Tensor:
        return torch.empty(rows, 2).normal_() * torch.arange(1.0, rows + 1)[:, None]

    found = law(make)

    assert isinstance(found, Piecewise if exact else Measured)
    if isinstance(found, Piecewise):
        assert [(n, d.std) for n, d in found.pieces] == [(1, i + 1.0) for i in range(rows)]
