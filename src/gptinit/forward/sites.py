"""Hook points of a model: its blocks and the branches inside."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from torch import Tensor, nn

from gptinit.errors import SubjectError

__all__ = ["BlockSites", "Site", "named_blocks", "named_tensors", "sites_of_block", "tensors_in"]


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
        also: names of further blocks of the same layer: its MLP, in a flat list.
        before: the stream that enters; None where no module takes or returns it.
        after: the stream that leaves; None likewise.
        presum: the sum that the norm closing a post-norm block receives; None for other blocks.
        attn: the output of attention, as it is added.
        mlp: the output of the MLP, as it is added.
    """

    path: str
    also: tuple[str, ...] = ()
    before: Site | None
    after: Site | None
    presum: Site | None = None
    attn: Site | None
    mlp: Site | None


def sites_of_block(path: str, *, attn: str | None, mlp: str | None) -> BlockSites:
    """The sites of the block at `path`, its branches in the modules of these names."""
    return BlockSites(
        path=path,
        before=Site(path=path, side="input"),
        after=Site(path=path),
        attn=Site(path=f"{path}.{attn}") if attn else None,
        mlp=Site(path=f"{path}.{mlp}") if mlp else None,
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
    return tuple(sites_of_block(f"{path}.{child}", attn=attn, mlp=mlp) for child in children)


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
