"""Run the user's code: the caller's state is restored, and an error becomes one line."""

import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gptinit.errors import GptInitError, SubjectError
from gptinit.user_code import one_line, remedy_for

__all__ = ["blamed_on", "guarded", "isolated", "uncompiled"]


@contextmanager
def isolated(argv: str = "") -> Iterator[None]:
    """Run the block, then restore the caller's state; what it prints goes to stderr.

    Restored are the random states of torch, numpy and Python, the default dtype and device,
    whether gradients are recorded, the working folder and sys.argv.

    Args:
        argv: the program's name that the block sees in sys.argv, without arguments.

    Example:
        >>> before = torch.get_rng_state()
        >>> with isolated():
        ...     _ = torch.manual_seed(1)
        >>> torch.equal(torch.get_rng_state(), before)
        True
    """
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(_cuda_devices()))
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        stack.callback(torch.set_grad_enabled, torch.is_grad_enabled())
        stack.callback(_put_back_device, torch.get_default_device())
        stack.callback(os.chdir, Path.cwd())
        stack.callback(setattr, sys, "argv", sys.argv)
        sys.argv = [argv]
        stack.enter_context(redirect_stdout(sys.stderr))
        yield


@contextmanager
def blamed_on(subject: str, rule: str) -> Iterator[None]:
    """Turn whatever the block raises into one SubjectError: "`subject` must `rule`, got ...".

    Errors of gptinit itself are left as they are.

    Raises:
        SubjectError: with type, message and place of the original error.

    Example:
        >>> with blamed_on("GPT", "build without an error"):
        ...     raise ValueError("no heads")
        Traceback (most recent call last):
        gptinit.errors.SubjectError: GPT must build without an error, got ValueError: no heads.
    """
    try:
        yield
    except GptInitError:
        raise
    except (Exception, SystemExit) as error:  # a script without __main__ guard may call exit()
        said = f"{subject} must {rule}, got {one_line(error)}. {remedy_for(error)}"
        raise SubjectError(said.rstrip()) from error


def guarded(
    subject: str,
    make: Callable[[], object],
    within: Callable[[], AbstractContextManager[None]],
) -> Callable[[], nn.Module]:
    """A function that calls `make` inside `within()` and raises unless it returns a module."""

    def build() -> nn.Module:
        with within(), blamed_on(subject, "build without an error"):
            module = make()
        if isinstance(module, nn.Module):
            return uncompiled(module)
        built = "None" if module is None else f"an object of type {type(module).__name__}"
        raise SubjectError(
            f"{subject} must build a torch.nn.Module, got {built}. "
            "Name a model class, or a function that returns a model."
        )

    return build


def uncompiled(module: nn.Module) -> nn.Module:
    """The module inside a torch.compile wrapper, since compiled code has no submodules to hook."""
    inner = getattr(module, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else module


def _cuda_devices() -> list[int]:
    return list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []


def _put_back_device(device: torch.device) -> None:
    if torch.get_default_device() != device:
        # None for the CPU: naming it would install a mode that slows every call of torch.
        torch.set_default_device(None if device.type == "cpu" else device)
