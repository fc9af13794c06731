"""How to call a model on token ids, and which of the tensors it returns are the logits."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from gptinit.errors import SubjectError
from gptinit.forward.sites import named_tensors

__all__ = ["Call", "call_model", "find_call"]

_TARGETS = ("targets", "target", "labels", "y")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One way to call a model.

    Attributes:
        keyword: name that the ids are passed by; None passes them first.
        targets: name of a further argument that takes the ids too, or None: some models compute
            all logits only where they have targets.
        also: names of further arguments that take the ids (a decoder's).
        fixed: arguments passed with a fixed value.
    """

    keyword: str | None = None
    targets: str | None = None
    also: tuple[str, ...] = ()
    fixed: tuple[tuple[str, object], ...] = ()


def call_model(
    module: nn.Module, call: Call, ids: Tensor, weights: Mapping[str, Tensor] | None = None
) -> Tensor:
    """The logits of a model.

    Args:
        module: the model.
        call: how to call it.
        ids: token ids.
        weights: replace its parameters and buffers in this call, if given.

    Shape:
        ids: (B, T); result: (B, T, V).

    Raises:
        SubjectError: if nothing that it returns has the shape of logits.
    """
    named = (*call.also, *filter(None, (call.targets, call.keyword)))
    kwargs: dict[str, Any] = dict.fromkeys(named, ids) | dict(call.fixed)
    args = () if call.keyword else (ids,)
    if weights is None:
        returned = module(*args, **kwargs)
    else:
        returned = functional_call(module, dict(weights), args, kwargs)
    logits = _logits(returned, ids)
    if logits is None:
        raise SubjectError(
            f"forward of {type(module).__name__} must return logits of shape (B, T, vocabulary), "
            "got none."
        )
    return logits


def find_call(module: nn.Module) -> Iterator[Call]:
    """Ways to call a model, by the names of its forward's arguments, the likeliest first."""
    names = inspect.signature(module.forward).parameters
    fixed = (("use_cache", False),) if "use_cache" in names else ()
    targets = next((n for n in _TARGETS if n in names), None)
    # By position where no name is certain: the first argument is what ids are passed as.
    keyword = "input_ids" if "input_ids" in names else None
    also = ("decoder_input_ids",) if keyword and "decoder_input_ids" in names else ()
    yield Call(keyword=keyword, fixed=fixed, also=also)
    if targets:
        yield Call(keyword=keyword, fixed=fixed, also=also, targets=targets)
    if keyword:
        yield Call(fixed=fixed)
    yield Call()


def _logits(returned: object, ids: Tensor) -> Tensor | None:
    candidates = list(named_tensors(returned))
    batch, length = ids.shape
    for name, tensor in sorted(candidates, key=lambda item: item[0] != "logits"):
        if tensor.is_floating_point() and tensor.ndim == 3 and tensor.shape[:2] == ids.shape:
            return tensor
        if tensor.is_floating_point() and tensor.ndim == 2 and tensor.shape[0] == batch * length:
            return tensor.view(batch, length, -1)
        if name == "logits":  # of another shape: no other tensor can be meant
            break
    return None
