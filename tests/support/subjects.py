"""Small models for tests."""

from typing import Any

import torch

from gptinit.config import GPTConfig
from gptinit.facts.schemes import get_scheme
from gptinit.measure.builtin_subject import builtin_subject
from gptinit.measure.subject import Subject
from gptinit.weights.dense import install_dense
from gptinit.weights.draws import Draws

TINY: dict[str, Any] = {
    "n_layer": 3,
    "n_head": 4,
    "n_embd": 32,
    "block_size": 48,
    "vocab_size": 101,
}
"""A shape that runs in milliseconds."""


def tiny_subject(scheme: str = "nanogpt", **shape: Any) -> Subject:
    """A tiny built-in GPT under a scheme."""
    config = GPTConfig(**{**TINY, **shape})
    return builtin_subject(config, get_scheme(scheme), name="tiny", source="tests")


def dense_module(subject: Subject, *, seed: int = 0) -> torch.nn.Module:
    """Its module with the weights of one seed."""
    module = subject.build()
    install_dense(module, subject.program, cpu_draws(seed))
    return module


def cpu_draws(seed: int = 0, dtype: torch.dtype = torch.float32) -> Draws:
    """The draws of one seed on the CPU."""
    return Draws(seed=seed, device=torch.device("cpu"), dtype=dtype)
