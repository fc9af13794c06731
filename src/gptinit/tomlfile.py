"""Reading TOML: one clear line for a file that is missing or broken, or a value that is wrong."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from gptinit.errors import ConfigError, unknown_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Table", "load_toml", "parse_toml"]


def load_toml(path: Path) -> dict[str, object]:
    """Document in a file.

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
    """Document in a text; `where` names it in messages.

    Raises:
        ConfigError: if it is not TOML.
    """
    try:
        return tomllib.loads(content)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{where} must be valid TOML, got {error}.") from error


class Table:
    """A table of a document whose values are taken by key, each with the type that it must have.

    Every error names the table and the key: "gptinit.toml [[bounds]] 2 stat must be a text, got 3."
    A default is checked like any other value, so that None as the default makes a key required.

    Args:
        value: what should be a table.
        where: how messages call it.
        known: the keys that it may have; any if None.
        sign: what stands between table and key in messages.

    Raises:
        ConfigError: from here and from every method, if the value is not what it must be.

    Example:
        >>> fields = Table({"name": "small", "tags": "a"}, "file.toml", known=("name", "tags"))
        >>> fields.text("name"), fields.texts("tags", [])
        ('small', ('a',))
    """

    def __init__(
        self, value: object, where: str, *, known: Iterable[str] | None = None, sign: str = " "
    ) -> None:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be a table, got {value!r}.")
        names = value if known is None else tuple(known)
        for key in value:
            if key not in names:
                raise unknown_name(f"{where} key", str(key), names)
        self.values: Mapping[str, object] = value
        self.where = where
        self._sign = sign

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def named(self, key: str) -> str:
        """How messages call the value of `key`."""
        return f"{self.where}{self._sign}{key}"

    def require(self, *keys: str) -> None:
        """Refuse the table unless it has all of `keys`."""
        for key in keys:
            if key not in self.values:
                raise ConfigError(f"{self.where} must have a {key}, got none.")

    def text(self, key: str, default: str | None = None) -> str:
        """The text of `key`."""
        return _text(self.values.get(key, default), self.named(key))

    def words(self, key: str, default: str | None = None) -> str:
        """The text of `key`, which must not be blank."""
        text = self.text(key, default)
        if not text.strip():
            raise ConfigError(f"{self.named(key)} must not be blank, got {text!r}.")
        return text

    def texts(self, key: str, default: Sequence[str]) -> tuple[str, ...]:
        """The texts of `key`: a list of texts, or one text."""
        value = self.values.get(key, default)
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list):
            raise ConfigError(f"{self.named(key)} must be a list of texts, got {value!r}.")
        return tuple(_text(v, self.named(key)) for v in values)

    def number(self, key: str) -> float | None:
        """The number of `key`, as it was written; None without one."""
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(f"{self.named(key)} must be a number, got {value!r}.")
        try:
            float(value)
        except OverflowError as error:
            raise ConfigError(f"{self.named(key)} must be below 1e308, got more.") from error
        return value

    def setting(self, key: str) -> int | str | bool:
        """The integer, text or bool of `key`."""
        value = self.values[key]
        if not isinstance(value, (int, str)):
            raise ConfigError(
                f"{self.named(key)} must be an integer, a text, true or false, got {value!r}."
            )
        return value

    def tables(self, key: str) -> Iterator[tuple[object, str]]:
        """What stands under each [[key]], and how messages call it."""
        value = self.values.get(key, [])
        if not isinstance(value, list):
            raise ConfigError(f"{self.named(key)} must be tables under [[{key}]], got {value!r}.")
        return ((entry, self.named(f"[[{key}]] {i}")) for i, entry in enumerate(value, start=1))


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{where} must be a text, got {value!r}.")
    return value
