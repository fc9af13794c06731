"""The entries of a draw: by position if it has a law, else block by block.

A draw without a law (exponential_, bernoulli_ ...) is left to torch. Every _BLOCK of its entries
has its own generator, so that any block can be drawn without those before it.
"""

import math

import torch
from torch import Tensor

from gptinit.trace.graph import Node, reads_in
from gptinit.trace.replay.noise import draw_at

__all__ = ["draw_by_key", "drawn_entries", "has_blocks", "random_operator"]

_BLOCK = 1 << 12
_MASK = (1 << 63) - 1  # seeds must be below 2^63
_ODD = 0x9E3779B97F4A7C15  # spreads the numbers of blocks over the bits of a seed


def _seeded(node: Node, block: int = 0) -> torch.Generator:
    """A generator seeded for one block of a draw."""
    return torch.Generator().manual_seed((node.key ^ (block * _ODD)) & _MASK)


def draw_by_key(node: Node) -> Tensor:
    """All entries of a draw, by its key."""
    if node.law is not None:
        values = draw_at(node.law, node.key, torch.arange(node.numel))
        return values.to(node.dtype).view(node.shape)
    if not has_blocks(node):
        return random_operator(node, node.shape, _seeded(node))
    blocks = [_block(node, index) for index in range(math.ceil(node.numel / _BLOCK))]
    return torch.cat([torch.empty(0, dtype=node.dtype), *blocks])[: node.numel].view(node.shape)


def drawn_entries(node: Node, positions: Tensor) -> Tensor:
    """Entries of a draw that `has_blocks`, equal to those of `draw_by_key`; (M,)."""
    out = torch.empty(positions.shape, dtype=node.dtype)
    blocks = positions // _BLOCK
    for index in blocks.unique().tolist():
        here = blocks == index
        out[here] = _block(node, index)[positions[here] - index * _BLOCK]
    return out


def has_blocks(node: Node) -> bool:
    """Whether a draw without a law treats all entries alike, so that blocks can be drawn alone."""
    is_alike = not any(isinstance(a, Tensor) for a in (*node.args, *node.kwargs.values()))
    return node.op._schema.is_mutable and is_alike and not reads_in(node)


def random_operator(node: Node, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """A draw that has no law of ours, run by torch on a tensor of `shape`."""
    if not node.op._schema.is_mutable:
        return _functional(node, generator)
    out = torch.empty(shape, dtype=node.dtype)
    made: Tensor = node.op(out, *node.args, **node.kwargs, generator=generator)
    return made


def _functional(node: Node, generator: torch.Generator) -> Tensor:
    with torch.random.fork_rng(devices=[]):  # it may take no generator but the global one
        torch.default_generator.manual_seed(generator.initial_seed())
        made: Tensor = node.result(node.op(*node.args, **node.kwargs))
    return made


def _block(node: Node, index: int) -> Tensor:
    return random_operator(node, (_BLOCK,), _seeded(node, index))
