"""Gradients along the stream under a tied head, against numbers by hand and explicit vectors."""

from dataclasses import replace

import numpy as np
import pytest
from support.predictions import base

from gptinit.theory import Moments
from gptinit.theory.coherence import Coherence, coherence_of
from gptinit.theory.head import Logits, Softmax


def test_the_loss_sends_back_the_own_token_s_embedding_and_takes_out_the_target_s() -> None:
    """Tokens 1, 2, 1 before 2, 1, 2: a gradient meets the stream where both hold one token.

    Per unit of probability they meet by 2 x 3 x 4 x E w^2 = 6, w of variance 1/4.
    """
    model = replace(
        base(), tied=True, tok_emb=Moments(0.0, 0.5), embedding_multiplier=3.0,
        logit_multiplier=2.0, final_norm_weight=Moments(4.0, 9.0),
    )  # fmt: skip
    zeros, scale = np.zeros(3), np.array([1.0, 2.0, 0.5])
    logits = Logits(std=zeros, own=zeros, own_std=zeros, held=zeros, scale=scale)
    softmax = Softmax(log_sum=zeros, own=np.array([0.5, 0.25, 0.75]), others=zeros)
    K = np.array([[4, 0, 2], [0, 4, 0], [2, 0, 4]], dtype=np.float32)

    found = coherence_of(K, logits, softmax, np.array([1, 2, 1, 2]), model)

    # 6 (p - y): rows 3 -6 3, -6 1.5 -6, 4.5 -6 4.5. Less what lies along the row's own stream,
    # diagonal / 4 = 0.75, 0.375, 1.125 times the row of K; times the scale.
    assert found.products == pytest.approx(
        np.array([[0, -6, 1.5], [-12, 0, -12], [1.125, -3, 0]]), abs=1e-6
    )
    assert found.coefficients == pytest.approx(np.diag([-0.75, -0.75, -0.5625]))


def test_a_branch_meets_its_own_output_in_a_gradient_along_the_stream() -> None:
    """Vectors in 24 channels: the stream in the first 8, what the branch adds in the next 8.

    The gradient is c (stream + added) and a rest that may lie along the stream, not along what
    was added; the branch sends back `sent` times the stream, nothing along a position's own.
    """
    T, C = 3, 24
    rng = np.random.default_rng(0)
    first, second, third = np.repeat(np.eye(3), 8, axis=1)
    x, added = rng.standard_normal((T, C)) * first, rng.standard_normal((T, C)) * second
    coefficients, sent = rng.standard_normal((2, T, T))
    gradient = coefficients @ (x + added) + rng.standard_normal((T, C)) * (first + third)

    branch = sent @ x
    along = (branch * x).sum(1) / (x * x).sum(1)
    after = gradient + branch - along[:, None] * x

    before = Coherence(coefficients=coefficients, products=gradient @ (x + added).T / C)
    found, energy = before.before(x @ x.T / C, added @ added.T / C, sent)

    assert found.coefficients == pytest.approx(coefficients + sent - np.diag(along))
    assert found.products == pytest.approx(after @ x.T / C)
    assert energy == pytest.approx((after @ after.T - gradient @ gradient.T) / C)
