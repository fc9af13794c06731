"""Attention scores and the entropy of their weights.

Letters in shapes: R query rows.
"""

import math

import numpy as np
import numpy.typing as npt

from gptinit.theory.blocks import AttentionGram, Normed
from gptinit.theory.shape import TheoryModel
from gptinit.theory.tables import entropy_deficit

__all__ = ["score_statistics"]

Positions = npt.NDArray[np.intp]


def score_statistics(
    x: Normed, attention: AttentionGram, model: TheoryModel, rows: Positions
) -> dict[str, float]:
    """Standard deviation of the scores and relative entropy of the weights on some rows.

    The scores of all heads share few draws where tokens are alike: what their grand mean holds is
    taken off, and the mean logarithm of their variance is that of a chi-square's.
    """
    pair = np.ix_(rows, rows)
    counts = (rows + 1).astype(np.float64)
    weight = counts[:, None] * counts / counts.sum() ** 2
    queries = attention.queries[pair].astype(np.float64)
    per, floor = attention.key
    keys = per * attention.mixing.average[pair] + floor
    top = float(queries.diagonal().mean()) * (per * float(x.R.diagonal().mean()) + floor)
    values = {"attn_score_std": 0.0}
    if top > 0:
        mean = float((weight * queries * keys).sum()) / top
        alike = per**2 * attention.mixing.squares[pair] + 2 * per * floor * (keys - floor) / per
        square = float((weight * queries**2 * (alike + floor**2)).sum()) / top**2
        variance = top * max(1 - mean / model.n_head, 0.0)
        values["attn_score_std"] = math.sqrt(variance) * _chi_bias(model.n_head, square, mean)
    several = rows[rows > 0]
    if len(several):
        allowed = several.astype(np.float64) + 1
        stds = np.sqrt(attention.mixing.score_variance[several] / (1 - 1 / allowed))
        deficit = entropy_deficit(allowed, stds, model.head_dim) / np.log(allowed)
        values["attn_entropy"] = float(1 - deficit.mean())
    return values


def _chi_bias(n_head: int, square: float, mean: float) -> float:
    """exp(E ln s) over the root of E s^2 of the std s of scores with few independent draws."""
    freedom = max((n_head - min(mean, 1)) / max(square, 1e-9), 1e-9)
    return math.exp(-0.5 / freedom) if freedom > 2 else math.exp(-0.25)
