"""How the cost of a measurement grows with depth and width, and what it holds in memory."""

import math
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import python
from gptinit.config import RunConfig
from gptinit.facts.presets import get_config
from gptinit.facts.schemes import get_scheme
from gptinit.measure.builtin_subject import builtin_subject
from gptinit.measure.measure import measure
from gptinit.measure.subject import Subject

__all__ = ["growth_exponent", "main"]

_DEPTHS = (6, 12, 24, 48)
_WIDTHS = (256, 512, 768, 1024, 1600)
_ENOUGH_SECONDS, _MOST_ROUNDS = 75.0, 3
_KINDS = (("dense", False), ("dense", True), ("stream", False), ("stream", True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One measurement: 256 tokens, one seed, CPU, float32, vocabulary 50257."""

    n_layer: int
    n_embd: int
    engine: str
    grad: bool

    def subject(self) -> Subject:
        """The model."""
        config = get_config("gpt2", n_layer=self.n_layer, n_embd=self.n_embd)
        return builtin_subject(config, get_scheme("nanogpt"), name="gpt", source="benchmark")

    def run(self) -> None:
        """Measure it."""
        run = RunConfig(engine=self.engine, grad=self.grad, seeds=1, device="cpu")  # type: ignore[arg-type] # checks itself
        measure(self.subject(), run)


def main() -> None:
    """Print CPU seconds a seed by depth and by width with fitted exponents, and peak memory."""
    depths = {n: _jobs(n, 768) for n in _DEPTHS}
    widths = {n: _jobs(6, n) for n in _WIDTHS}
    seconds = _best_seconds([job for jobs in (*depths.values(), *widths.values()) for job in jobs])
    _print_growth("layers", depths, seconds)
    _print_growth("width", widths, seconds)
    _print_peaks()


def _jobs(n_layer: int, n_embd: int) -> list[Job]:
    """One shape with both engines, forward only and both passes."""
    return [Job(n_layer=n_layer, n_embd=n_embd, engine=e, grad=g) for e, g in _KINDS]


def growth_exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Least-squares slope of log cost over log size: 1 is linear, 2 quadratic."""
    slope, _ = np.polyfit(np.log(sizes), np.log(costs), 1)
    return float(slope)


def _best_seconds(jobs: Sequence[Job]) -> dict[Job, float]:
    """Least CPU seconds of every job on one thread, in a round of them all or a few.

    Not wall-clock seconds on all cores: how cost grows must not depend on what else a machine does.
    Rounds end when time is up.
    """
    torch.set_num_threads(1)
    Job(n_layer=2, n_embd=256, engine="dense", grad=True).run()  # torch's first calls are slow
    best = dict.fromkeys(jobs, math.inf)
    began = time.perf_counter()
    for _ in range(_MOST_ROUNDS):
        for job in best:
            start = time.process_time()
            job.run()
            best[job] = min(best[job], time.process_time() - start)
        if time.perf_counter() - began > _ENOUGH_SECONDS:
            break
    return best


def _print_growth(
    axis: str, shapes: Mapping[int, Sequence[Job]], seconds: Mapping[Job, float]
) -> None:
    """A table of CPU seconds a seed by engine and passes, with exponents in its last row."""
    fixed = "768 wide" if axis == "layers" else "6 layers"
    print(
        f"\nCPU seconds a seed on one thread, weights drawn; {fixed}, 256 tokens, vocabulary 50257"
    )
    heads = [f"{engine} {'both' if grad else 'forward'}" for engine, grad in _KINDS]
    print(f"{axis:>8} {'M params':>9} " + " ".join(f"{h:>14}" for h in heads))
    params = [jobs[0].subject().facts.n_params for jobs in shapes.values()]
    for (size, jobs), count in zip(shapes.items(), params, strict=True):
        row = " ".join(f"{seconds[job]:14.2f}" for job in jobs)
        print(f"{size:8} {count / 1e6:9.0f} {row}")
    sizes = list(shapes)
    columns = zip(*([seconds[job] for job in jobs] for jobs in shapes.values()), strict=True)
    row = " ".join(f"{growth_exponent(sizes, column):14.2f}" for column in columns)
    print(f"exponent {growth_exponent(sizes, params):9.2f} {row}", flush=True)


def _print_peaks() -> None:
    """A table of peak resident memory of whole processes beyond what torch takes."""
    print("\npeak GB beyond `import torch`, 768 wide, a process each")
    print(f"{'layers':>8} {'weights':>8} {'passes':>8} {'dense':>7} {'stream':>7} {'ratio':>6}")
    for n_layer in (12, 48):
        for grad in (False, True):
            jobs = [
                Job(n_layer=n_layer, n_embd=768, engine=engine, grad=grad)
                for engine in ("dense", "stream")
            ]
            dense, stream = (_peak_bytes(job) / 1e9 for job in jobs)
            weights = jobs[0].subject().facts.n_params * 4 / 1e9
            print(
                f"{n_layer:8} {weights:8.2f} {'both' if grad else 'forward':>8} "
                f"{dense:7.2f} {stream:7.2f} {stream / dense:6.2f}",
                flush=True,
            )


def _peak_bytes(job: Job) -> int:
    """Peak resident memory of a process that runs `job`, less what it has at the start."""
    args = (str(job.n_layer), str(job.n_embd), job.engine, str(int(job.grad)))
    done = subprocess.run(
        python("-m", "benchmarks.cost", *args), check=True, capture_output=True, text=True
    )
    return int(done.stdout)


def _worker(args: Sequence[str]) -> None:
    """Run the job that `_peak_bytes` describes and print the bytes; torch is imported already."""
    n_layer, n_embd, engine, grad = args
    before = _resident_bytes("VmRSS")
    Job(n_layer=int(n_layer), n_embd=int(n_embd), engine=engine, grad=grad == "1").run()
    print(_resident_bytes("VmHWM") - before)


def _resident_bytes(key: str) -> int:
    """VmRSS (now) or VmHWM (peak) of this process; Linux.

    Not getrusage's maximum: that one starts at what the parent had before this program was loaded.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status must have {key}, got none.")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _worker(sys.argv[1:])
    else:
        main()
