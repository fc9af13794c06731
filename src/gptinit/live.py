"""A module that is already built: its parameters are measured, with standard errors."""

from hashlib import sha256

import torch
from torch import Tensor, nn

from gptinit.distributions import Measured
from gptinit.trace.graph import Read
from gptinit.trace.laws import Law, Laws, measured
from gptinit.trace.tensor import TracedTensor, traced

__all__ = ["LiveLaws", "digest", "stand_ins"]


class LiveLaws:
    """Measures what a trace would read; equal values have equal bases."""

    def __init__(self) -> None:
        self._fixed = Laws()

    def of(self, read: Read) -> Law:
        """The moments of a live tensor, or its value where all entries are equal."""
        node = read.whole_node()
        values = None if node is None else node.constant
        law = self._fixed.of(read)
        if values is None or values.numel() < 2 or law.distribution.kind != "fixed":
            return law
        found: Measured = measured(values)
        return Law(found, ("values", digest(values)))


def stand_ins(module: nn.Module) -> dict[str, TracedTensor]:
    """A traced tensor for every float parameter and buffer of a live module, sharing its memory."""
    made: dict[int, TracedTensor] = {}
    found = {}
    named = (*module.named_parameters(remove_duplicate=False), *module.named_buffers())
    for name, tensor in named:
        if tensor.is_floating_point() and not tensor.is_meta:
            if id(tensor) not in made:
                made[id(tensor)] = traced(_plain(tensor))
            found[name] = made[id(tensor)]
    return found


def _plain(tensor: Tensor) -> Tensor:
    """The values on the CPU, as an ordinary tensor."""
    return tensor.detach().to("cpu")


def digest(values: Tensor) -> str:
    """A hash of the values of a tensor on the CPU, whatever its dtype."""
    raw = values.contiguous().reshape(-1).view(torch.uint8)
    return sha256(raw.numpy().tobytes()).hexdigest()
