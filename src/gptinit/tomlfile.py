"""Reading TOML: one clear line for a file that is missing, broken or has a key nobody knows."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from gptinit.errors import ConfigError, unknown_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["load_toml", "parse_toml", "table", "text", "texts"]


def load_toml(path: Path) -> dict[str, object]:
    """The document in a file.

    Raises:
        ConfigError: if it cannot be read or is not TOML; the message has line and column.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{path} must be an existing file, got none of that name.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} must be a readable UTF-8 file, got {error}.") from error
    return parse_toml(content, str(path))


def parse_toml(content: str, where: str) -> dict[str, object]:
    """The document in a text; `where` names it in messages.

    Raises:
        ConfigError: if it is not TOML.
    """
    try:
        return tomllib.loads(content)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{where} must be valid TOML, got {error}.") from error


def table(value: object, where: str, *, known: Iterable[str]) -> Mapping[str, object]:
    """`value`, once it is a table that has only known keys.

    Raises:
        ConfigError: if it is no table or has another key.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} must be a table, got {value!r}.")
    known = tuple(known)
    for key in value:
        if key not in known:
            raise unknown_name(f"{where} key", str(key), known)
    return value


def text(value: object, where: str) -> str:
    """`value`, once it is a text.

    Raises:
        ConfigError: if it is not.
    """
    if not isinstance(value, str):
        raise ConfigError(f"{where} must be a text, got {value!r}.")
    return value


def texts(value: object, where: str) -> tuple[str, ...]:
    """`value` as texts, once it is a text or a list of texts.

    Raises:
        ConfigError: if it is neither.
    """
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list):
        raise ConfigError(f"{where} must be a list of texts, got {value!r}.")
    return tuple(text(v, where) for v in values)
