"""Running code of the user: nothing of the caller's changes, and what fails is told in one line."""

import os
import random
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import torch
from torch import nn

from gptinit.errors import GptInitError, SubjectError

__all__ = ["blamed_on", "guarded", "is_installed", "isolated", "one_line", "uncompiled"]

_LONGEST = 400  # characters of a foreign message
_OURS = Path(__file__).resolve().parent.parent
_STDLIB = Path(sysconfig.get_paths()["stdlib"]).resolve()


@contextmanager
def isolated(argv: str = "") -> Iterator[None]:
    """Runs the block with the caller's state put back afterwards, and its prints on stderr.

    Put back are the random states of torch, numpy and Python, the default dtype and device,
    whether gradients are recorded, the working folder and sys.argv.

    Args:
        argv: what the block sees as the name of the program; it sees no arguments.

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
    """Turns whatever the block raises into one SubjectError: "`subject` must `rule`, got ...".

    Errors that gptinit raises on purpose pass as they are.

    Raises:
        SubjectError: with the type and the message of the first error, and where it was raised.

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
    except (Exception, SystemExit) as error:
        raise SubjectError(f"{subject} must {rule}, got {one_line(error)}.") from error


def guarded(
    subject: str,
    make: Callable[[], object],
    within: Callable[[], AbstractContextManager[None]],
) -> Callable[[], nn.Module]:
    """The function that calls `make` inside `within()` and insists on a module.

    Args:
        subject: what to call the model in errors.
        make: builds the model.
        within: the surroundings that it needs, entered at every call.
    """

    def build() -> nn.Module:
        with within(), blamed_on(subject, "build without an error"):
            made = make()
        if isinstance(made, nn.Module):
            return uncompiled(made)
        raise SubjectError(
            f"{subject} must build a torch.nn.Module, got {_what(made)}. "
            "Name a model class, or a function that returns a model."
        )

    return build


def uncompiled(module: nn.Module) -> nn.Module:
    """The module that torch.compile wrapped, or the module itself: compiled code has no parts."""
    inner = getattr(module, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else module


def one_line(error: BaseException) -> str:
    """The type, message and place of an error, without line breaks.

    Example:
        >>> one_line(KeyError("wte"))
        "KeyError: 'wte'"
    """
    told = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    told = told if len(told) <= _LONGEST else told[:_LONGEST] + " ..."
    place = _place(error)
    message = f"{type(error).__name__}: {told.rstrip('.')}" if told else type(error).__name__
    return f"{message} ({place})" if place else message


def is_installed(file: str | Path) -> bool:
    """Whether a file belongs to Python or to an installed package, not to the user."""
    parts = Path(file).parts
    return (
        "site-packages" in parts
        or "dist-packages" in parts
        or Path(file).is_relative_to(_STDLIB)
        or Path(file).is_relative_to(_OURS)
    )


def _place(error: BaseException) -> str:
    """File and line: the last of the user's own, else the last of all but ours."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    frames = [
        (Path(frame.f_code.co_filename), line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith("<")
    ]
    own = [at for at in frames if not is_installed(at[0])]
    foreign = [
        at
        for at in frames
        if not at[0].is_relative_to(_OURS)
        and ("site-packages" in at[0].parts or not at[0].is_relative_to(_STDLIB))
    ]
    file, line = (own or foreign or [(Path(), 0)])[-1]
    return f"{file.name}:{line}" if line else ""


def _what(made: object) -> str:
    """A value in few words: None, or the name of its type."""
    return "None" if made is None else f"an object of type {type(made).__name__}"


def _cuda_devices() -> list[int]:
    """The CUDA devices that have a random state by now."""
    return list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []


def _put_back_device(device: torch.device) -> None:
    """Make `device` the default again, if it is not; the CPU is torch's own default."""
    if torch.get_default_device() != device:
        torch.set_default_device(None if device.type == "cpu" else device)
