"""From the values of single seeds to means with standard errors."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gptinit.facts.vocabulary import STATISTICS
from gptinit.results.profile import Place, WeightGrad

__all__ = ["SeedPlace", "average_place", "mean_and_stderr"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedPlace:
    """What one seed gave at one place.

    Attributes:
        values: statistic name to value; non-finite ones are left out of means.
        weight_grad: role to (RMS of the gradient, RMS of the weight).
    """

    values: Mapping[str, float]
    weight_grad: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def average_place(seeds: Sequence[SeedPlace]) -> Place:
    """The mean over seeds of every statistic that is finite in all of them, in table order."""
    values: dict[str, float] = {}
    stderr: dict[str, float] = {}
    for name, statistic in STATISTICS.items():
        sample = [s.values.get(name, math.nan) for s in seeds]
        if not all(math.isfinite(v) for v in sample):
            continue
        values[name], error = mean_and_stderr(sample, log=statistic.log)
        if error is not None:
            stderr[name] = error
    return Place(values=values, stderr=stderr, weight_grad=_average_weight_grad(seeds))


def mean_and_stderr(sample: Sequence[float], *, log: bool) -> tuple[float, float | None]:
    """Mean over seeds and its standard error, which is None with one seed.

    Args:
        sample: one finite value a seed.
        log: average the logarithms: the mean is their exp and the standard error that of the mean
            log times the mean. A sample with a value that is not positive is averaged as it is.

    Example:
        >>> mean_and_stderr([1.0, 3.0], log=False)
        (2.0, 1.0)
        >>> mean, stderr = mean_and_stderr([1.0, 4.0], log=True)
        >>> round(mean, 12), round(stderr / mean, 6) == round(math.log(4) / 2, 6)
        (2.0, True)
    """
    log = log and min(sample) > 0
    terms = [math.log(v) for v in sample] if log else list(sample)
    count = len(terms)
    mean = math.fsum(terms) / count
    error = None
    if count > 1:
        error = math.sqrt(math.fsum((t - mean) ** 2 for t in terms) / (count - 1) / count)
    if not log:
        return mean, error
    return math.exp(mean), None if error is None else math.exp(mean) * error


def _average_weight_grad(seeds: Sequence[SeedPlace]) -> dict[str, WeightGrad]:
    """Mean over seeds of every role's gradient and weight, where all of them are finite."""
    averaged = {}
    for role in seeds[0].weight_grad:
        grads, weights = zip(*(s.weight_grad[role] for s in seeds), strict=True)
        if not all(math.isfinite(v) for v in (*grads, *weights)):
            continue
        samples = {"grad_rms": grads, "weight_rms": weights}
        if min(weights) > 0:
            ratios = tuple(g / w for g, w in zip(grads, weights, strict=True))
            samples |= {"ratio": ratios} if all(map(math.isfinite, ratios)) else {}
        found = {name: mean_and_stderr(sample, log=True) for name, sample in samples.items()}
        averaged[role] = WeightGrad(
            grad_rms=found["grad_rms"][0],
            weight_rms=found["weight_rms"][0],
            ratio=found["ratio"][0] if "ratio" in found else None,
            stderr={name: error for name, (_, error) in found.items() if error is not None},
        )
    return averaged
