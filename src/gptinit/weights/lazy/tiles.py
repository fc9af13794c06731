"""A lazy parameter as rectangles, each a matrix of its own: what slices and row blocks need.

Entries are independent, so a rectangle can be cut in two until a query has spanned the cut.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from gptinit.weights.lazy.gaussian import GaussianMatrix
from gptinit.weights.lazy.matrix import DrawnMatrix, LazyMatrix, Randomness

__all__ = ["Rectangle", "Tile", "Tiles", "Use", "rectangle"]


@dataclass(frozen=True, slots=True)
class Rectangle:
    """Rows and columns of a matrix; `turned` where the operand is its transpose."""

    rows: range
    columns: range
    turned: bool = False

    @property
    def key(self) -> str:
        """Its name: "[0:4,0:8]"."""
        rows, columns = self.rows, self.columns
        return f"[{rows.start}:{rows.stop},{columns.start}:{columns.stop}]"


def rectangle(
    size: Sequence[int], stride: Sequence[int], offset: int, row_length: int
) -> Rectangle | None:
    """Where a strided 2-D view lies in a contiguous matrix; None where it is no rectangle of it.

    Args:
        size: of the view.
        stride: of the view, in entries.
        offset: of its first entry.
        row_length: columns of the matrix.

    Example:
        >>> rectangle((2, 4), (8, 1), 16, 8)
        Rectangle(rows=range(2, 4), columns=range(0, 4), turned=False)
    """
    row, column = divmod(offset, row_length)
    for turned in (False, True):
        (n_rows, n_columns), (down, across) = size, stride
        if turned:
            n_rows, n_columns, down, across = n_columns, n_rows, across, down
        down = row_length if n_rows == 1 else down
        across = 1 if n_columns == 1 else across
        fits = column + (n_columns - 1) * across < row_length
        if down > 0 and down % row_length == 0 and across > 0 and fits:
            step = down // row_length
            rows = range(row, row + (n_rows - 1) * step + 1, step)
            columns = range(column, column + (n_columns - 1) * across + 1, across)
            return Rectangle(rows, columns, turned)
    return None


@dataclass(slots=True, eq=False)
class Tile:
    """One matrix of a parameter.

    Attributes:
        area: where it lies.
        matrix: what is known of it.
        randomness: where its numbers come from.
        is_whole: whether it must not be cut although its entries are independent: others share it.
        moments: parameter to its gradient in the coordinates of its queries, (outputs, inputs).
    """

    area: Rectangle
    matrix: LazyMatrix
    randomness: Randomness
    is_whole: bool = False
    is_used: bool = False
    moments: dict[str, Tensor] = field(default_factory=dict)

    def query(self, x: Tensor, *, from_inputs: bool) -> tuple[Tensor, Tensor]:
        """The product from one side, and the coordinates of `x` there."""
        matrix = self.matrix
        is_new = isinstance(matrix, GaussianMatrix) and matrix.is_untouched
        # Nothing is gained by not drawing it then; but what is shared must stay one for all.
        if is_new and not self.is_whole and len(x) >= min(matrix.shape):
            self.matrix = matrix = DrawnMatrix(self.randomness.entries(matrix.shape))
        return matrix.right(x) if from_inputs else matrix.left(x)

    def add_gradient(self, parameter: str, outputs: Tensor, inputs: Tensor) -> None:
        """Add g^T x to the gradient, by the coordinates of g and x.

        Shape:
            outputs: (t, rank); inputs: (t, rank).
        """
        new = outputs.T @ inputs
        old = self.moments.get(parameter)
        if old is not None:
            height, width = max(len(old), len(new)), max(old.shape[1], new.shape[1])
            new = _padded(old, height, width) + _padded(new, height, width)
        self.moments[parameter] = new


def _padded(x: Tensor, height: int, width: int) -> Tensor:
    """X with zeros below and at the right, for directions that were not yet known."""
    return F.pad(x, (0, width - x.shape[1], 0, height - x.shape[0]))


Use: TypeAlias = tuple[Tile, Tensor, bool]
"""A tile, the coordinates of what was multiplied with it, and whether that was from the inputs."""

Split = Callable[[Rectangle], Randomness]


class Tiles:
    """All of one parameter."""

    def __init__(self, tiles: Sequence[Tile], randomness_of: Split) -> None:
        self._tiles, self._randomness_of = list(tiles), randomness_of

    def __iter__(self) -> Iterator[Tile]:
        return iter(self._tiles)

    def product(
        self, x: Tensor, area: Rectangle, *, from_inputs: bool, keep: bool
    ) -> tuple[Tensor, list[Use]]:
        """The product x W^T (or x W, from the outputs) for the part of W in `area`.

        Args:
            x: (t, columns of the area), or (t, rows) from the outputs; float32.
            area: which part.
            from_inputs: from which side.
            keep: whether a gradient is wanted, for which tiles must stay as they are: the same
                in a rehearsal, so that recomputed blocks make the same queries.
        """
        near, far = (area.columns, area.rows) if from_inputs else (area.rows, area.columns)
        response: Tensor | None = None
        uses: list[Use] = []
        for tile in self._within(area):
            mine, other = tile.area.columns, tile.area.rows
            if not from_inputs:
                mine, other = other, mine
            part, coordinates = tile.query(_moved(x, near, mine), from_inputs=from_inputs)
            if keep:
                uses.append((tile, coordinates, from_inputs))
                tile.is_used = True
            placed = _moved(part, other, far)
            response = placed if response is None else response + placed
        if response is None:  # a part without rows or columns
            response = x.new_zeros(len(x), len(far))
        return response, uses

    def back(  # noqa: PLR0913 - a product, and whose gradient follows
        self,
        g: Tensor,
        area: Rectangle,
        uses: Sequence[Use],
        parameter: str,
        *,
        from_inputs: bool,
        alpha: float,
    ) -> Tensor:
        """The product of a backward pass, with the gradient of the weight noted.

        Args:
            g: gradient of what a forward product gave, (t, its columns).
            area: of that product.
            uses: of that product.
            parameter: whose gradient it is.
            from_inputs: the side g queries from.
            alpha: what that product was multiplied by.
        """
        product, used = self.product(g, area, from_inputs=from_inputs, keep=True)
        theirs = {id(tile): coordinates for tile, coordinates, _ in used}
        for tile, forward, was_inputs in uses:
            backward = theirs[id(tile)]
            outputs, inputs = (backward, forward) if was_inputs else (forward, backward)
            tile.add_gradient(parameter, outputs if alpha == 1 else outputs * alpha, inputs)
        return product

    def row(self, indices: Tensor) -> Tensor:
        """Whole rows; (r,) distinct indices to (r, columns)."""
        width = max(tile.area.columns.stop for tile in self._tiles)
        out = torch.empty(len(indices), width, device=indices.device)
        for tile in self._tiles:
            rows, columns = tile.area.rows, tile.area.columns
            inside = ((indices >= rows.start) & (indices < rows.stop)).nonzero().squeeze(1)
            if len(inside):
                values = tile.matrix.row(indices[inside] - rows.start)
                out[inside, columns.start : columns.stop] = values
        return out

    def _within(self, area: Rectangle) -> list[Tile]:
        """The tiles that hold some of `area`, cut at its edges where they can be."""
        found = []
        stack = self._tiles[::-1]
        kept = []
        while stack:
            tile = stack.pop()
            if not _overlap(tile.area.rows, area.rows) or not _overlap(
                tile.area.columns, area.columns
            ):
                kept.append(tile)
                continue
            parts = self._cut(tile, area)
            if parts is not None:
                stack += parts[::-1]
                continue
            kept.append(tile)
            found.append(tile)
        self._tiles = kept
        return found

    def _cut(self, tile: Tile, area: Rectangle) -> tuple[Tile, Tile] | None:
        """A tile in two where `area` begins or ends in it; None where it need or can not."""
        matrix = tile.matrix
        if tile.is_whole or tile.is_used or not isinstance(matrix, GaussianMatrix):
            return None
        sides = ((tile.area.rows, area.rows), (tile.area.columns, area.columns))
        for axis, (mine, wanted) in enumerate(sides):
            if wanted.step > 1:
                continue
            for edge in (wanted.start, wanted.stop):
                if not mine.start < edge < mine.stop:
                    continue
                halves = range(mine.start, edge), range(edge, mine.stop)
                first, second = (
                    Rectangle(half, tile.area.columns) if axis == 0
                    else Rectangle(tile.area.rows, half)
                    for half in halves
                )  # fmt: skip
                numbers = self._randomness_of(first), self._randomness_of(second)
                parts = matrix.split(edge - mine.start, axis, numbers)
                if parts is not None:
                    return Tile(first, parts[0], numbers[0]), Tile(second, parts[1], numbers[1])
        return None


def _overlap(mine: range, wanted: range) -> bool:
    """Whether a stretch holds any of the wanted indices."""
    first = max(mine.start, wanted.start)
    first += (wanted.start - first) % wanted.step
    return first < min(mine.stop, wanted.stop)


def _moved(x: Tensor, have: range, want: range) -> Tensor:
    """Columns that stand for the indices `have` as columns for `want`; 0 where they are not had.

    Shape:
        x: (t, len(have)); result: (t, len(want)).
    """
    if have == want:
        return x
    if have.step == want.step == 1:
        start, stop = max(have.start, want.start), min(have.stop, want.stop)
        part = x[:, start - have.start : stop - have.start]
        return F.pad(part, (start - want.start, want.stop - stop))
    if want.step == 1:
        out = x.new_zeros(len(x), len(want))
        places = [i - want.start for i in have if i in want]
        out[:, places] = x[:, [k for k, i in enumerate(have) if i in want]]
        return out
    out = x.new_zeros(len(x), len(want))
    pairs = [(k, i - have.start) for k, i in enumerate(want) if i in have]
    out[:, [k for k, _ in pairs]] = x[:, [j for _, j in pairs]]
    return out
