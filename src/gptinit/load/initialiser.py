"""A method or function that could draw a model's weights: what it takes, and how it is run."""

import inspect
import linecache
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from types import CodeType, FrameType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from gptinit.config import InitCall
from gptinit.errors import ConfigError
from gptinit.load.isolation import blamed_on
from gptinit.load.settings import MISSING, setting_called
from gptinit.load.signature import hints_of, required_parameters
from gptinit.load.stand_in import StandIn
from gptinit.load.unvalued import INSTEAD, Unvalued
from gptinit.trace.record.calls import profiled
from gptinit.trace.record.provenance import shown_file

__all__ = [
    "INIT_NAME",
    "MODULE_NAMES",
    "Calls",
    "Initialiser",
    "calls_of",
    "function_behind",
    "function_init",
    "method_init",
    "names_in",
]

INIT_NAME = re.compile(r"_*(init|initiali[sz]e|reset)_(weights|parameters|params|states)")
"""Names under which a model's own code offers to draw its weights."""

MODULE_NAMES = frozenset({"gpt", "l", "layer", "m", "mod", "model", "module", "net", "network"})
"""Names of a parameter without annotation that takes a module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Initialiser:
    """A method or function that could draw a model's weights.

    Attributes:
        name: as `--init` names it.
        function: its code, without decorators.
        make: from the model to what is called.
        takes: the parameter that takes the model, or each module; None for a method of the whole.
        is_applied: whether it is called with every module, as `model.apply` does.
        owner: the class of modules inside the model that have the method; None where it is one of
            the model itself, or a function.
        needs: the parameters that must be given besides, from the settings.
        unvalued: stands in for what nothing says the value of: a handle on devices that an init
            merely asks for its kind need not stop a named init.
        within: the context that its code needs, if that is not its model's.
    """

    name: str
    function: FunctionType
    make: Callable[[nn.Module], Callable[..., object]]
    takes: str | None = None
    is_applied: bool = False
    owner: type | None = None
    needs: tuple[str, ...] = ()
    unvalued: Unvalued | None = None
    within: Callable[[], AbstractContextManager[None]] | None = None

    @property
    def is_named(self) -> bool:
        """Whether it has the name of an init."""
        return INIT_NAME.fullmatch(self.name) is not None

    def arguments(self, module: nn.Module, settings: Mapping[str, object]) -> dict[str, object]:
        """What it needs, by name: settings of the model, else attributes; MISSING if neither."""
        first = next(iter(self._targets(module)), module)
        found = {name: _argument(name, first, settings) for name in self.needs}
        if self.unvalued is None:
            return found
        return found | self.unvalued.stand_ins(n for n, value in found.items() if value is MISSING)

    def missing(self, module: nn.Module, settings: Mapping[str, object]) -> list[str]:
        """The parameters that nothing says the value of."""
        return [n for n, value in self.arguments(module, settings).items() if value is MISSING]

    def run(self, module: nn.Module, settings: Mapping[str, object]) -> None:
        """Draw the weights of `module`.

        Raises:
            ConfigError: if nothing says what it needs.
            SubjectError: if the code fails.
        """
        if missing := self.missing(module, settings):
            raise ConfigError(
                f"{self.name} must take nothing but the model and settings that it has, got the "
                f"required {' and '.join(missing)}. {INSTEAD}"
            )
        given = self.arguments(module, settings)
        subject = f"{self._called([])} of {type(module).__name__}"
        with torch.no_grad(), blamed_on(subject, "run without an error"):
            for target in self._targets(module):
                call = partial(self.make(target), **given)
                if self.is_applied:
                    target.apply(lambda child, call=call: self._on(child, call))  # type: ignore[misc]
                else:
                    self._on(target, call)

    def facts(self, module: nn.Module, settings: Mapping[str, object], by: str) -> InitCall:
        """The call as reports show it, chosen by "found" or "--init"."""
        given = self.arguments(module, settings).items()
        code = self.function.__code__
        return InitCall(
            call=self._called([f"{n}={_short(value)}" for n, value in given]),
            name=self.name,
            file=shown_file(code.co_filename),
            line=_line_of(code),
            chosen_by=by,
        )

    def _targets(self, module: nn.Module) -> list[nn.Module]:
        """The modules that it is called for."""
        if self.owner is None:
            return [module]
        return [child for child in module.modules() if isinstance(child, self.owner)]

    def _on(self, module: nn.Module, call: Callable[..., object]) -> None:
        call(**{self.takes: module} if self.takes else {})

    def _called(self, given: Iterable[str]) -> str:
        if self.is_applied:
            return f"apply({', '.join([self.name, *given])})"
        return f"{self.name}({', '.join([*([self.takes] if self.takes else []), *given])})"


def method_init(kind: type, name: str, owner: type | None = None) -> Initialiser | None:
    """A method of a class as an initialiser; None if it has no such method in Python.

    `owner` is the class that defines it, where it is one of modules inside the model.
    """
    raw = inspect.getattr_static(kind, name, None)
    function = function_behind(raw)
    if function is None:
        return None
    is_bound = not isinstance(raw, staticmethod)
    required = [p.name for p in required_parameters(function)][is_bound:]  # without self
    takes = _module_parameter(function, required)
    return Initialiser(
        name=f"{owner.__name__}.{name}" if owner else name,
        function=function,
        make=lambda module: getattr(module, name),
        takes=takes,
        is_applied=takes is not None,
        owner=owner,
        needs=tuple(p for p in required if p != takes),
    )


def function_init(name: str, call: Any, *, is_chosen: bool = True) -> Initialiser:
    """A function as an initialiser; `takes` is None where none of its parameters takes a module.

    Args:
        name: as `--init` names it.
        call: the function.
        is_chosen: whether the user named it: then what it takes alone is the model.

    Example:
        >>> def scaled(model, n_layer, std=0.02): ...
        >>> init = function_init("scaled", scaled)
        >>> init.takes, init.needs
        ('model', ('n_layer',))
    """
    function = function_behind(call)
    assert function
    required = [p.name for p in required_parameters(function)]
    takes = _module_parameter(function, required)
    if takes is None and len(required) == 1 and is_chosen:
        takes = required[0]
    return Initialiser(
        name=name,
        function=function,
        make=lambda _: call,
        takes=takes,
        needs=tuple(p for p in required if p != takes),
    )


@dataclass(slots=True)
class Calls:
    """Functions that ran while they were watched.

    Attributes:
        all: all of them.
        outermost: those that ran while no other watched one did, in the order of first calls.
    """

    all: set[FunctionType] = field(default_factory=set)
    outermost: dict[FunctionType, None] = field(default_factory=dict)


def names_in(code: CodeType) -> set[str]:
    """The names of attributes and globals that a function's code uses, its inner functions too."""
    inner = (c for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*(names_in(c) for c in inner))


