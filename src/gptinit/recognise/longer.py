"""Whether a model does with many tokens what it does with eight: no window, no angles of its own.

A pass over more tokens is recorded, not computed, and what it reads besides tokens and parameters
is held against that of eight: the same operators and numbers, tables that go on as they began, and
masks that bar what comes later and nothing else.
"""

from collections.abc import Mapping
from itertools import zip_longest

import torch
from torch import Tensor, nn

from gptinit.forward.graph import Graph
from gptinit.forward.observe import Observation, observe_longer
from gptinit.recognise.evaluate import Uncovered, constants
from gptinit.trace.record.tensor import TracedTensor

__all__ = ["LONGEST", "longest_alike"]

LONGEST = 2048
"""Tokens that are looked at at most."""


def longest_alike(
    module: nn.Module,
    seen: Observation,
    most: int,
    weights: Mapping[str, TracedTensor] | None = None,
) -> int:
    """The most tokens, of `most` and its halves, with which a model does what it does with eight.

    Args:
        module: with traced parameters, or a live one.
        seen: its pass on eight tokens.
        most: tokens to begin with.
        weights: traced tensors that stand for the parameters and buffers of a live one.
    """
    few = seen.ids.numel()
    while most > few:
        graph = observe_longer(module, seen, most, weights)
        if graph is not None and _is_alike(seen.graph, graph, few, most):
            return most
        most //= 2
    return few


def _is_alike(short: Graph, long: Graph, few: int, most: int) -> bool:
    """Whether two passes read the same besides tokens."""
    try:
        return all(
            _goes_on(one, other, few, most)
            for one, other in zip_longest(constants(short), constants(long))
        )
    except Uncovered:
        return False


def _goes_on(one: object, other: object, few: int, most: int) -> bool:
    """Whether something read by the longer pass begins as that of the shorter one."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return type(one) is type(other) and one == other
    if one.ndim != other.ndim:
        return False
    begins = other[tuple(slice(size) for size in one.shape)]
    if begins.shape != one.shape or not _equal(begins, one):
        return False
    if other.shape == one.shape:
        return True
    if other.ndim >= 2 and other.shape[-2:] == (most, most) and one.shape[-2:] == (few, few):
        later = torch.ones(most, most, dtype=torch.bool).triu(1)
        expected = torch.where(later, one[..., :1, 1:2], one[..., :1, :1])
        return _equal(other, expected.expand_as(other))
    return True


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether all entries are the same, to the precision of angles in float32."""
    if one.dtype == torch.bool or not one.is_floating_point():
        return bool((one == other).all())
    return torch.allclose(one, other, rtol=1e-9, atol=1e-9)
