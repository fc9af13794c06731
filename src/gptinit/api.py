"""The verbs of gptinit: what the command line calls, and what a notebook would."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gptinit.baseline import baseline_document, compare_to_baseline
from gptinit.bounds import DEFAULT_BOUNDS
from gptinit.checkfile import CheckConfig, ModelSpec, apply_acceptances, load_check
from gptinit.config import GPTConfig, RunConfig
from gptinit.distributions import Distribution
from gptinit.errors import ConfigError, unknown_name
from gptinit.gate import CheckReport, findings_of, judge, nonfinite_findings, out_of_bounds
from gptinit.presets import DEFAULT_PRESET, PRESETS, get_config
from gptinit.profile import Comparison, Cost, Finding, Profile, Ranking
from gptinit.schemes import DEFAULT_SCHEME, Scheme, get_scheme, load_schemes, role_fans

__all__ = ["AXES", "Progress", "check", "compare", "distributions_at", "inspect", "make_baseline"]

AXES: tuple[str, ...] = ("schemes", "depths", "widths")
"""What a comparison can vary."""

Progress = Callable[[str, int, int], None]
"""Called with (what is measured, steps done, steps in all) as work goes on."""

ShapeValue = int | str | bool

_BY_BOUNDS = "fewest bounds missed (what is not finite last)"
_BY_GRADIENT = f"{_BY_BOUNDS}, then the flattest gradient: |ln grad_growth| of the embedding"
_BY_GROWTH = f"{_BY_BOUNDS}, then the flattest stream: |ln resid_growth|"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One model to measure, checked as far as can be before anything runs."""

    label: str
    model: str
    shape: Mapping[str, ShapeValue]
    scheme: Scheme

    def config(self) -> GPTConfig:
        """The shape."""
        return get_config(self.model, **self.shape)

    def name(self) -> str:
        """The preset with what replaces its shape: "gpt2, n_layer=48"."""
        ordered = [k for k in GPTConfig.field_names() if k in self.shape]
        return ", ".join([self.model, *(f"{k}={self.shape[k]}" for k in ordered)])


def inspect(
    model: str = DEFAULT_PRESET,
    *,
    scheme: str | Scheme = DEFAULT_SCHEME,
    run: RunConfig | None = None,
    timing: bool = False,
    progress: Progress | None = None,
    **shape: ShapeValue,
) -> Profile:
    """The profile of a model: what its init does at every layer before the first step.

    Args:
        model: a preset.
        scheme: slug, alias or TOML file of an init, or a Scheme.
        run: how to measure; the defaults of RunConfig if None.
        timing: whether to add seconds and peak memory, which differ from run to run.
        progress: told as work goes on.
        shape: fields of GPTConfig that replace the preset's, such as n_layer=48.

    Returns:
        Statistics at every place with standard errors, and findings against the default bounds.

    Raises:
        ConfigError: if a name, a value or a file cannot be used.
        MeasureError: if the device is not there or the memory is not enough.

    Example:
        >>> profile = inspect("nanogpt-char", n_layer=2, run=RunConfig(seeds=1, seq_len=16))
        >>> len(profile.layers), sorted(profile.whole.values)
        (2, ['resid_growth'])
    """
    chosen = scheme if isinstance(scheme, Scheme) else get_scheme(scheme)
    job = _Job(label=model, model=model, shape=shape, scheme=chosen)
    return _measure(job, run or RunConfig(), timing=timing, progress=progress)


def compare(
    axis: str = "schemes",
    values: Sequence[str | int] = (),
    *,
    model: str = DEFAULT_PRESET,
    scheme: str | Scheme = DEFAULT_SCHEME,
    run: RunConfig | None = None,
    timing: bool = False,
    progress: Progress | None = None,
    **shape: ShapeValue,
) -> Comparison:
    """Profiles side by side: of several schemes, depths or widths.

    Args:
        axis: one of AXES.
        values: slugs or files of schemes (none: all built-in ones), numbers of layers, or widths.
        model: a preset.
        scheme: the init, where depths or widths are compared.
        run: how to measure; with gradients if None.
        timing: whether to add seconds and peak memory to every profile.
        progress: told as work goes on.
        shape: fields of GPTConfig that replace the preset's.

    Returns:
        The profiles in the order asked for; schemes are ranked as `ranking.by` says.

    Raises:
        ConfigError: if a name, a value or a file cannot be used; nothing is measured then.
        MeasureError: if the device is not there or the memory is not enough.
    """
    if axis not in AXES:
        raise unknown_name("axis", axis, AXES)
    run = run or RunConfig(grad=True)
    jobs = _jobs(axis, values, model, scheme, shape)
    profiles = tuple(_measure(job, run, timing=timing, progress=progress) for job in jobs)
    labels = tuple(job.label for job in jobs)
    ranking = _ranking(labels, profiles) if axis == "schemes" else None
    return Comparison(axis=axis, labels=labels, profiles=profiles, ranking=ranking)


