"""Code that puts its tensors on a GPU, on a machine without one: they stay on the CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gptinit.results.profile import Note

__all__ = ["CpuForCuda"]


@dataclass(slots=True, kw_only=True)
class CpuForCuda:
    """The CPU in place of cuda, while code runs that names it.

    Initial weights have the same distribution on either. Where there is a GPU nothing is changed.

    Attributes:
        was_named: whether cuda was asked for.
    """

    was_named: bool = False

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Put on the CPU what the block puts on cuda: by `device=`, `.to()` and `.cuda()`."""
        if torch.cuda.is_available():
            yield
            return
        with _Mode(self):
            yield

    def notes(self) -> tuple[Note, ...]:
        """A note, if cuda was asked for."""
        if not self.was_named:
            return ()
        message = "There is no GPU here: what the code puts on cuda was put on the CPU."
        return (Note(kind="engine", where="device", message=message),)

    def cpu(self, value: Any) -> Any:
        """The value, or the CPU for a device that is a GPU."""
        is_device = isinstance(value, torch.device) and value.type == "cuda"
        if is_device or (isinstance(value, str) and value.partition(":")[0] == "cuda"):
            self.was_named = True
            return "cpu"
        return value


class _Mode(TorchFunctionMode):
    """Hands every call of torch on, with another device."""

    def __init__(self, owner: CpuForCuda) -> None:
        super().__init__()
        self._owner = owner

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        cpu = self._owner.cpu
        if func is Tensor.cuda:
            cpu("cuda")
            return args[0]
        if func is Tensor.to:
            args = tuple(map(cpu, args))
        kwargs = (
            {**kwargs, "device": cpu(kwargs["device"])} if "device" in (kwargs or {}) else kwargs
        )
        return func(*args, **(kwargs or {}))
