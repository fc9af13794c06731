"""The sites of a model: its blocks, the branches inside, and the calls of attention."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gptinit.errors import SubjectError
from gptinit.stats import Attention

__all__ = ["AttentionProbe", "BlockSites", "find_blocks"]

_ATTENTION_NAMES = ("attn", "self_attn", "attention")
_MLP_NAMES = ("mlp", "feed_forward", "ffn")


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSites:
    """One layer: the stream enters and leaves `block`; `attn` and `mlp` return the branches."""

    block: nn.Module
    attn: nn.Module
    mlp: nn.Module


def find_blocks(module: nn.Module) -> tuple[BlockSites, ...]:
    """The blocks of a model in forward order: the longest ModuleList whose members have branches.

    Raises:
        SubjectError: if there is none.
    """
    lists = [m for m in module.modules() if isinstance(m, nn.ModuleList) and len(m)]
    for candidates in sorted(lists, key=len, reverse=True):
        found = [_block_sites(block) for block in candidates]
        if all(found):
            return tuple(site for site in found if site is not None)
    raise SubjectError(
        f"model must have a list of repeated blocks, each with an attention "
        f"({', '.join(_ATTENTION_NAMES)}) and an MLP ({', '.join(_MLP_NAMES)}), "
        f"got none in {type(module).__name__}."
    )


def _block_sites(block: nn.Module) -> BlockSites | None:
    """The branches of one block, by the names of its children; None without both."""
    children = dict(block.named_children())
    attn = next((children[n] for n in _ATTENTION_NAMES if n in children), None)
    mlp = next((children[n] for n in _MLP_NAMES if n in children), None)
    return BlockSites(block=block, attn=attn, mlp=mlp) if attn and mlp else None


class AttentionProbe(TorchFunctionMode):
    """While on, hands every call of scaled_dot_product_attention to `seen` before it runs."""

    def __init__(self, seen: Callable[[Attention], None]) -> None:
        super().__init__()
        self._seen, self._is_on = seen, False

    def on(self) -> None:
        """Start listening; every torch function now takes some microseconds longer."""
        self.__enter__()  # type: ignore[no-untyped-call]
        self._is_on = True

    def off(self) -> None:
        """Stop listening, if it does."""
        if self._is_on:
            self._is_on = False
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Report the call, then make it."""
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self._seen(_attention(*args, **kwargs))
        return func(*args, **kwargs)


def _attention(  # noqa: PLR0913, PLR0917 - the arguments of scaled_dot_product_attention
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Attention:
    """The call's arguments by name."""
    return Attention(query=query, key=key, mask=attn_mask, causal=is_causal, scale=scale)
