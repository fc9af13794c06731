"""Names for the arrays of theory."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Gram", "Ids", "Positions"]

Floats: TypeAlias = npt.NDArray[np.float64]
Gram: TypeAlias = npt.NDArray[np.float32]
"""K_ij = E[x_i . x_j] / C for positions i and j. Shape: (T, T)."""
Ids: TypeAlias = npt.NDArray[np.int64]
Positions: TypeAlias = npt.NDArray[np.intp]
