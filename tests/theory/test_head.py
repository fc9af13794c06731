"""Logits of a head against sampled ones and closed forms."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.predictions import base

from gptinit.theory import Moments
from gptinit.theory.head import logits_of

C = 64


@pytest.mark.parametrize(
    ("share", "changes"),
    [
        (0.1, {}),
        (0.5, {}),
        (0.9, {}),
        (1.0, {}),
        (0.9, {"embedding_multiplier": 8.0}),
        (0.5, {"embedding_multiplier": 0.25, "logit_multiplier": 3.0}),
        (0.9, {"logit_multiplier": 0.5, "final_norm_weight": Moments(2.0, 0.0)}),
    ],
)
def test_the_own_token_s_logit_has_the_mean_and_spread_of_sampled_ones(
    share: float, changes: dict[str, Any]
) -> None:
    """An RMS-normed stream of its token's embedding and noise, both normal."""
    width, std, draws = 256, 0.1, 20_000
    embedding = Moments(0.0, std)
    plain = replace(base(), n_embd=width, tok_emb=embedding, lm_head=embedding, norm_eps=0.0)
    model = replace(plain, tied=True, **changes)
    square = (model.embedding_multiplier * std) ** 2 / share
    rng = np.random.default_rng(0)
    token = std * rng.standard_normal((draws, width))
    noise = math.sqrt(square * (1 - share)) * rng.standard_normal((draws, width))
    stream = model.embedding_multiplier * token + noise
    sampled = (stream * token).sum(1) / np.sqrt((stream**2).mean(1))
    sampled *= model.logit_multiplier * model.final_norm_weight.mean

    found = logits_of(np.array([[square]], dtype=np.float32), model)

    assert found.held[0] == pytest.approx(share)
    # 5 standard errors of a mean and of a std, the latter of a nearly normal number. The mean of a
    # ratio of two sums over the channels is off by up to 1 / width.
    assert (
        abs(found.own[0] - sampled.mean()) < 5 * sampled.std() / draws**0.5 + found.own[0] / width
    )
    assert found.own_std[0] == pytest.approx(sampled.std(), rel=5 / (2 * draws) ** 0.5)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("changes", "std"),
    [
        # A normalised stream has the square 64, a head of std 1/4 makes 64 / 16 = 4 of it.
        ({}, 2.0),
        ({"logit_multiplier": 3.0}, 6.0),
        # E w^2 = 1.25^2 + 0.75^2 = 2.125, and a bias of square 0.125 in every channel: 2.25 x 4.
        ({"final_norm_weight": Moments(1.25, 0.75), "final_norm_bias": Moments(0.125**0.5)}, 3.0),
        # The head's bias adds its own square, 12, which is multiplied with the logit.
        ({"lm_head_bias": Moments(0.0, 12**0.5), "logit_multiplier": 0.5}, 2.0),
        ({"norm_eps": 3.0}, 1.0),
        ({"embedding_multiplier": 5.0}, 2.0),
    ],
)
def test_another_token_s_logit_has_the_std_of_its_closed_form(
    changes: dict[str, Any], std: float, tied: bool
) -> None:
    drawn = Moments(0.0, 0.25)
    plain = replace(base(), n_embd=C, tok_emb=drawn, lm_head=drawn, norm_eps=0.0)
    model = replace(plain, tied=tied, **changes)

    # A stream of square 1, of which eps = 3 would leave a quarter.
    found = logits_of(np.eye(2, dtype=np.float32), model)

    assert found.std == pytest.approx([std, std])
    assert found.scale == pytest.approx([1 / math.sqrt(1 + model.norm_eps)] * 2)


def test_a_head_of_its_own_does_not_know_the_token_of_its_position() -> None:
    model = replace(base(), tied=False, tok_emb=Moments(0.0, 1.0), embedding_multiplier=3.0)

    found = logits_of(np.eye(2, dtype=np.float32), model)

    assert found.own.tolist() == found.held.tolist() == [0.0, 0.0]
    assert found.own_std.tolist() == found.std.tolist()


def test_a_stream_that_holds_more_than_itself_holds_itself() -> None:
    # What follows a norm is taken as no more than the stream, where branches cancel the token.
    model = replace(base(), n_embd=C, tok_emb=Moments(0.0, 1.0), norm_eps=0.0)

    assert logits_of(np.full((1, 1), 0.25, dtype=np.float32), model).held.tolist() == [1.0]


@pytest.mark.parametrize(("rows", "counted"), [(16, 16), (97, 97), (1000, 97)])
def test_the_spread_over_few_rows_is_that_of_as_many_normals(rows: int, counted: int) -> None:
    """E of the std of n normals of std 2, over n: 2 sqrt(2 / n) G(n / 2) / G((n - 1) / 2)."""
    drawn = Moments(0.0, 0.25)
    model = replace(base(), n_embd=C, tied=False, lm_head=drawn, norm_eps=0.0)
    log_ratio = math.lgamma(counted / 2) - math.lgamma((counted - 1) / 2)
    expected = 2 * math.sqrt(2 / counted) * math.exp(log_ratio)

    logits = logits_of(np.eye(3, dtype=np.float32), model)

    # The expansion in 1 / n is cut after its first term: 0.9 / n^2.
    assert logits.spread(rows, 97) == pytest.approx(expected, rel=1 / counted**2)
    assert logits.spread(1, 97) == 0.0


@pytest.mark.parametrize("rows", [20, 40])
def test_the_spread_counts_the_own_token_as_often_as_it_is_among_the_rows(rows: int) -> None:
    """A tied head of 40 tokens on its own embedding: own logit about 16, others of std 2."""
    drawn, draws, vocabulary = Moments(0.0, 0.25), 20_000, 40
    model = replace(base(), n_embd=C, tied=True, tok_emb=drawn, lm_head=drawn, norm_eps=0.0)
    rng = np.random.default_rng(0)
    sampled = 2 * rng.standard_normal((draws, rows))
    is_among = rng.random(draws) < rows / vocabulary
    own = 8 * np.linalg.norm(rng.standard_normal((draws, C)), axis=1) / 4  # sqrt(C) |embedding|
    sampled[:, 0] = np.where(is_among, own, sampled[:, 0])

    logits = logits_of(np.full((1, 1), 1 / 16, dtype=np.float32), model)

    assert logits.own == pytest.approx([16])
    assert logits.spread(rows, vocabulary) == pytest.approx(sampled.std(1).mean(), rel=0.02)
