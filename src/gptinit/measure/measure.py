"""Measure a model: plan the run, run every seed, average the seeds, name the run."""

from collections.abc import Callable

import numpy.typing as npt
import torch

from gptinit.config import RunConfig
from gptinit.measure.memory import return_large_blocks
from gptinit.measure.plan import Plan, plan_run
from gptinit.measure.seed_runner import SeedRunner
from gptinit.measure.subject import Subject
from gptinit.results.averaging import SeedResult, average_place
from gptinit.results.machine import processor_name
from gptinit.results.profile import Note, Profile, run_facts
from gptinit.weights.policy import Restart

__all__ = ["Progress", "measure", "measure_plan", "run_seeds"]

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all) as a run goes on."""


def measure(
    subject: Subject,
    run: RunConfig,
    *,
    tokens: npt.ArrayLike | None = None,
    progress: Progress | None = None,
) -> Profile:
    """The profile of `subject`, from running its own forward (and backward) pass.

    Args:
        subject: the model.
        run: how to measure it.
        tokens: (B, T + 1) ids to run on in place of those that `run` names.
        progress: called after every block.

    Raises:
        ConfigError: if sequence, data and model do not go together.
        MeasureError: if the device is not available or the memory is not enough.
    """
    return measure_plan(plan_run(subject, run, tokens=tokens), progress=progress)


def measure_plan(plan: Plan, *, progress: Progress | None = None) -> Profile:
    """The profile of a planned run.

    Raises:
        MeasureError: if gradients are wanted and the model's forward keeps none.
    """
    subject = plan.subject
    results, notes = run_seeds(plan, progress)
    layers = zip(*(result.layers for result in results), strict=True)
    return Profile(
        torch=torch.__version__,
        model=subject.facts,
        scheme=subject.scheme,
        run=run_facts(
            plan.run,
            vocab_size=subject.vocab_size,
            device_name=_device_name(plan.device),
            data_sha256=plan.tokens.fingerprint,
        ),
        embedding=average_place([result.embedding for result in results]),
        layers=tuple(average_place(seeds) for seeds in layers),
        final=average_place([result.final for result in results]),
        whole=average_place([result.whole for result in results]),
        notes=(plan.note, *notes, *subject.notes, *_without_lens(subject)),
    )


def run_seeds(
    plan: Plan, progress: Progress | None = None
) -> tuple[tuple[SeedResult, ...], tuple[Note, ...]]:
    """The results of all seeds, and notes on how their numbers came to be."""
    run, n_layer = plan.run, plan.subject.facts.n_layer
    if run.engine == "lazy":
        return_large_blocks()
    runner = SeedRunner(plan)
    steps = _Steps(progress, seeds=run.seeds, each=n_layer + (n_layer + 1) * run.grad)
    results: list[SeedResult] = []
    # A seed takes one pass, but with lazy weights it may start over: see Restart. The policy learns
    # something each time, and keeps it for later seeds, so that a pass soon gets through.
    while len(results) < run.seeds:
        index = len(results)
        steps.start_seed(index)
        try:
            results.append(runner.run(run.seed + index, plan.tokens.ids[index], steps.step))
        except Restart:
            continue
    return tuple(results), runner.notes


class _Steps:
    """Counts steps and reports them."""

    def __init__(self, progress: Progress | None, *, seeds: int, each: int) -> None:
        self._progress, self._each, self._total = progress, each, seeds * each
        self._done = 0

    def start_seed(self, index: int) -> None:
        """Count from the beginning of a seed, be it its first pass or another."""
        self._done = index * self._each

    def step(self) -> None:
        self._done += 1
        if self._progress:
            self._progress(self._done, self._total)


def _without_lens(subject: Subject) -> tuple[Note, ...]:
    if subject.lens is not None:
        return ()
    message = "What follows the last block is more than a lens can do: layers have no logit_std."
    return (Note(kind="approximate", where="logit_std", message=message),)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor_name()
