"""Arguments of an init that nothing says the value of, such as a handle on devices."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from gptinit.errors import SubjectError
from gptinit.load.stand_in import StandIn
from gptinit.results.profile import Note

__all__ = ["INSTEAD", "Unvalued"]

INSTEAD = (
    "Write a function that takes the model and calls it, and name that: --init path.py:FUNCTION."
)
"""What to do about an init that needs what nobody gives."""


@dataclass(slots=True, kw_only=True)
class Unvalued:
    """The arguments of one init that nothing says the value of, and what it did with them.

    An init may print by such an argument, or ask it for its kind: each gets a stand-in. A use of
    one is noted; where it computes with one, a SubjectError says so.

    Attributes:
        names: the arguments.
        used: what was called, compared or asked for its truth, in order.
    """

    names: dict[str, None] = field(default_factory=dict)
    used: dict[str, None] = field(default_factory=dict)

    def stand_ins(self, names: Iterable[str]) -> dict[str, StandIn]:
        """A stand-in for each argument, by name."""
        names = list(names)
        self.names |= dict.fromkeys(names)
        return {name: StandIn(self, name) for name in names}

    def touch(self, what: str, *, is_question: bool = False) -> None:
        """Record that the init used an argument."""
        self.used.setdefault(what)

    def refusal(self, path: str) -> SubjectError:
        """The error where the value of an argument, or of something of it, is needed."""
        return SubjectError(
            f"{path} must have a value here, got the stand-in of an argument that nothing gives: "
            f"the init computes with it. {INSTEAD}"
        )

    def notes(self) -> tuple[Note, ...]:
        """A note, if the init used one."""
        if not self.used:
            return ()
        message = (
            f"Nothing gives the init a value for {', '.join(self.names)}: it used "
            f"{', '.join(self.used)}, where calls did nothing and comparisons were false. {INSTEAD}"
        )
        return (Note(kind="approximate", where="init", message=message),)