def check(
    config: CheckConfig | str | Path | None = None,
    *,
    seed: int | None = None,
    progress: Progress | None = None,
) -> CheckReport:
    """Whether the models of a configuration stay in their bounds and at their baseline.

    Args:
        config: a configuration or its file; None looks for gptinit.toml, then for
            [tool.gptinit] in pyproject.toml, in the current folder.
        seed: first seed in place of the configuration's.
        progress: told as work goes on.

    Returns:
        A result for every bound and place, and the findings with their severities.

    Raises:
        ConfigError: if the configuration cannot be used, or a bound or baseline speaks of a
            statistic that was not measured.
        MeasureError: if a run fails.
    """
    config = _check_config(config)
    baseline = None if config.baseline is None else _baseline_text(config.baseline)
    profiles = _check_profiles(config, seed, progress)
    results = [
        result
        for name, profile in profiles.items()
        for result in judge(profile, config.bounds_for(name), model=name)
    ]
    findings = [*findings_of(results), *_unbounded_nonfinite(config, profiles)]
    if baseline is not None:
        moved = compare_to_baseline(baseline, profiles)
        results += moved
        findings += findings_of(moved, rule="drift")
    return CheckReport(results=tuple(results), findings=apply_acceptances(findings, config.accept))


def make_baseline(
    config: CheckConfig | str | Path | None = None,
    *,
    seed: int | None = None,
    progress: Progress | None = None,
) -> tuple[Path, str]:
    """The baseline file of a configuration: where it belongs, and its new content.

    Args:
        config: as for `check`.
        seed: first seed in place of the configuration's.
        progress: told as work goes on.

    Raises:
        ConfigError: if the configuration cannot be used or names no baseline.
        MeasureError: if a run fails.
    """
    config = _check_config(config)
    if config.baseline is None:
        raise ConfigError(
            f"{config.path} must name its baseline, got none. "
            'Add baseline = "gptinit-baseline.json" at its top.'
        )
    return config.baseline, baseline_document(_check_profiles(config, seed, progress))


def _check_config(config: CheckConfig | str | Path | None) -> CheckConfig:
    """A configuration, read if need be."""
    if isinstance(config, CheckConfig):
        return config
    return load_check(None if config is None else Path(config), folder=Path.cwd())


def _check_profiles(
    config: CheckConfig, seed: int | None, progress: Progress | None
) -> dict[str, Profile]:
    """The profile of every model by its name; all names and shapes are looked at first."""
    jobs = [_check_job(spec) for spec in config.models]
    run = config.run if seed is None else replace(config.run, seed=seed)
    return {job.label: _measure(job, run, timing=False, progress=progress) for job in jobs}


def _check_job(spec: ModelSpec) -> _Job:
    """What to measure for one model of a configuration."""
    scheme = get_scheme(spec.scheme or DEFAULT_SCHEME)
    return _Job(label=spec.name, model=spec.model, shape=spec.overrides, scheme=scheme)


