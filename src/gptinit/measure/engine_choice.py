"""Which engine to measure with: what each would cost, what memory it needs, and why it is taken."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch

from gptinit.config import Engine, RunConfig
from gptinit.errors import ConfigError, MeasureError
from gptinit.facts.distributions import Constant, Copy, Distribution, Normal, Orthogonal, Piecewise
from gptinit.measure.memory import Workload, available_bytes, required_bytes
from gptinit.measure.subject import Subject
from gptinit.results.profile import Note

__all__ = ["Choice", "choose_device", "choose_engine", "estimated_seconds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How to measure.

    Attributes:
        engine: "dense", "stream" or "lazy".
        work: what a pass works on, with blocks run again for the backward pass or not.
        note: which engine, and why.
    """

    engine: Engine
    work: Workload
    note: Note


@dataclass(frozen=True, slots=True, kw_only=True)
class _Costs:
    """Seconds of one core (or a GPU) for the operations that tell engines apart.

    Attributes:
        normal: to draw a normal number into memory that is fresh.
        flop: a multiplication or addition of float32 in a product of matrices.
        gram: one entry's share of a Gram matrix, in float64 on a CPU (float32 is 3 times as fast).
        call: a lazy product, whatever its size.
    """

    normal: float
    flop: float
    gram: float
    call: float


_COSTS: Mapping[str, _Costs] = MappingProxyType(
    {
        "cpu": _Costs(normal=5e-9, flop=6e-12, gram=26e-12, call=3e-4),
        # From the data sheet of an H200 (float32 67, float64 34 TFLOP/s) at a third of the peak:
        # nobody has measured it.
        "cuda": _Costs(normal=2e-11, flop=5e-14, gram=2e-13, call=1e-3),
        "mps": _Costs(normal=2e-10, flop=5e-13, gram=5e-12, call=1e-3),
    }
)
"""CPU: measured on one core with AVX-512, single-threaded; `python -m benchmarks engines` prints
what a machine needs."""

_GRADIENT_SHARE = 1.65
"""Work of a lazy backward pass over that of its products: squares, sums, orthogonalising twice."""


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        MeasureError: if it is not there.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, usable in there.items() if usable)
    if not there[name]:
        usable = ", ".join(kind for kind, is_there in there.items() if is_there)
        raise MeasureError(f"device must be available here, got {name!r}. Available: {usable}.")
    # With the index that tensors on it have: autograd needs it of a weight without storage.
    return torch.empty(0, device=name).device


def choose_engine(subject: Subject, work: Workload, run: RunConfig, device: torch.device) -> Choice:
    """The engine to use, with a note that says which and why.

    Of those that leave half of the memory free, the one that is estimated to be fastest; `lazy`
    only where it is exact in law, unless nothing else fits.

    Raises:
        ConfigError: if the engine cannot take its weights from where the run says.
    """
    if run.weights == "own":
        return Choice(engine="dense", work=work, note=_own(subject, run))
    if run.engine != "auto":
        said = Note(kind="engine", where=run.engine, message="As asked for.")
        return Choice(
            engine=run.engine, work=_fitting(subject, work, run.engine, device), note=said
        )
    measuring: tuple[Engine, ...] = ("dense", "stream", "lazy")
    engines = {e: _fitting(subject, work, e, device) for e in measuring}
    there = available_bytes(device)
    needed = {e: required_bytes(subject, w, e) for e, w in engines.items()}
    fits = [e for e in engines if there is None or needed[e] <= there / 2]
    seconds = {
        e: estimated_seconds(subject, engines[e], e, device.type, run.seeds) for e in engines
    }
    exact = [e for e in fits if e != "lazy" or _is_exact(subject)]
    if exact:
        best = min(exact, key=lambda e: seconds[e])
        why = _fastest(best, {e: seconds[e] for e in exact})
        if "lazy" not in exact and "lazy" in fits:
            why += " Entries that are not normal would make lazy an approximation."
    else:
        best = "lazy" if fits else min(engines, key=lambda e: needed[e])
        why = f"dense would take {needed['dense'] / 1e9:.3g} GB, over half of what is free."
    if best != "dense" and "dense" not in fits and exact:
        why = f"All weights at once would take {needed['dense'] / 1e9:.3g} GB. {why}"
    note = Note(kind="engine", where=best, message=why)
    return Choice(engine=best, work=engines[best], note=note)


def _own(subject: Subject, run: RunConfig) -> Note:
    """Says that a model draws its weights itself.

    Raises:
        ConfigError: if it cannot, or another engine is asked for.
    """
    if subject.own is None:
        raise ConfigError(
            "weights must be traced where a model is drawn anew by a scheme, got weights='own'."
        )
    if run.engine not in {"auto", "dense"}:
        whose = "with the weights that a model draws itself"
        if subject.is_live:
            whose = "or theory for a module that is built already, weights and all"
        raise ConfigError(f"engine must be dense {whose}, got engine={run.engine!r}.")
    why = "The module has its weights." if subject.is_live else "The model draws its weights."
    return Note(kind="engine", where="dense", message=why)


