"""Rows by the Cholesky factor of their Gram matrix: coordinates, and the directions they stand on.

exact for: rows that are well apart, and copies of such, to the rounding of float32.
approximate for: nothing; rows that are nearly dependent have no factor.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

__all__ = ["Factor", "forget_last_rows", "gram_and_factor", "last_factor", "stripes"]

_WELL_CONDITIONED = 1e-4
"""Share of a row's square outside all others, from which float32 keeps directions at right angles:
what is made of x by the inverse of L has its rounding over the root of that share."""

_WELL_APART = 5e-2
"""The same share, from which a float32 Gram matrix will do: its rounding, some 1e-7 of the squares,
is divided by the share itself."""

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
        firsts: the rows that are no copies of earlier ones; None where none is. Shape: (r,).
        places: which of them every row is. Shape: (t,).
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
        return self.lower if self.places is None else self.lower[self.places]

    def directions(self, x: Tensor) -> Tensor:
        """The orthonormal rows Q of x = coordinates Q; (t, n) to (r, n)."""
        rows = x if self.firsts is None else x[self.firsts]
        found: Tensor = torch.linalg.solve_triangular(self.lower, rows, upper=False)
        return found


def gram_and_factor(x: Tensor, *, floor: float = 0.0) -> tuple[Tensor, Factor | None]:
    """The Gram matrix of rows and its factor; None where there is no good one.

    Args:
        x: the rows.
        floor: length that a row must have outside those before it.

    Shape:
        x: (t, n) float32; result: (t, t) float64.
    """
    if _has_single_products(x):
        gram = _single_gram(x)
        lower, share = _cholesky(gram, max(floor, _SINGLE_SHORTEST))
        if share > _WELL_APART:
            return gram, Factor(lower.float())
    gram = _double_gram(x)
    lower, share = _cholesky(gram, floor)
    if share > _WELL_CONDITIONED:
        return gram, Factor(lower.float().to(x.device))
    return gram, _without_copies(gram, floor, x.device)


def _without_copies(gram: Tensor, floor: float, device: torch.device) -> Factor | None:
    """The factor of rows of which some are equal; (t, t)."""
    square = gram.diagonal()
    apart = square[:, None] + square - 2 * gram
    is_equal = apart <= _EQUAL**2 * torch.minimum(square[:, None], square)
    first = is_equal.to(torch.uint8).argmax(1)  # the earliest row that equals it
    is_first = first == torch.arange(len(gram), device=gram.device)
    if bool(is_first.all()) or not bool(is_first[first].all()):
        return None
    firsts = is_first.nonzero().squeeze(1)
    lower, share = _cholesky(gram[firsts][:, firsts], floor)
    if share <= _WELL_CONDITIONED:
        return None
    places = torch.searchsorted(firsts, first)
    return Factor(lower.float().to(device), firsts.to(device), places.to(device))


def _cholesky(gram: Tensor, floor: float) -> tuple[Tensor, float]:
    """The Cholesky factor, and the least share of a row's square that is outside all others.

    That of row i is 1 / (gram_ii (gram^-1)_ii). It is 0 where there is no factor, or one with a row
    that is not longer than `floor` outside those before it.

    Shape:
        gram: (t, t) float64; result: the same.
    """
    lower, info = torch.linalg.cholesky_ex(gram)
    lengths = gram.diagonal().sqrt()
    inverse = torch.linalg.solve_triangular(lower, torch.diag(lengths), upper=False)
    most = inverse.square().sum(0).amax()
    shortest = lower.diagonal().amin()
    failed, overlap, short = torch.stack((info.double(), most, shortest)).tolist()
    return lower, 1 / overlap if not failed and short > floor else 0.0


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


def _double_gram(x: Tensor) -> Tensor:
    """The Gram matrix of rows in float64; (t, t)."""
    home = torch.device("cpu") if x.device.type == "mps" else x.device  # MPS has no float64
    gram = torch.zeros(len(x), len(x), dtype=torch.float64, device=home)
    for stripe in stripes(x):
        wide = stripe.to(home, torch.float64)
        gram.addmm_(wide, wide.T)
    return gram


def stripes(x: Tensor) -> tuple[Tensor, ...]:
    """Some columns after the others, few enough to be in float64 at once; (t, n)."""
    columns = max(_STRIPE[x.device.type] // max(len(x), 1), 64)
    parts: tuple[Tensor, ...] = x.split(columns, 1)
    return parts


class _LastFactor(threading.local):
    """The factor of the rows that were asked about last: queries, keys and values share theirs."""

    def __init__(self) -> None:
        self._x: Tensor | None = None  # held, so that its memory stays its own
        self._key: tuple[object, ...] = ()
        self._made: Factor | None = None

    def of(self, x: Tensor) -> Factor | None:
        """See `gram_and_factor`."""
        key = (x.data_ptr(), tuple(x.shape), x.stride(), x._version, x.device)
        if key != self._key:
            self._x, self._key, self._made = x, key, gram_and_factor(x)[1]
        return self._made

    def clear(self) -> None:
        """Let go of the rows."""
        self._x, self._key, self._made = None, (), None


_last = _LastFactor()


def last_factor(x: Tensor) -> Factor | None:
    """The factor of rows, remembered until others are asked about; (t, n)."""
    return _last.of(x)


def forget_last_rows() -> None:
    """Let go of the rows that were asked about last: no other matrix will be asked the same."""
    _last.clear()
