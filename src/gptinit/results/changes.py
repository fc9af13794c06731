"""What an init changes of what the constructor drew, role by role, and the words for it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from gptinit.facts.distributions import Distribution
from gptinit.facts.vocabulary import ROLES, ParameterRole
from gptinit.results.program import ParameterProgram, Program, UncalledInit

__all__ = ["RoleChange", "init_changes", "listed_changes", "role_changes", "uncalled_words"]

_SHOWN = 4
"""Changes that a sentence lists."""

Change = tuple[ParameterProgram, Distribution, Distribution]
"""A parameter, what the constructor draws it from, and what it is drawn from after the init."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleChange:
    """Parameters of one role that an init draws from another distribution.

    Attributes:
        role: their role.
        count: number of tensors.
        before: what the constructor draws them from.
        after: what they are drawn from after the init.
    """

    role: ParameterRole
    count: int
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.role} {self.before} -> {self.after}"


def role_changes(changes: Iterable[Change]) -> list[RoleChange]:
    """The changes by role and distributions, in the order of roles.

    Example:
        >>> from gptinit.facts.distributions import Constant, Normal
        >>> head = ParameterProgram(
        ...     name="head", shape=(4, 4), role="lm_head", layer=None, distribution=Constant(0.0)
        ... )
        >>> print(*role_changes([(head, Normal(0.0, 1.0), Constant(0.0))]))
        lm_head N(0, 1) -> 0
    """
    counts = Counter((p.role, str(before), str(after)) for p, before, after in changes)
    found = [
        RoleChange(role=role, count=count, before=before, after=after)
        for (role, before, after), count in counts.items()
    ]
    order = (*ROLES, "other")
    return sorted(found, key=lambda change: order.index(change.role))


def init_changes(parameters: Program) -> list[RoleChange]:
    """What the init that ran after the constructor changed."""
    return role_changes(
        (p, p.constructed, p.distribution) for p in parameters if p.constructed is not None
    )


def listed_changes(changes: list[RoleChange]) -> str:
    """The first changes, and how many more there are."""
    more = [f"{len(changes) - _SHOWN} more"] if len(changes) > _SHOWN else []
    return "; ".join([*map(str, changes[:_SHOWN]), *more])


def uncalled_words(left: UncalledInit, parameters: Program) -> str:
    """That an init is not run, what it would change, and how to run it."""
    init = left.init
    rule = (
        f"The init that a model defines must run, got {init.call} ({init.file}:{init.line}), which "
        "nothing calls."
    )
    if left.obstacle:
        return f"{rule} {left.obstacle}"
    changes = role_changes(
        (p, p.distribution, left.changes[p.name]) for p in parameters if p.name in left.changes
    )
    return (
        f"{rule} It would change {listed_changes(changes)}. "
        f"If the trainer runs it, add --init {init.name}."
    )
