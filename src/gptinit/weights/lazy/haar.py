"""A matrix with orthonormal rows or columns, Haar-distributed, known only through queries.

exact for: products from either side, rows and columns, any number of times, in any order.

References:
    Lu 2021, "Householder Dice", arXiv 2101.07464, section 3.2 (Haar-distributed matrices).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from gptinit.weights.lazy.basis import Basis
from gptinit.weights.lazy.matrix import Randomness, embed

__all__ = ["HaarMatrix"]


class HaarMatrix:
    """W = gain * O of shape (m, n), O a corner of a square Haar-distributed matrix.

    What is known are pairs of directions, u of the inputs and v of the outputs with O u = v; on the
    complements O is Haar-distributed still.
    """

    def __init__(
        self, shape: tuple[int, int], *, gain: float, randomness: Randomness, device: torch.device
    ) -> None:
        self.shape, self._gain, self._random = shape, gain, randomness
        self._size = max(shape)
        self._inputs, self._outputs = Basis(self._size, device), Basis(self._size, device)

    def right(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The product x W^T and coordinates of x.

        Shape:
            x: (t, n); results: (t, m), (t, rank).
        """
        return self._query(self._inputs, self._outputs, x, self.shape[0])

    def left(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """The product g W and coordinates of g.

        Shape:
            g: (t, m); results: (t, n), (t, rank).
        """
        return self._query(self._outputs, self._inputs, g, self.shape[1])

    def _query(self, near: Basis, far: Basis, x: Tensor, length: int) -> tuple[Tensor, Tensor]:
        coordinates, added = near.extend(F.pad(x, (0, self._size - x.shape[1])))
        if added:
            self._pair(far, added)
        return (coordinates @ far.rows[:, :length]).mul_(self._gain), coordinates

    def _pair(self, basis: Basis, count: int) -> None:
        """Give `basis` directions, uniform among those it lacks."""
        drawn = self._random.normals((count, self._size))
        for _ in range(2 if basis.rank else 1):  # once leaves rounding where little is outside
            drawn = drawn - (drawn @ basis.rows.T) @ basis.rows
            # No Gram matrix: it loses directions where as many are drawn as there are.
            drawn = torch.linalg.qr(drawn.T).Q.T
        signs = self._random.normals((count, 1)).sign()
        basis.add(drawn * signs)

    def row(self, indices: Tensor) -> Tensor:
        """Rows of W.

        Shape:
            indices: (r,), all different; result: (r, n).
        """
        return self.left(embed(indices, self.shape[0]))[0]

    def square_sum(self) -> Tensor:
        """Sum of the squares of all entries, (): every singular value is the gain."""
        return torch.full((), self._gain**2 * min(self.shape), device=self._inputs.rows.device)
