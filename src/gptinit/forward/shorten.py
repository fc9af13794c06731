"""A deep model cut to one block of every kind for one pass: equal blocks have equal roles."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["shortened"]

_FEW = 6
"""Length up to which a list of blocks is left whole."""


@contextmanager
def shortened(module: nn.Module) -> Iterator[bool]:
    """Keep only the first block of every kind and the last in long lists, inside the block.

    Yields:
        whether anything was left out. A forward that counts its blocks may then fail.
    """
    cut: list[tuple[nn.Module, dict[str, nn.Module | None]]] = []
    for child in module.modules():
        if isinstance(child, nn.ModuleList | nn.Sequential) and len(child) > _FEW:
            cut.append((child, dict(child._modules)))
    try:
        for child, blocks in cut:
            kept = _kept(blocks)
            child._modules.clear()
            child._modules.update(kept)
        yield any(len(child._modules) < len(blocks) for child, blocks in cut)
    finally:
        for child, blocks in cut:
            child._modules.clear()
            child._modules.update(blocks)


def _kept(blocks: dict[str, nn.Module | None]) -> dict[str, nn.Module | None]:
    first: dict[object, str] = {}
    for name, block in blocks.items():
        first.setdefault(_kind(block), name)
    # The last too: a forward may read self.layers[-1].
    names = {*first.values(), next(reversed(blocks))}
    return {name: block for name, block in blocks.items() if name in names}


def _kind(block: nn.Module | None) -> object:
    """Class, submodules, parameter names and shapes: equal for blocks that compute the same."""
    if block is None:
        return None
    shapes = tuple((name, tuple(p.shape)) for name, p in block.named_parameters())
    layout = tuple((name, type(m)) for name, m in block.named_modules())
    return type(block), shapes, layout
