"""The queries that a lazy matrix responds to."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["DrawnMatrix", "LazyMatrix", "Randomness", "embed"]


class Randomness(Protocol):
    """The random numbers of a matrix: equal queries in equal order get equal numbers."""

    def normals(self, shape: tuple[int, int]) -> Tensor:
        """Independent standard normal numbers, float32."""

    def times(self, x: Tensor, width: int) -> tuple[Tensor, Callable[[], Tensor]]:
        """The product of x with independent standard normal numbers, and how to have those again.

        Shape:
            x: (t, r); results: (t, width), (r, width).
        """

    def entries(self, shape: tuple[int, int]) -> Tensor:
        """Entries of the matrix from their true distribution, float32."""

    def chi_square(self, degrees: int) -> Tensor:
        """A chi-square number, ()."""


class LazyMatrix(Protocol):
    """A weight with m outputs and n inputs, as its queries see it."""

    shape: tuple[int, int]

    def right(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The product x W^T and coordinates of x; (t, n) to (t, m), (t, rank)."""

    def left(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """The product g W and coordinates of g; (t, m) to (t, n), (t, rank)."""

    def row(self, indices: Tensor) -> Tensor:
        """Rows of W; (r,) distinct indices to (r, n)."""

    def square_sum(self) -> Tensor:
        """Sum of the squares of all entries, (); the last query."""


class DrawnMatrix:
    """A matrix whose entries are all drawn: coordinates are the vectors themselves."""

    def __init__(self, entries: Tensor) -> None:
        self._entries = entries
        self.shape: tuple[int, int] = (entries.shape[0], entries.shape[1])

    def right(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The product x W^T and x."""
        return x @ self._entries.T, x

    def left(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """The product g W and g."""
        return g @ self._entries, g

    def row(self, indices: Tensor) -> Tensor:
        """Rows of W."""
        return self._entries.index_select(0, indices)

    def square_sum(self) -> Tensor:
        """Sum of the squares of all entries, ()."""
        return self._entries.square().sum()


def embed(indices: Tensor, size: int) -> Tensor:
    """Unit vectors as rows; (r,) to (r, size)."""
    units = torch.zeros(len(indices), size, device=indices.device)
    return units.scatter_(1, indices[:, None], 1.0)
