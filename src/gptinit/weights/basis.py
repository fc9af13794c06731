"""Orthonormal rows: the directions in which a lazy matrix has been asked about.

exact for: rows of any rank, equal and nearly equal ones included, to the rounding of float32.
approximate for: directions below 1e-5 of the largest, which are dropped.
"""

from copy import copy

import torch
from torch import Tensor

from gptinit.weights.factor import Factor, gram_and_factor, last_factor, stripes

__all__ = ["Basis", "StaleQuestionError", "orthonormal_rows"]

_NEGLIGIBLE = 1e-5
"""Length of a direction, relative to the largest row, from which it counts as rounding."""


class StaleQuestionError(Exception):
    """Rows that were to be kept by reference have been written over since."""


class Basis:
    """Unit vectors and orthonormal rows that span everything asked for on one side of a matrix.

    Args:
        size: length n of a row.
        device: where they are.
        defers: whether the first rows may be made orthonormal when they are asked for again, if
            ever: half of the work where nobody does.

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
            StaleQuestionError: if they were deferred and can no longer be made.
        """
        if self._deferred is not None:
            factor, x, version = self._deferred
            if x._version != version:
                raise StaleQuestionError
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
        broken = ~torch.isfinite(x.sum(1))  # a row with NaN or infinity has no direction
        if broken.any():
            coordinates, added = self.extend(x.masked_fill(broken[:, None], 0.0))
            return coordinates.masked_fill(broken[:, None], torch.nan), added
        if not self.rank:
            return self._begin(x)
        # In float64: the square of a number over 1e19 is infinite in float32.
        lengths = torch.linalg.vector_norm(x, dim=1, dtype=torch.float64)
        floor = _NEGLIGIBLE * float(lengths.amax())
        known, rest = self._split(x)
        inner, rows = orthonormal_rows(rest, floor=floor)
        if len(rows):
            # What rounding left of the old directions grows as a short rest is made unit length.
            leaked, rows = self._split(rows)
            turned, rows = orthonormal_rows(rows)
            known, inner = known + inner @ leaked, inner @ turned
            self.add(rows)
        return torch.cat((known, inner), 1), len(rows)

    def copy(self) -> "Basis":
        """The same, to be extended on its own."""
        return copy(self)

    def add(self, rows: Tensor) -> None:
        """Add orthonormal rows at right angles to all others; (r, n)."""
        self._rows = torch.cat((self.rows, rows)) if self.count else rows

    def add_units(self, indices: Tensor) -> None:
        """Add unit vectors; only before any other direction."""
        assert not self.count  # coordinates of rows would move
        self.units = torch.cat((self.units, indices))

    def _begin(self, x: Tensor) -> tuple[Tensor, int]:
        """See `extend`: the first rows."""
        if self._defers and not x.is_inference():  # those cannot tell that they were written
            factor = last_factor(x)
            if factor is not None:
                self._deferred = factor, x, x._version
                return factor.coordinates, factor.rank
        coordinates, self._rows = orthonormal_rows(x)
        return coordinates, len(self._rows)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates in what there is, (t, rank), and what lies outside, (t, n)."""
        inside = x @ self.rows.T
        rest = torch.addmm(x, inside, self.rows, alpha=-1)
        if not len(self.units):
            return inside, rest
        rest.index_fill_(1, self.units, 0.0)
        return torch.cat((x.index_select(1, self.units), inside), 1), rest


def orthonormal_rows(x: Tensor, *, floor: float = 0.0) -> tuple[Tensor, Tensor]:
    """(C, Q) with x = C Q and orthonormal rows in Q.

    By the Cholesky factor of a Gram matrix, which costs half of a QR in float32 or less; by its
    eigenvectors where rows are nearly dependent, or more than there are columns.

    Args:
        x: the rows.
        floor: length below which a direction is dropped.

    Shape:
        x: (t, n) float32; results: (t, r), (r, n), r <= min(t, n).
    """
    gram, factor = gram_and_factor(x, floor=floor)
    if factor is not None:
        return factor.coordinates, factor.directions(x)
    if float(gram.diagonal().amax()) <= floor**2:
        return x.new_zeros(len(x), 0), x.new_zeros(0, x.shape[1])
    return _by_eigenvectors(x, gram, floor)


def _by_eigenvectors(x: Tensor, gram: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """See `orthonormal_rows`: the principal directions that are not negligible.

    The longest comes first and each has a sign of its own: which random numbers answer it then
    depends neither on how many are left out nor on what a library makes of the signs.
    """
    values, vectors = (part.flip(-1) for part in torch.linalg.eigh(gram))
    kept = values > max(floor**2, _NEGLIGIBLE**2 * float(values[0]))
    root, vectors = values[kept].sqrt(), vectors[:, kept]
    vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    turn = (vectors / root).T  # (r, t)
    rows = [
        (turn @ stripe.to(turn.device, torch.float64)).float().to(x.device) for stripe in stripes(x)
    ]
    return (vectors * root).float().to(x.device), torch.cat(rows, 1)
