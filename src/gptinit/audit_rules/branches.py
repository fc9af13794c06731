"""Branches of the init code that ask for a name that no parameter has in the form they expect."""

from collections.abc import Iterator

from gptinit.audit_rules.context import Context
from gptinit.audit_rules.grouping import Hit
from gptinit.facts.vocabulary import Severity
from gptinit.results.program import ModelProgram

__all__ = ["init_branch_never_taken"]


def init_branch_never_taken(program: ModelProgram, _: Context) -> Iterator[Hit]:
    """Draws and scalings behind a test on names that was true of none.

    An error where names that the test was asked about have the text that it compares with, and it
    says no all the same; a warning where only names have it that the test was never asked about; a
    note where the model has no such name.
    """
    for branch in program.never_taken:
        place = f"{branch.file}:{branch.line}"
        names = "the one name" if branch.asked == 1 else f"all {branch.asked} names"
        message = (
            f"A branch that draws or scales must be taken, got `if {branch.test}` at {place} false "
            f"for {names} that it was asked about"
        )
        if not branch.meant:
            missed = f", and {branch.missed[0]} was not among them" if branch.missed else ""
            severity: Severity = "warning" if branch.missed else "note"
            yield Hit(None, severity, f"{message}: none of them is called so{missed}.")
            continue
        message += f", {branch.meant[0]} among them: what it does never happens."
        named = [p for p in program.parameters if _is_meant(p.name, branch.meant)]
        for p in named:
            yield Hit(p, "error", message, cause=place)
        if not named:
            yield Hit(None, "error", message)


def _is_meant(name: str, meant: tuple[str, ...]) -> bool:
    """Whether a parameter, or a module that it is in, is one of the names."""
    return any(f".{name}.".endswith(f".{m}.") or f".{m}." in f".{name}" for m in meant)
