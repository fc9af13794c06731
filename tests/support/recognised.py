# a forward is documented by its class
"""Decoders of FOREIGN's shape with parts of a test's own, and what theory reads in them."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gptinit.api.prediction import theory_of
from gptinit.measure.subject import Subject
from gptinit.measure.traced_subject import traced_subject
from gptinit.theory import TheoryModel
from support.foreign_models import NH, Attention, Block, C, Decoder, T, factory


def subject_of(build: Callable[[], nn.Module]) -> Subject:
    """A model of which nothing is known."""
    return traced_subject(factory(build))


def model_of(build: Callable[[], nn.Module]) -> TheoryModel:
    """What theory knows of it."""
    theory = theory_of(subject_of(build))
    assert isinstance(theory, TheoryModel), theory
    return theory


def with_attention(attend: Callable[[Any, Any, Any], Any]) -> type[Decoder]:
    """The pre-norm decoder with another function of q, k and v, (B, nh, T, hs) each."""

    class Other(Attention):
        def forward(self, x: Any) -> Any:
            q, k, v = (
                t.unflatten(-1, (NH, -1)).transpose(1, 2) for t in self.c_attn(x).split(C, -1)
            )
            return self.c_proj(attend(q, k, v).transpose(1, 2).flatten(2))

    class Model(Decoder):
        block = staticmethod(lambda: Block(attn=Other))

    return Model


def scores_of(q: Tensor, k: Tensor) -> Tensor:
    """Scaled scores, (B, nh, T, T)."""
    return q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])


def softmax(scores: Tensor, v: Tensor, window: int = T) -> Tensor:
    """Causal attention with some scores; keys as far back as a window."""
    size = scores.shape[-1]
    allowed = torch.ones(size, size, dtype=torch.bool).tril().triu(1 - window)
    return scores.masked_fill(~allowed, -math.inf).softmax(-1) @ v
