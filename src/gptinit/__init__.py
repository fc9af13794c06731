"""How a GPT is initialised, and what that does before the first training step."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptinit.api import audit, compare, inspect
    from gptinit.checking import check
    from gptinit.config import GPTConfig, RunConfig
    from gptinit.errors import ConfigError, GptInitError, MeasureError, SubjectError
    from gptinit.facts.schemes import Scheme, get_scheme
    from gptinit.results.audit import Audit
    from gptinit.results.profile import Comparison, Finding, Profile

__version__ = "0.1.0"

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
    "api": ("audit", "compare", "inspect"),
    "audited": ("Audit",),
    "checking": ("check",),
    "config": ("GPTConfig", "RunConfig"),
    "errors": ("ConfigError", "GptInitError", "MeasureError", "SubjectError"),
    "profile": ("Comparison", "Finding", "Profile"),
    "schemes": ("Scheme", "get_scheme"),
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for: `import gptinit` imports no torch."""
    for module, names in _HOME.items():
        if name in names:
            from importlib import import_module

            return getattr(import_module(f"gptinit.{module}"), name)
    message = f"module 'gptinit' has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted(__all__)
