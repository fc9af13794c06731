"""A theory model and tokens in; a prediction, or a whole Profile, out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gptinit.averaging import SeedPlace, average_place
from gptinit.profile import Note
from gptinit.sampling import LENS_ROWS, QUERY_ROWS
from gptinit.theory.exponents import angle_exponent, gradient_exponent
from gptinit.theory.sequence import SequencePlaces, follow
from gptinit.theory.shape import TheoryModel

__all__ = ["Prediction", "predict"]

_MISSING = Note(
    kind="theory-missing",
    where="max_abs, attn_score_max, nonfinite",
    message="Theory has no formula for extremes: they are not predicted.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What theory expects at every place: statistic name to value, means over seeds.

    A statistic without a formula is absent.
    """

    embedding: Mapping[str, float]
    layers: tuple[Mapping[str, float], ...]
    final: Mapping[str, float]
    whole: Mapping[str, float]
    notes: tuple[Note, ...] = ()


def predict(
    model: TheoryModel,
    ids: npt.NDArray[np.int64],
    *,
    grad: bool = False,
    lens_rows: int = LENS_ROWS,
    query_rows: int = QUERY_ROWS,
) -> Prediction:
    """The statistics that `measuring.measure` would find, without running anything.

    Args:
        model: what is predicted.
        ids: tokens of every seed, with one more for the last target.
        grad: whether to predict gradients too.
        lens_rows: vocabulary rows that the logit lens reads at layers.
        query_rows: query positions whose attention scores are read.

    Shape:
        ids: (seeds, B, T + 1).
    """
    with np.errstate(all="ignore"):  # what overflows is not finite, and left out of means
        seeds = [
            _one_seed([
                follow(model, tokens, grad=grad, lens_rows=lens_rows, query_rows=query_rows)
                for tokens in batch
            ])
            for batch in ids
        ]  # fmt: skip
    layers = tuple(
        average_place([SeedPlace(values=seed.layers[i]) for seed in seeds]).values
        for i in range(model.n_layer)
    )
    return Prediction(
        embedding=average_place([SeedPlace(values=s.embedding) for s in seeds]).values,
        layers=layers,
        final=average_place([SeedPlace(values=s.final) for s in seeds]).values,
        whole=_whole(layers),
        notes=(_MISSING,),
    )


def _one_seed(sequences: Sequence[SequencePlaces]) -> SequencePlaces:
    """Sequences of one seed together, with growth of the stream and of its gradient."""
    embedding = _pool([s.embedding for s in sequences])
    layers = [_pool([s.layers[i] for s in sequences]) for i in range(len(sequences[0].layers))]
    start, last = embedding["resid_var"], layers[-1].get("grad_rms", 0.0)
    for place in (embedding, *layers):
        if last:
            place["grad_growth"] = place["grad_rms"] / last
    for place in layers:
        if start and "resid_var" in place:
            place["resid_growth"] = place["resid_var"] / start
    return SequencePlaces(
        embedding=embedding, layers=layers, final=_pool([s.final for s in sequences])
    )


_SQUARED = ("grad_rms", "attn_score_std")
"""Roots of means over all sequences: pooled as squares."""


def _pool(sequences: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The statistics of several sequences as one batch; absent where one lacks it."""
    pooled = {}
    for name in sequences[0]:
        if not all(name in s for s in sequences):
            continue
        values = np.array([s[name] for s in sequences])
        mean = math.sqrt((values**2).mean()) if name in _SQUARED else values.mean()
        pooled[name] = float(mean)
    return pooled


def _whole(layers: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Growth over the whole depth and the two exponents, each where it is defined."""
    found = {
        "resid_growth": layers[-1].get("resid_growth"),
        "angle_exponent": angle_exponent([p.get("token_cosine", math.nan) for p in layers]),
        "gradient_exponent": gradient_exponent([p.get("grad_rms", math.nan) for p in layers]),
    }
    return {name: value for name, value in found.items() if value is not None}
