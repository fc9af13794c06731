"""Where views lie in a matrix."""

from itertools import product

import pytest
import torch

from gptinit.weights.lazy.tiles import Rectangle, rectangle

ROWS, COLUMNS = 6, 8


@pytest.mark.parametrize("size", [(2, 3), (3, 2), (1, 3), (3, 1), (2, 2), (1, 1), (1, 8), (6, 1)])
def test_a_rectangle_has_the_entries_of_the_view_in_its_order(size: tuple[int, int]) -> None:
    numbers = torch.arange(ROWS * COLUMNS)
    found = 0
    for down, across, offset in product((1, 2, 3, 8, 16), (1, 2, 3, 8, 16), (0, 2, 8, 21)):
        if offset + (size[0] - 1) * down + (size[1] - 1) * across >= numbers.numel():
            continue
        area = rectangle(size, (down, across), offset, COLUMNS)
        if area is None:
            continue
        found += 1
        part = numbers.view(ROWS, COLUMNS)[list(area.rows)][:, list(area.columns)]
        view = numbers.as_strided(size, (down, across), offset)
        assert torch.equal(part.T if area.turned else part, view), (down, across, offset)
    assert found >= 10


@pytest.mark.parametrize(
    ("size", "stride", "offset", "area"),
    [
        ((2, 4), (8, 1), 16, Rectangle(range(2, 4), range(4), turned=False)),
        ((4, 2), (1, 8), 16, Rectangle(range(2, 4), range(4), turned=True)),
        ((2, 3), (16, 3), 1, Rectangle(range(0, 3, 2), range(1, 8, 3), turned=False)),
        ((2, 2), (8, 5), 2, Rectangle(range(2), range(2, 8, 5), turned=False)),
        ((1, 3), (5, 2), 9, Rectangle(range(1, 2), range(1, 6, 2), turned=False)),
        ((2, 2), (8, 6), 2, None),  # its last column is in the next row
        ((2, 2), (8, 0), 0, None),  # repeated
        ((2, 2), (0, 1), 0, None),
        ((2, 2), (9, 1), 0, None),  # slanted
    ],
)
def test_other_views_are_no_rectangle(
    size: tuple[int, int], stride: tuple[int, int], offset: int, area: Rectangle | None
) -> None:
    assert rectangle(size, stride, offset, COLUMNS) == area


def test_one_row_or_column_is_a_step_of_one() -> None:
    column, row = rectangle((6, 1), (8, 5), 3, COLUMNS), rectangle((1, 4), (3, 1), 8, COLUMNS)

    assert column is not None
    assert (column.rows, column.columns.step) == (range(6), 1)
    assert row is not None
    assert (row.columns, row.rows.step) == (range(4), 1)
