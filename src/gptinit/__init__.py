"""How a GPT is initialised, and what that does before the first training step."""

from typing import TYPE_CHECKING, Any

from gptinit.version import __version__

if TYPE_CHECKING:
    from gptinit.api.audit import audit
    from gptinit.api.check import check
    from gptinit.api.compare import compare
    from gptinit.api.inspect import inspect
    from gptinit.config import GPTConfig, RunConfig
    from gptinit.errors import ConfigError, GptInitError, MeasureError, SubjectError
    from gptinit.facts.schemes import Scheme, get_scheme
    from gptinit.results.audit import Audit
    from gptinit.results.profile import Comparison, Finding, Profile

__all__ = [
    "Audit",
    "Comparison",
    "ConfigError",
    "Finding",
    "GPTConfig",
    "GptInitError",
    "MeasureError",
    "Profile",
    "RunConfig",
    "Scheme",
    "SubjectError",
    "__version__",
    "audit",
    "check",
    "compare",
    "get_scheme",
    "inspect",
]

_HOME = {
    "api.audit": ("audit",),
    "api.check": ("check",),
    "api.compare": ("compare",),
    "api.inspect": ("inspect",),
    "results.audit": ("Audit",),
    "config": ("GPTConfig", "RunConfig"),
    "errors": ("ConfigError", "GptInitError", "MeasureError", "SubjectError"),
    "results.profile": ("Comparison", "Finding", "Profile"),
    "facts.schemes": ("Scheme", "get_scheme"),
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: `import gptinit` imports no torch."""
    for module, names in _HOME.items():
        if name in names:
            from importlib import import_module

            return getattr(import_module(f"gptinit.{module}"), name)
    message = f"module 'gptinit' has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted(__all__)
