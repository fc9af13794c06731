"""Blocks that are recomputed for the backward pass, so that their activations need not be kept."""

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
    module: nn.Module, blocks: Sequence[str], weights: Installed, *, recompute: bool
) -> Iterator[None]:
    """Call `weights.enter` and `weights.leave` around every run of a block.

    Args:
        module: the model.
        blocks: paths of its blocks.
        weights: of the model.
        recompute: whether the backward pass recomputes the blocks' activations, one block at a
            time; otherwise they are kept.
    """
    changed: list[nn.Module] = []
    for path in dict.fromkeys(blocks):
        block = module.get_submodule(path)
        if "forward" in vars(block):  # replaced by the model itself: leave it
            continue
        run = _recomputed if recompute and torch.is_grad_enabled() else _once
        block.forward = partial(run, weights, path, block.forward)
        changed.append(block)
    try:
        yield
    finally:
        for block in changed:
            del block.forward


def _once(weights: Installed, path: str, forward: Any, *args: Any, **kwargs: Any) -> Any:
    weights.enter(path, rehearsal=False)
    output = forward(*args, **kwargs)
    weights.leave(path)
    return output


def _recomputed(weights: Installed, path: str, forward: Any, *args: Any, **kwargs: Any) -> Any:
    """The same, recomputed when the backward pass needs its activations."""
    # Imported here: it loads torch's compiler, a second and 80 MB that other runs do without.
    from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

    runs = count()

    def run(*args: Any, **kwargs: Any) -> Any:
        is_rehearsal = next(runs) == 0
        weights.enter(path, rehearsal=is_rehearsal)
        output = forward(*args, **kwargs)
        if is_rehearsal:
            weights.leave(path)
        return output

    # To the end: a lazy weight in the last operator must receive the same queries again.
    with set_checkpoint_early_stop(False):
        return checkpoint(run, *args, use_reentrant=False, **kwargs)
