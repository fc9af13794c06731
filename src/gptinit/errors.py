"""The errors that gptinit raises on purpose.

GptInitError
├── ConfigError    a setting, option or file that cannot be used (also a ValueError)
├── SubjectError   the model cannot be loaded, built or understood
└── MeasureError   the run itself failed: memory, device, numbers (also a RuntimeError)

A message is one line: what must hold, what it got instead, and what to do about it.
"""

import difflib
from collections.abc import Iterable

__all__ = [
    "ConfigError",
    "GptInitError",
    "MeasureError",
    "SubjectError",
    "did_you_mean",
    "unknown_name",
]


class GptInitError(Exception):
    """Base of every error that gptinit raises on purpose."""


class ConfigError(GptInitError, ValueError):
    """A setting, an option or a file cannot be used."""


class SubjectError(GptInitError):
    """The model cannot be loaded, built or understood."""


class MeasureError(GptInitError, RuntimeError):
    """A measurement could not be made."""


def unknown_name(what: str, name: str, known: Iterable[str], *, remedy: str = "") -> ConfigError:
    """Return the error for an unknown name, with the nearest known names as a suggestion.

    Args:
        what: the setting, as the user calls it ("scheme", "--engine").
        name: what the user wrote.
        known: the valid names; all are listed if there are at most 12.
        remedy: a closing sentence, such as where to look them up.

    Example:
        >>> str(unknown_name("engine", "dens", ["auto", "dense"]))
        "engine must be one of auto, dense, got 'dens'. Did you mean dense?"
    """
    names = sorted(set(known))
    rule = f"one of {', '.join(names)}" if len(names) <= 12 else "a known name"
    parts = [f"{what} must be {rule}, got {name!r}.", did_you_mean(name, names), remedy]
    return ConfigError(" ".join(part for part in parts if part))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question that offers the known names nearest to `name`; "" if none is near.

    Example:
        >>> did_you_mean("GPT2", ["gpt2", "nanogpt-char"])
        'Did you mean gpt2?'
    """
    by_lower = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=2, cutoff=0.5)
    return f"Did you mean {' or '.join(by_lower[other] for other in near)}?" if near else ""
