"""Timing of whole processes and of functions, alternating so that a noisy machine is shared."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

__all__ = ["alternate", "process", "python"]


def python(*args: str) -> list[str]:
    """The command line of this Python with `args`."""
    return [sys.executable, *args]


def process(command: Sequence[str]) -> Callable[[], None]:
    """A function that runs `command` to its end, its output thrown away."""

    def run() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    return run


def alternate(jobs: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, float]:
    """Median seconds of every job over `rounds`, one after the other in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}
