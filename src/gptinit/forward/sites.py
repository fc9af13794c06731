"""Hook points of a model: its blocks and the branches inside."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from torch import Tensor, nn

from gptinit.errors import SubjectError

__all__ = [
    "BlockSites",
    "Site",
    "find_blocks",
    "named_blocks",
    "named_tensors",
    "tensors_in",
]

_ATTENTION_NAMES = ("attn", "self_attn", "attention")
_MLP_NAMES = ("mlp", "feed_forward", "ffn")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A hook point: an input or output tensor of a module.

    Attributes:
        path: name of the module in its model.
        side: "input" or "output".
        leaf: which of the tensors there, in order.
        call: which of the module's calls in one forward pass, where it runs several times; None
            means each.
        factor: what the tensor is multiplied by before it meets the stream.
    """

    path: str
    side: str = "output"
    leaf: int = 0
    call: int | None = None
    factor: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSites:
    """One layer.

    Attributes:
        path: name of the block in its model.
        before: the stream that enters; None where no module takes or returns it.
        after: the stream after the last branch has been added.
        attn: the output of attention, as it is added.
        mlp: the output of the MLP, as it is added.
    """

    path: str
    before: Site | None
    after: Site | None
    attn: Site | None
    mlp: Site | None


def find_blocks(module: nn.Module) -> tuple[BlockSites, ...]:
    """The blocks of a model in forward order: the longest ModuleList whose members have branches.

    Raises:
        SubjectError: if there is none.
    """
    lists = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.ModuleList) and len(m)]
    for path, candidates in sorted(lists, key=lambda item: len(item[1]), reverse=True):
        blocks = [_block_sites(f"{path}.{i}", block) for i, block in enumerate(candidates)]
        if all(blocks):
            return tuple(block for block in blocks if block is not None)
    raise SubjectError(
        f"model must have a list of repeated blocks, each with an attention "
        f"({', '.join(_ATTENTION_NAMES)}) and an MLP ({', '.join(_MLP_NAMES)}), "
        f"got none in {type(module).__name__}."
    )


def _block_sites(path: str, block: nn.Module) -> BlockSites | None:
    """The sites of one block, by the names of its children; None without both branches."""
    children = dict(block.named_children())
    attn = next((n for n in _ATTENTION_NAMES if n in children), None)
    mlp = next((n for n in _MLP_NAMES if n in children), None)
    if attn is None or mlp is None:
        return None
    return BlockSites(
        path=path,
        before=Site(path=path, side="input"),
        after=Site(path=path),
        attn=Site(path=f"{path}.{attn}"),
        mlp=Site(path=f"{path}.{mlp}"),
    )


def named_blocks(
    module: nn.Module, path: str, *, attn: str | None = None, mlp: str | None = None
) -> tuple[BlockSites, ...]:
    """The blocks that a user names: the children of one module, and the branches inside each.

    Args:
        module: the model.
        path: path of the list of blocks, such as "transformer.h".
        attn: path in a block of the module that returns the output of attention.
        mlp: path in a block of the module that returns the output of the MLP.

    Raises:
        SubjectError: if there is no such module.
    """
    try:
        container = module.get_submodule(path)
        children = [n for n, _ in container.named_children()]
        for child in children:
            for branch in filter(None, (attn, mlp)):
                container.get_submodule(f"{child}.{branch}")
    except AttributeError as error:
        raise SubjectError(
            f"sites must name modules of {type(module).__name__}, got {error}."
        ) from error
    if not children:
        raise SubjectError(f"{path} must be a list of blocks, got a module without children.")
    return tuple(
        BlockSites(
            path=f"{path}.{child}",
            before=Site(path=f"{path}.{child}", side="input"),
            after=Site(path=f"{path}.{child}"),
            attn=Site(path=f"{path}.{child}.{attn}") if attn else None,
            mlp=Site(path=f"{path}.{child}.{mlp}") if mlp else None,
        )
        for child in children
    )


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors in a nest of tuples, lists, mappings and dataclasses, in order."""
    return [tensor for _, tensor in named_tensors(value)]


def named_tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """(key or field, tensor) of all tensors in a nest, in order; `name` for those without a key."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from named_tensors(item, str(key))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from named_tensors(item, name)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from named_tensors(getattr(value, field.name), field.name)
