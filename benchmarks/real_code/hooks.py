"""Plain forward hooks on a model that is really built: the variance of the stream, without gptinit.

Run as a script, in a process for each model: reads JSON from standard input (the fields of `Plain`,
`seeds` and `seq_len`), prints {"mean": [...], "stderr": [...]}, an entry a layer, as its last line.
"""

import importlib.abc
import importlib.machinery
import json
import math
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Inert", "StubFinder", "stream_variances", "summary"]


class InertType(type):
    """Classes whose every attribute is one more of them."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return InertType(name, (Inert,), {})

    def __getitem__(cls, key: Any) -> Any:
        return cls  # of annotations

    def __add__(cls, other: Any) -> Any:
        return other


class Inert(metaclass=InertType):
    """Stands for whatever a missing module has: a base class, a decorator, a constant."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """A decorator gives back what it decorates."""
        if cls.__mro__[1] is Inert and len(args) == 1 and callable(args[0]) and not kwargs:
            return args[0]
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What it decorates, or itself."""
        return args[0] if len(args) == 1 and callable(args[0]) else self

    def __or__(self, other: Any) -> Any:
        return Any  # of annotations

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return InertType(name, (Inert,), {})


class StubFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules of the given names, and all below them, as empty ones."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """A spec for a name that is stubbed."""
        if not any(name == stub or name.startswith(f"{stub}.") for stub in self.names):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: Any) -> ModuleType:
        """A module that has everything."""
        module = ModuleType(spec.name)
        vars(module).update(__getattr__=_attribute, __version__="0")
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run."""


def _attribute(name: str) -> Any:
    """What a stub has under a name."""
    if name.startswith("__"):
        raise AttributeError(name)
    return InertType(name, (Inert,), {})


def stream_variances(plain: dict[str, Any], seed: int, seq_len: int) -> list[float]:
    """Variance over batch, position and channel of what every block returns.

    Args:
        plain: the fields of `Plain`.
        seed: of the weights, and of the token ids by a generator of their own.
        seq_len: tokens in the one sequence.
    """
    torch.manual_seed(seed)
    scope: dict[str, Any] = {"torch": torch, "nn": nn}
    exec(plain["build"], scope)
    scope["model"].eval()
    found: list[float] = []

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        stream = output if isinstance(output, Tensor) else output[0]
        found.append(stream.double().var(correction=0).item())  # now: it may be changed in place

    for block in eval(plain["blocks"], scope):
        block.register_forward_hook(keep)
    generator = torch.Generator().manual_seed(1_000_003 + seed)
    scope["ids"] = torch.randint(plain["vocab"], (1, seq_len), generator=generator)
    with torch.no_grad():
        eval(plain["call"], scope)
    return found


def summary(rows: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Mean and its standard error of every column.

    Args:
        rows: one of numbers for each seed.
    """
    table = torch.tensor(rows, dtype=torch.float64)
    stderr = table.std(0) / math.sqrt(len(rows))
    return {"mean": table.mean(0).tolist(), "stderr": stderr.tolist()}


def main() -> None:
    """Read the task, print the result."""
    task = json.load(sys.stdin)
    sys.path[:1] = task["path"]  # instead of the folder of this file
    sys.meta_path.insert(0, StubFinder(task["stubs"]))
    rows = [stream_variances(task, seed, task["seq_len"]) for seed in range(task["seeds"])]
    print(json.dumps(summary(rows)))


if __name__ == "__main__":
    main()
