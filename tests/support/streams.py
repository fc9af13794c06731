"""The residual stream of a GPT, recorded by hooks."""

from typing import Any

import torch
from torch import Tensor

from support.subjects import TINY

# One float32 operation rounds to 2^-24; a value here passes through some 40 dependent ones with
# sums of up to 128 terms, whose errors add as a random walk: 2^-24 * sqrt(40 * 128) = 4e-6.
FLOAT32_ROUNDING = 4e-6


def streams(module: torch.nn.Module, blocks: Any, idx: Tensor) -> list[Tensor]:
    """The stream into the first block and out of every block, by hooks."""
    seen: list[Tensor] = []
    handles = [blocks[0].register_forward_pre_hook(lambda m, args: seen.append(args[0]))]
    for block in blocks:
        handles.append(
            block.register_forward_hook(
                lambda m, args, out: seen.append(out[0] if isinstance(out, tuple) else out)
            )
        )
    with torch.no_grad():
        module(idx)
    for handle in handles:
        handle.remove()
    return seen


def tokens(batch: int = 2, length: int = 24) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(TINY["vocab_size"], (batch, length), generator=generator)
