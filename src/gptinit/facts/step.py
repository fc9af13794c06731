"""One call that set a tensor: what a trace records, rules compare and reports write out.

It stands here because `trace`, which makes steps, and `results`, which keeps them, are siblings.
"""

from dataclasses import dataclass

__all__ = ["Step"]


@dataclass(frozen=True, slots=True)
class Step:
    """One call of an operator that set the values of a tensor.

    Attributes:
        op: torch's name of the operator; an in-place one ends in "_".
        numbers: its arguments that are numbers; None where it copies another tensor's values.
        file: file of the user's code that called it, relative to the working folder; empty where
            not known.
        line: line of the call, from 1; 0 where not known.

    Example:
        >>> str(Step("normal_", (0, 0.02), "model.py", 151))
        'normal_(0, 0.02) at model.py:151'
    """

    op: str
    numbers: tuple[float, ...] | None = ()
    file: str = ""
    line: int = 0

    @property
    def is_in_place(self) -> bool:
        """Whether it set a tensor that was there already: zero_() does, zeros() makes a new one."""
        return self.op.endswith("_")

    def __str__(self) -> str:
        called = "" if self.numbers is None else f"({', '.join(f'{n:g}' for n in self.numbers)})"
        return f"{self.op}{called}" + (f" at {self.file}:{self.line}" if self.file else "")
