"""Columns of a table on a terminal: how wide they are, and which of several tables fits."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Column", "first_that_fits", "width_of"]

_GAP = 2
"""Blanks between two columns."""

Plan = TypeVar("Plan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table.

    Attributes:
        heading: what stands above it, in one line or several.
        cells: its cells from top to bottom.
        most: columns of the terminal after which a cell goes on in the next line; None for never.
        style: how Rich shows the cells; None as the row.
    """

    heading: str
    cells: Sequence[str]
    most: int | None = None
    style: str | None = None

    @property
    def width(self) -> int:
        """Columns of the terminal that it takes."""
        longest = max(map(len, (*self.heading.splitlines(), *self.cells)), default=0)
        return longest if self.most is None else min(self.most, longest)


def width_of(columns: Iterable[Column]) -> int:
    r"""Columns of the terminal that a table takes.

    Example:
        >>> width_of([Column(heading="a\nlong", cells=["1"]), Column(heading="b", cells=["22"])])
        8
    """
    widths = [column.width for column in columns]
    return sum(widths) + _GAP * (len(widths) - 1)


def first_that_fits(
    plans: Sequence[Plan], width: int, columns: Callable[[Plan], Iterable[Column]]
) -> Plan:
    """The first plan whose columns fit into `width`, else the last one."""
    return next((plan for plan in plans if width_of(columns(plan)) <= width), plans[-1])
