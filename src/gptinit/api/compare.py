"""Profiles side by side: of schemes, depths, widths, models or engines."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gptinit.api.job import Forward, Job, Model, as_scheme, make_job
from gptinit.api.run import Progress, measure_job
from gptinit.config import ENGINES, Engine, RunConfig
from gptinit.errors import ConfigError, MeasureError, unknown_name
from gptinit.facts.model_argument import Code, read_model_argument
from gptinit.facts.presets import DEFAULT_PRESET
from gptinit.facts.schemes import Scheme, get_scheme, load_schemes
from gptinit.facts.vocabulary import AXES, Axis, NoteKind
from gptinit.results.profile import Comparison, Note, Profile, Ranking

if TYPE_CHECKING:
    from gptinit.load.init_choice import InitChoice

__all__ = ["compare"]

_BY_BOUNDS = "fewest bounds missed (what is not finite last)"
_BY_GRADIENT = f"{_BY_BOUNDS}, then the flattest gradient: |ln grad_growth| of the embedding"
_BY_GROWTH = f"{_BY_BOUNDS}, then the flattest stream: |ln resid_growth|"


def compare(
    axis: Axis = "schemes",
    values: Sequence[str | int] = (),
    *,
    model: Model = DEFAULT_PRESET,
    scheme: str | Scheme | None = None,
    run: RunConfig | None = None,
    init: "InitChoice" = None,
    forward: "Forward | None" = None,
    trust_remote_code: bool = False,
    stubs: Sequence[str] = (),
    timing: bool = False,
    progress: Progress | None = None,
    settings: Mapping[str, object] | None = None,
    **shape: object,
) -> Comparison:
    """Profiles side by side: of several schemes, depths, widths, models or engines.

    Args:
        axis: one of AXES.
        values: slugs or files of schemes (none: all built-in ones), numbers of layers, widths,
            models, or engines (none: every one).
        model: as for `inspect`, unless models are compared; your own model is re-initialised with
            each scheme.
        scheme: the init, where depths, widths, models or engines are compared.
        run: how to measure; with gradients if None.
        init: as for `inspect`, of every model that is compared.
        forward: how to call a model whose forward wants more than token ids: a function of (model,
            ids) that returns logits, or "path.py:FUNC".
        trust_remote_code: whether Python code that comes with a Hugging Face config may run.
        stubs: modules that your model's code imports and that are not installed; inert stand-ins
            are imported for them, and a note says if the model used one.
        timing: whether to add seconds and peak memory to every profile.
        progress: called as work goes on.
        settings: those of `shape` whose names are taken by an argument here, such as init=3.
        shape: settings that replace the model's.

    Returns:
        The profiles in the order of `values`; schemes are ranked as `ranking.by` says.

    Raises:
        ConfigError: if a name, a value or a file cannot be used; nothing is measured then.
        SubjectError: if a model cannot be built, run, or has no repeated block.
        MeasureError: if the device is not there or the memory is not enough.
    """
    if axis not in AXES:
        raise unknown_name("axis", axis, AXES)
    run = run or RunConfig(grad=True)
    how = {"init": init, "forward": forward, "trust": trust_remote_code, "stubs": stubs}
    shape = {**(settings or {}), **shape}
    jobs = _jobs(axis, values, model, as_scheme(scheme), shape, how=how)
    runs = [_with_engine(run, _engine(job.label)) if axis == "engines" else run for job in jobs]
    if axis == "engines" and run.engine != "auto":
        raise ConfigError(f"engine cannot be set when engines are compared, got {run.engine!r}.")
    is_all = axis == "engines" and not values
    found, refused = {}, []
    for job, its in zip(jobs, runs, strict=True):
        try:
            found[job.label] = measure_job(job, its, timing=timing, progress=progress)
        except (ConfigError, MeasureError) as error:
            if not is_all or job.label == "dense":  # requested by name, or wrong for all
                raise
            refused.append(_refusal(job.label, error))
    labels, profiles = tuple(found), tuple(found.values())
    if refused:
        profiles = (replace(profiles[0], notes=(*profiles[0].notes, *refused)), *profiles[1:])
    ranking = _ranking(labels, profiles) if axis == "schemes" else None
    return Comparison(axis=axis, labels=labels, profiles=profiles, ranking=ranking)


def _jobs(
    axis: Axis,
    values: Sequence[str | int],
    model: Model,
    scheme: Scheme | None,
    shape: Mapping[str, object],
    *,
    how: Mapping[str, Any],
) -> list[Job]:
    """The models to compare; `how` says how code is loaded and called, as of `make_job`."""
    if axis not in {"schemes", "engines"} and not values:
        raise ConfigError(f"no {axis} to compare: name at least one.")
    if axis == "schemes":
        schemes = [get_scheme(str(v)) for v in values or load_schemes()]
        jobs = [make_job(model, label=s.slug, shape=shape, reinit=s, **how) for s in schemes]
    elif axis == "engines":
        jobs = [
            make_job(model, label=_engine(v), shape=shape, reinit=scheme, **how)
            for v in values or ENGINES[1:]
        ]
    elif axis == "models":
        names = [str(v) for v in values]
        jobs = [make_job(n, shape=shape, reinit=scheme, **_how(n, names, how)) for n in names]
    else:
        field = {"depths": "n_layer", "widths": "n_embd"}[axis]
        if field in shape:
            raise ConfigError(f"{field} cannot be set when {axis} are compared.")
        jobs = [
            make_job(model, label=str(v), shape={**shape, field: v}, reinit=scheme, **how)
            for v in values
        ]
    labels = [job.label for job in jobs]
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"{axis} to compare must differ, got {label} twice.")
    for job in jobs:
        job.check()
    return jobs


def _how(model: str, models: Sequence[str], how: Mapping[str, Any]) -> Mapping[str, Any]:
    """How a compared model is loaded: stand-ins are for those in code, presets beside them."""
    codes = [name for name in models if isinstance(read_model_argument(name), Code)]
    return how if model in codes or not codes else {**how, "stubs": ()}


def _refusal(engine: str, error: Exception) -> Note:
    kind: NoteKind = "theory-missing" if engine == "theory" else "approximate"
    return Note(kind=kind, where=engine, message=f"Left out: {error}")


def _engine(name: object) -> Engine:
    for engine in ENGINES[1:]:
        if engine == name:
            return engine
    raise unknown_name("engine", str(name), ENGINES[1:])


def _with_engine(run: RunConfig, engine: Engine) -> RunConfig:
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
