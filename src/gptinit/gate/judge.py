"""Judge profiles by bounds: what is ok, what is violated, and what is too noisy to tell."""

import bisect
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gptinit.config import InitCall
from gptinit.errors import ConfigError
from gptinit.facts.bounds import Bound
from gptinit.facts.names import ranges
from gptinit.facts.vocabulary import STATISTICS, Severity, Verdict
from gptinit.gate.student_t import student_quantile
from gptinit.results.profile import Finding, Profile
from gptinit.results.scale import Scale

__all__ = [
    "BoundResult",
    "CheckReport",
    "by_bound_and_verdict",
    "excess",
    "findings_of",
    "judge",
    "nonfinite_findings",
    "nonfinite_place",
    "out_of_bounds",
    "places_of",
]

_MOST_SEEDS = 10_000
"""More seeds than this are never recommended to settle a bound."""

_COUNT = "nonfinite"
"""The only statistic that counts what must never happen: one in a single seed is not noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundResult:
    """One bound at one place of one model.

    Attributes:
        model: name of the model as in the configuration.
        stat: the statistic.
        where: the place: "embedding", "layer 3", "final", "whole".
        value: mean over seeds; None where it is not finite.
        stderr: standard error of the mean; None where value is None.
        min: lowest allowed value, or None.
        max: highest allowed value, or None.
        verdict: "ok", "violated" or "inconclusive".
        why: the bound's reason; for an inconclusive result also how many seeds it needs.
    """

    model: str
    stat: str
    where: str
    value: float | None
    stderr: float | None
    min: float | None
    max: float | None
    verdict: Verdict
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """The outcome of a check.

    Attributes:
        results: one entry a bound, place and model.
        findings: violations (errors), inconclusive bounds (warnings), and findings of the audit.
        inits: name of a model to the init that ran after its constructor, where one did.
    """

    results: tuple[BoundResult, ...]
    findings: tuple[Finding, ...]
    inits: Mapping[str, InitCall] = field(default_factory=dict)


def judge(
    profile: Profile, bounds: Sequence[Bound], *, model: str, alpha: float = 1e-4
) -> tuple[BoundResult, ...]:
    """Judge every bound at each of its places: ok, violated or inconclusive.

    A bound holds (or is violated) where the whole interval value ± t standard errors lies inside
    (outside) it; standard deviations and ratios are judged as logarithms. t is the one-sided
    Student quantile with seeds - 1 degrees of freedom at `alpha` divided by the number of bounds,
    one on every layer counting once. So the chance that a model within all its bounds has any
    violation is at most `alpha` (for normal errors and bounds with min < max; at a bound with
    min = max twice its share), and at most `alpha` times the number of layers where a model sits
    on the limit of a bound at every one of them. Without noise the limits decide exactly, and
    belong to the range. So they do for the count `nonfinite`: a single one in a single seed
    violates a max of 0.

    Args:
        profile: a measured profile of at least 2 seeds.
        bounds: the bounds to judge it by.
        model: its name in results.
        alpha: chance of any false violation, above 0 and below 0.5.

    Returns:
        One result a bound and place, in that order. A value that is not finite violates its
        bound.

    Raises:
        ConfigError: if there are fewer than 2 seeds, `alpha` is out of range, a bound names a
            layer that is not there or a statistic that was not measured.

    References:
        Family-wise error of any set of tests: Bonferroni; Lehmann & Romano 2005, "Testing
        Statistical Hypotheses", section 9.1.
    """
    if profile.run.seeds < 2:
        raise ConfigError(
            f"seeds must be at least 2 to judge the bounds of {model}, got "
            f"seeds={profile.run.seeds}. One seed says nothing about noise."
        )
    if not 0 < alpha < 0.5:
        raise ConfigError(f"alpha must be above 0 and below 0.5, got {alpha!r}.")
    pairs = [(b, where) for b in bounds for where in places_of(b, len(profile.layers))]
    return tuple(_judge_one(profile, b, w, model, alpha / len(bounds)) for b, w in pairs)


def places_of(bound: Bound, n_layer: int) -> tuple[str, ...]:
    """Names of the places that a bound applies to, in a model of `n_layer` blocks.

    Raises:
        ConfigError: if it names a layer that is not there.

    Example:
        >>> places_of(Bound(stat="resid_var", where="every layer", max=1), 2)
        ('layer 0', 'layer 1')
    """
    if bound.where == "every layer":
        return tuple(f"layer {i}" for i in range(n_layer))
    if bound.where == "last layer":
        return (f"layer {n_layer - 1}",)
    if bound.place != "layer":
        return (bound.where,)
    layer = int(bound.where.removeprefix("layer "))
    if layer >= n_layer:
        raise ConfigError(
            f"bound on {bound.stat} must be at a layer from 0 to {n_layer - 1}, "
            f"got where={bound.where!r}. Write 'last layer' for the last one."
        )
    return (f"layer {layer}",)


def _judge_one(profile: Profile, bound: Bound, where: str, model: str, tail: float) -> BoundResult:
    """Judge one bound at one place; `tail` is the one-sided probability of a false violation."""
    place = dict(profile.places())[where]
    value = place.values.get(bound.stat)
    if value is None or not math.isfinite(value):
        return _without_value(profile, bound, where, model)
    if bound.stat not in place.stderr:
        raise ConfigError(
            f"bound on {bound.stat} at {bound.where} must be on a value with a standard error, "
            f"got none in {model}. Measure the model with several seeds."
        )
    stderr = place.stderr[bound.stat]
    noise = 0.0 if bound.stat == _COUNT else stderr
    estimate = _Estimate.of(bound.stat, value, noise)
    reach = estimate.stderr * student_quantile(tail, profile.run.seeds - 1) if noise else 0.0
    verdict = estimate.verdict(bound, reach)
    why = bound.why
    if verdict == "inconclusive":
        why = _sentences(why, _more_seeds(estimate, bound, profile.run.seeds, tail))
    made = _violated(bound, where, model, why)
    return replace(made, value=value, stderr=stderr, verdict=verdict)


def _violated(bound: Bound, where: str, model: str, why: str) -> BoundResult:
    """The result of a bound at a place without a finite value."""
    return BoundResult(
        model=model,
        stat=bound.stat,
        where=where,
        value=None,
        stderr=None,
        min=bound.min,
        max=bound.max,
        verdict="violated",
        why=why,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Estimate:
    """A value with its standard error, on the scale where a bound judges it."""

    scale: Scale
    value: float
    stderr: float

    @classmethod
    def of(cls, stat: str, value: float, stderr: float) -> "_Estimate":
        """The estimate of a statistic; without noise its limits are compared as they are."""
        scale = Scale.of([value], log=STATISTICS[stat].log and stderr > 0)
        return cls(scale=scale, value=scale.at(value), stderr=scale.error(value, stderr))

    def verdict(self, bound: Bound, reach: float) -> Verdict:
        """What value ± `reach` says of the bound."""
        low, high = _limits(bound, self.scale)
        if self.value - reach >= low and self.value + reach <= high:
            return "ok"
        if self.value + reach < low or self.value - reach > high:
            return "violated"
        return "inconclusive"

    def distance(self, bound: "Bound | BoundResult") -> float:
        """How far the value is from the nearest limit, on either side of it."""
        return min(abs(self.value - limit) for limit in _limits(bound, self.scale))


def _limits(bound: "Bound | BoundResult", scale: Scale) -> tuple[float, float]:
    low = -math.inf if bound.min is None else scale.at(bound.min)
    high = math.inf if bound.max is None else scale.at(bound.max)
    return low, high


def _more_seeds(estimate: _Estimate, bound: Bound, seeds: int, tail: float) -> str:
    """A hint how many seeds would settle the bound, if value and noise stay the same."""
    distance = estimate.distance(bound)
    spread = estimate.stderr * math.sqrt(seeds)

    def settles(n: int) -> bool:
        return student_quantile(tail, n - 1) * spread / math.sqrt(n) < distance

    if not settles(_MOST_SEEDS):
        return "The value sits on the limit: more seeds cannot settle it soon"
    counts = range(seeds + 1, _MOST_SEEDS)
    needed = counts[0] + bisect.bisect_left(counts, True, key=settles)
    return f"Too noisy to tell with {seeds} seeds; about {needed} would"


def _without_value(profile: Profile, bound: Bound, where: str, model: str) -> BoundResult:
    """A violation where the value is not finite; refuse a statistic that was not measured."""
    cause = nonfinite_place(profile, bound.stat, where)
    if cause is None:
        raise _not_measured(bound, where, model)
    why = _sentences(f"The value is not finite: NaN or infinity in {cause}", bound.why)
    return _violated(bound, where, model, why)


def _not_measured(bound: Bound, where: str, model: str) -> ConfigError:
    """The error for a bound on a statistic that was not measured, with a remedy."""
    if STATISTICS[bound.stat].needs_grad:
        remedy = "Set grad = true under [run] or remove the bound."
    else:
        remedy = (
            "It is undefined there, as at seq_len = 1 or in a stream of zeros: use a longer "
            "seq_len or remove the bound."
        )
    return ConfigError(
        f"bound on {bound.stat} at {bound.where} must be on a measured statistic, got none in "
        f"{model} at {where}. {remedy}"
    )


def nonfinite_place(profile: Profile, stat: str, where: str) -> str | None:
    """The first place whose NaN or infinity reaches `stat` at `where`; None if none does.

    Non-finite values reach a place from itself, earlier places and the logits; gradients, which
    start at the loss, are reached from every place. A non-finite value of `stat` counts as well.
    """
    places = dict(profile.places())
    broken = [name for name, place in places.items() if place.values.get(_COUNT, 0) > 0]
    if broken:
        names = list(places)
        before = {*names[: names.index(where) + 1], "final"}
        sources = set(names) if STATISTICS[stat].needs_grad else before
        first = next((name for name in broken if name in sources), None)
        if first is not None:
            return first
    own = places[where].values.get(stat, 0.0)
    return None if math.isfinite(own) else where


def findings_of(
    results: Iterable[BoundResult], *, rule: str = "out-of-bounds"
) -> tuple[Finding, ...]:
    """One finding for every bound that is violated (an error) or inconclusive (a warning).

    Layers that violate the same bound share one finding: its `where` lists them ("layers 3,
    40-47"), and its `fact` describes the worst of them.

    Args:
        results: of one model or several, from `judge` or `compare_to_baseline`.
        rule: name of the rule that a violation breaks.
    """
    return tuple(
        _finding(g, rule, "error", model=g.worst.model)
        if g.worst.verdict == "violated"
        else _finding(g, "inconclusive", "warning", model=g.worst.model)
        for g in _groups(results)
    )


def out_of_bounds(profile: Profile, bounds: Iterable[Bound]) -> tuple[Finding, ...]:
    """One finding for every bound that the means violate, whatever their noise.

    For `inspect`, where seeds may be few: each finding is a warning. A value that is not finite is
    an error, and so is a count of such values; a statistic that was not measured is skipped.

    Raises:
        ConfigError: if a bound names a layer that is not there.
    """
    pairs = [(b, where) for b in bounds for where in places_of(b, len(profile.layers))]
    results = [_compare_plainly(profile, bound, where) for bound, where in pairs]
    return tuple(
        _finding(
            g,
            "out-of-bounds",
            "error" if g.worst.value is None or g.worst.stat == _COUNT else "warning",
        )
        for g in _groups(result for result in results if result is not None)
    )


def _compare_plainly(profile: Profile, bound: Bound, where: str) -> BoundResult | None:
    """The result without an interval; None for a statistic that was not measured."""
    place = dict(profile.places())[where]
    value = place.values.get(bound.stat)
    if value is None or not math.isfinite(value):
        if nonfinite_place(profile, bound.stat, where) is None:
            return None
        return _without_value(profile, bound, where, profile.model.name)
    verdict = _Estimate.of(bound.stat, value, 0.0).verdict(bound, 0.0)
    made = _violated(bound, where, profile.model.name, bound.why)
    return replace(made, value=value, stderr=place.stderr.get(bound.stat), verdict=verdict)


def nonfinite_findings(profile: Profile) -> tuple[Finding, ...]:
    """One error that names the first place with NaN or infinity; empty if there is none."""
    for where, place in profile.places():
        count = place.values.get(_COUNT, 0)
        if count > 0:
            what = "the logits" if where == "final" else "the residual stream"
            seeds = profile.run.seeds
            mean = f" (mean over {seeds} seeds)" if seeds > 1 else ""
            fact = (
                f"Values of {what} must be finite, got {_number(count, ())} NaN or infinity{mean}; "
                "what comes after has no meaning."
            )
            return (Finding(rule="nonfinite", severity="error", where=where, fact=fact),)
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Results of one bound with one verdict, described by the worst (or least certain) of them."""

    worst: BoundResult
    where: str
    fact: str


def _finding(group: _Group, rule: str, severity: Severity, model: str | None = None) -> Finding:
    return Finding(
        rule=rule,
        severity=severity,
        model=model,
        where=group.where,
        fact=group.fact,
        why=_sentences(group.worst.why),
        stat=group.worst.stat,
    )


def _groups(results: Iterable[BoundResult]) -> Iterator[_Group]:
    """Groups of the results that are not ok, in the order of the results."""
    results = tuple(results)
    totals = Counter(key for key, _ in {(_key(r), r.where) for r in results})
    for group in by_bound_and_verdict(r for r in results if r.verdict != "ok"):
        is_noisy = group[0].verdict == "inconclusive"
        worst = max(group, key=_doubt if is_noisy else excess)
        fact, places = _fact(worst), {r.where for r in group}
        if len(places) > 1:
            what, total = "hardest to tell" if is_noisy else "worst", totals[_key(worst)]
            fact = f"{len(places)} of {total} layers, {what} {worst.where}: {fact}"
        yield _Group(worst=worst, where=_place_list(places), fact=fact)


def by_bound_and_verdict(results: Iterable[BoundResult]) -> list[list[BoundResult]]:
    """The results of each bound and verdict, the layers together, in the order of the results."""
    groups: dict[tuple[object, ...], list[BoundResult]] = {}
    for result in results:
        groups.setdefault((*_key(result), result.verdict), []).append(result)
    return list(groups.values())


def _key(result: BoundResult) -> tuple[object, ...]:
    """Equal for results of one bound that differ by layer alone."""
    place = "layer" if result.where.startswith("layer ") else result.where
    return (result.model, result.stat, place, result.min, result.max)


def _place_list(places: Iterable[str]) -> str:
    """The places of one group in one phrase.

    Example:
        >>> _place_list({"layer 3"}), _place_list({"layer 0", "layer 2", "layer 3", "layer 4"})
        ('layer 3', 'layers 0, 2-4')
    """
    first, *more = places
    if not more:
        return first
    return f"layers {ranges(int(p.removeprefix('layer ')) for p in (first, *more))}"


def excess(result: BoundResult) -> float:
    """How far a value is beyond its nearest limit, negative within; inf if it is not finite."""
    if result.value is None:
        return math.inf
    scale = Scale.of([result.value], log=STATISTICS[result.stat].log)
    low, high = _limits(result, scale)
    return max(scale.at(result.value) - high, low - scale.at(result.value))


def _doubt(result: BoundResult) -> float:
    """A number that grows with the seeds it would take to settle the bound."""
    if result.value is None or not result.stderr:
        return 0.0
    estimate = _Estimate.of(result.stat, result.value, result.stderr)
    distance = estimate.distance(result)
    return estimate.stderr / distance if distance else math.inf


def _fact(result: BoundResult) -> str:
    """What the bound allows and what was found."""
    limits = [x for x in (result.min, result.max) if x is not None]
    value = "no finite value"
    if result.value is not None:
        value = _number(result.value, limits)
        value += f" ± {_error(result.stderr)}" if result.stderr else ""
    return _sentences(f"{result.stat} must be {_range(result)}, got {value}")


def _range(result: BoundResult) -> str:
    if result.min is not None and result.min == result.max:
        return f"{result.min:.6g}"
    if result.min is None:
        return f"at most {result.max:.6g}"
    if result.max is None:
        return f"at least {result.min:.6g}"
    return f"between {result.min:.6g} and {result.max:.6g}"


def _number(value: float, limits: Iterable[float]) -> str:
    """Four digits, or as many as show on which side of the limits the value is.

    Example:
        >>> _number(0.123456, [2]), _number(2.000004, [2])
        ('0.1235', '2.000004')
    """
    limits = tuple(limits)
    shown = ""
    for digits in range(4, 18):
        shown = f"{value:.{digits}g}"
        if all(_side(float(shown), x) == _side(value, x) for x in limits):
            break
    return f"{float(shown):.0f}" if "e" in shown and 1 <= abs(value) < 1e6 else shown


def _error(stderr: float) -> str:
    """Two digits of a standard error, without an exponent where it is large.

    Example:
        >>> _error(0.01234), _error(451.2)
        ('0.012', '451')
    """
    return f"{stderr:.2g}" if stderr < 99.5 else f"{stderr:.0f}"


def _side(value: float, limit: float) -> int:
    return (value > limit) - (value < limit)


def _sentences(*parts: str) -> str:
    """The parts that are not blank as sentences, each with its full stop."""
    kept = [part.strip() for part in parts if part.strip()]
    return " ".join(part if part.endswith((".", "!", "?")) else f"{part}." for part in kept)
