"""The number that a norm, a spread or a mean of draws is close to, from their moments."""

import math
from collections.abc import Callable

import pytest
import torch
from support.trace_styles import COLUMNS, ROWS, SIZE, full, normal
from support.traced import traced
from torch import Tensor

from gptinit.trace.laws.expected import expected
from gptinit.trace.laws.laws import Laws

N = ROWS * COLUMNS


def w() -> Tensor:
    """N(3, 1/2): its mean square is 9 + 1/4."""
    return normal(3.0, 0.5)


def found(make: Callable[[], Tensor]) -> float | None:
    return expected(Laws(), traced(make).read())


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (lambda: w().mean(), 3.0),
        (lambda: w().sum(), 3.0 * N),
        (lambda: normal(-3.0, 0.125).sum(dim=1), -3.0 * COLUMNS),
        (lambda: w().std(), 0.5),
        (lambda: w().var(), 0.25),
        (lambda: w().norm(), math.sqrt(9.25 * N)),
        (lambda: torch.linalg.vector_norm(w(), dim=0), math.sqrt(9.25 * ROWS)),
        (lambda: w().norm(dim=1, keepdim=True).expand(SIZE), math.sqrt(9.25 * COLUMNS)),
        (lambda: torch.rand(SIZE).norm(2, dim=1), math.sqrt(COLUMNS / 3)),
        (lambda: w().square().mean(), 9.25),
        (lambda: (lambda x: (x * x).sum(dim=0))(w()), 9.25 * ROWS),
        (lambda: (w() ** 2).sum(), 9.25 * N),
        (lambda: (w().to(torch.bfloat16) ** 2).clone().mean(dim=1).double(), 9.25),
        (lambda: w().square().mean().add(0.75).rsqrt(), 10**-0.5),
        (lambda: 2.0 / w().std() - w().mean(), 1.0),
        (lambda: w().mean() * torch.tensor(2.0) + full(1.0), 7.0),
        (lambda: full(0.25), 0.25),
    ],
    ids=[
        "mean", "sum", "sum of rows", "std", "var", "norm", "norm of columns", "norm of rows",
        "norm of uniforms", "mean square", "x * x", "x ** 2", "past casts and copies", "rsqrt",
        "of two", "with tensors", "constant",
    ],
)  # fmt: skip
def test_a_reduction_of_many_entries_is_close_to_what_moments_say(
    make: Callable[[], Tensor], value: float
) -> None:
    assert found(make) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        w,
        lambda: w() * 2.0,
        lambda: torch.randn(SIZE).mean(),
        lambda: w().abs().mean(),
        lambda: (w() * w()).mean(),
        lambda: (w() ** 3).mean(),
        lambda: (2.0 ** w()).mean(),
        lambda: w().square().std(),
        lambda: w().square().norm(),
        lambda: w().norm(1),
        lambda: w().norm(math.inf),
        lambda: w().amax(),
        lambda: w().mean(dim=1).cumsum(0),
        lambda: w().std() / 0.0,
        lambda: torch.cat([w().mean()[None], w().std()[None]]),
    ],
    ids=[
        "draw", "its multiple", "mean of nothing", "mean of sizes", "product of two draws", "cube",
        "power of two", "std of squares", "norm of squares", "norm 1", "norm inf", "maximum",
        "sum so far", "infinite", "two numbers",
    ],
)  # fmt: skip
def test_what_varies_or_does_not_follow_from_moments_is_not_known(
    make: Callable[[], Tensor],
) -> None:
    assert found(make) is None


@pytest.mark.parametrize(("mean", "is_known"), [(1.81, True), (1.80, False), (-1.81, True)])
def test_a_mean_is_known_where_it_varies_by_no_more_than_a_hundredth(
    mean: float, is_known: bool
) -> None:
    # The mean of 64 * 48 entries has a standard error of 1 / 55.43: a hundredth of 1.804.
    value = found(lambda: normal(mean, 1.0).mean())

    assert (value == pytest.approx(mean)) if is_known else (value is None)
