"""What a node keeps of the call that made it: numbers, line of code, random numbers."""

import sys
import sysconfig
from dataclasses import replace
from functools import cache
from hashlib import blake2b
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from gptinit.facts.step import Step
from gptinit.trace.graph import Node

__all__ = [
    "draw_key",
    "is_of_user",
    "made_here",
    "numbers_in",
    "shown_file",
    "step_here",
]

_TORCH = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).parent.parent)
_PYTHON = sysconfig.get_paths()["stdlib"]
_THROUGH = ("transformers/initialization.py", "gptinit/load/no_cuda.py")
"""Ends of files that pass a call on: the line that matters is the caller's."""
_CONSTRUCTING = frozenset({"__init__", "reset_parameters", "_reset_parameters"})


def made_here(called: Step, **fields: Any) -> Node:
    """A node with these fields, made by the user's line of code that runs `called`."""
    step, by_default = step_here(called)
    return Node(**fields, step=step, by_default=by_default)


def step_here(step: Step) -> tuple[Step, bool]:
    """`step` with the user's line of code that runs it, and whether torch's constructor does."""
    frame: FrameType | None = sys._getframe(1)
    by_default = False
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        if file.startswith(_TORCH):
            by_default |= "/nn/modules/" in file and code.co_name in _CONSTRUCTING
        elif is_of_user(file):
            return replace(step, file=shown_file(file), line=frame.f_lineno), by_default
        frame = frame.f_back
    return step, by_default


def is_of_user(file: str) -> bool:
    """Whether a file is not torch's, Python's or ours, nor one that only passes calls on."""
    if file.startswith((_TORCH, _OURS)) or file.endswith(_THROUGH):
        return False
    return "-packages" in file or not file.startswith(_PYTHON)


def shown_file(file: str) -> str:
    """A file from the working folder, where it is below it; else its name alone."""
    return _shown_from(file, str(Path.cwd()))


@cache
def _shown_from(file: str, here: str) -> str:
    path = Path(file)
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.name


def draw_key(generator: torch.Generator | None, numel: int = 1) -> int:
    """Names the random numbers that a generator gives next, and moves it on.

    Two draws from equal states would be equal numbers, and have equal keys. The state afterwards
    depends on how many were drawn, as it does when they are.
    """
    generator = torch.default_generator if generator is None else generator
    state = generator.get_state().numpy().tobytes()
    digest = blake2b(state, digest_size=8).digest()
    after = blake2b(digest + numel.to_bytes(16, "little"), digest_size=8).digest()
    generator.manual_seed(int.from_bytes(after, "little") >> 1)  # below 2^63, as seeds must be
    return int.from_bytes(digest, "little") | 1  # never 0, which stands for no draw


def numbers_in(args: tuple[object, ...]) -> tuple[float, ...]:
    """The numbers among an operator's arguments."""
    return tuple(float(a) for a in args if isinstance(a, int | float) and a is not True)
