"""Orthonormal rows: the directions in which a lazy matrix has been asked about.

exact for: rows of any rank, equal and nearly equal ones included, to the rounding of float32.
approximate for: directions below 1e-5 of the largest, which are dropped.
"""

import threading
from collections.abc import Mapping
from copy import copy
from types import MappingProxyType

import torch
from torch import Tensor

__all__ = ["Basis", "StaleQuestionError", "forget_last_rows", "orthonormal_rows"]

_NEGLIGIBLE = 1e-5
"""Length of a direction, relative to the largest row, from which it counts as rounding."""

_WELL_CONDITIONED = 1e-2
"""Length of a row outside those before it, relative to its own, from which float32 keeps it at a
right angle to them."""

_WELL_APART = 1e-2
"""Share of a row's square outside the rows before it, from which a float32 Gram matrix will do: its
rounding, some 1e-7 of the squares, is then 1e-5 of that share, what float32 leaves of any product."""

_STRIPE: Mapping[str, int] = MappingProxyType({"cpu": 1 << 16, "cuda": 1 << 24, "mps": 1 << 24})
"""Entries that are in float64 at once: on a CPU half a megabyte, which no allocator returns to the
system each time."""

_SINGLE_SHORTEST = 1e-12
"""Length of a row from which float32 holds the squares of its entries in full."""

_SINGLE_COLUMNS = 8192
"""Columns that a float32 product sums over, before float64 takes the sum."""


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
        self._deferred: tuple[Tensor, Tensor, int] | None = None  # lower, x, version of x

    @property
    def rank(self) -> int:
        """How many directions it has."""
        return len(self.units) + self.count

    @property
    def count(self) -> int:
        """How many of them are no unit vectors."""
        return len(self._rows) if self._deferred is None else len(self._deferred[0])

    @property
    def rows(self) -> Tensor:
        """(count, n) orthonormal rows, zero at `units`.

        Raises:
            StaleQuestionError: if they were deferred and can no longer be made.
        """
        if self._deferred is not None:
            lower, x, version = self._deferred
            if x._version != version:
                raise StaleQuestionError
            self._rows = torch.linalg.solve_triangular(lower, x, upper=False)
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
            _, lower = _last.factor(x)
            if lower is not None:
                self._deferred = lower, x, x._version
                return lower, len(lower)
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

    By the Cholesky factor of a float64 Gram matrix, which costs half of a QR in float32; by its
    eigenvectors where rows are equal, nearly equal, or more than there are columns.

    Args:
        x: the rows.
        floor: length below which a direction is dropped.

    Shape:
        x: (t, n) float32; results: (t, r), (r, n), r <= min(t, n).
    """
    gram, lower = _factor(x, floor=floor)
    if lower is not None:
        return lower, torch.linalg.solve_triangular(lower, x, upper=False)
    if float(gram.diagonal().amax()) <= floor**2:
        return x.new_zeros(len(x), 0), x.new_zeros(0, x.shape[1])
    return _by_eigenvectors(x, gram, floor)


class _LastFactor(threading.local):
    """The factor of the rows that were asked about last: queries, keys and values share theirs."""

    def __init__(self) -> None:
        self._x: Tensor | None = None  # held, so that its memory stays its own
        self._key: tuple[object, ...] = ()
        self._made: tuple[Tensor, Tensor | None] | None = None

    def factor(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """See `_factor`."""
        key = (x.data_ptr(), tuple(x.shape), x.stride(), x._version, x.device)
        if self._made is None or key != self._key:
            self._x, self._key, self._made = x, key, _factor(x)
        return self._made

    def clear(self) -> None:
        """Let go of the rows."""
        self._x, self._key, self._made = None, (), None


def forget_last_rows() -> None:
    """Let go of the rows that were asked about last: no other matrix will be asked the same."""
    _last.clear()


_last = _LastFactor()


def _factor(x: Tensor, *, floor: float = 0.0) -> tuple[Tensor, Tensor | None]:
    """The Gram matrix of rows and its Cholesky factor; None where that is no good basis.

    Shape:
        x: (t, n); results: (t, t) float64, (t, t) float32.
    """
    if _has_single_products(x):
        gram, factor, share = _cholesky(_single_gram(x), max(floor, _SINGLE_SHORTEST))
        if share > _WELL_APART:
            return gram, factor.float()
    gram, factor, share = _cholesky(_gram(x), floor)
    return gram, factor.float().to(x.device) if share > _WELL_CONDITIONED**2 else None


def _cholesky(gram: Tensor, floor: float) -> tuple[Tensor, Tensor, float]:
    """A Gram matrix, its Cholesky factor, and the least share of a row's square that is its own.

    The share is 0 where there is no factor, or one with a row shorter than `floor`.

    Shape:
        gram: (t, t) float64; results: (t, t) twice.
    """
    factor, info = torch.linalg.cholesky_ex(gram)
    diagonal = factor.diagonal()
    least = (diagonal.square() / gram.diagonal()).amin()
    failed, share, shortest = torch.stack((info.double(), least, diagonal.amin())).tolist()
    return gram, factor, share if not failed and shortest > floor else 0.0


def _has_single_products(x: Tensor) -> bool:
    """Whether float32 products are cheaper than float64 ones and really float32.

    On a CPU they are, by a factor of three to five; a GPU takes TF32 for them when it is told to.
    """
    return x.device.type == "cpu" and torch.get_float32_matmul_precision() == "highest"


def _single_gram(x: Tensor) -> Tensor:
    """The Gram matrix of rows by float32 products, summed in float64; (t, t)."""
    gram = torch.zeros(len(x), len(x), dtype=torch.float64)
    for stripe in x.split(_SINGLE_COLUMNS, 1):
        gram += stripe @ stripe.T
    return gram


def _gram(x: Tensor) -> Tensor:
    """The Gram matrix of rows in float64; (t, t)."""
    gram = torch.zeros(len(x), len(x), dtype=torch.float64, device=_home(x))
    for stripe in x.split(_columns(x), 1):
        wide = stripe.to(gram.device, torch.float64)
        gram.addmm_(wide, wide.T)
    return gram


def _home(x: Tensor) -> torch.device:
    """Where float64 can be: not on MPS."""
    return torch.device("cpu") if x.device.type == "mps" else x.device


def _columns(x: Tensor) -> int:
    """Columns of a stripe."""
    return max(_STRIPE[x.device.type] // max(len(x), 1), 64)


def _by_eigenvectors(x: Tensor, gram: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """See `orthonormal_rows`: the principal directions that are not negligible."""
    values, vectors = torch.linalg.eigh(gram)  # ascending
    kept = values > max(floor**2, _NEGLIGIBLE**2 * float(values[-1]))
    root, vectors = values[kept].sqrt(), vectors[:, kept]
    turn = (vectors / root).T  # (r, t)
    rows = [
        (turn @ stripe.to(turn.device, torch.float64)).float().to(x.device)
        for stripe in x.split(_columns(x), 1)
    ]
    return (vectors * root).float().to(x.device), torch.cat(rows, 1)
