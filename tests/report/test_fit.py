"""Tables that fit a terminal to the last column."""

import pytest

from gptinit.report.fit import Column, first_that_fits, width_of


@pytest.mark.parametrize(("sizes", "width"), [([5], 5), ([5, 1], 8), ([5, 1, 4], 14)])
def test_blanks_stand_between_columns_only(sizes: list[int], width: int) -> None:
    columns = [Column(heading="", cells=["x" * size]) for size in sizes]

    assert width_of(columns) == width


@pytest.mark.parametrize(("width", "plan"), [(14, 3), (13, 2), (8, 2), (7, 1), (4, 1)])
def test_the_first_plan_that_leaves_no_blank_is_taken(width: int, plan: int) -> None:
    sizes = (5, 1, 4)

    def columns(count: int) -> list[Column]:
        return [Column(heading="x" * size, cells=()) for size in sizes[:count]]

    assert first_that_fits([3, 2, 1], width, columns) == plan
