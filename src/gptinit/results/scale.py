"""Whether a statistic is averaged, judged and compared as a logarithm."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Scale"]


@dataclass(frozen=True, slots=True)
class Scale:
    """The scale on which a statistic is averaged, judged and compared.

    Standard deviations and ratios scatter symmetrically as logarithms, all else as it is.
    """

    log: bool

    @classmethod
    def of(cls, values: Iterable[float], *, log: bool) -> "Scale":
        """The logarithms if `log` and all values have one, else the numbers themselves."""
        return cls(log and min(values) > 0)

    def at(self, value: float) -> float:
        """Where a value or limit lies on the scale; -inf for a limit that no logarithm reaches."""
        if not self.log:
            return value
        return math.log(value) if value > 0 else -math.inf

    def error(self, value: float, stderr: float) -> float:
        """The standard error of a value on the scale."""
        return stderr / value if self.log else stderr
