"""Joined, picked and masked entries: independent only where none occurs twice."""

import pytest
import torch
from support.traced import traced
from torch import Tensor

from gptinit.facts.distributions import Measured, Normal, Piecewise
from gptinit.trace.laws.laws import Laws


@pytest.mark.parametrize(
    ("step", "parts", "repeated"),
    [
        (4, ((0, 2), (3, 4)), None),
        (5, ((0, 2), (3, 4)), None),
        (3, ((0, 1), (2, 3)), None),  # the windows between, which share entries, are left out
        (3, ((0, 2), (3, 4)), 1),
        (3, ((3, 4), (0, 2)), 1),
        (3, ((0, 1), (1, 2)), 1),
    ],
    ids=["apart", "with gaps", "every other", "in the first", "in the second", "in both"],
)
def test_windows_of_one_draw_are_independent_only_where_no_entry_occurs_twice(
    step: int, parts: tuple[tuple[int, int], ...], repeated: int | None
) -> None:
    def make() -> Tensor:
        windows = torch.empty(24).normal_().unfold(0, 4, step)
        return torch.cat([windows[start:end] for start, end in parts])

    law = Laws().of(traced(make).read()).distribution

    if repeated is None:
        assert law == Normal(0.0, 1.0)
    else:
        assert isinstance(law, Piecewise)
        assert isinstance(law.pieces[repeated][1], Measured)


def test_an_expanded_row_beside_the_others_of_its_draw_is_no_independent_draw() -> None:
    def make() -> Tensor:
        w = torch.empty(4, 8).normal_()
        return torch.cat([w[:1].expand(17, 8), w[1:]])

    law = Laws().of(traced(make).read()).distribution

    assert isinstance(law, Piecewise)
    assert all(isinstance(piece, Measured) for _, piece in law.pieces)
    assert law.std == pytest.approx(1.0)
