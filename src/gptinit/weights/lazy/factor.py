"""Rows as combinations of orthonormal rows, by their Gram matrix: its factor or its eigenvectors.

exact for: rows of any rank and length, copies, multiples and zeros included, to the rounding of
float32.
approximate for: rows that are nearly dependent: what is below 1e-5 of them is left out.

A QR would be three lines. What this file buys (two CPU cores, 64 to 256 rows of 3072 to 16384, in
the time of `torch.linalg.qr` in float32): 0.2 to 0.9 for coordinates and directions, 0.02 to 0.6
for the coordinates alone, which is all that a first query needs. Equal rows, the usual case where
tokens repeat, stay exact.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor

__all__ = ["Factor", "Rows", "forget_last_rows", "last_rows"]

_WELL_CONDITIONED = 1e-4
"""Share of a row's square outside all others, from which float32 keeps directions at right angles:
what is made of x by the inverse of L has its rounding over the root of that share."""

_WELL_APART = 5e-2
"""The same share, from which a float32 Gram matrix will do: its rounding, 1e-7 to 4e-6 of the
squares (where all entries are nearly alike), is divided by the share itself."""

_NEGLIGIBLE = 1e-5
"""Length of a direction, relative to the largest of rows of unit length, from which it counts as
rounding."""

_EQUAL = 1e-6
"""Distance of two rows, relative to their length, up to which they count as one."""

_STRIPE: Mapping[str, int] = MappingProxyType({"cpu": 1 << 16, "cuda": 1 << 24, "mps": 1 << 24})
"""Entries that are in float64 at once: on a CPU half a megabyte, which no allocator returns to the
system each time."""

_SINGLE_SHORTEST = 1e-12
"""Length of a row from which float32 holds the squares of its entries in full."""

_SINGLE_COLUMNS = 8192
"""Columns that a float32 product sums over, before float64 takes the sum."""


@dataclass(frozen=True, slots=True)
class Factor:
    """A lower triangular L with L L^T the Gram matrix of rows, of which each stands for its copies.

    Attributes:
        lower: L. Shape: (r, r) float32.
        firsts: the rows that are neither zero nor copies of earlier ones; None where all are such.
            Shape: (r,).
        places: which of them every row is, r for a row that is zero. Shape: (t,).
    """

    lower: Tensor
    firsts: Tensor | None = None
    places: Tensor | None = None

    @property
    def rank(self) -> int:
        """How many directions the rows have."""
        return len(self.lower)

    @property
    def coordinates(self) -> Tensor:
        """Of every row on the directions; (t, r)."""
        if self.places is None:
            return self.lower
        return torch.cat((self.lower, self.lower.new_zeros(1, self.rank)))[self.places]

    def directions(self, x: Tensor) -> Tensor:
        """The orthonormal rows Q of x = coordinates Q; (t, n) to (r, n)."""
        rows = x if self.firsts is None else x[self.firsts]
        found: Tensor = torch.linalg.solve_triangular(self.lower, rows, upper=False)
        return found


def _gram_and_factor(x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Factor | None]:
    """The Gram matrix of rows, (t, t) float64, and its factor; None where there is no good one."""
    if lengths is None and _has_single_products(x):
        gram = _single_gram(x)
        lower, share = _cholesky(gram, gram.new_full((), _SINGLE_SHORTEST))
        if share > _WELL_APART:
            return gram, Factor(lower.float())
    gram = _double_gram(x)
    least = gram.new_zeros(len(x)) if lengths is None else _NEGLIGIBLE * lengths.to(gram)
    lower, share = _cholesky(gram, least)
    if share > _WELL_CONDITIONED:
        return gram, Factor(lower.float().to(x.device))
    return gram, _reduced(gram, least, x.device)


def _reduced(gram: Tensor, floors: Tensor, device: torch.device) -> Factor | None:
    """The factor of rows of which some are equal or zero; (t, t)."""
    square = gram.diagonal()
    is_zero = square <= floors.square()
    apart = square[:, None] + square - 2 * gram
    is_equal = apart <= _EQUAL**2 * torch.minimum(square[:, None], square)
    first = is_equal.to(torch.uint8).argmax(1)  # the earliest row that equals it
    is_first = (first == torch.arange(len(gram), device=gram.device)) & ~is_zero
    if bool(is_first.all()) or not bool((is_first[first] | is_zero).all()):
        return None
    firsts = is_first.nonzero().squeeze(1)
    if not len(firsts):
        return None
    lower, share = _cholesky(gram[firsts][:, firsts], floors[firsts])
    if share <= _WELL_CONDITIONED:
        return None
    places = torch.searchsorted(firsts, first).masked_fill(is_zero, len(firsts))
    return Factor(lower.float().to(device), firsts.to(device), places.to(device))


def _cholesky(gram: Tensor, floors: Tensor) -> tuple[Tensor, float]:
    """The Cholesky factor, and the least share of a row's square that is outside all others.

    That of row i is 1 / (gram_ii (gram^-1)_ii). It is 0 where there is no factor, or one with a row
    that is not longer than its floor outside those before it.

    Shape:
        gram: (t, t) float64; floors: (t,) or (); result: (t, t).
    """
    lower, info = torch.linalg.cholesky_ex(gram)
    lengths = gram.diagonal().sqrt()
    inverse = torch.linalg.solve_triangular(lower, torch.diag(lengths), upper=False)
    most = inverse.square().sum(0).amax()
    spare = (lower.diagonal() - floors).amin()
    failed, overlap, least = torch.stack((info.double(), most, spare)).tolist()
    return lower, 1 / overlap if not failed and least > 0 else 0.0


def _has_single_products(x: Tensor) -> bool:
    """Whether float32 products are cheaper than float64 ones and really float32.

    On a CPU they are, by a factor of three to five, unless torch may use less (TF32, bfloat16); a
    GPU takes TF32 for them then.
    """
    try:
        precision = torch.get_float32_matmul_precision()
    except RuntimeError:  # set backend by backend
        return False
    return x.device.type == "cpu" and precision == "highest"


def _single_gram(x: Tensor) -> Tensor:
    """The Gram matrix of rows by float32 products, summed in float64; (t, t)."""
    gram = torch.zeros(len(x), len(x), dtype=torch.float64)
    for stripe in x.split(_SINGLE_COLUMNS, 1):
        gram += stripe @ stripe.T
    return gram


def _double_gram(x: Tensor) -> Tensor:
    """The Gram matrix of rows in float64; (t, t)."""
    home = torch.device("cpu") if x.device.type == "mps" else x.device  # MPS has no float64
    gram = torch.zeros(len(x), len(x), dtype=torch.float64, device=home)
    for stripe in _stripes(x):
        wide = stripe.to(home, torch.float64)
        gram.addmm_(wide, wide.T)
    return gram


def _stripes(x: Tensor) -> tuple[Tensor, ...]:
    """Some columns after the others, few enough to be in float64 at once; (t, n)."""
    columns = max(_STRIPE[x.device.type] // max(len(x), 1), 64)
    parts: tuple[Tensor, ...] = x.split(columns, 1)
    return parts


def _by_eigenvectors(x: Tensor, gram: Tensor, whole: Tensor | None) -> tuple[Tensor, Tensor]:
    """See `Rows.split`: the principal directions of rows, each over its length.

    Left out is what is under 1e-5 of a row of unit length, or of the largest direction. The longest
    comes first and each has a sign of its own: which random numbers it gets then depends neither
    on how many are left out nor on what a library makes of the signs.
    """
    own = gram.diagonal().sqrt()
    lengths = own if whole is None else whole.to(own)
    lengths = torch.where(own > _NEGLIGIBLE * lengths, lengths, 0.0)
    scale = torch.where(lengths > 0, 1 / lengths, 0.0)
    values, vectors = (part.flip(-1) for part in torch.linalg.eigh(scale[:, None] * gram * scale))
    kept = values > _NEGLIGIBLE**2 * max(float(values[0]), 1.0)
    root, vectors = values[kept].sqrt(), vectors[:, kept]
    vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    turn = (vectors / root).T * scale  # (r, t)
    rows = [
        (turn @ stripe.to(turn.device, torch.float64)).float().to(x.device)
        for stripe in _stripes(x)
    ]
    coordinates = lengths[:, None] * vectors * root
    return coordinates.float().to(x.device), torch.cat(rows, 1)


class Rows:
    """Rows as combinations of orthonormal ones.

    Args:
        x: the rows.
        lengths: of the rows that these are left of, once known directions were taken off: what is
            under 1e-5 of them is their rounding. Their own if None.

    Shape:
        x: (t, n) float32; lengths: (t,).

    Attributes:
        factor: the Cholesky factor of their Gram matrix, which costs half of a QR in float32 or
            less; None where rows are nearly dependent, or more than there are columns.
    """

    def __init__(self, x: Tensor, lengths: Tensor | None = None) -> None:
        self._x, self._lengths = x, lengths  # held, so that their memory stays their own
        self._gram, self.factor = _gram_and_factor(x, lengths)

    @cached_property
    def split(self) -> tuple[Tensor, Tensor]:
        """(C, Q) with x = C Q and orthonormal rows in Q, by eigenvectors where there is no factor.

        Shape:
            results: (t, r), (r, n), r <= min(t, n).
        """
        if self.factor is not None:
            return self.factor.coordinates, self.factor.directions(self._x)
        return _by_eigenvectors(self._x, self._gram, self._lengths)


class _Last(threading.local):
    """The rows of the last query: the matrices of q, k and v share theirs."""

    def __init__(self) -> None:
        self.rows: Rows | None = None
        self.key: tuple[object, ...] = ()


_last = _Last()


def last_rows(x: Tensor) -> Rows:
    """Rows, remembered until a query with others; (t, n)."""
    key = (x.data_ptr(), tuple(x.shape), x.stride(), x._version, x.device)
    if _last.rows is None or key != _last.key:
        _last.rows, _last.key = Rows(x), key
    return _last.rows


def forget_last_rows() -> None:
    """Drop the rows of the last query: no other matrix will be queried with them."""
    _last.rows = None
