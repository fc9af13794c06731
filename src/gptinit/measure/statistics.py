"""Statistics of activations and scores as tensors on their device: nothing here waits for a GPU.

Population moments, computed in float32 whatever the dtype of the input. Letters in shapes: B batch,
T positions, C width, V vocabulary, nh heads, hs head width, R query rows.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "Attention",
    "copy_logit",
    "final_statistics",
    "logit_std",
    "rms",
    "score_statistics",
    "square_sum",
    "stream_statistics",
    "variance",
]


_MASKED = 5000.0
"""A key whose score is this far below the best of its row counts as masked."""

_LOGIT_ROWS = 16
"""Positions whose logits are reduced together."""


def variance(x: Tensor) -> Tensor:
    """Population variance over all entries.

    Shape:
        x: any; result: ().
    """
    return x.float().var(correction=0)


def rms(x: Tensor) -> Tensor:
    """Root of the mean square over all entries.

    Shape:
        x: any; result: ().
    """
    return (square_sum(x) / x.numel()).sqrt()


def square_sum(x: Tensor) -> Tensor:
    """Sum of the squares of all entries, in one pass without a temporary.

    Shape:
        x: any; result: ().
    """
    norm: Tensor = torch.linalg.vector_norm(x, dtype=torch.float32)
    return norm.square()


def count_nonfinite(x: Tensor) -> Tensor:
    """How many entries are NaN or infinite.

    Shape:
        x: any; result: ().
    """
    # x - x is 0 where x is finite and NaN elsewhere: ten times faster than isfinite on a CPU.
    return torch.count_nonzero(x - x)


def token_cosine(x: Tensor) -> Tensor:
    """Mean cosine of the vectors of two different positions of one sequence; T >= 2.

    The sum over pairs is |sum of unit vectors|^2 - T, so it costs one pass and no (T, T) matrix.
    NaN where a vector is zero.

    Shape:
        x: (B, T, C); result: ().
    """
    x = x.float()
    T = x.shape[1]
    unit = x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    pairs = unit.sum(1).square().sum(-1) - T  # (B,)
    cosine: Tensor = pairs.mean() / (T * (T - 1))
    return cosine


def stream_statistics(x: Tensor) -> dict[str, Tensor]:
    """The statistics of the residual stream at one place.

    Shape:
        x: (B, T, C); results: ().
    """
    values = {
        "resid_var": variance(x),
        "max_abs": x.abs().max().float(),
        "nonfinite": count_nonfinite(x),
    }
    if x.shape[1] > 1:
        values["token_cosine"] = token_cosine(x)
    return values


def logit_std(logits: Tensor) -> Tensor:
    """Standard deviation over the vocabulary, averaged over positions, in logits.

    Shape:
        logits: (..., V); result: ().
    """
    logits = logits.float()
    centred = logits - logits.mean(-1, keepdim=True)
    norms: Tensor = torch.linalg.vector_norm(centred, dim=-1)
    return norms.mean() / math.sqrt(logits.shape[-1])


def copy_logit(logits: Tensor, idx: Tensor) -> Tensor:
    """Mean logit of the position's own input token.

    Shape:
        logits: (B, T, V); idx: (B, T); result: ().
    """
    return logits.gather(-1, idx.unsqueeze(-1)).float().mean()


def final_statistics(logits: Tensor, idx: Tensor, loss: Tensor) -> dict[str, Tensor]:
    """The statistics of the logits.

    Args:
        logits: of the model's own forward.
        idx: its input.
        loss: mean next-token cross-entropy in nats.

    Shape:
        logits: (B, T, V); idx: (B, T); loss: (); results: ().
    """
    # A few positions at a time, through one buffer: fresh temporaries as large as the logits would
    # cost more than all the sums.
    parts = logits.flatten(0, 1).split(_LOGIT_ROWS)  # (R, V) each
    buffer = torch.empty(parts[0].shape, device=logits.device)
    norms, counts = [], []
    for part in parts:
        scratch = buffer[: part.shape[0]]
        counts.append(torch.count_nonzero(torch.sub(part, part, out=scratch)))
        torch.sub(part, part.mean(-1, keepdim=True, dtype=torch.float32), out=scratch)
        norms.append(torch.linalg.vector_norm(scratch, dim=-1).sum())
    return {
        "logit_std": torch.stack(norms).sum() / (idx.numel() * math.sqrt(logits.shape[-1])),
        "nonfinite": torch.stack(counts).sum(),
        "loss": loss,
        "loss_excess": loss - math.log(logits.shape[-1]),
        "copy_logit": copy_logit(logits, idx),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Attention:
    """The arguments of one scaled_dot_product_attention call, or the scores before a softmax.

    Attributes:
        query: (B, nh, T, hs).
        key: (B, n_kv_head, S, hs); nh is a multiple of n_kv_head.
        scores: (B, nh, T, S) with the lowest numbers of their dtype, or -inf, where a key may not
            be seen; in place of all others.
        mask: boolean (True: allowed) or additive, broadcastable to (B, nh, T, S); or None.
        causal: whether query i may see keys 0 to i only.
        scale: factor on the scores; None means 1/sqrt(hs).
    """

    query: Tensor | None = None
    key: Tensor | None = None
    scores: Tensor | None = None
    mask: Tensor | None = None
    causal: bool = False
    scale: float | None = None


def score_statistics(attention: Attention, rows: Tensor) -> dict[str, Tensor]:
    """Std and maximum of the allowed scores on some query rows, and entropy of the weights.

    Entropy is relative, H(row) / ln(allowed keys), averaged over heads and over rows with two or
    more allowed keys; absent where no row has two.

    Shape:
        query: (B, nh, T, hs); key: (B, n_kv_head, S, hs); rows: (R,) positions; results: ().
    """
    scores, allowed = _scores(attention, rows)  # (B, nh, R, S); broadcastable to it
    heads = scores.shape[:2].numel() // allowed.shape[:2].numel()  # that share a row of `allowed`
    keys, barred = allowed.sum(-1, keepdim=True), ~allowed  # (.., R, 1), (.., R, S)
    pairs = keys.sum() * heads
    blocked = scores.masked_fill(barred, -torch.inf)
    mean = scores.masked_fill(barred, 0.0).sum() / pairs
    spread = (scores - mean).masked_fill_(barred, 0.0).square().sum() / pairs
    values = {"attn_score_std": spread.sqrt(), "attn_score_max": blocked.max()}
    if allowed.shape[-1] > 1:
        # H = ln sum e^s - sum p s, so only the weights of allowed keys enter.
        weights = torch.softmax(blocked, -1)
        held = (weights * scores).masked_fill_(barred, 0.0).sum(-1, keepdim=True)
        entropy = torch.logsumexp(blocked, -1, keepdim=True) - held  # (B, nh, R, 1)
        several = keys > 1
        relative = (entropy / keys.clamp(min=2).log()).masked_fill_(~several, 0.0)
        values["attn_entropy"] = relative.sum() / (several.sum() * heads)
    return values


def _scores(attention: Attention, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of the query rows, (B, nh, R, S), and which are allowed, (1, 1, R, S) or more."""
    if attention.scores is not None:
        scores = attention.scores.index_select(2, rows)
        scores = scores.float()
        return scores, _unmasked(scores)
    query, key = attention.query, attention.key
    assert query is not None  # one of the two is there
    assert key is not None
    length = query.shape[2]
    scale = query.shape[-1] ** -0.5 if attention.scale is None else attention.scale
    query = query.index_select(2, rows).float()
    if key.shape[1] != query.shape[1]:  # grouped-query attention: one key head for several queries
        key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = query @ key.float().transpose(-1, -2) * scale
    allowed = torch.ones(1, 1, *scores.shape[2:], dtype=torch.bool, device=rows.device)
    if attention.causal:
        keys = torch.arange(scores.shape[-1], device=rows.device)
        allowed = (keys <= rows.unsqueeze(1))[None, None]
    if attention.mask is not None:
        mask = attention.mask.expand(*scores.shape[:2], length, -1)
        mask = mask.index_select(2, rows)
        if mask.dtype == torch.bool:
            allowed = allowed & mask
        else:
            allowed = allowed & _unmasked(mask.float())
            scores = scores + mask.float()
    return scores, allowed


def _unmasked(scores: Tensor) -> Tensor:
    """Which keys a query may attend to: those whose score is not far below the row's best.

    Masks are -inf, the lowest number of a dtype, or -1e4 (OpenAI-GPT): e^-5000 is 0 all the same.

    Shape:
        scores: (..., S) float32; result: the same, bool.
    """
    return scores > scores.amax(-1, keepdim=True) - _MASKED
