"""The errors that gptinit raises on purpose.

GptInitError
├── ConfigError    a setting, option or file that cannot be used (also a ValueError)
├── SubjectError   the model to be measured cannot be loaded or understood
└── MeasureError   the run itself failed: memory, device, numbers (also a RuntimeError)

Every message reads "subject must rule, got value. Remedy.": one line for a person.
"""

import difflib
from collections.abc import Iterable

__all__ = ["ConfigError", "GptInitError", "MeasureError", "SubjectError", "unknown_name"]


class GptInitError(Exception):
    """Base of every error that gptinit raises on purpose."""


class ConfigError(GptInitError, ValueError):
    """A setting, an option or a file cannot be used as it is."""


class SubjectError(GptInitError):
    """The model to be measured cannot be loaded or understood."""


class MeasureError(GptInitError, RuntimeError):
    """A measurement could not be made."""


def unknown_name(what: str, name: str, known: Iterable[str], *, remedy: str = "") -> ConfigError:
    """The error for a name that is not among the known ones, with the nearest ones offered.

    Args:
        what: the setting, as the user calls it ("scheme", "--engine").
        name: what the user wrote.
        known: the names that would do; all are listed when they are few.
        remedy: a closing sentence, such as where to look them up.

    Example:
        >>> str(unknown_name("engine", "dens", ["auto", "dense"]))
        "engine must be one of auto, dense, got 'dens'. Did you mean dense?"
    """
    names = sorted(set(known))
    rule = f"one of {', '.join(names)}" if len(names) <= 12 else "a known name"
    near = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    hints = [f"Did you mean {' or '.join(near)}?"] if near else []
    return ConfigError(" ".join([f"{what} must be {rule}, got {name!r}.", *hints, remedy]).strip())
