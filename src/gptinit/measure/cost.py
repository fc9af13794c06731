"""Estimated seconds of each engine: how `auto` knows which is fastest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gptinit.measure.memory import Workload
from gptinit.measure.subject import Subject

__all__ = ["estimated_seconds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Costs:
    """Seconds of one core (or a GPU) for the operations in which engines differ.

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
        # Not measured: from the data sheet of an H200 (float32 67, float64 34 TFLOP/s), at a third
        # of the peak.
        "cuda": _Costs(normal=2e-11, flop=5e-14, gram=2e-13, call=1e-3),
        "mps": _Costs(normal=2e-10, flop=5e-13, gram=5e-12, call=1e-3),
    }
)
"""CPU: measured on one core with AVX-512, single-threaded; `python -m benchmarks engines` prints
the same for another machine."""

_GRADIENT_FACTOR = 1.65
"""Work of a lazy run with gradients over that of its products: it also takes squares and sums and
orthogonalises twice."""


def estimated_seconds(
    subject: Subject, work: Workload, engine: str, device: str, seeds: int = 1
) -> float:
    """Seconds per seed of what engines differ in: drawing weights and multiplying by them.

    Args:
        subject: the model.
        work: what a pass works on.
        engine: "dense", "stream" or "lazy".
        device: its type, such as "cpu".
        seeds: how many; dense draws later seeds into the same memory.
    """
    costs = _COSTS[device]
    by_engine = {"dense": _dense_seconds, "stream": _streamed_seconds, "lazy": _lazy_seconds}
    seconds = sum(by_engine[engine](m, work, costs) for m in _matrices(subject))
    if engine == "dense" and seeds == 1:
        # The first seed touches fresh memory: about half of a draw more.
        seconds += subject.facts.n_params * costs.normal / 2
    return seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class _Matrix:
    """The matrices that one parameter consists of: how many, their outputs and inputs."""

    count: int
    outputs: int
    inputs: int

    @property
    def numel(self) -> int:
        return self.count * self.outputs * self.inputs


def _matrices(subject: Subject) -> Iterator[_Matrix]:
    """The parameters that activations are multiplied by, without tables that are only looked up."""
    for p in subject.program:
        is_table = p.role in {"tok_emb", "pos_emb"} and not (
            p.role == "tok_emb" and subject.facts.tied
        )
        if len(p.shape) > 1 and not is_table:
            outputs, inputs = p.fan_out or p.shape[-2], p.fan_in or p.shape[-1]
            count = max(p.numel // (outputs * inputs), 1)
            yield _Matrix(count=count, outputs=outputs, inputs=inputs)


def _passes(work: Workload) -> int:
    """Products per matrix: forward, the gradients of input and weight, and a recomputed forward."""
    return (3 if work.grad else 1) + work.recompute


def _dense_seconds(m: _Matrix, work: Workload, costs: _Costs) -> float:
    """Drawn once, multiplied in every pass; gradients are formed."""
    flops = 2 * work.tokens * m.numel * _passes(work)
    return m.numel * costs.normal * (1.5 if work.grad else 1) + flops * costs.flop


def _streamed_seconds(m: _Matrix, work: Workload, costs: _Costs) -> float:
    """Drawn anew in every pass: forward, for the gradient of its input, when recomputed."""
    draws = (2 if work.grad else 1) + work.recompute
    return _dense_seconds(m, work, costs) + (draws - 1) * m.numel * costs.normal


def _lazy_seconds(m: _Matrix, work: Workload, costs: _Costs) -> float:
    """Queries, responses and products; materialised where there are as many tokens as inputs."""
    if work.tokens >= min(m.outputs, m.inputs):
        return _streamed_seconds(m, work, costs) + costs.call
    forward = _query_seconds(m, work, costs)
    if not work.grad:
        return forward
    turned = _Matrix(count=m.count, outputs=m.inputs, inputs=m.outputs)
    sums = 2 * work.tokens**2 * (3 * m.inputs + 2 * m.outputs) * m.count * costs.flop
    backward = _query_seconds(turned, work, costs) + sums
    return _GRADIENT_FACTOR * (forward * (1 + work.recompute) + backward)


def _query_seconds(m: _Matrix, work: Workload, costs: _Costs) -> float:
    """One product with as many new directions as tokens."""
    n = work.tokens
    drawn, gram, product = n * m.outputs, n * n * m.inputs, 2 * n * n * m.outputs
    each = drawn * costs.normal + gram * costs.gram + product * costs.flop
    return m.count * (each + costs.call)
