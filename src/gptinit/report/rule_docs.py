"""What a report needs to know of an audit rule: its documentation, in the order it is told."""

from collections.abc import Iterator
from typing import Protocol

__all__ = ["RuleDoc", "chapters_of"]


class RuleDoc(Protocol):
    """The documentation of a rule; whatever finds by it is of no concern here."""

    @property
    def name(self) -> str:
        """Its name, as findings have it."""

    @property
    def severity(self) -> str:
        """Its usual severity: "error", "warning" or "note"."""

    @property
    def title(self) -> str:
        """One line."""

    @property
    def what(self) -> str:
        """What it is."""

    @property
    def why(self) -> str:
        """Why it hurts."""

    @property
    def bug(self) -> str:
        """A real case, with its source."""

    @property
    def fix(self) -> str:
        """How to mend it."""


def chapters_of(rule: RuleDoc) -> Iterator[tuple[str, str]]:
    """Heading and text of each part of a rule's documentation that is not empty."""
    chapters = (
        ("What it is", rule.what),
        ("Why it hurts", rule.why),
        ("Where it happened", rule.bug),
        ("How to fix it", rule.fix),
    )
    return ((heading, text) for heading, text in chapters if text)
