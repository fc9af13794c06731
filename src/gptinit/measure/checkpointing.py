"""Blocks that run again for the backward pass, so that their activations need not be kept."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import nn

from gptinit.weights.policy import Installed

__all__ = ["entering_blocks"]


@contextmanager
def entering_blocks(
    module: nn.Module, blocks: Sequence[str], weights: Installed, *, again: bool
) -> Iterator[None]:
    """Tell `weights` whenever a block runs inside.

    Args:
        module: the model.
        blocks: paths of its blocks.
        weights: told of each.
        again: whether a backward pass is to run them again, one at a time, in place of keeping
            their activations.
    """
    changed: list[nn.Module] = []
    for path in dict.fromkeys(blocks):
        block = module.get_submodule(path)
        if "forward" in vars(block):  # someone else's: a block of its own
            continue
        announced = _twice if again and torch.is_grad_enabled() else _once
        block.forward = partial(announced, weights, path, block.forward)
        changed.append(block)
    try:
        yield
    finally:
        for block in changed:
            del block.forward


def _once(weights: Installed, path: str, forward: Any, *args: Any, **kwargs: Any) -> Any:
    """A block's own forward, announced."""
    weights.enter(path, rehearsal=False)
    output = forward(*args, **kwargs)
    weights.leave(path)
    return output


def _twice(weights: Installed, path: str, forward: Any, *args: Any, **kwargs: Any) -> Any:
    """The same with activations that are computed again when the backward pass needs them."""
    # Loaded here: it brings torch's compiler, a second and 80 MB that other runs need not pay.
    from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

    runs = count()

    def run(*args: Any, **kwargs: Any) -> Any:
        is_rehearsal = next(runs) == 0
        weights.enter(path, rehearsal=is_rehearsal)
        output = forward(*args, **kwargs)
        if is_rehearsal:
            weights.leave(path)
        return output

    # To the end: a lazy weight of the last operator must be asked again what it was asked.
    with set_checkpoint_early_stop(False):
        return checkpoint(run, *args, use_reentrant=False, **kwargs)
