"""A theory model and tokens in; a prediction, or a whole Profile, out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from gptinit.facts.sampling import LENS_ROWS, QUERY_ROWS
from gptinit.results.averaging import SeedPlace, SeedResult, average_place, whole_of, with_ratios
from gptinit.results.profile import Note
from gptinit.theory.model import TheoryModel
from gptinit.theory.sequence import SequencePlaces, follow

__all__ = ["Prediction", "predict"]

_SHARP: Mapping[str, float] = MappingProxyType({"rotary": 1.0})
_SHARP_ELSE = 2.0
"""Std of attention scores from which gradients are not predicted, by positions.

Measured on 512 channels, 64 tokens of which 4 % of the pairs are equal: grad_rms at the embedding
is off by -3, -6, -11 and -18 % with learned positions at std 2, 3, 4.5 and 6.5, by -7 to -18 % with
rotary ones, where attn_var is +2 to +9 % and token_cosine -0.01 to -0.02. With rotary ones at std 1
nothing is off by more than 2.6 standard errors."""

_HOPELESS = 7.0
"""Std of attention scores from which nothing is predicted.

Measured with 16 tokens: attn_entropy is right at 4.3 (0.316, predicted 0.314) and, for Llama-3.1
405B, at 6.55 (0.211, 0.215); at 7.6 it is 0.177 and 0.325 is predicted, at 12 it is 0.11 and
0.86."""

_FEW_CHANNELS = 16
"""Channels under which nothing is predicted: a norm of one channel is 0."""

_FEW_WORDS = 16
"""Tokens of a vocabulary under which gradients and spreads over it are not predicted.

Measured on 2 layers of 64 channels: with a tied head grad_growth is 28 % too small at 2 tokens and
right to 5 % from 10 on, other tied models are 13 % off at 8; logit_std is 37 % too large at 2 and
3.5 % at 5."""

_NARROW = 32
"""Channels under which gradients are not predicted: with 16 grad_rms is 11 % too small."""

_FEW_TOKENS = 8
"""Tokens of a sequence under which heads and sequences, not pairs, make the spread of scores."""

_GRADIENTS = ("grad_rms", "grad_growth", "gradient_exponent")


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
    """The statistics that `measure` would find, without running anything.

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
        average_place([seed.layers[i] for seed in seeds]).values for i in range(model.n_layer)
    )
    found = Prediction(
        embedding=average_place([seed.embedding for seed in seeds]).values,
        layers=layers,
        final=average_place([seed.final for seed in seeds]).values,
        whole=whole_of(layers),
    )
    if _sharpest(found) > _HOPELESS:
        std = f"attention scores of std {_sharpest(found):.3g}"
        return _unpredicted(found, f"{std} are beyond the tables, which end at {_HOPELESS:g}.")
    if model.n_embd < _FEW_CHANNELS:
        return _unpredicted(found, f"{model.n_embd} channels are too few for averages over them.")
    if ids.shape[-1] - 1 < _FEW_TOKENS:
        found = _without(found, ("attn_score_std",))
    if _is_rough(model, found):
        return _without_gradients(found, rotary=model.positions == "rotary")
    few = [f"{model.vocab_size} tokens"] if model.vocab_size < _FEW_WORDS else []
    few += [f"{model.n_embd} channels"] if grad and model.n_embd < _NARROW else []
    return _without_averages(found, few) if few else found


def _is_rough(model: TheoryModel, found: Prediction) -> bool:
    """Whether attention is too far from uniform for the formulas of gradients."""
    return _sharpest(found) > _SHARP.get(model.positions, _SHARP_ELSE)


def _sharpest(found: Prediction) -> float:
    return max(place.get("attn_score_std", 0.0) for place in found.layers)


def _unpredicted(found: Prediction, why: str) -> Prediction:
    """Nothing but the embedding, and a note that says why."""
    note = Note(kind="theory-missing", where="layers", message=f"No prediction: {why}")
    first = {s: v for s, v in found.embedding.items() if s not in _GRADIENTS}
    layers: tuple[Mapping[str, float], ...] = ({},) * len(found.layers)
    return Prediction(embedding=first, layers=layers, final={}, whole={}, notes=(note,))


def _without(found: Prediction, stats: Sequence[str]) -> Prediction:
    def kept(values: Mapping[str, float]) -> dict[str, float]:
        return {stat: value for stat, value in values.items() if stat not in stats}

    return replace(
        found,
        embedding=kept(found.embedding),
        layers=tuple(map(kept, found.layers)),
        final=kept(found.final),
        whole=kept(found.whole),
    )


def _without_gradients(found: Prediction, *, rotary: bool) -> Prediction:
    """The same without what is off by more than 5 % there, and a note about the rest."""
    share, cosine = ("20 %", "0.05") if rotary else ("10 %", "0.02")
    note = Note(
        kind="approximate",
        where="theory",
        message=f"Attention scores are far apart: predictions of attn_var are then off by up to "
        f"{share}, of token_cosine by up to {cosine}, of attn_entropy by up to 0.05, and gradients "
        "are not predicted.",
    )
    return replace(_without(found, _GRADIENTS), notes=(*found.notes, note))


def _without_averages(found: Prediction, few: Sequence[str]) -> Prediction:
    """The same without averages over too few, and a note."""
    stats = (*_GRADIENTS, "logit_std")
    known = [s for s in stats if any(s in p for p in (*found.layers, found.whole))]
    note = Note(
        kind="theory-missing",
        where=", ".join(known),
        message=f"No prediction: {' and '.join(few)} are too few for averages over them.",
    )
    return replace(_without(found, stats), notes=(*found.notes, note))


def _one_seed(sequences: Sequence[SequencePlaces]) -> SeedResult:
    n_layer = len(sequences[0].layers)
    return with_ratios(
        SeedPlace(values=_pool([s.embedding for s in sequences])),
        [SeedPlace(values=_pool([s.layers[i] for s in sequences])) for i in range(n_layer)],
        SeedPlace(values=_pool([s.final for s in sequences])),
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
