"""Orthonormal rows: the directions in which a lazy matrix has been queried.

exact for: rows of any rank, equal and nearly equal ones included, to the rounding of float32.
approximate for: directions below 1e-5 of the rows that point in them, which are dropped.

Rows are kept by reference until they are needed again. A write to them in between is noticed by
their version; writes through x.data or x.numpy() are not.
"""

from copy import copy

import torch
from torch import Tensor

from gptinit.weights.lazy.factor import Factor, Rows, last_rows

__all__ = ["Basis", "StaleQueryError"]


class StaleQueryError(Exception):
    """Rows that were to be kept by reference have been written over since."""


class Basis:
    """Unit vectors and orthonormal rows that span all queries from one side of a matrix.

    Args:
        size: length n of a row.
        device: where they are.
        defers: whether the first rows may be made orthonormal only when they are needed again, if
            ever: half of the work where they never are.

    Attributes:
        units: (u,) indices of the unit vectors; they come first, in coordinates too.
    """

    def __init__(self, size: int, device: torch.device, *, defers: bool = False) -> None:
        self.size, self._defers = size, defers
        self.units = torch.empty(0, dtype=torch.int64, device=device)
        self._rows = torch.empty(0, size, device=device)
        self._deferred: tuple[Factor, Tensor, int] | None = None  # factor, x, version of x

    @property
    def rank(self) -> int:
        """How many directions it has."""
        return len(self.units) + self.count

    @property
    def count(self) -> int:
        """How many of them are no unit vectors."""
        return len(self._rows) if self._deferred is None else self._deferred[0].rank

    @property
    def rows(self) -> Tensor:
        """(count, n) orthonormal rows, zero at `units`.

        Raises:
            StaleQueryError: if they were deferred and can no longer be made.
        """
        if self._deferred is not None:
            factor, x, version = self._deferred
            if x._version != version:
                raise StaleQueryError
            self._rows = factor.directions(x)
            self._deferred = None
        return self._rows

    def extend(self, x: Tensor) -> tuple[Tensor, int]:
        """Coordinates of the rows of `x`, and how many directions had to be added for them.

        Shape:
            x: (t, n) float32; result: (t, rank).
        """
        if not len(x):  # an expert that no token came to
            return x.new_zeros(0, self.rank), 0
        if not torch.isfinite(x.sum()) and not torch.isfinite(x).all():  # a sum can overflow alone
            broken = ~torch.isfinite(x).all(1)  # a row with NaN or infinity has no direction
            coordinates, added = self.extend(x.masked_fill(broken[:, None], 0.0))
            return coordinates.masked_fill(broken[:, None], torch.nan), added
        if not self.rank:
            return self._begin(x)
        # In float64: the square of a number over 1e19 is infinite in float32. MPS has none.
        wide = torch.float32 if x.device.type == "mps" else torch.float64
        lengths = torch.linalg.vector_norm(x, dim=1, dtype=wide)
        known, rest = self._split(x)
        inner, rows = Rows(rest, lengths).split
        if len(rows):
            # What rounding left of the old directions grows as a short rest is made unit length.
            leaked, rows = self._split(rows)
            turned, rows = Rows(rows).split
            known, inner = known + inner @ leaked, inner @ turned
            self.add(rows)
        return torch.cat((known, inner), 1), len(rows)

    def copy(self) -> "Basis":
        """A copy, to be extended on its own."""
        return copy(self)

    def add(self, rows: Tensor) -> None:
        """Add orthonormal rows at right angles to all others; (r, n)."""
        self._rows = torch.cat((self.rows, rows)) if self.count else rows

    def add_units(self, indices: Tensor) -> None:
        """Add unit vectors; only before any other direction."""
        assert not self.count  # coordinates of rows would move
        self.units = torch.cat((self.units, indices))

    def _begin(self, x: Tensor) -> tuple[Tensor, int]:
        # The first rows: nothing is known that they could share.
        defers = self._defers and not x.is_inference()  # those have no version counter
        rows = last_rows(x) if defers else Rows(x)
        if defers and rows.factor is not None:
            self._deferred = rows.factor, x, x._version
            return rows.factor.coordinates, rows.factor.rank
        coordinates, self._rows = rows.split
        return coordinates, len(self._rows)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates in the present directions, (t, rank), and the rest outside them, (t, n)."""
        inside = x @ self.rows.T
        rest = torch.addmm(x, inside, self.rows, alpha=-1)
        if not len(self.units):
            return inside, rest
        rest.index_fill_(1, self.units, 0.0)
        return torch.cat((x.index_select(1, self.units), inside), 1), rest
