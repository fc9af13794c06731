"""Whether a model treats many tokens as it treats eight: no window, no other angles.

A pass over more tokens is recorded, not computed. Besides tokens and parameters it must read what
the pass over eight reads: the same operators and numbers, tables that begin with the same rows,
and masks that exclude later positions and nothing else.
"""

from collections.abc import Mapping
from itertools import zip_longest

import torch
from torch import Tensor, nn

from gptinit.forward.graph import Graph
from gptinit.forward.observe import Observation, observe_longer
from gptinit.forward.values import Uncomputable
from gptinit.recognise.evaluate import constants
from gptinit.trace.record.tensor import TracedTensor

__all__ = ["LONGEST", "longest_alike"]

LONGEST = 2048
"""Most tokens that are tried."""


def longest_alike(
    module: nn.Module,
    seen: Observation,
    most: int,
    weights: Mapping[str, TracedTensor] | None = None,
) -> int:
    """The first of `most`, half of it, a quarter ... tokens that are treated as the eight are.

    Args:
        module: with traced parameters, or a live one.
        seen: its pass on eight tokens.
        most: number of tokens to try first.
        weights: traced tensors in place of the parameters and buffers of a live one.
    """
    few = seen.ids.numel()
    while most > few:
        graph = observe_longer(module, seen, most, weights)
        if graph is not None and _is_alike(seen.graph, graph, few, most):
            return most
        most //= 2
    return few


def _is_alike(short: Graph, long: Graph, few: int, most: int) -> bool:
    try:
        pairs = zip_longest(constants(short), constants(long))
        return all(_continues(a, b, few, most) for a, b in pairs)
    except Uncomputable:
        return False


def _continues(short: object, long: object, few: int, most: int) -> bool:
    if not isinstance(short, Tensor) or not isinstance(long, Tensor):
        return type(short) is type(long) and short == long
    if short.ndim != long.ndim:
        return False
    start = long[tuple(slice(size) for size in short.shape)]
    if start.shape != short.shape or not _equal(start, short):
        return False
    if long.shape == short.shape:
        return True
    if long.shape[-2:] == (most, most) and short.shape[-2:] == (few, few):
        # A mask: one value where the key comes later, another everywhere else. A window shows.
        later = torch.ones(most, most, dtype=torch.bool).triu(1)
        expected = torch.where(later, short[..., :1, 1:2], short[..., :1, :1])
        return _equal(long, expected.expand_as(long))
    return True


def _equal(a: Tensor, b: Tensor) -> bool:
    if not a.is_floating_point():
        return bool((a == b).all())
    return torch.allclose(a, b, rtol=1e-9, atol=1e-9)