def _baseline_text(path: Path) -> str:
    """The content of a baseline file.

    Raises:
        ConfigError: if it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"baseline must be a readable file, got {str(path)!r}. "
            "Make it with gptinit check --update-baseline."
        ) from error


def _unbounded_nonfinite(config: CheckConfig, profiles: Mapping[str, Profile]) -> Iterator[Finding]:
    """NaN and infinity in models that no bound on them watches: an error all the same."""
    for name, profile in profiles.items():
        if all(bound.stat != "nonfinite" for bound in config.bounds_for(name)):
            for finding in nonfinite_findings(profile):
                yield replace(finding, where=f"{name}: {finding.where}")


def distributions_at(scheme: Scheme, config: GPTConfig) -> dict[str, tuple[Distribution, ...]]:
    """What a scheme draws every role from at one shape.

    Returns:
        Role to its distribution, or to several: those of the first and the last layer, and of
        biases with different fans, where they differ; none for a role that the model lacks.

    Raises:
        ConfigError: if a formula fails at this shape.
    """
    found = {}
    for role in scheme.rules:
        fans = [role_fans(role, config)]
        if role == "linear_bias":
            fans.append(role_fans("mlp_down", config))
        every = [
            scheme.distribution(role, config, layer=layer, fan_in=fan_in, fan_out=fan_out)
            for layer in (0, config.n_layer - 1)
            for fan_in, fan_out in fans
        ]
        found[role] = () if role in _lacking(config) else tuple(dict.fromkeys(every))
    return found


def _lacking(config: GPTConfig) -> set[str]:
    """Roles that no parameter of the built-in GPT plays at this shape."""
    biases = set() if config.bias else {"linear_bias", "norm_bias"}
    return {"mlp_gate", *biases, *({"lm_head"} if config.tied else ())}


def _jobs(
    axis: str,
    values: Sequence[str | int],
    model: str,
    scheme: str | Scheme,
    shape: Mapping[str, ShapeValue],
) -> list[_Job]:
    """One job a value, all of them possible."""
    if axis == "schemes":
        schemes = [get_scheme(str(v)) for v in values or load_schemes()]
        jobs = [_Job(label=s.slug, model=model, shape=shape, scheme=s) for s in schemes]
    else:
        field = {"depths": "n_layer", "widths": "n_embd"}[axis]
        chosen = scheme if isinstance(scheme, Scheme) else get_scheme(scheme)
        if not values:
            raise ConfigError(f"{axis} must name at least one value, got none.")
        if field in shape:
            raise ConfigError(f"{field} must not be set where {axis} are compared.")
        jobs = [
            _Job(label=str(v), model=model, shape={**shape, field: v}, scheme=chosen)
            for v in values
        ]
    labels = [job.label for job in jobs]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"{axis} must differ from each other, got {label} twice.")
    for job in jobs:
        job.config()
    return jobs


def _measure(job: _Job, run: RunConfig, *, timing: bool, progress: Progress | None) -> Profile:
    """Measure one job and judge it by the default bounds."""
    config = job.config()
    run.resolve_seq_len(config.block_size)
    # Loaded here and not above: torch takes a second, and reading a scheme needs none.
    from gptinit.measuring import measure
    from gptinit.memory import peak_bytes, reset_peak_memory
    from gptinit.subjects.builtin import builtin_subject

    source = f"preset {job.model}: {PRESETS[job.model].source}"
    subject = builtin_subject(config, job.scheme, name=job.name(), source=source)
    if timing:
        reset_peak_memory()
    start = time.perf_counter()
    profile = measure(subject, run, progress=_labelled(progress, job.label))
    # Where the stream is not finite, every bound that is missed follows from that one finding.
    findings = nonfinite_findings(profile) or out_of_bounds(profile, DEFAULT_BOUNDS)
    cost = None
    if timing:
        seconds = time.perf_counter() - start
        cost = Cost(seconds=seconds, peak_bytes=peak_bytes(profile.run.device))
    return replace(profile, findings=findings, cost=cost)


def _labelled(progress: Progress | None, label: str) -> Callable[[int, int], None] | None:
    """`progress` with the name of what is measured."""
    if progress is None:
        return None
    return lambda done, total: progress(label, done, total)


def _ranking(labels: Sequence[str], profiles: Sequence[Profile]) -> Ranking:
    """Labels in the order of what was missed and how flat the gradient (or the stream) is."""
    with_gradient = all("grad_growth" in profile.embedding.values for profile in profiles)

    def key(item: tuple[str, Profile]) -> tuple[bool, int, float]:
        profile = item[1]
        broken = any(finding.severity == "error" for finding in profile.findings)
        place = profile.embedding if with_gradient else profile.whole
        ratio = place.values.get("grad_growth" if with_gradient else "resid_growth")
        steepness = abs(math.log(ratio)) if ratio else math.inf
        return broken, len(profile.findings), steepness

    ordered = sorted(zip(labels, profiles, strict=True), key=key)
    by = _BY_GRADIENT if with_gradient else _BY_GROWTH
    return Ranking(by=by, order=tuple(label for label, _ in ordered))
