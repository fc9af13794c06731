"""Whether engines agree: what they measure of one model, number by number, in standard errors."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gptinit.gate.student_t import student_quantile
from gptinit.results.profile import Comparison, Place, Profile

__all__ = ["Agreement", "engine_agreement"]

_ROUNDING = 1e-5
"""Relative difference that counts as none: a hundred times what float32 rounds to."""

_NOTHING = 1e-12
"""Difference that counts as none, whatever it is beside: of numbers that would be zero."""

_CHANCE = 0.01
"""Of calling engines apart that agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far one engine is from another.

    Attributes:
        engine: the one.
        reference: the other.
        numbers: statistics at all places that both have.
        equal: how many of them are equal but for rounding.
        missing: statistics that only one of the two has, not finite in the other.
        largest: the largest difference, in standard errors of the difference; None where all are
            equal or one seed tells no standard errors.
        stat: which statistic that is.
        where: at which place.
        limit: what it must not exceed.
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
        """Whether the two measure the same; None where that cannot be told."""
        if self.missing:
            return False
        if self.equal == self.numbers:
            return True if self.numbers else None
        if self.largest is None or self.limit is None:
            return None
        return self.largest <= self.limit


def engine_agreement(comparison: Comparison) -> tuple[Agreement, ...]:
    """Every engine that measured against the first that did; none unless engines are compared.

    Both run on the same tokens with weights of their own, so a difference has at most the standard
    error of two independent samples. The limit is Student's two-sided quantile for two samples of
    equal size and variance, at one in a hundred over all numbers (Bonferroni).
    """
    measured = [p for p in comparison.profiles if p.run.engine != "theory"]
    if comparison.axis != "engines" or len(measured) < 2:
        return ()
    first, *others = measured
    return tuple(_agreement(other, first) for other in others)


def _agreement(one: Profile, other: Profile) -> Agreement:
    """One engine against another."""
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
    for (where, place), (_, beside) in zip(one.places(), other.places(), strict=True):
        mine, its = _numbers(place), _numbers(beside)
        for stat in mine.keys() & its.keys():
            yield _gap(mine[stat], its[stat]), stat, where


def _missing(one: Profile, other: Profile) -> int:
    """Statistics of places that one has and the other lacks; a layer that one lacks whole too."""
    mine, its = (
        {(w, stat) for w, p in profile.places() for stat in p.values} for profile in (one, other)
    )
    return len(mine ^ its)


def _numbers(place: Place) -> dict[str, tuple[float, float]]:
    """Every number of a place with its standard error, 0 where it has none."""
    numbers = {stat: (value, place.stderr.get(stat, 0.0)) for stat, value in place.values.items()}
    for role, grad in place.weight_grad.items():
        for name in ("grad_rms", "weight_rms"):
            error = grad.stderr.get(name, 0.0)
            numbers[f"weight_grad.{role}.{name}"] = (getattr(grad, name), error)
    return numbers


def _gap(one: tuple[float, float], other: tuple[float, float]) -> float:
    """The difference of two numbers with standard errors."""
    gap = abs(one[0] - other[0])
    if gap <= max(_ROUNDING * abs(other[0]), _NOTHING):
        return 0.0
    error = math.hypot(one[1], other[1])
    return gap / error if error else math.inf
