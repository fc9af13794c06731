"""Single entries of a value that is too large to be computed whole: those of the whole."""

import math
from collections.abc import Callable
from itertools import count

import pytest
import torch
from support.traced import traced
from torch import Tensor

from gptinit.trace.replay.partial import Unanswerable
from gptinit.trace.replay.replay import Replay

LIMIT = 8


def w(*shape: int) -> Tensor:
    return torch.empty(*(shape or (4, 6))).normal_(1.0, 0.5)


BY_POSITION: dict[str, Callable[[], Tensor]] = {
    "full": lambda: torch.full((4, 6), 2.5),
    "wide eye": lambda: torch.eye(3, 7),
    "tall eye": lambda: torch.eye(7, 3),
    "broadcast": lambda: w(4, 1) * w(6) + torch.arange(24.0).view(4, 6) - 2.0,
    "cat of rows": lambda: torch.cat([w(2, 6), torch.ones(1, 6), w(3, 6)]),
    "cat of columns": lambda: torch.cat([w(4, 2), w(4, 3)], 1),
    "cat of the last": lambda: torch.cat([w(2, 3, 2), w(2, 3, 5)], dim=-1),
    "cat of the middle": lambda: torch.cat([w(2, 3, 2), w(2, 1, 2)], dim=-2),
    "stack": lambda: torch.stack([w(3, 4), w(3, 4)]),
    "stack of columns": lambda: torch.stack([w(3, 4), torch.zeros(3, 4), w(3, 4)], 1),
    "stack of the last": lambda: torch.stack([w(3, 4), w(3, 4)], dim=-1),
    "stack of numbers": lambda: torch.stack([w(1)[0], w(1)[0], torch.tensor(3.0)] * 4),
    "tril": lambda: w(5, 7).tril(),
    "tril above": lambda: w(7, 5).tril(2),
    "tril below": lambda: w(2, 5, 5).tril(diagonal=-1),
    "triu": lambda: w(5, 7).triu(),
    "triu above": lambda: w(7, 5).triu(2),
    "triu below": lambda: w(2, 5, 5).triu(diagonal=-1),
    "product": lambda: w(5, 3) @ w(3, 4),
    "thin product": lambda: w(5, 1) @ w(1, 4),
    "masked": lambda: w().masked_fill(torch.arange(24).view(4, 6) % 3 == 0, 9.0),
    "masked rows": lambda: w().masked_fill(torch.tensor([[True], [False], [True], [False]]), -1.0),
    "means of rows": lambda: w().mean(1),
    "means of columns": lambda: w().mean(dim=0),
    "means kept": lambda: w().mean(dim=(1,), keepdim=True),
    "means of two": lambda: w(2, 2, 4, 2).mean(dim=(1, 3)),
    "sums": lambda: w(2, 3, 4).sum(-1),
    "means of a repeated row": lambda: w(2).expand(12, 2).mean(1),
    "stds": lambda: w().std(1, keepdim=True),
    "norms": lambda: w().norm(dim=1),
    "other norms": lambda: torch.linalg.vector_norm(w(), 3, dim=0),
    "maxima": lambda: w().amax(1),
}


@pytest.mark.parametrize("name", BY_POSITION)
def test_entries_by_position_are_those_of_the_whole(name: str) -> None:
    read = traced(BY_POSITION[name]).read()
    whole = Replay().value(read).flatten()

    for positions in (
        torch.arange(read.numel),
        torch.tensor([read.numel - 1]),
        torch.zeros(3).long(),
    ):
        for some in positions.split(3):  # few at a time: rows and columns of a product count
            found = Replay(limit=LIMIT).at(read, some)

            assert torch.allclose(found.double(), whole[some].double(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("make", "value"),
    # All entries of a constant: whatever sample of them is taken gives the number exactly.
    [
        (lambda x: x.sum(), 0.5 * 4096),
        (lambda x: x.nansum(), 0.5 * 4096),
        (lambda x: x.mean(), 0.5),
        (lambda x: x.mean(dim=(0, 1)), 0.5),
        (lambda x: x.mean(dim=(0, 1), keepdim=True), 0.5),
        (lambda x: x.amax(), 0.5),
        (lambda x: x.norm(), 0.5 * 64),
        (lambda x: torch.linalg.vector_norm(x), 0.5 * 64),
        (lambda x: torch.linalg.vector_norm(x, 1), 0.5 * 4096),
        (lambda x: torch.linalg.vector_norm(x, 4), 0.5 * 8),
        (lambda x: torch.linalg.vector_norm(x, math.inf), 0.5),
        (lambda x: torch.linalg.vector_norm(x, 2, dim=(0, 1)), 0.5 * 64),
    ],
    ids=count(),
)
def test_a_reduction_of_all_entries_is_that_of_a_sample_scaled(
    make: Callable[[Tensor], Tensor], value: float
) -> None:
    def constant() -> Tensor:
        x = torch.empty(64, 64).uniform_() * 0 + 0.5
        return make(x)

    found = Replay(limit=LIMIT).at(traced(constant).read(), torch.zeros(2).long())

    assert found.flatten().tolist() == pytest.approx([value, value], rel=1e-6)


@pytest.mark.parametrize(("length", "fits"), [(4 * LIMIT, True), (4 * LIMIT + 1, False)])
def test_rows_up_to_four_times_the_limit_are_replayed(length: int, fits: bool) -> None:
    def rows() -> Tensor:
        return w(2, length).mean(1)

    def product() -> Tensor:  # a row and a column
        return w(2, length // 2) @ w(length // 2, 2)

    if fits:
        for make in (rows, product):
            read = traced(make).read()
            found = Replay(limit=LIMIT).at(read, torch.tensor([1]))
            assert torch.allclose(found, Replay().value(read).flatten()[1:2])
    else:
        with pytest.raises(Unanswerable, match="1 rows of 33 entries are too many"):
            Replay(limit=LIMIT).at(traced(rows).read(), torch.tensor([1]))
