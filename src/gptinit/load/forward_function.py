"""A function of the user's that calls a model whose forward wants more than token ids."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from torch import Tensor, nn

from gptinit.errors import ConfigError, SubjectError
from gptinit.load.isolation import blamed_on, isolated

__all__ = ["Forward", "forward_function"]

Forward = Callable[[nn.Module, Tensor], object]
"""(model, ids) to logits: (B, T) to (B, T, V)."""


def forward_function(named: str | Forward) -> Forward:
    """The function that calls a model, loaded where it is named.

    Args:
        named: path.py:FUNC, package.module:FUNC, or the function itself.

    Raises:
        ConfigError: if it is none of these, or there is no such file or module.
        SubjectError: if its file fails, or has no such function.
    """
    if not isinstance(named, str):
        if not callable(named):
            raise ConfigError(
                "forward must be a function of (model, ids) or path.py:FUNC, got an object of type "
                f"{type(named).__name__}."
            )
        return named
    place, _, name = named.rpartition(":")
    if not place or not name.isidentifier():
        raise ConfigError(f"forward must be path.py:FUNC or package.module:FUNC, got {named!r}.")
    found = getattr(_loaded(place), name, None)
    if not callable(found):
        raise SubjectError(f"{place} must define a function {name!r} of (model, ids), got none.")
    function: Forward = found
    return function


def _loaded(place: str) -> ModuleType:
    """The module of a file or of a dotted name; the file's folder or the present one is importable.

    Raises:
        ConfigError: if there is none.
        SubjectError: if it fails.
    """
    file, path = Path(place), list(sys.path)
    is_file = place.endswith(".py") or "/" in place
    if is_file and not file.is_file():
        raise ConfigError(f"forward must be in a file that exists, got {place!r}.")
    with isolated(place), blamed_on(place, "load without an error"):
        sys.path.insert(0, str(file.resolve().parent if is_file else Path.cwd()))
        try:
            return _run(file.resolve()) if is_file else importlib.import_module(place)
        finally:
            sys.path[:] = path


def _run(file: Path) -> ModuleType:
    """Run a file as a module that is not kept, so that its name cannot hide another."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec
    assert spec.loader  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
