"""The gate: models of a configuration against its bounds, their audits and a baseline."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gptinit.api.job import Job, as_scheme, make_job
from gptinit.api.run import Progress, measure_job, that_apply
from gptinit.errors import ConfigError
from gptinit.gate.baseline import baseline_document, compare_to_baseline
from gptinit.gate.check_config import CheckConfig, ModelSpec, apply_acceptances, load_check
from gptinit.gate.judge import CheckReport, findings_of, judge, nonfinite_findings
from gptinit.results.profile import Finding, Profile

__all__ = ["check", "make_baseline"]


def check(
    config: CheckConfig | str | Path | None = None,
    *,
    seed: int | None = None,
    stubs: Sequence[str] = (),
    progress: Progress | None = None,
) -> CheckReport:
    """Whether the models of a configuration stay in their bounds and at their baseline.

    Args:
        config: a configuration or its file; None looks for gptinit.toml, then for
            [tool.gptinit] in pyproject.toml, in the current folder.
        seed: first seed in place of the configuration's.
        stubs: further modules for which inert stand-ins are imported, for every model in code.
        progress: called as work goes on.

    Returns:
        A result for every bound and place, and the findings with their severities.

    Raises:
        ConfigError: if the configuration cannot be used, or a bound or baseline speaks of a
            statistic that was not measured.
        MeasureError: if a run fails.
    """
    config = _check_config(config, stubs)
    baseline = None if config.baseline is None else _baseline_text(config.baseline)
    profiles = _check_profiles(config, seed, progress)
    results = [
        result
        for name, profile in profiles.items()
        for result in judge(profile, that_apply(config.bounds_for(name), profile), model=name)
    ]
    findings = [
        *findings_of(results),
        *_unbounded_nonfinite(config, profiles),
        *_check_audits(config),
    ]
    if baseline is not None:
        moved = compare_to_baseline(baseline, profiles)
        results += moved
        findings += findings_of(moved, rule="drift")
    return CheckReport(
        results=tuple(results),
        findings=apply_acceptances(findings, config.accept),
        inits={name: p.model.init for name, p in profiles.items() if p.model.init},
    )


def make_baseline(
    config: CheckConfig | str | Path | None = None,
    *,
    seed: int | None = None,
    stubs: Sequence[str] = (),
    progress: Progress | None = None,
) -> tuple[Path, str]:
    """The baseline file of a configuration: where it belongs, and its new content.

    Args:
        config: as for `check`.
        seed: first seed in place of the configuration's.
        stubs: as for `check`.
        progress: called as work goes on.

    Raises:
        ConfigError: if the configuration cannot be used or names no baseline.
        MeasureError: if a run fails.
    """
    config = _check_config(config, stubs)
    if config.baseline is None:
        raise ConfigError(
            f'{config.path} names no baseline. Add baseline = "gptinit-baseline.json" at its top.'
        )
    return config.baseline, baseline_document(_check_profiles(config, seed, progress))


def _check_config(config: CheckConfig | str | Path | None, stubs: Sequence[str]) -> CheckConfig:
    if not isinstance(config, CheckConfig):
        config = load_check(None if config is None else Path(config), folder=Path.cwd())
    models = (
        replace(spec, stubs=(*spec.stubs, *stubs)) if spec.config() is None else spec
        for spec in config.models
    )
    return replace(config, models=tuple(models))


def _check_profiles(
    config: CheckConfig, seed: int | None, progress: Progress | None
) -> dict[str, Profile]:
    """The profile of every model by its name; all names and shapes are looked at first."""
    if config.run.engine == "theory":
        raise ConfigError(
            "engine = 'theory' cannot be used in a check, which must measure the model."
        )
    jobs = [_check_job(spec) for spec in config.models]
    run = config.run if seed is None else replace(config.run, seed=seed)
    return {job.label: measure_job(job, run, timing=False, progress=progress) for job in jobs}


def _check_job(spec: ModelSpec) -> Job:
    return make_job(
        spec.model,
        label=spec.name,
        shape=spec.overrides,
        scheme=spec.drawn_by,
        roles=spec.roles,
        sites=spec.sites,
        init=spec.init,
        stubs=spec.stubs,
        forward=spec.forward,
    )


def _check_audits(config: CheckConfig) -> Iterator[Finding]:
    """What the audit finds in the models of a configuration, each named before its parameter."""
    for spec in config.models:
        job, claim = _check_job(spec), as_scheme(spec.scheme)
        for finding in job.audit(claim, build="own", perturb=False, draw=False).findings:
            yield replace(finding, model=spec.name)


def _baseline_text(path: Path) -> str:
    """The content of a baseline file.

    Raises:
        ConfigError: if it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"baseline {str(path)!r} cannot be read. "
            "Create it with gptinit check --update-baseline."
        ) from error


def _unbounded_nonfinite(config: CheckConfig, profiles: Mapping[str, Profile]) -> Iterator[Finding]:
    """NaN and infinity in models that no bound on them watches: an error all the same."""
    for name, profile in profiles.items():
        if all(bound.stat != "nonfinite" for bound in config.bounds_for(name)):
            yield from (replace(finding, model=name) for finding in nonfinite_findings(profile))
