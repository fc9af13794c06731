"""From the values of single seeds to means with standard errors."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gptinit.facts.vocabulary import STATISTICS, ParameterRole
from gptinit.results.exponents import angle_exponent, gradient_exponent
from gptinit.results.profile import Place, WeightGrad, named_places
from gptinit.results.scale import Scale

__all__ = ["SeedPlace", "SeedResult", "average_place", "mean_and_stderr", "whole_of", "with_ratios"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedPlace:
    """The statistics of one seed at one place.

    Attributes:
        values: statistic name to value; non-finite ones are left out of means.
        weight_grad: role to (RMS of the gradient, RMS of the weight).
    """

    values: Mapping[str, float]
    weight_grad: Mapping[ParameterRole, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedResult:
    """What one seed gave at every place."""

    embedding: SeedPlace
    layers: tuple[SeedPlace, ...]
    final: SeedPlace
    whole: SeedPlace

    def places(self) -> tuple[tuple[str, SeedPlace], ...]:
        """Every place with its name: embedding, layer 0, layer 1 ..., final, whole."""
        return named_places(self.embedding, self.layers, self.final, self.whole)


def with_ratios(embedding: SeedPlace, layers: Sequence[SeedPlace], final: SeedPlace) -> SeedResult:
    """One seed with the growth of its stream and gradient, and what that says of the whole depth.

    `resid_growth` is resid_var over its value at the embedding, `grad_growth` is grad_rms over its
    value at the last layer; each is left out where the value to divide by is 0 or absent.
    """
    start = embedding.values.get("resid_var")
    last = layers[-1].values.get("grad_rms")

    def related(place: SeedPlace, *, growth: bool) -> SeedPlace:
        values = dict(place.values)
        if growth and start and "resid_var" in values:
            values["resid_growth"] = values["resid_var"] / start
        if last and "grad_rms" in values:
            values["grad_growth"] = values["grad_rms"] / last
        return SeedPlace(values=values, weight_grad=place.weight_grad)

    found = tuple(related(place, growth=True) for place in layers)
    return SeedResult(
        embedding=related(embedding, growth=False),
        layers=found,
        final=final,
        whole=SeedPlace(values=whole_of([place.values for place in found])),
    )


def whole_of(layers: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Growth over the whole depth and the two exponents, each where it is defined.

    Args:
        layers: statistic name to value at every layer, first to last.
    """
    found = {
        "resid_growth": layers[-1].get("resid_growth"),
        "angle_exponent": angle_exponent([p.get("token_cosine", math.nan) for p in layers]),
        "gradient_exponent": gradient_exponent([p.get("grad_rms", math.nan) for p in layers]),
    }
    return {stat: value for stat, value in found.items() if value is not None}


def average_place(seeds: Sequence[SeedPlace]) -> Place:
    """Average over seeds every statistic that is finite in all of them, in the order of tables."""
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
    scale = Scale.of(sample, log=log)
    terms = [scale.at(value) for value in sample]
    count = len(terms)
    mean = math.fsum(terms) / count
    error = None
    if count > 1:
        error = math.sqrt(math.fsum((t - mean) ** 2 for t in terms) / (count - 1) / count)
    if not scale.log:
        return mean, error
    return math.exp(mean), None if error is None else math.exp(mean) * error


def _average_weight_grad(seeds: Sequence[SeedPlace]) -> dict[ParameterRole, WeightGrad]:
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
