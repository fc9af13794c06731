"""A deep model cut to one block of every kind for one pass: equal blocks have equal roles."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

__all__ = ["shortened"]

_FEW = 6
"""Length up to which a list of blocks is left whole."""


@contextmanager
def shortened(
    module: nn.Module, is_zero: Callable[[Tensor], bool] = lambda _: False
) -> Iterator[Mapping[str, tuple[str, str]]]:
    """Keep only the first and the last block of every kind in long lists, inside the block.

    Args:
        module: the model.
        is_zero: whether a parameter starts as zeros: blocks that differ in that do not compute the
            same.

    Yields:
        path of each block that is left out -> those of the first and the last of its kind. A
        forward that counts its blocks may fail where there is one.
    """
    cut: list[tuple[nn.Module, dict[str, nn.Module | None], set[str]]] = []
    twins: dict[str, tuple[str, str]] = {}
    for path, child in module.named_modules():
        if isinstance(child, nn.ModuleList | nn.Sequential) and len(child) > _FEW:
            ends, lead = _ends(child._modules, is_zero), f"{path}." if path else ""
            kept = {name for pair in ends.values() for name in pair}
            cut.append((child, dict(child._modules), kept))
            out = ((name, pair) for name, pair in ends.items() if name not in kept)
            twins |= {f"{lead}{n}": (f"{lead}{first}", f"{lead}{last}") for n, (first, last) in out}
    try:
        for child, blocks, kept in cut:
            child._modules.clear()
            child._modules.update({n: block for n, block in blocks.items() if n in kept})
        yield twins
    finally:
        for child, blocks, _ in cut:
            child._modules.clear()
            child._modules.update(blocks)


def _ends(
    blocks: Mapping[str, nn.Module | None], is_zero: Callable[[Tensor], bool]
) -> dict[str, tuple[str, str]]:
    """Name of each block -> those of the first and the last block of its kind."""
    kinds = {name: _kind(block, is_zero) for name, block in blocks.items()}
    # The very last is the last of its kind, so it stays: a forward may read self.layers[-1].
    last = {kind: name for name, kind in kinds.items()}
    first = {kind: name for name, kind in reversed(kinds.items())}
    return {name: (first[kind], last[kind]) for name, kind in kinds.items()}


def _kind(block: nn.Module | None, is_zero: Callable[[Tensor], bool]) -> object:
    """Class, submodules, and parameters with their zeros: equal for blocks that compute alike."""
    if block is None:
        return None
    shapes = tuple((name, tuple(p.shape), is_zero(p)) for name, p in block.named_parameters())
    layout = tuple((name, type(m)) for name, m in block.named_modules())
    return type(block), shapes, layout
