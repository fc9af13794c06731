"""Attention scores and the entropy of their weights.

Letters in shapes: R query rows.
"""

import math

import numpy as np

from gptinit.theory.arrays import Gram, Positions
from gptinit.theory.blocks import AttentionGram, Normed
from gptinit.theory.model import TheoryModel
from gptinit.theory.tables import entropy_deficit

__all__ = ["score_statistics"]


_FEW = 8
"""Rows of which all pairs are looked at where positions are rotary."""


def score_statistics(
    x: Normed,
    attention: AttentionGram,
    model: TheoryModel,
    rows: Positions,
    rotary: Gram | None = None,
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
        if rotary is None:
            mean = float((weight * queries * keys).sum()) / top
            alike = per**2 * attention.mixing.squares[pair] + 2 * per * floor * (keys - floor) / per
            square = float((weight * queries**2 * (alike + floor**2)).sum()) / top**2
        else:
            mean, square = _turned(x.R, attention, rotary, rows, model.n_embd)
            mean, square = mean / top, square / top**2
        variance = top * max(1 - mean / model.n_head, 0.0)
        values["attn_score_std"] = math.sqrt(variance) * _chi_bias(model.n_head, square, mean)
    several = rows[rows > 0]
    if len(several):
        allowed = several.astype(np.float64) + 1
        stds = np.sqrt(attention.mixing.score_variance[several] / (1 - 1 / allowed))
        deficit = entropy_deficit(allowed, stds, model.head_dim) / np.log(allowed)
        values["attn_entropy"] = float(1 - deficit.mean())
    return values


def _turned(
    R: Gram, attention: AttentionGram, rotary: Gram, rows: Positions, width: int
) -> tuple[float, float]:
    """Means over pairs of scores of their covariance and of its square, with rotary positions.

    Two scores of rows i and i' and keys j and j' have in common what i - j and i' - j' do. Few of
    the rows are looked at: pairs of equal rows and of different ones, each with the weight of all.

    Shape:
        R, rotary: (T, T).
    """
    per, floor = attention.key
    few = rows[np.linspace(0, len(rows) - 1, min(len(rows), _FEW)).round().astype(int)]
    sums = {True: np.zeros(3), False: np.zeros(3)}  # by whether the rows are the same
    for at, i in enumerate(few.tolist()):
        for k in few[at:].tolist():
            known = R[: i + 1, : k + 1]
            turned = rotary[k - i : k + 1, : k + 1]
            covariance = (np.float32(per) * known + np.float32(floor)) * turned
            overlap = per**2 / width * float((turned**2).sum() - ((turned * known) ** 2).sum())
            query = float(attention.queries[i, k])
            sums[i == k] += (
                (i + 1) * (k + 1),
                query * float(covariance.sum()),
                query**2 * (float((covariance**2).sum()) + overlap),
            )
    counts = (rows + 1).astype(np.float64)
    same = float((counts**2).sum() / counts.sum() ** 2)
    mean, square = sum(
        share * found[1:] / max(found[0], 1.0)
        for share, found in ((same, sums[True]), (1 - same, sums[False]))
    )
    return float(mean), float(square)


def _chi_bias(n_head: int, square: float, mean: float) -> float:
    """exp(E ln s) over the root of E s^2 of the std s of scores with few independent draws."""
    freedom = max((n_head - min(mean, 1)) / max(square, 1e-9), 1e-9)
    return math.exp(-0.5 / freedom) if freedom > 2 else math.exp(-0.25)
