"""How to call a model on token ids, and which of the tensors it returns are the logits."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.func import functional_call

from gptinit.errors import ConfigError, SubjectError
from gptinit.forward.sites import named_tensors
from gptinit.user_code import defined_at

__all__ = ["Call", "Forward", "call_model", "find_call"]

Forward: TypeAlias = Callable[[nn.Module, Tensor], object]
"""(model, ids) to logits: how the user says that a model is called."""

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
        unbatched: whether it takes one sequence, without a batch axis.
        function: the user's way, (model, ids) to logits; nothing else counts then.
    """

    keyword: str | None = None
    targets: str | None = None
    also: tuple[str, ...] = ()
    fixed: tuple[tuple[str, object], ...] = ()
    unbatched: bool = False
    function: Forward | None = None

    def returned(self, module: nn.Module, ids: Tensor) -> object:
        """What the model returns.

        Raises:
            ConfigError: if it takes one sequence and there are several.
        """
        if self.function is not None:
            return self.function(module, ids)
        if self.unbatched:
            if len(ids) != 1:
                raise ConfigError(
                    f"batch_size must be 1 for {type(module).__name__}, which takes one sequence "
                    f"without a batch axis, got {len(ids)}."
                )
            ids = ids[0]
        named = (*self.also, *filter(None, (self.targets, self.keyword)))
        kwargs: dict[str, Any] = dict.fromkeys(named, ids) | dict(self.fixed)
        return module(*(() if self.keyword else (ids,)), **kwargs)


class _Called(nn.Module):
    """A model with the way to call it, as one module: weights of it can be replaced for a call."""

    def __init__(self, model: nn.Module, call: Call) -> None:
        super().__init__()
        self.model, self._call = model, call

    def forward(self, ids: Tensor) -> object:
        return self._call.returned(self.model, ids)


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
    if weights is None:
        returned = call.returned(module, ids)
    else:
        inside = {f"model.{name}": tensor for name, tensor in weights.items()}
        returned = functional_call(_Called(module, call), inside, (ids,))
    logits = _logits(returned, ids)
    if logits is None:
        what = f"forward of {type(module).__name__}"
        if call.function is not None:
            what = f"--forward ({defined_at(call.function)})"
        raise SubjectError(
            f"{what} must return logits of shape (B, T, vocabulary), got {_in_words(returned)} for "
            f"ids of shape {tuple(ids.shape)}."
        )
    return logits


def _in_words(returned: object) -> str:
    """What a model returned, by the shapes of its tensors."""
    shapes = [f"{str(t.dtype)[6:]} of shape {tuple(t.shape)}" for _, t in named_tensors(returned)]
    return " and ".join(shapes[:3]) or ("None" if returned is None else type(returned).__name__)


def find_call(module: nn.Module, function: Forward | None = None) -> Iterator[Call]:
    """Ways to call a model, by the names of its forward's arguments, the likeliest first.

    Args:
        module: the model.
        function: the user's way, which is the only one then.
    """
    if function is not None:
        yield Call(function=function)
        return
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
    yield Call(fixed=fixed, unbatched=True)


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
