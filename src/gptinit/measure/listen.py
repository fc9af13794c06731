"""Hooks at the sites of a model, and on its calls of attention."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from gptinit.forward.sites import Site, tensors_in
from gptinit.measure.statistics import Attention

__all__ = ["AttentionProbe", "listen"]


def listen(module: nn.Module, site: Site, hear: Callable[[Tensor], None]) -> RemovableHandle:
    """Call `hear` with the tensor at `site` whenever the model passes it.

    Calls of a module are counted from when this is called: listen to one forward pass at a time.
    """
    target = module.get_submodule(site.path)
    calls = count()

    def is_meant() -> bool:
        return site.call in {None, next(calls)}

    if site.side == "input":

        def before(m: nn.Module, args: Any, kwargs: Any) -> None:
            if is_meant():
                hear(tensors_in((args, kwargs))[site.leaf])

        return target.register_forward_pre_hook(before, with_kwargs=True)

    def after(m: nn.Module, args: Any, output: Any) -> None:
        if is_meant():
            hear(tensors_in(output)[site.leaf])

    return target.register_forward_hook(after)


_SOFTMAXES = frozenset({F.softmax, torch.softmax, Tensor.softmax})


class AttentionProbe(TorchFunctionMode):
    """While on, hands every call of attention to `seen` before it runs.

    That is scaled_dot_product_attention, or a softmax over (B, nh, T, S) scores.
    """

    def __init__(self, seen: Callable[[Attention], None]) -> None:
        super().__init__()
        self._seen, self._is_on = seen, False

    def on(self) -> None:
        """Start listening, if it does not; every torch function now takes microseconds longer."""
        if self._is_on:
            return
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
        elif func in _SOFTMAXES:
            self._see_scores(args[0] if args else kwargs["input"])
        elif func is F.multi_head_attention_forward:  # inside of which no mode is on
            heads = kwargs["num_heads"] if "num_heads" in kwargs else args[4]
            with self._hearing_inside(heads):
                return func(*args, **kwargs)
        return func(*args, **kwargs)

    def _see_scores(self, scores: Tensor) -> None:
        """What goes into a softmax, if it has the shape of scores."""
        if scores.ndim == 4 and scores.shape[-1] >= scores.shape[-2]:
            self._seen(Attention(scores=scores))

    @contextmanager
    def _hearing_inside(self, heads: int) -> Iterator[None]:
        """Hear the operators that nn.MultiheadAttention calls, while it does."""
        attend, soften = F.scaled_dot_product_attention, F.softmax

        def attended(*args: Any, **kwargs: Any) -> Tensor:
            self._seen(_attention(*args, **kwargs))
            return attend(*args, **kwargs)

        def softened(scores: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            self._see_scores(scores.unflatten(0, (-1, heads)))
            return soften(scores, *args, **kwargs)

        F.scaled_dot_product_attention = attended
        F.softmax = softened  # type: ignore[assignment] # torch names what comes after
        try:
            yield
        finally:
            F.scaled_dot_product_attention, F.softmax = attend, soften


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
