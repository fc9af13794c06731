"""The parameters of an attention layer are read from what it computes, whatever its code."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch.nn.functional as F
from support.foreign_models import NH, C
from support.recognised import model_of, scores_of, softmax, with_attention


def fused(q: Any, k: Any, v: Any, scale: float | None = None) -> Any:
    """Torch's own operator."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)


UNSCALED = math.sqrt(C / NH)
"""Scores without a scale: 1 over 1 / sqrt(head_dim)."""


@pytest.mark.parametrize(
    ("attend", "ratio"),
    [
        (lambda q, k, v: fused(q, k, v), 1.0),
        (lambda q, k, v: fused(q, k, v, scale=1.0), UNSCALED),
        (lambda q, k, v: fused(q * 3, k, v), 3.0),
        (lambda q, k, v: fused(q, k * 3, v), 3.0),
        (lambda q, k, v: fused(q * 3, k / 12, v, scale=1.0), UNSCALED / 4),
        (lambda q, k, v: softmax(q @ k.transpose(-1, -2), v), UNSCALED),
        (lambda q, k, v: softmax((q / 4) @ k.transpose(-1, -2), v), UNSCALED / 4),
        (lambda q, k, v: softmax(q @ (k / 4).transpose(-1, -2), v), UNSCALED / 4),
        (lambda q, k, v: softmax(q @ k.transpose(-1, -2) / 4, v), UNSCALED / 4),
        (lambda q, k, v: softmax(scores_of(q * 2, k * 3) / 4, v), 1.5),
        # Of the scale of muP: 1 / head_dim.
        (lambda q, k, v: fused(q, k, v, scale=NH / C), 1 / UNSCALED),
    ],
    ids=[
        "usual", "without a scale", "queries, fused", "keys, fused", "all three, fused",
        "without a scale by hand", "queries", "keys", "scores", "all three", "over head_dim",
    ],
)  # fmt: skip
def test_the_scale_of_scores_is_read_wherever_it_stands(
    attend: Callable[..., Any], ratio: float
) -> None:
    assert model_of(with_attention(attend)).score_ratio == pytest.approx(ratio, rel=1e-6)
