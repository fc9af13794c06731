"""Pieces of Markdown: escaped text, lists, tables, whole documents."""

from collections.abc import Iterable, Sequence

__all__ = ["bullets", "code", "document", "section", "table", "text"]


def section(title: str, items: Sequence[str]) -> str:
    """A heading over a list; empty without items."""
    return f"## {title}\n\n{bullets(items)}" if items else ""


def bullets(items: Iterable[str]) -> str:
    """A bullet list."""
    return "\n".join(f"- {item}" for item in items)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], words: Iterable[str] = ()) -> str:
    """A table of finished cells; the columns called `words` to the left, numbers to the right."""
    if not rows:
        return ""
    words = tuple(words)
    rule = [":--" if name in words else "--:" for name in header]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def document(*parts: str) -> str:
    """The parts that are not empty, a blank line between them, one newline at the end."""
    return "\n\n".join(part for part in parts if part) + "\n"


def text(words: str) -> str:
    r"""Escape text for one line of a table or list: no pipes, tags or emphasis by accident.

    Example:
        >>> text("a|b *c*")
        'a\\|b \\*c\\*'
    """
    for sign in ("\\", "|", "*", "`", "<"):
        words = words.replace(sign, f"\\{sign}")
    return " ".join(words.split())


def code(words: str) -> str:
    """Text as code; pipes are escaped, which a table needs even in code."""
    return f"`{' '.join(words.split())}`".replace("|", "\\|")
