"""Predicates and algebra of distributions."""

import math

import pytest

from gptinit.facts.algebra import (
    affine_distribution,
    is_iid,
    is_random,
    leaves,
    moments_only,
    row_blocks,
    simplified,
)
from gptinit.facts.distributions import (
    Constant,
    Copy,
    Distribution,
    Fixed,
    Measured,
    Mixture,
    Normal,
    Orthogonal,
    Piecewise,
    Scaled,
    TruncatedNormal,
    Uniform,
    Unset,
)

N = Normal(0.0, 0.02)
U = Uniform(-1.0, 1.0)
CUT = TruncatedNormal(0.0, 1.0, -2.0, 2.0)
TABLE = Fixed(0.0, 0.5, -1.0, 1.0)


@pytest.mark.parametrize(
    ("law", "iid", "random"),
    [
        (N, True, True),
        (U, True, True),
        (CUT, True, True),
        (Constant(1.0), True, False),
        (Normal(1.0, 0.0), True, False),
        (Orthogonal(1.0, 4), False, True),
        (TABLE, False, False),
        (Unset(), False, False),
        (moments_only(0.0, 1.0), False, True),
        (Copy("a", N), False, True),
        (Copy("a", TABLE), False, False),
        (Scaled(U, 0.5), False, True),
        (Piecewise(((1, Constant(0.0)), (1, N))), False, True),
        (Mixture(((1, Constant(0.0)), (1, Constant(1.0)))), False, False),
    ],
    ids=str,
)
def test_what_a_seed_changes_and_what_is_alike_throughout(
    law: Distribution, iid: bool, random: bool
) -> None:
    assert is_iid(law) is iid
    assert is_random(law) is random


def test_leaves_go_through_everything_and_row_blocks_through_rows_alone() -> None:
    inner = Mixture(((1, N), (1, Constant(0.0))))
    law = Piecewise(((2, Piecewise(((1, U), (1, Copy("a", N))))), (1, inner)))

    assert list(leaves(law)) == [U, N, N, Constant(0.0)]
    assert list(row_blocks(law)) == [U, Copy("a", N), inner]
    assert list(row_blocks(N)) == [N]


@pytest.mark.parametrize(
    ("law", "simple"),
    [
        (Copy("a", Scaled(N, -0.5)), Normal(0.0, 0.01)),
        (Scaled(Constant(2.0), 0.5), Constant(1.0)),
        (Scaled(Orthogonal(2.0, 8), 0.5), Orthogonal(1.0, 8)),
        (Scaled(U, 0.5), Scaled(U, 0.5)),  # bounds that a drawn factor moves are no bounds
        (TruncatedNormal(0.0, 0.02, -0.1, 0.1), N),  # cut at 5 sigma
        (TruncatedNormal(0.0, 0.02, -0.09, 0.1), TruncatedNormal(0.0, 0.02, -0.09, 0.1)),
        (Uniform(1.0, 1.0), Constant(1.0)),
        (Piecewise(((2, N), (1, Copy("a", N, block=0)))), N),
        (Mixture(((5, N), (3, U))), Mixture(((5, N), (3, U)))),
    ],
    ids=str,
)
def test_the_simplest_form_of_a_distribution(law: Distribution, simple: Distribution) -> None:
    assert simplified(law) == simple


@pytest.mark.parametrize(
    ("law", "scale", "shift", "moved"),
    [
        (N, -2.0, 1.0, Normal(1.0, 0.04)),
        (U, -2.0, 1.0, Uniform(-1.0, 3.0)),
        (TruncatedNormal(0.0, 1.0, -1.0, 2.0), -2.0, 0.0, TruncatedNormal(-0.0, 2.0, -4.0, 2.0)),
        (Constant(2.0), 3.0, 1.0, Constant(7.0)),
        (TABLE, 2.0, 1.0, Fixed(1.0, 1.0, -1.0, 3.0)),
        (Fixed(1.0, 0.5, 0.0, 3.0), -2.0, 1.0, Fixed(-1.0, 1.0, -5.0, 1.0)),
        (Orthogonal(2.0, 8), -0.5, 0.0, Orthogonal(1.0, 8)),
        (Scaled(N, 0.5), 2.0, 0.0, Scaled(N, 1.0)),
        (Piecewise(((1, N), (1, U))), 2.0, 0.0, Piecewise(((1, Normal(0.0, 0.04)),
                                                           (1, Uniform(-2.0, 2.0))))),
        (Mixture(((1, N), (1, U))), 2.0, 0.0, Mixture(((1, Normal(0.0, 0.04)),
                                                       (1, Uniform(-2.0, 2.0))))),
        (N, 0.0, 3.0, Constant(3.0)),
        (Unset(), 0.0, 3.0, Unset()),
        (Orthogonal(2.0, 4), 1.0, 3.0, moments_only(3.0, 1.0)),
    ],
    ids=str,
)  # fmt: skip
def test_an_affine_map_keeps_the_kind_where_there_is_one(
    law: Distribution, scale: float, shift: float, moved: Distribution
) -> None:
    assert affine_distribution(law, scale, shift) == moved


def test_a_map_that_is_not_finite_leaves_nothing_known() -> None:
    found = affine_distribution(N, math.inf, 0.0)

    assert isinstance(found, Fixed)
    assert math.isnan(found.mean)
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_a_measured_law_is_moved_with_its_errors_and_ends() -> None:
    law = Measured(
        mean=1.0, std=0.5, mean_stderr=0.25, std_stderr=0.125, low=-2.0, high=3.0, kurtosis=2.5,
        count=7,
    )  # fmt: skip

    assert affine_distribution(law, -2.0, 0.5) == Measured(
        mean=-1.5, std=1.0, mean_stderr=0.5, std_stderr=0.25, low=-5.5, high=4.5, kurtosis=2.5,
        count=7,
    )  # fmt: skip
