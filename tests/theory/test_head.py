"""Logits of a tied head against sampled ones."""

from dataclasses import replace

import numpy as np
import pytest
from support.predictions import base

from gptinit.theory import Moments
from gptinit.theory.head import logits_of


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_own_token_s_logit_has_the_mean_and_spread_of_sampled_ones(share: float) -> None:
    """An RMS-normed stream of its token's embedding and noise, both normal."""
    C, std, draws = 256, 0.1, 20_000
    square = std**2 / share
    rng = np.random.default_rng(0)
    token = std * rng.standard_normal((draws, C))
    stream = token + np.sqrt(square - std**2) * rng.standard_normal((draws, C))
    sampled = (stream * token).sum(1) / np.sqrt((stream**2).mean(1))
    embedding = Moments(0.0, std)
    model = replace(base(), n_embd=C, tok_emb=embedding, lm_head=embedding, norm_eps=0.0)

    found = logits_of(np.array([[square]], dtype=np.float32), model)

    assert found.held[0] == pytest.approx(share)
    # 5 standard errors of a mean and of a std, the latter of a nearly normal number. The mean of a
    # ratio of two sums over C channels is off by up to 1 / C.
    assert abs(found.own[0] - sampled.mean()) < 5 * sampled.std() / draws**0.5 + found.own[0] / C
    assert found.own_std[0] == pytest.approx(sampled.std(), rel=5 / (2 * draws) ** 0.5)
