"""Everything that needs a GPU, in one call: seconds, memory, agreement, waits, probes, tests.

`--device cpu` is a dry run on tiny shapes that exercises every line; its numbers mean nothing.
"""

import argparse
import gc
import importlib.util
import json
import os
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch
import torch.nn.functional as F

from benchmarks.agreement import Difference, differences, largest_gap, rejected, subject_of
from benchmarks.timing import alternate, python
from gptinit.config import GPTConfig, RunConfig
from gptinit.facts.distributions import Distribution, Normal, TruncatedNormal, Uniform
from gptinit.facts.presets import get_config
from gptinit.facts.sampling import LENS_ROWS, QUERY_ROWS, query_rows
from gptinit.measure.measure import measure
from gptinit.measure.plan import choose_device
from gptinit.measure.probes import Probes
from gptinit.results.profile import Profile
from gptinit.results.program import ParameterProgram
from gptinit.weights.dense import install_dense
from gptinit.weights.draws import Draws

__all__ = ["Case", "Plan", "count_waits", "main", "plan_for"]

_CPU_SEEDS = 6
_GPU_FIRST_SEED = 1000
"""Seeds of the two sides do not overlap, so their means are independent."""

Result = TypeVar("Result")

_DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {"float32": torch.float32, "bfloat16": torch.bfloat16}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One measurement on the device."""

    model: str
    engine: str
    dtype: str
    grad: bool
    seq_len: int

    def __str__(self) -> str:
        passes = "both" if self.grad else "forward"
        return f"{self.model:10} {self.engine:6} {self.dtype:8} {passes:7} {self.seq_len:5}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run.

    Attributes:
        device: "cuda", or "cpu" for the dry run.
        models: name to shape; the first one is compared with the CPU.
        seq_lens: positions.
        seeds: timed repetitions of the first model; the others have half of them.
        depths: two depths of the first model between which waits for the device are counted.
        matrix: (rows, columns) of the weight whose draws are timed.
        large: name to shape of models that are streamed and asked lazily, in bfloat16, both passes.
    """

    device: str
    models: Mapping[str, GPTConfig]
    seq_lens: tuple[int, ...]
    seeds: int
    depths: tuple[int, int]
    matrix: tuple[int, int]
    large: Mapping[str, GPTConfig] = field(default_factory=dict)

    def cases(self) -> tuple[Case, ...]:
        """Every combination of model, engine, dtype, passes and length."""
        return tuple(
            Case(model=model, engine=engine, dtype=dtype, grad=grad, seq_len=seq_len)
            for model in self.models
            for dtype in _DTYPES
            for seq_len in self.seq_lens
            for grad in (False, True)
            for engine in ("dense", "stream", "lazy")
        )

    def seeds_of(self, model: str) -> int:
        """Timed repetitions of one model."""
        return self.seeds if model == next(iter(self.models)) else max(2, self.seeds // 2)


def plan_for(device: str, *, quick: bool) -> Plan:
    """Everything, the small cases, or tiny ones on the CPU."""
    if device == "cpu":
        tiny = GPTConfig(n_layer=2, n_head=2, n_embd=16, block_size=16, vocab_size=61)
        return Plan(
            device=device,
            models={"tiny": tiny, "tinier": replace(tiny, n_layer=1)},
            seq_lens=(8,) if quick else (8, 16),
            seeds=2,
            depths=(1, 2),
            matrix=(64, 16),
            large={"tiny": tiny},
        )
    deep, matrix = get_config("gpt2", n_layer=48), (49152, 12288)  # GPT-3's first MLP matrix
    if quick:
        return Plan(
            device=device,
            models={"48 x 768": deep},
            seq_lens=(256,),
            seeds=3,
            depths=(4, 12),
            matrix=matrix,
        )
    return Plan(
        device=device,
        models={"48 x 768": deep, "gpt2-xl": get_config("gpt2-xl")},
        seq_lens=(256, 1024),
        seeds=6,
        depths=(4, 12),
        matrix=matrix,
        large={"gpt3-175b": get_config("gpt3-175b")},
    )


def main(argv: Sequence[str] = ()) -> int:
    """Run the plan; 0, 1 where a part of it failed, 2 where there is no GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="the small cases only")
    options = parser.parse_args(list(argv))
    if options.device == "cuda" and not torch.cuda.is_available():
        print("this benchmark needs a CUDA device; --device cpu makes a dry run.", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    report = Report(options.out)
    _run(plan_for(options.device, quick=options.quick), report)
    report.close()
    return 1 if report.failed else 0


class Report:
    """Collects lines for the table and entries for the log; the log is written as it grows."""

    def __init__(self, folder: Path) -> None:
        self.failed = 0
        self._lines: list[str] = []
        self._folder = folder
        self._start = time.perf_counter()
        self._log = (folder / "gpu.jsonl").open("w", encoding="utf-8")

    def log(self, kind: str, **facts: Any) -> None:
        """Add an entry to the log and say on stderr that it is there."""
        entry = {"kind": kind, "at": round(time.perf_counter() - self._start, 2), **facts}
        self._log.write(json.dumps(entry) + "\n")
        self._log.flush()
        print(json.dumps(entry)[:160], file=sys.stderr, flush=True)

    def line(self, text: str = "") -> None:
        """Add a line to the table."""
        self._lines.append(text)

    def attempt(self, what: str, work: Callable[[], Result]) -> Result | None:
        """The result of `work`; None, with a line and an entry, where it fails."""
        try:
            return work()
        except Exception as error:  # one part that fails must not take the others with it
            self.failed += 1
            message = " ".join(str(error).split())
            self.log("failure", what=what, error=type(error).__name__, message=message)
            self.line(f"{what} FAILED: {type(error).__name__}: {message[:120]}")
            return None

    def close(self) -> None:
        """Print the table and write it beside the log."""
        text = "\n".join(self._lines) + "\n"
        (self._folder / "gpu.txt").write_text(text, encoding="utf-8")
        self._log.close()
        print(text)


def _run(plan: Plan, report: Report) -> None:
    """Every part of the plan, the quick ones first."""
    device = choose_device(plan.device)
    name = torch.cuda.get_device_name(device) if plan.device == "cuda" else "dry run on a CPU"
    report.line(f"{name}, torch {torch.__version__}")
    report.log("device", name=name, torch=torch.__version__, python=sys.version.split()[0])
    profiles = _report_cases(plan, report)
    _report_engines(profiles, report)
    report.line("\nwaits for the device")
    for engine in ("dense", "stream", "lazy"):
        for grad in (False, True):
            what = f"  {engine:6} {'both' if grad else 'forward'}"
            report.attempt(what, partial(_waits, plan, what, engine, grad, report))
    report.line(f"\nprobes: milliseconds of a forward pass, {next(iter(plan.models))}, dense")
    for dtype in _DTYPES:
        for seq_len in plan.seq_lens:
            what = f"  {dtype:8} {seq_len:5}"
            report.attempt(what, partial(_overhead, plan, what, dtype, seq_len, report))
    report.line(f"\ndraws of one {plan.matrix[0]} x {plan.matrix[1]} bfloat16 matrix")
    for law in (Normal(0.0, 0.02), Uniform(-0.02, 0.02), TruncatedNormal(0.0, 0.02, -0.04, 0.04)):
        report.attempt(f"  {law}", partial(_draw, plan, law, report))
    report.attempt("agreement with the CPU", partial(_report_agreement, plan, profiles, report))
    report.attempt("costs", partial(_report_costs, plan, report))
    for model, config in plan.large.items():
        for engine in ("stream", "lazy"):
            what = f"{model} {engine}"
            report.attempt(what, partial(_large, plan, model, config, engine, report))
    report.attempt("tests", partial(_tests, report))


def _synchronize(plan: Plan) -> None:
    """Wait until the device has done everything."""
    if plan.device == "cuda":
        torch.cuda.synchronize()


def _forget(plan: Plan) -> None:
    """Free what earlier parts left on the device."""
    if plan.device == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def _start_peak(plan: Plan) -> None:
    """Start a new peak; memory that torch keeps for later stays with it."""
    if plan.device == "cuda":
        gc.collect()
        torch.cuda.reset_peak_memory_stats()


def _peak_bytes(plan: Plan) -> int:
    """Most bytes of tensors since `_start_peak`; 0 on a CPU."""
    return torch.cuda.max_memory_allocated() if plan.device == "cuda" else 0


def _report_cases(plan: Plan, report: Report) -> dict[Case, Profile]:
    """Seconds a seed and peak memory of every case; their profiles."""
    report.line("\nmodel      engine dtype    passes  tokens   s/seed  peak GB")
    profiles = {}
    for case in plan.cases():
        profile = report.attempt(str(case), partial(_time, plan, case, report))
        if profile is not None:
            profiles[case] = profile
    return profiles


def _time(plan: Plan, case: Case, report: Report) -> Profile:
    """Measure one case after a warm-up of one seed."""
    subject = subject_of(plan.models[case.model])
    run = RunConfig(
        engine=case.engine,  # type: ignore[arg-type] # checks itself
        dtype=case.dtype,  # type: ignore[arg-type] # checks itself
        grad=case.grad,
        seq_len=case.seq_len,
        device=plan.device,  # type: ignore[arg-type] # checks itself
        seeds=1,
    )
    _forget(plan)
    measure(subject, run)
    _start_peak(plan)
    start, seeds = time.perf_counter(), plan.seeds_of(case.model)
    profile = measure(subject, replace(run, seed=_GPU_FIRST_SEED, seeds=seeds))
    _synchronize(plan)
    seconds, peak = (time.perf_counter() - start) / seeds, _peak_bytes(plan)
    report.line(f"{case} {seconds:8.3f} {peak / 1e9:8.2f}")
    values = {where: dict(place.values) for where, place in profile.places()[-3:]}
    report.log("case", **asdict(case), seconds=seconds, peak_bytes=peak, seeds=seeds, values=values)
    return profile


def _report_engines(profiles: Mapping[Case, Profile], report: Report) -> None:
    """How far stream is from dense; kernels of attention may add gradients in any order."""
    report.line("\nstream against dense: largest relative difference of any value at any place")
    for case, dense in profiles.items():
        stream = profiles.get(replace(case, engine="stream"))
        if case.engine == "dense" and stream is not None:
            gap = largest_gap(stream, dense)
            report.line(f"{case} {'bitwise equal' if gap == 0 else f'{gap:.1e}'}")
            report.log("engines", **asdict(case), gap=gap)


def _waits(plan: Plan, what: str, engine: str, grad: bool, report: Report) -> None:
    """How often the host waits for the device, a layer and a seed."""
    shallow, deep = plan.depths
    config = next(iter(plan.models.values()))

    def count(n_layer: int, seeds: int) -> tuple[int, Counter[str]]:
        subject = subject_of(replace(config, n_layer=n_layer))
        run = RunConfig(
            engine=engine,  # type: ignore[arg-type] # checks itself
            grad=grad,
            seeds=seeds,
            seq_len=plan.seq_lens[0],
            device=plan.device,  # type: ignore[arg-type] # checks itself
        )
        return count_waits(lambda: measure(subject, run), cuda=plan.device == "cuda")

    count(shallow, 1)  # libraries wait when they are loaded
    (few, _), (many, places) = count(shallow, 1), count(deep, 1)
    again, _ = count(deep, 2)
    by_layer, by_seed = (many - few) / (deep - shallow), again - many
    report.line(f"{what:16} {by_layer:5.2f} a layer (target 0), {by_seed} a seed")
    report.log(
        "waits", engine=engine, grad=grad, a_layer=by_layer, a_seed=by_seed, where=dict(places)
    )


def count_waits(work: Callable[[], object], *, cuda: bool) -> tuple[int, Counter[str]]:
    """How often `work` makes the host wait for the GPU, and in which lines; 0 without `cuda`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if cuda:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            if cuda:
                torch.cuda.set_sync_debug_mode("default")
    waits = [w for w in caught if "synchronizing CUDA operation" in str(w.message)]
    return len(waits), Counter(f"{Path(w.filename).name}:{w.lineno}" for w in waits)


def _overhead(plan: Plan, what: str, dtype: str, seq_len: int, report: Report) -> None:
    """A forward pass and its loss, without and with probes."""
    config = next(iter(plan.models.values()))
    bare, probed = _forward_passes(plan, config, _DTYPES[dtype], seq_len)
    bare()
    probed()
    seconds = alternate({"bare": bare, "probed": probed}, rounds=15)
    ratio = seconds["probed"] / seconds["bare"]
    row = f"bare {seconds['bare'] * 1e3:8.2f}, probed {seconds['probed'] * 1e3:8.2f}"
    report.line(f"{what}: {row}, ratio {ratio:.2f} (target 1.10)")
    report.log("probes", dtype=dtype, seq_len=seq_len, **seconds, ratio=ratio)


def _forward_passes(
    plan: Plan, config: GPTConfig, dtype: torch.dtype, seq_len: int
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Two functions that run the same module on the same tokens and wait for the end."""
    subject, device = subject_of(config), choose_device(plan.device)
    module = subject.build()
    install_dense(module, subject.program, Draws(seed=0, device=device, dtype=dtype))
    tokens = torch.randint(config.vocab_size, (1, seq_len + 1)).to(device)
    idx, targets = tokens[:, :-1], tokens[:, 1:]
    assert subject.lens is not None  # the built-in GPT has one
    lens = subject.lens(module, torch.arange(min(LENS_ROWS, config.vocab_size), device=device))
    rows = torch.tensor(query_rows(seq_len, QUERY_ROWS), device=device)

    def forward() -> tuple[torch.Tensor, torch.Tensor]:
        logits = module(idx)
        flat = logits.float().flatten(0, 1)
        return logits, F.cross_entropy(flat, targets.flatten(), reduction="sum")

    @torch.no_grad()
    def bare() -> None:
        forward()
        _synchronize(plan)

    @torch.no_grad()
    def probed() -> None:
        probes = Probes(module, subject.sites, lens=lens, rows=rows, step=lambda: None)
        with probes.attached():
            logits, loss = forward()
        probes.record_logits(logits, idx, loss / seq_len)
        probes.result(seq_len)

    return bare, probed


def _draw(plan: Plan, distribution: Distribution, report: Report) -> None:
    """Seconds to draw a large matrix; most of them are the host's where chunks are many."""
    draws = Draws(seed=0, device=choose_device(plan.device), dtype=torch.bfloat16)
    weight = ParameterProgram(
        name="w", shape=plan.matrix, role="mlp_up", layer=0, distribution=distribution
    )

    def draw() -> None:
        draws.new(weight)
        _synchronize(plan)

    _forget(plan)
    draw()
    seconds = alternate({"draw": draw}, rounds=3)["draw"]
    rate = weight.numel / seconds / 1e9
    law = type(distribution).__name__
    report.line(f"  {law:16} {seconds * 1e3:9.1f} ms, {rate:8.2f} billion entries a second")
    report.log("draws", law=law, seconds=seconds, entries=weight.numel)


def _report_agreement(plan: Plan, profiles: Mapping[Case, Profile], report: Report) -> None:
    """Means over seeds of the first model on the device against those of the CPU in float32."""
    model, config = next(iter(plan.models.items()))
    seeds = plan.seeds_of(model)
    report.line(f"\n{model}: {seeds} seeds here and {_CPU_SEEDS} others on the CPU in float32")
    report.line("model      engine dtype    passes  tokens  largest |z|")
    found: dict[str, list[Difference]] = {dtype: [] for dtype in _DTYPES}
    for seq_len in plan.seq_lens:
        run = RunConfig(engine="dense", device="cpu", grad=True, seeds=_CPU_SEEDS, seq_len=seq_len)
        base = measure(subject_of(config), run)
        report.log("cpu", model=model, seq_len=seq_len, seeds=_CPU_SEEDS)
        for case, profile in profiles.items():
            if (case.model, case.seq_len) == (model, seq_len):
                gaps = differences(profile, base)
                found[case.dtype] += gaps
                _report_largest(case, gaps, report)
    for dtype, compared in found.items():
        beyond = rejected(compared)
        verdict = "agree" if not beyond else f"{len(beyond)} differ"
        report.line(f"{dtype:8} {len(compared)} comparisons by Holm at 0.01: {verdict}")
        for d in beyond:
            report.line(f"    {d.stat} at {d.where}: z {d.z:.1f}, {d.relative:+.1%}")
        report.log("agreement", dtype=dtype, comparisons=len(compared), beyond=len(beyond))


def _report_largest(case: Case, gaps: Sequence[Difference], report: Report) -> None:
    """The difference with the most standard errors, and all of them in the log."""
    most = max(gaps, key=lambda d: abs(d.z))
    text = f"{abs(most.z):5.2f} {most.stat} at {most.where}, {most.dof} degrees of freedom"
    report.line(f"{case}  {text}, {most.relative:+.2%}")
    report.log("differences", **asdict(case), all=[asdict(d) for d in gaps])


def _report_costs(plan: Plan, report: Report) -> None:
    """What engines.py estimates with: seconds of a normal number, a flop, a Gram entry's share."""
    device, tokens = choose_device(plan.device), plan.seq_lens[0]
    rows, columns = plan.matrix
    x = torch.randn(tokens, columns, device=device)
    weight = torch.empty(rows, columns, device=device)

    def seconds(work: Callable[[], object]) -> float:
        work()
        _synchronize(plan)
        start = time.perf_counter()
        for _ in range(3):
            work()
        _synchronize(plan)
        return (time.perf_counter() - start) / 3

    found = {
        "normal": seconds(weight.normal_) / weight.numel(),
        "flop": seconds(lambda: x @ weight.T) / (2 * tokens * weight.numel()),
        "gram": seconds(lambda: x.double() @ x.double().T) / (tokens**2 * columns),
        "call": seconds(lambda: float(torch.linalg.cholesky_ex((x @ x.T).double())[1])),
    }
    text = ", ".join(f"{name} {value:.2g}" for name, value in found.items())
    report.line(f"\ncosts in seconds: {text}")
    report.log("costs", **found)


def _large(plan: Plan, model: str, config: GPTConfig, engine: str, report: Report) -> None:
    """One seed of a large model: bfloat16, both passes, as long as its context allows."""
    run = RunConfig(
        engine=engine,  # type: ignore[arg-type] # checks itself
        dtype="bfloat16",
        grad=True,
        seeds=1,
        seq_len=min(1024, config.block_size),
        device=plan.device,  # type: ignore[arg-type] # checks itself
    )
    _forget(plan)
    _start_peak(plan)
    start = time.perf_counter()
    profile = measure(subject_of(config), run)
    _synchronize(plan)
    seconds, peak = time.perf_counter() - start, _peak_bytes(plan)
    line = f"{model}, {run.seq_len} tokens, {engine}, bfloat16, both passes"
    report.line(f"\n{line}: {seconds:.1f} s, peak {peak / 1e9:.1f} GB (target 20 s, 40 GB)")
    values = {where: dict(place.values) for where, place in profile.places()}
    report.log("large", model=model, engine=engine, seconds=seconds, peak_bytes=peak, values=values)


def _tests(report: Report) -> None:
    """The tests marked gpu, where pytest is installed."""
    if importlib.util.find_spec("pytest") is None:
        report.line("\ntests marked gpu: pytest is not installed")
        return
    root = Path(__file__).parents[1]
    done = subprocess.run(
        python("-m", "pytest", "tests/test_gpu.py", "-m", "gpu", "-q", "-n0", "-pno:cacheprovider"),
        cwd=root,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    last = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1]
    report.log(
        "tests", code=done.returncode, stdout=done.stdout[-8000:], stderr=done.stderr[-4000:]
    )
    report.line(f"\ntests marked gpu: exit {done.returncode}, {last}")
    if done.returncode:
        report.failed += 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
