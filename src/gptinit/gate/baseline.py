"""A reviewed file of statistics of each model, and whether they have moved since."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gptinit.config import DATA_KINDS
from gptinit.errors import ConfigError, unknown_name
from gptinit.facts.vocabulary import STATISTICS
from gptinit.gate.judge import BoundResult, nonfinite_place
from gptinit.gate.student_t import student_quantile
from gptinit.results.profile import Place, Profile
from gptinit.results.scale import Scale

__all__ = ["baseline_document", "compare_to_baseline"]

_VERSION = 1
_DIGITS = 6
_PLACES = ("embedding", "last layer", "final", "whole")
_ENTRY = ("value", "stderr", "seeds")
_REVIEW = "Review and run gptinit check --update-baseline"
_LARGEST = 1e300  # a larger number is not a measurement, and might not fit a float
_MOST_LOG = 690.0  # about log(_LARGEST)


def baseline_document(named_profiles: Mapping[str, Profile]) -> str:
    """The baseline file of some models: JSON that a person can review, one line per statistic.

    For every model it has the settings that a later run must share, and the value, standard error
    and number of seeds of every statistic at the embedding, the last layer, the logits and the
    whole, with 6 significant digits. A statistic that is not finite is left out.

    Raises:
        ConfigError: if a profile has fewer than 2 seeds: its noise is unknown.
    """
    models = {name: _entry(name, profile) for name, profile in named_profiles.items()}
    document = {"schema_version": _VERSION, "models": models}
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    one_line = r'\{\s+("seeds": .*,)\s+("stderr": .*,)\s+("value": .*)\s+\}'
    return re.sub(one_line, r"{\1 \2 \3}", text) + "\n"


def compare_to_baseline(
    text: str, named_profiles: Mapping[str, Profile], *, alpha: float = 1e-4
) -> tuple[BoundResult, ...]:
    """Compare every statistic of every model with the baseline.

    A statistic has moved when it differs by more than t joint standard errors and the rounding of
    the file. t is the two-sided Student quantile at `alpha` divided by the number of comparisons,
    with the degrees of freedom of Welch and Satterthwaite, rounded down; standard deviations and
    ratios are compared as logarithms. A statistic without noise must be equal up to the rounding.
    NaN or infinity where the baseline had none counts as moved.

    Args:
        text: content of the file, as `baseline_document` wrote it.
        named_profiles: name of the model in the configuration to its profile.
        alpha: chance that any comparison of models that did not change is called moved, above 0
            and below 0.5.

    Returns:
        One result for every model, place and statistic: "violated" where it moved, else "ok"; min
        and max are the interval in which it would count as unmoved.

    Raises:
        ConfigError: if the text is not a baseline, lacks a model or a statistic, has one that is
            not measured now, or was made with other settings.

    References:
        Welch 1947, "The generalization of Student's problem when several different population
        variances are involved", Biometrika 34; Satterthwaite 1946, Biometrics Bulletin 2.
    """
    if not 0 < alpha < 0.5:
        raise ConfigError(f"alpha must be above 0 and below 0.5, got {alpha!r}.")
    models = _read_models(text)
    pairs = [p for name, now in named_profiles.items() for p in _pairs(name, now, models)]
    return tuple(_judge_drift(pair, alpha / len(pairs) / 2) for pair in pairs)


def _entry(name: str, profile: Profile) -> dict[str, object]:
    _require_seeds(name, profile)
    places = {
        key: {
            stat: {
                "value": _rounded(value),
                "stderr": _rounded(place.stderr[stat]),
                "seeds": profile.run.seeds,
            }
            for stat, value in place.values.items()
            if math.isfinite(value) and stat in place.stderr
        }
        for key, _, place in _places(profile)
    }
    return {"settings": _settings(profile), "places": places}


def _require_seeds(name: str, profile: Profile) -> None:
    """Raise if the profile has too few seeds for standard errors."""
    if profile.run.seeds < 2:
        raise ConfigError(
            f"seeds must be at least 2 for a baseline of {name}, got seeds={profile.run.seeds}. "
            "One seed says nothing about noise."
        )


def _settings(profile: Profile) -> dict[str, object]:
    """Settings that must be equal for numbers to be comparable; of a data file only its name."""
    data = profile.run.data
    return {
        "scheme": profile.scheme,
        "n_layer": profile.model.n_layer,
        "n_embd": profile.model.n_embd,
        "vocab_size": profile.model.vocab_size,
        "dtype": profile.run.dtype,
        "batch_size": profile.run.batch_size,
        "seq_len": profile.run.seq_len,
        "data": data if data in DATA_KINDS else Path(data).name,
    }


def _places(profile: Profile) -> tuple[tuple[str, str, Place], ...]:
    """Every place of a baseline: its key in the file, its name in results, its statistics."""
    last = len(profile.layers) - 1
    names = ("embedding", f"layer {last}", "final", "whole")
    places = dict(profile.places())
    return tuple((key, name, places[name]) for key, name in zip(_PLACES, names, strict=True))


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _half_unit(value: float) -> float:
    """Half a unit in the last digit that the file keeps of `value`."""
    if value == 0:
        return 0.0
    exponent = int(f"{value:.{_DIGITS - 1}e}".partition("e")[2])
    return 0.5 * 10.0 ** (exponent - _DIGITS + 1) * (1 + 1e-9)  # a value may lie on the half


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """A mean over seeds with its standard error."""

    value: float
    stderr: float
    seeds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """One statistic in the baseline and now.

    Where it is not finite now, `now` is None and `cause` the place that NaN or infinity comes from.
    """

    model: str
    where: str
    stat: str
    base: _Sample
    now: _Sample | None
    cause: str | None


def _pairs(name: str, profile: Profile, models: Mapping[str, object]) -> Iterator[_Pair]:
    _require_seeds(name, profile)
    if name not in models:
        raise ConfigError(
            f"baseline must have the model {name}, got {', '.join(models) or 'none'}. Run gptinit "
            "check --update-baseline to add it."
        )
    entry = _table(models[name], name)
    _require_settings(name, _table(entry.get("settings"), f"{name} settings"), _settings(profile))
    places = _table(entry.get("places"), f"{name} places")
    for key, where, place in _places(profile):
        base = _read_place(places.get(key), f"{name} {key}")
        for stat in [s for s in STATISTICS if s in base or s in place.values]:
            if stat not in base:
                raise ConfigError(
                    f"baseline of {name} must have {stat} at {key}, got none. {_REVIEW}."
                )
            yield _pair(name, profile, where, stat, base[stat])


def _pair(name: str, profile: Profile, where: str, stat: str, base: _Sample) -> _Pair:
    """One statistic with its baseline.

    Raises:
        ConfigError: if it is no longer measured.
    """
    place = dict(profile.places())[where]
    value, stderr = place.values.get(stat, math.nan), place.stderr.get(stat)
    now, cause = None, None
    if math.isfinite(value) and stderr is not None:
        now = _Sample(value=value, stderr=stderr, seeds=profile.run.seeds)
    else:
        cause = nonfinite_place(profile, stat, where)
        if cause is None:
            remedy = "Set grad = true under [run]. " if STATISTICS[stat].needs_grad else ""
            raise ConfigError(
                f"{stat} of {name} at {where} must be measured as in the baseline, got none. "
                f"{remedy}{_REVIEW} if intended."
            )
    return _Pair(model=name, where=where, stat=stat, base=base, now=now, cause=cause)


def _judge_drift(pair: _Pair, tail: float) -> BoundResult:
    """Judge whether one statistic moved; `tail` is the chance of a false alarm on either side."""
    base, now = pair.base, pair.now
    low, high = _allowed(pair, tail)
    moved = now is None or not low <= now.value <= high
    was = f"Baseline was {base.value:.6g} ± {base.stderr:.2g}"
    if now is None:
        why = f"{was}: it is not finite now, NaN or infinity in {pair.cause}. {_REVIEW}."
    elif moved:
        why = f"{was}: {_move(pair)}. {_REVIEW} if intended."
    else:
        why = f"{was}."
    return BoundResult(
        model=pair.model,
        stat=pair.stat,
        where=pair.where,
        value=now.value if now else None,
        stderr=now.stderr if now else None,
        min=low if math.isfinite(low) else None,
        max=high if math.isfinite(high) else None,
        verdict="violated" if moved else "ok",
        why=why,
    )


def _allowed(pair: _Pair, tail: float) -> tuple[float, float]:
    """The interval around the baseline in which the value now would count as unmoved."""
    base, rounding = pair.base.value, _half_unit(pair.base.value)
    if pair.stat == "nonfinite" and base == 0:
        return 0.0, 0.0
    then, now = _errors(pair)
    reach = 0.0
    if then or now:
        reach = student_quantile(tail, _dof(pair, then, now)) * math.hypot(then, now)
    if not _scale(pair).log:
        return base - reach - rounding, base + reach + rounding
    reach = min(reach + rounding / base, _MOST_LOG)
    return base * math.exp(-reach), base * math.exp(reach)


def _scale(pair: _Pair) -> Scale:
    values = [sample.value for sample in (pair.base, pair.now) if sample is not None]
    return Scale.of(values, log=STATISTICS[pair.stat].log)


def _errors(pair: _Pair) -> tuple[float, float]:
    """Standard errors of the baseline and of now, on the scale of the comparison."""
    scale, base, now = _scale(pair), pair.base, pair.now
    now_error = scale.error(now.value, now.stderr) if now else 0.0
    return scale.error(base.value, base.stderr), now_error


def _dof(pair: _Pair, then: float, now: float) -> int:
    """Degrees of freedom of the joint standard error, after Welch and Satterthwaite."""
    share = then / math.hypot(then, now)  # of one standard error in the joint one: no overflow
    then_dof = pair.base.seeds - 1
    now_dof = pair.now.seeds - 1 if pair.now else then_dof
    # 1e-9: equal samples have exactly the sum of both, which rounding must not floor to one less
    return max(1, math.floor(1 / (share**4 / then_dof + (1 - share**2) ** 2 / now_dof) + 1e-9))


def _move(pair: _Pair) -> str:
    """How far the value moved, in joint standard errors."""
    assert pair.now is not None  # a value that is not finite has no distance
    joint = math.hypot(*_errors(pair))
    if joint == 0:
        return "it moved, and has no noise"
    scale = _scale(pair)
    by = scale.at(pair.now.value) - scale.at(pair.base.value)
    return f"moved by {by / joint:+.1f} standard errors"


def _read_models(text: str) -> Mapping[str, object]:
    try:
        document = _table(json.loads(text), "")
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"baseline must be JSON, got {error}. {_REVIEW}.") from error
    if document.get("schema_version") != _VERSION:
        raise ConfigError(
            f"baseline must have schema_version {_VERSION}, got "
            f"{document.get('schema_version')!r}. {_REVIEW}."
        )
    return _table(document.get("models"), "models")


def _table(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ConfigError(
            f"baseline{where and ' '}{where} must be an object, got {value!r}. {_REVIEW}."
        )
    return value


def _require_settings(
    name: str, base: Mapping[str, object], settings: Mapping[str, object]
) -> None:
    other = [f"{k}={base.get(k)!r} (now {v!r})" for k, v in settings.items() if base.get(k) != v]
    if other:
        raise ConfigError(
            f"baseline of {name} must be made with the settings of this run, got "
            f"{', '.join(other)}. Restore them, or review and run gptinit check --update-baseline."
        )


def _read_place(value: object, where: str) -> dict[str, _Sample]:
    samples = {}
    for stat, entry in _table(value, where).items():
        if stat not in STATISTICS:
            raise unknown_name(f"baseline {where} statistic", stat, STATISTICS)
        samples[stat] = _read_sample(entry, f"{where} {stat}")
    return samples


def _read_sample(value: object, where: str) -> _Sample:
    entry = _table(value, where)
    numbers = [entry.get(key) for key in _ENTRY]
    finite = [
        float(n)
        for n in numbers
        if isinstance(n, (int, float)) and not isinstance(n, bool) and abs(n) < _LARGEST
    ]
    if len(finite) < len(_ENTRY) or finite[1] < 0 or finite[2] < 2 or finite[2] % 1:
        raise ConfigError(
            f"baseline {where} must have {', '.join(_ENTRY)} of 2 or more seeds, got {value!r}. "
            f"{_REVIEW}."
        )
    return _Sample(value=finite[0], stderr=finite[1], seeds=int(finite[2]))
