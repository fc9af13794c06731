"""A job, run: its profile, judged by the default bounds."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gptinit.api.job import Job
from gptinit.config import RunConfig
from gptinit.errors import ConfigError
from gptinit.facts.bounds import DEFAULT_BOUNDS, Bound
from gptinit.gate.judge import nonfinite_findings, out_of_bounds
from gptinit.results.profile import Cost, Profile

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Progress", "measure_job", "that_apply"]

Progress = Callable[[str, int, int], None]
"""Called with (what is measured, steps done, steps in all) as work goes on."""


def measure_job(
    job: Job,
    run: RunConfig,
    *,
    tokens: "ArrayLike | None" = None,
    timing: bool,
    progress: Progress | None,
) -> Profile:
    """Measure one job, or predict it, and judge it by the default bounds.

    Raises:
        ConfigError: if a name, a value or a file cannot be used.
        SubjectError: if the model cannot be built, run, or has no repeated block.
        MeasureError: if the device is not there or the memory is not enough.
    """
    job.check()
    if job.block_size is not None and tokens is None:
        run.resolve_seq_len(job.block_size)
    start = time.perf_counter()
    if run.engine == "theory":
        _require_predictable(run)
        return _judged(job.predicted(run, tokens), start, timing=timing)
    # Loaded here and not above: torch takes a second, and reading a scheme needs none.
    from gptinit.api.prediction import measure_with_prediction
    from gptinit.measure.memory import reset_peak_memory

    subject = job.subject()
    if subject.is_live:
        run = replace(run, weights="own")
    if timing:
        reset_peak_memory()
    profile = measure_with_prediction(
        subject, run, tokens=tokens, progress=_labelled(progress, job.label)
    )
    return _judged(profile, start, timing=timing)


def _require_predictable(run: RunConfig) -> None:
    """Refuse what theory would ignore.

    Raises:
        ConfigError: if a setting makes no difference to a prediction.
    """
    wanted = {"device": ("auto", "cpu"), "dtype": ("float32",), "weights": ("traced",)}
    for name, values in wanted.items():
        if getattr(run, name) not in values:
            raise ConfigError(
                f"{name} must be {' or '.join(values)} with engine='theory', which runs nothing, "
                f"got {getattr(run, name)!r}."
            )


def _judged(profile: Profile, start: float, *, timing: bool) -> Profile:
    """A profile with what the default bounds find, and what it cost since `start`."""
    # Where the stream is not finite, every bound that is missed follows from that one finding.
    findings = nonfinite_findings(profile) or out_of_bounds(
        profile, that_apply(DEFAULT_BOUNDS, profile)
    )
    cost = None
    if timing:
        # Loaded here: it knows of GPUs.
        from gptinit.measure.memory import peak_bytes

        seconds = time.perf_counter() - start
        cost = Cost(seconds=seconds, peak_bytes=peak_bytes(profile.run.device))
    return replace(profile, findings=findings, cost=cost)


def that_apply(bounds: Sequence[Bound], profile: Profile) -> tuple[Bound, ...]:
    """The bounds without those default ones that mean nothing for a model.

    Where a norm stands on the stream itself, its first one sets the variance: growth from the
    embedding to there says nothing of what branches add.
    """
    if profile.model.norm_placement != "post":
        return tuple(bounds)
    return tuple(b for b in bounds if b.stat != "resid_growth" or b not in DEFAULT_BOUNDS)


def _labelled(progress: Progress | None, label: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(label, done, total)
