"""Code that puts its tensors on a GPU, on a machine without one: they stay on the CPU."""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gptinit.results.profile import Note

__all__ = ["CpuForCuda"]


class CpuForCuda(TorchFunctionMode):
    """Puts on the CPU what the code that runs in it puts on cuda: by `device=`, `.to()`, `.cuda()`.

    Initial weights have the same distribution on either. It is for machines without a GPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.was_named = False

    def notes(self) -> tuple[Note, ...]:
        """A note, if cuda was asked for."""
        if not self.was_named:
            return ()
        message = "There is no GPU here: what the code puts on cuda was put on the CPU."
        return (Note(kind="engine", where="device", message=message),)

    def _cpu(self, value: Any) -> Any:
        """The value, or the CPU for a device that is a GPU."""
        is_device = isinstance(value, torch.device) and value.type == "cuda"
        if is_device or (isinstance(value, str) and value.partition(":")[0] == "cuda"):
            self.was_named = True
            return "cpu"
        return value

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is Tensor.cuda:
            self.was_named = True
            return args[0]
        if func is Tensor.to:
            args = tuple(map(self._cpu, args))
        given = dict(kwargs or {})
        if "device" in given:
            given["device"] = self._cpu(given["device"])
        return func(*args, **given)
