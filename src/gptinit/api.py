"""The verbs of gptinit: what the command line calls, and what a notebook would."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gptinit.config import ENGINES, GPTConfig, RunConfig
from gptinit.errors import ConfigError, MeasureError, unknown_name
from gptinit.facts.distributions import Distribution
from gptinit.facts.presets import DEFAULT_PRESET
from gptinit.facts.schemes import Scheme, get_scheme, load_schemes, role_fans
from gptinit.jobs import Job, Model
from gptinit.results.profile import Comparison, Note, Profile, Ranking
from gptinit.running import Progress, audit_job, measure_job

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from gptinit.gate.check_config import Acceptance
    from gptinit.results.audit import Audit

__all__ = ["AXES", "audit", "compare", "distributions_at", "inspect"]

AXES: tuple[str, ...] = ("schemes", "depths", "widths", "models", "engines")
"""What a comparison can vary."""

_BY_BOUNDS = "fewest bounds missed (what is not finite last)"
_BY_GRADIENT = f"{_BY_BOUNDS}, then the flattest gradient: |ln grad_growth| of the embedding"
_BY_GROWTH = f"{_BY_BOUNDS}, then the flattest stream: |ln resid_growth|"


def inspect(
    model: Model = DEFAULT_PRESET,
    tokens: "ArrayLike | None" = None,
    *,
    scheme: str | Scheme | None = None,
    reinit: str | Scheme | None = None,
    run: RunConfig | None = None,
    roles: Mapping[str, str] | None = None,
    sites: Mapping[str, str] | None = None,
    trust_remote_code: bool = False,
    timing: bool = False,
    progress: Progress | None = None,
    **shape: object,
) -> Profile:
    """The profile of a model: what its init does at every layer before the first step.

    Args:
        model: a preset; "path/model.py:NAME", "package.module:NAME" or a Hugging Face config.json;
            a function or class that builds a module; or a module that is built already, which is
            measured with the weights that it has.
        tokens: (B, T + 1) token ids to run on, the last of each row only as a target; in place of
            those that `run` names.
        scheme: slug, alias or TOML file of a preset's init, or a Scheme; nanogpt if None.
        reinit: the same for a foreign model: draws it anew.
        run: how to measure; the defaults of RunConfig if None.
        roles: parameter pattern (as of fnmatch) to role, before what the model's forward shows.
        sites: names of "blocks" and, inside a block, of "attn" and "mlp", where they are not found.
        trust_remote_code: whether Python code beside a Hugging Face config may run.
        timing: whether to add seconds and peak memory, which differ from run to run.
        progress: told as work goes on.
        shape: settings that replace the model's, such as n_layer=48.

    Returns:
        Statistics at every place with standard errors, and findings against the default bounds.

    Raises:
        ConfigError: if a name, a value or a file cannot be used.
        SubjectError: if the model cannot be built, run, or has no repeated block.
        MeasureError: if the device is not there or the memory is not enough.

    Example:
        >>> profile = inspect("nanogpt-char", n_layer=2, run=RunConfig(seeds=1, seq_len=16))
        >>> len(profile.layers), sorted(profile.whole.values)
        (2, ['resid_growth'])
    """
    job = Job(
        label=_label_of(model),
        model=model,
        shape=shape,
        scheme=_init_of(model, scheme, reinit),
        roles=roles or {},
        sites=sites or {},
        trust=trust_remote_code,
    )
    return measure_job(job, run or RunConfig(), tokens=tokens, timing=timing, progress=progress)


def audit(
    model: Model = DEFAULT_PRESET,
    *,
    scheme: str | Scheme | None = None,
    build: str = "own",
    perturb: bool = False,
    draw: bool = False,
    roles: Mapping[str, str] | None = None,
    accept: "Sequence[Acceptance]" = (),
    trust_remote_code: bool = False,
    **shape: object,
) -> "Audit":
    """How every parameter of a model is really drawn, and what is wrong with that.

    Args:
        model: as for `inspect`. A module that is built already is measured, not traced.
        scheme: the claim to hold a foreign model to, or the init of a preset: slug, alias, TOML
            file or Scheme.
        build: "own" (by its constructor), "meta" (built on meta, to_empty, initialised) or "both".
        perturb: whether to move every init setting too, and see which roles follow.
        draw: whether to build it for real too, and look at the values.
        roles: parameter pattern (as of fnmatch) to role, before what the model's forward shows.
        accept: findings that are known, with a reason each.
        trust_remote_code: whether Python code beside a Hugging Face config may run.
        shape: settings that replace the model's, such as n_layer=48.

    Raises:
        ConfigError: if a name, a value or a file cannot be used.
        SubjectError: if the model cannot be built, or has no repeated block.

    Example:
        >>> found = audit("gpt2", n_layer=2)
        >>> found.closest.name, found.closest.exact, len(found.findings)
        ('nanogpt', True, 0)
    """
    claim = None if scheme is None else _scheme(scheme)
    job = Job(
        label=_label_of(model), model=model, shape=shape, scheme=claim, roles=roles or {},
        trust=trust_remote_code,
    )  # fmt: skip
    found = audit_job(job, claim, build=build, perturb=perturb, draw=draw)
    if not accept:
        return found
    # Loaded here: nothing else of this module reads the configuration of a check.
    from gptinit.gate.check_config import apply_acceptances

    # Acceptances for a check may name other models: one that is idle here is no news.
    judged = apply_acceptances(found.findings, accept)
    return replace(found, findings=tuple(f for f in judged if f.rule != "unused-acceptance"))


def compare(
    axis: str = "schemes",
    values: Sequence[str | int] = (),
    *,
    model: Model = DEFAULT_PRESET,
    scheme: str | Scheme | None = None,
    run: RunConfig | None = None,
    trust_remote_code: bool = False,
    timing: bool = False,
    progress: Progress | None = None,
    **shape: object,
) -> Comparison:
    """Profiles side by side: of several schemes, depths, widths, models or engines.

    Args:
        axis: one of AXES.
        values: slugs or files of schemes (none: all built-in ones), numbers of layers, widths,
            models, or engines (none: every one).
        model: as for `inspect`, where models are not what is compared; a foreign one is redrawn by
            each scheme.
        scheme: the init, where depths, widths or engines are compared.
        run: how to measure; with gradients if None.
        trust_remote_code: whether Python code beside a Hugging Face config may run.
        timing: whether to add seconds and peak memory to every profile.
        progress: told as work goes on.
        shape: settings that replace the model's.

    Returns:
        The profiles in the order asked for; schemes are ranked as `ranking.by` says.

    Raises:
        ConfigError: if a name, a value or a file cannot be used; nothing is measured then.
        SubjectError: if a model cannot be built, run, or has no repeated block.
        MeasureError: if the device is not there or the memory is not enough.
    """
    if axis not in AXES:
        raise unknown_name("axis", axis, AXES)
    run = run or RunConfig(grad=True)
    chosen = None if scheme is None else _scheme(scheme)
    jobs = _jobs(axis, values, model, chosen, shape, trust=trust_remote_code)
    runs = [_with_engine(run, job.label) if axis == "engines" else run for job in jobs]
    if axis == "engines" and run.engine != "auto":
        raise ConfigError(f"engine must not be set where engines are compared, got {run.engine!r}.")
    is_all = axis == "engines" and not values
    found, refused = {}, []
    for job, its in zip(jobs, runs, strict=True):
        try:
            found[job.label] = measure_job(job, its, timing=timing, progress=progress)
        except (ConfigError, MeasureError) as error:
            if not is_all or job.label == "dense":  # asked for by name, or wrong for all of them
                raise
            refused.append(_refusal(job.label, error))
    labels, profiles = tuple(found), tuple(found.values())
    if refused:
        profiles = (replace(profiles[0], notes=(*profiles[0].notes, *refused)), *profiles[1:])
    ranking = _ranking(labels, profiles) if axis == "schemes" else None
    return Comparison(axis=axis, labels=labels, profiles=profiles, ranking=ranking)


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


def _init_of(
    model: Model, scheme: str | Scheme | None, reinit: str | Scheme | None
) -> Scheme | None:
    """The scheme that draws a model; None leaves it its own.

    Raises:
        ConfigError: if the wrong one of the two is named.
    """
    is_preset = isinstance(model, str) and Job(label="", model=model).is_preset
    if scheme is not None and reinit is not None:
        raise ConfigError("scheme and reinit must not both be named: a preset has a scheme.")
    if scheme is not None and not is_preset:
        raise ConfigError(
            "scheme must be named for a preset only. Use --reinit SCHEME to draw a foreign model "
            "anew, or gptinit audit --scheme to hold it to a claim."
        )
    named = scheme if scheme is not None else reinit
    return None if named is None else _scheme(named)


def _label_of(model: Model) -> str:
    """What progress calls a model."""
    return model if isinstance(model, str) else type(model).__name__


def _scheme(named: str | Scheme) -> Scheme:
    """A scheme, looked up if need be."""
    return named if isinstance(named, Scheme) else get_scheme(named)


def _jobs(
    axis: str,
    values: Sequence[str | int],
    model: Model,
    scheme: Scheme | None,
    shape: Mapping[str, object],
    *,
    trust: bool,
) -> list[Job]:
    """One job a value, all of them possible."""
    if axis not in {"schemes", "engines"} and not values:
        raise ConfigError(f"{axis} must name at least one value, got none.")
    if axis == "schemes":
        schemes = [get_scheme(str(v)) for v in values or load_schemes()]
        jobs = [Job(label=s.slug, model=model, shape=shape, scheme=s, trust=trust) for s in schemes]
    elif axis == "engines":
        jobs = [
            Job(label=_engine(v), model=model, shape=shape, scheme=scheme, trust=trust)
            for v in values or ENGINES[1:]
        ]
    elif axis == "models":
        jobs = [
            Job(label=str(v), model=str(v), shape=shape, scheme=scheme, trust=trust) for v in values
        ]
    else:
        field = {"depths": "n_layer", "widths": "n_embd"}[axis]
        if field in shape:
            raise ConfigError(f"{field} must not be set where {axis} are compared.")
        jobs = [
            Job(label=str(v), model=model, shape={**shape, field: v}, scheme=scheme, trust=trust)
            for v in values
        ]
    labels = [job.label for job in jobs]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"{axis} must differ from each other, got {label} twice.")
    for job in jobs:
        job.check()
    return jobs


def _refusal(engine: str, error: Exception) -> Note:
    """A note in the place of an engine that cannot measure a model."""
    kind = "theory-missing" if engine == "theory" else "approximate"
    return Note(kind=kind, where=engine, message=f"Left out: {error}")


def _engine(name: object) -> str:
    """An engine that can be compared with others."""
    if name not in ENGINES[1:]:
        raise unknown_name("engine", str(name), ENGINES[1:])
    return str(name)


def _with_engine(run: RunConfig, engine: str) -> RunConfig:
    """A run with another engine; theory's is of what it can speak of."""
    if engine == "theory":
        return replace(run, engine=engine, device="cpu", dtype="float32")
    return replace(run, engine=engine)


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