@contextmanager
def calls_of(watched: Iterable[Initialiser]) -> Iterator[Calls]:
    """Record which functions run inside the block, by whatever name or reference they are called.

    Example:
        >>> def init_weights(model): ...
        >>> init = function_init("init_weights", init_weights)
        >>> with calls_of([init]) as calls:
        ...     (lambda renamed: renamed(None))(init_weights)
        >>> init.function in calls.all
        True
    """
    # By identity: a hash of a code object reads all of it.
    by_code: dict[int, FunctionType] = {id(i.function.__code__): i.function for i in watched}
    calls, depth = Calls(), 0

    def seen(frame: FrameType, event: str, _: object) -> None:
        nonlocal depth
        function = by_code.get(id(frame.f_code))
        if function is None:
            return
        if event == "call":
            calls.all.add(function)
            if not depth:
                calls.outermost.setdefault(function)
            depth += 1
        elif event == "return":
            depth -= 1

    with profiled(seen) if by_code else nullcontext():
        yield calls


def function_behind(value: object) -> FunctionType | None:
    """The Python function behind a method and its decorators; None where there is none."""
    inner = getattr(value, "__func__", value)
    if not callable(inner) or isinstance(inner, type):
        return None
    unwrapped = inspect.unwrap(inner)
    return unwrapped if isinstance(unwrapped, FunctionType) else None


def _module_parameter(function: FunctionType, required: Iterable[str]) -> str | None:
    """The first required parameter that takes a module, by its annotation, else by its name."""
    hints = hints_of(function)
    for name in required:
        hint = hints.get(name)
        if isinstance(hint, type) and hint is not object:
            if issubclass(hint, nn.Module):
                return name
        elif name in MODULE_NAMES:
            return name
    return None


def _argument(name: str, module: nn.Module, settings: Mapping[str, object]) -> object:
    known = setting_called(name, settings)
    if known is not MISSING:
        return known
    value = getattr(module, name, MISSING)  # the config that it keeps
    return MISSING if isinstance(value, nn.Module | Tensor) or callable(value) else value


def _line_of(code: CodeType) -> int:
    """The line of `def`; that of the code is the one of its first decorator."""
    lines = linecache.getlines(code.co_filename)[code.co_firstlineno - 1 :]
    below = next((n for n, line in enumerate(lines) if line.lstrip().startswith("def ")), 0)
    return code.co_firstlineno + below


def _short(value: object) -> str:
    if value is MISSING or isinstance(value, StandIn):
        return "?"
    return repr(value) if isinstance(value, bool | int | float | str) else type(value).__name__
