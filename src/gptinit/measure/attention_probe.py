"""Recording the arguments of every attention call, wherever a model makes it.

A TorchFunctionMode sees each call of a torch function that model code makes. It does not see inside
F.multi_head_attention_forward, which nn.MultiheadAttention calls: torch switches modes off there.
For the time of that one call the two functions that it looks up by name are replaced: see
`_recorded_inside`.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gptinit.measure.statistics import Attention

__all__ = ["AttentionProbe"]

_SOFTMAXES = frozenset({F.softmax, torch.softmax, Tensor.softmax})


class AttentionProbe(TorchFunctionMode):
    """Calls `record` with the arguments of every attention call while it is on, before that runs.

    An attention call is scaled_dot_product_attention, or a softmax over (B, nh, T, S) scores.
    """

    def __init__(self, record: Callable[[Attention], None]) -> None:
        super().__init__()
        self._record, self._is_on = record, False

    def on(self) -> None:
        """Start recording, if off; every torch function then takes microseconds longer."""
        if self._is_on:
            return
        self.__enter__()  # type: ignore[no-untyped-call]
        self._is_on = True

    def off(self) -> None:
        """Stop recording, if on."""
        if self._is_on:
            self._is_on = False
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Record the call if it is attention, then make it."""
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            self._record(_attention(*args, **kwargs))
        elif func in _SOFTMAXES:
            self._record_scores(args[0] if args else kwargs["input"])
        elif func is F.multi_head_attention_forward:
            heads = kwargs["num_heads"] if "num_heads" in kwargs else args[4]
            with _recorded_inside(
                self._record, lambda scores: self._record_scores(scores.unflatten(0, (-1, heads)))
            ):
                return func(*args, **kwargs)
        return func(*args, **kwargs)

    def _record_scores(self, scores: Tensor) -> None:
        """Record what goes into a softmax, if it has the shape of scores."""
        if scores.ndim == 4 and scores.shape[-1] >= scores.shape[-2]:
            self._record(Attention(scores=scores))


_PATCHING = threading.RLock()
"""Held while functions of torch are replaced: two threads that restored each other's replacements
would leave one behind."""


@contextmanager
def _recorded_inside(
    record: Callable[[Attention], None], record_scores: Callable[[Tensor], None]
) -> Iterator[None]:
    """Record the operators that F.multi_head_attention_forward calls in this thread.

    It computes attention by functions of torch.nn.functional that it looks up when it runs, with no
    mode on, and has no hook between them: replacing these functions is the only way to its scores.
    """
    with _PATCHING:
        attend, soften, thread = F.scaled_dot_product_attention, F.softmax, threading.get_ident()

        def attended(*args: Any, **kwargs: Any) -> Tensor:
            if threading.get_ident() == thread:
                record(_attention(*args, **kwargs))
            return attend(*args, **kwargs)

        def softened(scores: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if threading.get_ident() == thread:
                record_scores(scores)
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
    return Attention(query=query, key=key, mask=attn_mask, causal=is_causal, scale=scale)
