"""What a rule of the audit says: its name, its severity and its documentation."""

from collections.abc import Iterator
from dataclasses import dataclass

from gptinit.facts.vocabulary import Severity

__all__ = ["Rule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Something that can be wrong with how a model is initialised.

    Attributes:
        name: what findings carry and configurations accept.
        severity: of most of its findings: "error", "warning" or "note".
        title: one line.
        what: what is wrong, exactly.
        why: what it does to training.
        bug: the real case that it comes from, with its public reference.
        fix: how to mend it.
        silenced_by: rules that name causes of this one: a finding is dropped where one of those is
            found on the same parameters.
    """

    name: str
    severity: Severity
    title: str
    what: str
    why: str
    bug: str
    fix: str
    silenced_by: tuple[str, ...] = ()

    def chapters(self) -> Iterator[tuple[str, str]]:
        """Heading and text of each part of the documentation that is not empty."""
        chapters = (
            ("What it is", self.what),
            ("Why it hurts", self.why),
            ("Where it happened", self.bug),
            ("How to fix it", self.fix),
        )
        return ((heading, text) for heading, text in chapters if text)
