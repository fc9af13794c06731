"""Logits of a tied head against sampled ones."""

from dataclasses import replace

import numpy as np
import pytest
from support.predictions import base

from gptinit.theory import Moments
from gptinit.theory.head import logits_of


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_the_own_token_s_logit_has_the_mean_and_spread_of_sampled_ones(share: float) -> None:
    """A stream of its token's embedding and noise, both normal, over its expected size."""
    C, std, draws = 64, 0.1, 20_000
    square = std**2 / share
    rng = np.random.default_rng(0)
    token = std * rng.standard_normal((draws, C))
    noise = np.sqrt(square - std**2) * rng.standard_normal((draws, C))
    sampled = ((token + noise) * token).sum(1) / np.sqrt(square)
    embedding = Moments(0.0, std)
    model = replace(base(), n_embd=C, tok_emb=embedding, lm_head=embedding, norm_eps=0.0)

    found = logits_of(np.array([[square]], dtype=np.float32), model)

    assert found.held[0] == pytest.approx(share)
    # 5 standard errors of a mean and of a std; the latter of a nearly normal number.
    assert abs(found.own[0] - sampled.mean()) < 5 * sampled.std() / draws**0.5
    assert found.own_std[0] == pytest.approx(sampled.std(), rel=5 / (2 * draws) ** 0.5)
