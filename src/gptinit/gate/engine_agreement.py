"""Whether engines agree: their statistics of one model compared in standard errors."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gptinit.gate.student_t import student_quantile
from gptinit.results.profile import Comparison, Place, Profile

__all__ = ["Agreement", "engine_agreement"]

_ROUNDING = 1e-5
"""Relative difference that counts as equal: a hundred times the rounding of float32."""

_NOTHING = 1e-12
"""Absolute difference that counts as equal: for numbers that are zero but for rounding."""

_CHANCE = 0.01
"""Chance of a false alarm over all numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How much the results of one engine differ from those of another.

    Attributes:
        engine: the engine that is compared.
        reference: the engine that it is compared with.
        numbers: statistics at all places that both have.
        equal: how many of them are equal up to rounding.
        missing: statistics that only one of the two has, not finite in the other.
        largest: the largest difference, in standard errors of the difference; None where all are
            equal or there is only one seed.
        stat: the statistic that has the largest difference.
        where: its place.
        limit: the largest difference that chance explains.
    """

    engine: str
    reference: str
    numbers: int
    equal: int
    missing: int = 0
    largest: float | None = None
    stat: str | None = None
    where: str | None = None
    limit: float | None = None

    @property
    def agrees(self) -> bool | None:
        """Whether the two agree; None where one seed gives no standard errors to compare with."""
        if self.missing:
            return False
        if self.equal == self.numbers:
            return True if self.numbers else None
        if self.largest is None or self.limit is None:
            return None
        return self.largest <= self.limit


def engine_agreement(comparison: Comparison) -> tuple[Agreement, ...]:
    """Compare every measuring engine with the first one; empty unless engines are compared.

    Both run on the same tokens with independent weights, so a difference has at most the standard
    error of two independent samples. The limit is Student's two-sided quantile for two samples of
    equal size and variance, at one in a hundred over all numbers (Bonferroni).
    """
    measured = [p for p in comparison.profiles if p.run.engine != "theory"]
    if comparison.axis != "engines" or len(measured) < 2:
        return ()
    first, *others = measured
    return tuple(_agreement(other, first) for other in others)


def _agreement(one: Profile, other: Profile) -> Agreement:
    gaps = list(_gaps(one, other))
    apart = [gap for gap in gaps if gap[0]]
    same = Agreement(
        engine=one.run.engine,
        reference=other.run.engine,
        numbers=len(gaps),
        equal=len(gaps) - len(apart),
        missing=_missing(one, other),
    )
    if not apart or one.run.seeds < 2:
        return same
    largest, stat, where = max(apart)
    p = _CHANCE / 2 / len(gaps)
    limit = student_quantile(p, one.run.seeds + other.run.seeds - 2)
    return replace(same, largest=largest, stat=stat, where=where, limit=limit)


def _gaps(one: Profile, other: Profile) -> Iterator[tuple[float, str, str]]:
    """(difference in standard errors, statistic, place), 0 where only rounding differs."""
    for (where, place), (_, other_place) in zip(one.places(), other.places(), strict=True):
        numbers, others = _numbers(place), _numbers(other_place)
        for stat in numbers.keys() & others.keys():
            yield _gap(numbers[stat], others[stat]), stat, where


def _missing(one: Profile, other: Profile) -> int:
    """Number of statistics that only one of the two has, over all places."""
    numbers, others = (
        {(w, stat) for w, p in profile.places() for stat in p.values} for profile in (one, other)
    )
    return len(numbers ^ others)


def _numbers(place: Place) -> dict[str, tuple[float, float]]:
    """Every number of a place with its standard error, 0 where it has none."""
    numbers = {stat: (value, place.stderr.get(stat, 0.0)) for stat, value in place.values.items()}
    for role, grad in place.weight_grad.items():
        for name in ("grad_rms", "weight_rms"):
            error = grad.stderr.get(name, 0.0)
            numbers[f"weight_grad.{role}.{name}"] = (getattr(grad, name), error)
    return numbers


def _gap(one: tuple[float, float], other: tuple[float, float]) -> float:
    gap = abs(one[0] - other[0])
    if gap <= max(_ROUNDING * abs(other[0]), _NOTHING):
        return 0.0
    error = math.hypot(one[1], other[1])
    return gap / error if error else math.inf
