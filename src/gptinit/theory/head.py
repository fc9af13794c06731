"""The logits of a stream, their loss, and the gradient that the loss sends back.

Given the stream, logits are independent normals over the vocabulary; a tied head adds to that the
own token's logit, whose embedding the stream still holds. The mean loss is E ln sum_t e^{l_t}, a
random energy model over the vocabulary (`softmax`), minus the target's mean logit.

Letters in shapes: T positions.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gptinit.theory.arrays import Floats, Gram, Ids
from gptinit.theory.model import TheoryModel
from gptinit.theory.softmax import expected_log, log_grid, normal_grid

__all__ = ["Logits", "Softmax", "logits_of", "loss_gradient", "predicted_softmax"]


_NODES = 7  # values of the own token's logit, between which positions are interpolated


@dataclass(frozen=True, slots=True, kw_only=True)
class Logits:
    """The distribution of the logits of every position.

    Attributes:
        std: of the logit of a token that the stream does not hold. Shape: (T,).
        own: mean logit of the position's own token; 0 with a head of its own. Shape: (T,).
        own_std: its standard deviation over draws. Shape: (T,).
        held: share of the stream's square that is its own token's embedding, where the head is
            tied; else 0. Shape: (T,).
        scale: 1 / the final norm's denominators. Shape: (T,).
    """

    std: Floats
    own: Floats
    own_std: Floats
    held: Floats
    scale: Floats

    def spread(self, rows: int, vocab_size: int) -> float:
        """Standard deviation over `rows` of the vocabulary, a mean over positions, in logits."""
        rows = min(rows, vocab_size)
        if rows == 1:
            return 0.0
        few = 1 - 1 / rows
        without = self.std**2 * few
        with_own = without * few + (self.own**2 + self.own_std**2) * few / rows
        chance = rows / vocab_size  # that the own token is among them
        mean = (1 - chance) * np.sqrt(without) + chance * np.sqrt(with_own)
        return float(mean.mean()) * (1 - 0.25 / rows)


def logits_of(K: Gram, model: TheoryModel) -> Logits:
    """The logits of a stream of Gram K.

    Shape:
        K: (T, T).
    """
    C, factor, gain = model.n_embd, model.logit_multiplier, model.final_norm_weight
    square = K.diagonal().astype(np.float64)
    scale = 1 / np.sqrt(np.maximum(square + model.norm_eps, 1e-37))
    normed_square = gain.square * square * scale**2 + model.final_norm_bias.square
    head = C * model.lm_head.variance * normed_square
    std = factor * np.sqrt(head + model.lm_head_bias.square)
    nothing = np.zeros_like(std)
    if not model.tied:
        return Logits(std=std, own=nothing, own_std=std, held=nothing, scale=scale)
    kept = model.embedding_multiplier * model.tok_emb.variance
    own = factor * C * gain.mean * kept * scale
    held = np.minimum(model.embedding_multiplier * kept * scale**2, 1.0)
    # The norm takes out what moves the stream along itself: with h held, the variance over std^2 is
    # 2 h (1 - h/2)^2 + (1 - h)^3 + h (1 - h)^2 / 2 = 1 - h / 2 (delta method).
    own_std = np.sqrt(std**2 * (1 - held) + own**2 / (2 * C))
    return Logits(std=std, own=own, own_std=own_std, held=held, scale=scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax:
    """Expectations over the vocabulary's softmax at every position, shape (T,).

    Attributes:
        log_sum: E ln sum_t e^{l_t}, in nats.
        own: E of the probability of the position's own token; 0 with a head of its own.
        others: E of the summed squares of all other tokens' probabilities.
    """

    log_sum: Floats
    own: Floats
    others: Floats

    def loss(self, logits: Logits, ids: Ids, targets: Ids) -> float:
        """Mean next-token cross-entropy in nats.

        Shape:
            ids, targets: (T,).
        """
        return float((self.log_sum - logits.own * (ids == targets)).mean())


def predicted_softmax(logits: Logits, model: TheoryModel) -> Softmax:
    """The softmax over the vocabulary at every position."""
    std = _rounded(_root_mean_square(logits.std))
    full = np.ones_like(logits.own)
    if not model.tied:
        others = _vocabulary(model.vocab_size, std, 0.0)
        log_sum = expected_log(others.t, others.absent * others.one) * full
        return Softmax(log_sum=log_sum, own=0 * full, others=others.squares(1.0) * full)
    if model.vocab_size == 1:
        return Softmax(log_sum=logits.own, own=full, others=0 * full)
    noise = _rounded(_root_mean_square(logits.own_std))
    least, most = float(logits.own.min()), float(logits.own.max())
    reach = 20.0 * math.ceil((most + 6 * noise) / 20)  # few different grids, to have them once
    others = _vocabulary(model.vocab_size - 1, std, reach)
    nodes = np.linspace(least, most + 1e-6, _NODES)
    values = np.array([_with_own(others, mean, noise) for mean in nodes.tolist()])
    log_sum, own, squares = (np.interp(logits.own, nodes, column) for column in values.T)
    return Softmax(log_sum=log_sum, own=own, others=squares)


def _rounded(std: float) -> float:
    """Round to four digits, so that sequences that differ in the fifth share their integrals."""
    return float(f"{std:.4g}")


def _root_mean_square(x: Floats) -> float:
    return math.sqrt(float(np.mean(x**2)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Vocabulary:
    """Independent logits of one variance, on an even grid of t = ln u.

    Attributes:
        t: the grid.
        one: E exp(-u e^s) of one logit s.
        absent: of all but one together.
        squared: their number times u^2 E[e^{2s} exp(-u e^s)].
    """

    t: Floats
    one: Floats
    absent: Floats
    squared: Floats

    def squares(self, others: Floats | float) -> float:
        return float(np.sum(self.squared * self.absent * others) * (self.t[1] - self.t[0]))


@lru_cache(maxsize=32)
def _vocabulary(count: int, std: float, reach: float) -> _Vocabulary:
    """`count` logits, on a grid for sums up to e^reach."""
    t = log_grid(count, std)
    if -reach - 12 < t[0]:
        t = np.arange(-reach - 12, t[-1], t[1] - t[0])
    one, _, squared = _moments(t, std)
    absent = np.exp((count - 1) * np.log(np.maximum(one, 1e-300)))
    return _Vocabulary(t=t, one=one, absent=absent, squared=count * squared)


def _moments(t: Floats, std: float) -> tuple[Floats, Floats, Floats]:
    """E of e^{-x}, x e^{-x} and x^2 e^{-x} with x = e^{t + s}, s of that std. Shape: (n,)."""
    z, weight = normal_grid(std)
    x = np.exp(np.minimum(t[:, None] + std * z, 50.0))
    decay = np.exp(-x)
    return decay @ weight, (x * decay) @ weight, (x * x * decay) @ weight


@lru_cache(maxsize=32)
def _one_more(std: float) -> tuple[Floats, Floats, Floats]:
    """E of e^{-x} and x e^{-x}, x = e^{t + s} for one logit s, and the t that they are at."""
    t = np.arange(-8 * std - 12, 8 * std + 6, 0.1)
    present, chosen, _ = _moments(t, std)
    return t, present, chosen


def _with_own(others: _Vocabulary, mean: float, std: float) -> tuple[float, float, float]:
    """E ln Z with one more logit; E of its probability; of the squares of all others'."""
    t, at, chosen_at = _one_more(std)
    present = np.interp(others.t + mean, t, at, left=1.0, right=0.0)
    chosen = np.interp(others.t + mean, t, chosen_at, left=0.0, right=0.0)
    everyone = others.absent * others.one
    own = float(np.sum(chosen * everyone) * (others.t[1] - others.t[0]))
    return expected_log(others.t, everyone * present), own, others.squares(present)


