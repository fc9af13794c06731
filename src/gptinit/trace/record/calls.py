"""Watching the calls of Python functions, beside whoever profiles the program."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["profiled"]


@contextmanager
def profiled(seen: Callable[[FrameType, str, object], object]) -> Iterator[None]:
    """Report every call and return inside the block to `seen`; then go on with the profiler before.

    That one misses the block, unless it watches by other means (cProfile from Python 3.12 on).
    """
    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        yield
    finally:
        # A cProfile.Profile is no function, and starts by a method of its own.
        enable = getattr(before, "enable", None)
        sys.setprofile(None if enable else before)
        if enable:
            enable()