def _fitting(subject: Subject, work: Workload, engine: str, device: torch.device) -> Workload:
    """The same work, with blocks run again for the backward pass where that saves much memory.

    That is a quarter of what is free, or anything at all where half of it would be needed.
    """
    there = available_bytes(device)
    if not work.grad or there is None:
        return work
    again = replace(work, again=True)
    kept, spared = (required_bytes(subject, w, engine) for w in (work, again))
    is_much = kept - spared > there / 4 or (kept > there / 2 and spared < kept)
    return again if is_much else work


def _fastest(best: str, seconds: Mapping[str, float]) -> str:
    """Why an engine was taken."""
    others = {e: s for e, s in seconds.items() if e != best}
    if not others:
        return "It alone fits in half of the memory that is free."
    second = min(others, key=lambda e: others[e])
    ratio = others[second] / seconds[best]
    if ratio < 1.1:
        return f"Estimated to be as fast here as any: {second} would take as long."
    return f"Estimated to be the fastest here: {second} would take {ratio:.2g} times as long."


def _is_exact(subject: Subject) -> bool:
    """Whether lazy weights have every product of the true distribution."""
    return all(_has_exact_products(p.distribution) for p in subject.program if len(p.shape) > 1)


def _has_exact_products(law: Distribution) -> bool:
    if isinstance(law, Piecewise):
        return all(_has_exact_products(piece) for _, piece in law.pieces)
    if isinstance(law, Copy):
        return _has_exact_products(law.source)
    return isinstance(law, Normal | Constant | Orthogonal)


def estimated_seconds(
    subject: Subject, work: Workload, engine: str, device: str, seeds: int = 1
) -> float:
    """Seconds a seed of what engines differ in: drawing weights and multiplying with them.

    Args:
        subject: the model.
        work: what a pass works on.
        engine: "dense", "stream" or "lazy".
        device: its type.
        seeds: how many; dense draws later ones into the same memory.
    """
    costs = _COSTS[device]
    by_engine = {"dense": _dense_seconds, "stream": _streamed_seconds, "lazy": _lazy_seconds}
    seconds = sum(by_engine[engine](m, work, costs) for m in _matrices(subject))
    if engine == "dense" and seeds == 1:
        # Weights that are kept take memory that no one has touched: about half of a draw more.
        seconds += subject.facts.n_params * costs.normal / 2
    return seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class _Matrix:
    """Matrices of a parameter that is multiplied with: how many, outputs, inputs."""

    count: int
    outputs: int
    inputs: int

    @property
    def numel(self) -> int:
        return self.count * self.outputs * self.inputs


def _matrices(subject: Subject) -> Iterator[_Matrix]:
    """The parameters that a stream is multiplied with; not the tables that are looked up only."""
    for p in subject.program:
        is_table = p.role in {"tok_emb", "pos_emb"} and not (
            p.role == "tok_emb" and subject.facts.tied
        )
        if len(p.shape) > 1 and not is_table:
            outputs, inputs = p.fan_out or p.shape[-2], p.fan_in or p.shape[-1]
            count = max(p.numel // (outputs * inputs), 1)
            yield _Matrix(count=count, outputs=outputs, inputs=inputs)


def _passes(work: Workload) -> int:
    """How often a product is taken: forward, for its input's and its weight's gradient, again."""
    return (3 if work.grad else 1) + work.again


def _dense_seconds(m: _Matrix, work: Workload, costs: _Costs) -> float:
    """Drawn once, multiplied in every pass; gradients are formed."""
    flops = 2 * work.tokens * m.numel * _passes(work)
    return m.numel * costs.normal * (1.5 if work.grad else 1) + flops * costs.flop


def _streamed_seconds(m: _Matrix, work: Workload, costs: _Costs) -> float:
    """Drawn for the forward pass, for the gradient of its input, and again."""
    draws = (2 if work.grad else 1) + work.again
    return _dense_seconds(m, work, costs) + (draws - 1) * m.numel * costs.normal


def _lazy_seconds(m: _Matrix, work: Workload, costs: _Costs) -> float:
    """Questions, answers and products; drawn where there are as many tokens as inputs."""
    if work.tokens >= min(m.outputs, m.inputs):
        return _streamed_seconds(m, work, costs) + costs.call
    forward = _question_seconds(m, work, costs)
    if not work.grad:
        return forward
    turned = _Matrix(count=m.count, outputs=m.inputs, inputs=m.outputs)
    told = 2 * work.tokens**2 * (3 * m.inputs + 2 * m.outputs) * m.count * costs.flop
    backward = _question_seconds(turned, work, costs) + told
    return _GRADIENT_SHARE * (forward * (1 + work.again) + backward)


def _question_seconds(m: _Matrix, work: Workload, costs: _Costs) -> float:
    """One product with as many new directions as tokens."""
    n = work.tokens
    drawn, gram, product = n * m.outputs, n * n * m.inputs, 2 * n * n * m.outputs
    each = drawn * costs.normal + gram * costs.gram + product * costs.flop
    return m.count * (each + costs.call)