def loss_gradient(
    K: Gram, logits: Logits, softmax: Softmax, tokens: Ids, model: TheoryModel
) -> Gram:
    """The Gram of the gradient of the summed losses in the stream after the last block.

    The gradient of a position is the norm's Jacobian times sum_t (p_t - y_t) w_t. Rows w_t of the
    head are independent; the norm takes out what lies along the stream, which is the own token's
    share.

    Shape:
        K, result: (T, T); tokens: (T + 1,).
    """
    ids, targets = tokens[:-1], tokens[1:]
    held, root = logits.held, np.sqrt(np.maximum(K.diagonal().astype(np.float64), 1e-37))
    cosine = K / (root[:, None] * root)

    def pairs(one: Ids, other: Ids) -> Floats:
        """Products of the projected embeddings of a token of one row and one of another."""
        a, b = held * (one == ids), held * (other == ids)  # what lies along the row's own stream
        result: Floats = (one[:, None] == other) * (1 - a[:, None] - b)
        result += np.sqrt(a[:, None] * b) * cosine
        return result

    own = softmax.own
    crossed = pairs(ids, targets) * own[:, None]
    weight = own[:, None] * own * pairs(ids, ids) - crossed - crossed.T + pairs(targets, targets)
    weight += _background(cosine, logits, softmax, model.vocab_size)
    factor = model.logit_multiplier**2 * model.lm_head.variance * model.final_norm_weight.square
    gradient: Gram = (factor * weight * logits.scale[:, None] * logits.scale).astype(np.float32)
    return gradient


def _background(cosine: Floats, logits: Logits, softmax: Softmax, vocab_size: int) -> Floats:
    """What the probabilities of all other tokens add to the sum over the vocabulary. (T, T)."""
    rest = (1 - softmax.own) / vocab_size
    shared = vocab_size * rest[:, None] * rest * np.exp(
        np.minimum(logits.std[:, None] * logits.std * cosine, 5.0)
    )  # fmt: skip
    shared = np.minimum(shared, np.sqrt(softmax.others[:, None] * softmax.others))
    np.fill_diagonal(shared, softmax.others)
    result: Floats = shared - rest[:, None] - rest
    return result
