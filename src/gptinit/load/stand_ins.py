"""Inert stand-ins for modules that the user's code imports and this machine lacks (`--stub`)."""

import builtins
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import resolve_name
from types import FrameType, SimpleNamespace
from typing import Any

from gptinit.errors import ConfigError, SubjectError
from gptinit.load.missing import is_guarded
from gptinit.load.stand_in import StandIn
from gptinit.results.profile import Note
from gptinit.user_code import is_installed

__all__ = ["StandIns"]


@dataclass(slots=True, kw_only=True)
class StandIns:
    """The modules that stand-ins are imported for, and what the user's code did with them.

    While a file loads, stand-ins are inert: attributes, calls, decorators, base classes, unions in
    annotations and `from x import y` all work. From then on (the init and the forward pass) every
    call of one and every computation with one is noted; where a value is needed that only the
    real module has, a SubjectError names it.

    Attributes:
        names: modules, with everything below them: "flash_attn", "xformers.ops".
        wanted: modules that were imported, and for which one of them stood in.
        used: names of what was called or computed with after loading, in order.
        asked: what was last asked for its truth or compared, even while a file loads.
        is_loading: whether a file is being loaded now.
        takers: modules of installed packages that got one.
    """

    names: tuple[str, ...] = ()
    wanted: set[str] = field(default_factory=set)
    used: dict[str, None] = field(default_factory=dict)
    asked: str = ""
    is_loading: bool = False
    takers: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, names: Sequence[str]) -> "StandIns":
        """The stand-ins for some modules.

        Raises:
            ConfigError: if one is no name of a module, or is torch, without which nothing runs.
        """
        listed = [name.strip() for text in names for name in text.split(",")]
        for name in listed:
            if not all(part.isidentifier() for part in name.split(".")):
                raise ConfigError(f"stub must be the name of a module, got {name!r}.")
            if name.partition(".")[0] == "torch":
                raise ConfigError(f"stub must be a module other than torch, got {name!r}.")
        return cls(names=tuple(dict.fromkeys(listed)))

    @contextmanager
    def imported(self) -> Iterator[None]:
        """Import stand-ins inside the block, in the user's own files.

        Installed packages probe for optional modules in many ways and would take a stand-in for
        the real thing: `sys.modules` never holds one, and they get one only where the module is
        missing and nothing expects that.
        """
        if not self.names:
            yield
            return
        original = builtins.__import__

        def import_(
            name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
        ) -> Any:
            names = globals or {}
            package = names.get("__package__") if level else ""
            whole = resolve_name("." * level + name, package) if package else name
            parts = [part for part in fromlist or () if self.covers(f"{whole}.{part}")]
            if not names.get("__file__") or not (parts or self.covers(whole)):
                return original(name, globals, locals, fromlist, level)
            self.wanted |= {whole, *(f"{whole}.{part}" for part in parts)}
            is_library = is_installed(names["__file__"])
            # As Python: `import a.b` gives a, `from a.b import c` gives a.b.
            path = whole if fromlist else whole.partition(".")[0]
            if self.covers(whole) and not is_library:
                return StandIn(self, path)
            try:
                module = original(name, globals, locals, fromlist, level)
            except ModuleNotFoundError:
                if not self.covers(whole) or _expects_failure(sys._getframe(1)):
                    raise
                self.takers.add(names.get("__name__", ""))
                return StandIn(self, path)
            if is_library:
                parts = [part for part in parts if not hasattr(module, part)]
            lacking = {part: StandIn(self, f"{whole}.{part}") for part in parts}
            return SimpleNamespace(**{**vars(module), **lacking}) if lacking else module

        builtins.__import__ = import_
        try:
            yield
        finally:
            builtins.__import__ = original

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Load a file inside the block: what it does with stand-ins means nothing yet."""
        before, self.is_loading = self.is_loading, True
        try:
            yield
        finally:
            self.is_loading = before

    def covers(self, module: str) -> bool:
        """Whether a stand-in is imported for a module: it or a package around it is named."""
        return any(_is_inside(module, name) for name in self.names)

    def touch(self, what: str, *, is_question: bool = False) -> None:
        """Record that the init or the forward pass used a stand-in."""
        self.asked = what if is_question else self.asked
        if not self.is_loading:
            self.used.setdefault(what)

    def refusal(self, path: str) -> SubjectError:
        """The error where a value is needed that only the real module has."""
        return SubjectError(
            f"{path} must have a value here, got the stand-in of --stub: the model computes with "
            f"it. Install {path.partition('.')[0]}, or name a function that builds the model "
            "without it."
        )

    def notes(self) -> tuple[Note, ...]:
        """A note on what stood in for what and was used of it, and one on what nobody imports."""
        idle = [n for n in self.names if not any(_is_inside(module, n) for module in self.wanted)]
        listed = f"Nothing imports {', '.join(idle)}: --stub is not needed for it."
        unneeded = (Note(kind="engine", where="stub", message=listed),) if idle else ()
        return (*self._stood_in([name for name in self.names if name not in idle]), *unneeded)

    def _stood_in(self, names: Sequence[str]) -> tuple[Note, ...]:
        if not names:
            return ()
        if not self.used:
            said = "used by neither the init nor the forward pass"
        else:
            listed = list(self.used)
            more = f" and {len(listed) - 4} more" if len(listed) > 4 else ""
            said = (
                f"the model used {', '.join(listed[:4])}{more}, which did nothing: what the real "
                "one does to weights or activations is missing here"
            )
        message = f"Stand-ins were imported for {', '.join(names)}: {said}."
        return (Note(kind="approximate" if self.used else "engine", where="stub", message=message),)


def _expects_failure(frame: FrameType | None) -> bool:
    """Whether an installed package goes on without what it imports, or one that imports it does."""
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith("<") and file != __file__:  # nor Python's own machinery
            if not is_installed(file) or frame.f_globals.get("__name__", "").startswith("gptinit."):
                return False
            if is_guarded(file, frame.f_lineno):
                return True
        frame = frame.f_back
    return False


def _is_inside(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")
