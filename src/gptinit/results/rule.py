"""What a rule of the audit is: a name, its documentation and a finder."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from gptinit.audit_rules.context import Context
from gptinit.results.profile import Finding
from gptinit.results.program import ModelProgram

__all__ = ["Finder", "Rule"]

Finder: TypeAlias = Callable[[ModelProgram, Context], Iterable[Finding]]
"""Everything that one rule finds in a program."""


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
        find: finds it in a program; None where a program alone cannot show it (several
            processes, or several builds, must be compared).
    """

    name: str
    severity: str
    title: str
    what: str
    why: str
    bug: str
    fix: str
    find: Finder | None
