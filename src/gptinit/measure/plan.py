"""The plan of a run, made before anything is allocated: device, engine, tokens and memory."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import cast

import numpy.typing as npt
import torch

from gptinit.config import Device, Engine, RunConfig
from gptinit.errors import ConfigError, MeasureError
from gptinit.facts.distributions import Constant, Copy, Distribution, Normal, Orthogonal, Piecewise
from gptinit.measure.cost import estimated_seconds
from gptinit.measure.memory import Workload, available_bytes, required_bytes
from gptinit.measure.subject import Subject
from gptinit.results.profile import Note
from gptinit.tokens import RunTokens, tokens_of_run

__all__ = ["Plan", "choose_device", "plan_run"]

_MEASURING: tuple[Engine, ...] = ("dense", "stream", "lazy")
"""What `auto` chooses from."""

_DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
)
"""Name in RunConfig to the dtype."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How one run will be measured.

    Attributes:
        subject: the model.
        run: the settings with every `auto` resolved: engine, type of device, sequence length.
        tokens: what every seed runs on.
        device: to run on, with its index.
        dtype: of weights and activations.
        recompute: whether the backward pass recomputes the activations of blocks; otherwise they
            are kept.
        required_bytes: estimated peak memory.
        note: which engine, and why.
    """

    subject: Subject
    run: RunConfig
    tokens: RunTokens
    device: torch.device
    dtype: torch.dtype
    recompute: bool
    required_bytes: int
    note: Note


def plan_run(subject: Subject, run: RunConfig, *, tokens: npt.ArrayLike | None = None) -> Plan:
    """The plan of a run that fits in memory.

    Where the engine is `auto`: of those that leave half of the memory free, the one that is
    estimated to be fastest; `lazy` only where it is exact, unless nothing else fits.

    Arguments are those of `measure.measure`.

    Raises:
        ConfigError: if sequence, data and model do not go together, or the engine cannot take its
            weights from where the run says.
        MeasureError: if the device is not available or the memory is not enough.
    """
    device = choose_device(run.device)
    drawn, run = tokens_of_run(
        run, tokens, vocab_size=subject.vocab_size, block_size=subject.block_size
    )
    engine: Engine
    dtype, free = _DTYPES[run.dtype], available_bytes(device)
    work = Workload(tokens=run.batch_size * run.seq_len, dtype=dtype, grad=run.grad)
    if run.weights == "own":
        engine, why = "dense", _why_own(subject, run)
    elif run.engine != "auto":
        engine, why = run.engine, "Requested with --engine."
        work = _fitting(subject, work, engine, free)
    else:
        works = {e: _fitting(subject, work, e, free) for e in _MEASURING}
        engine, why = _choose_engine(subject, works, device.type, run.seeds, free)
        work = works[engine]
    return Plan(
        subject=subject,
        run=replace(run, engine=engine, device=cast("Device", device.type)),
        tokens=drawn,
        device=device,
        dtype=dtype,
        recompute=work.recompute,
        required_bytes=_require_memory(subject, work, engine, device.type, free),
        note=Note(kind="engine", where=engine, message=why),
    )


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" takes CUDA, then MPS, then the CPU.

    Raises:
        MeasureError: if it is not available.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, usable in available.items() if usable)
    if not available[name]:
        usable = ", ".join(kind for kind, is_available in available.items() if is_available)
        raise MeasureError(f"device must be available here, got {name!r}. Available: {usable}.")
    # With the index that tensors on it have: autograd needs it of a weight without storage.
    return torch.empty(0, device=name).device


def _why_own(subject: Subject, run: RunConfig) -> str:
    """Why a model that draws its weights itself is measured with dense ones.

    Raises:
        ConfigError: if it cannot draw them, or another engine is requested.
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
    return "The module has its weights." if subject.is_live else "The model draws its weights."


def _fitting(subject: Subject, work: Workload, engine: str, free: int | None) -> Workload:
    """The same work, with blocks recomputed for the backward pass where that saves much memory.

    That is a quarter of what is free, or anything at all where half of it would be needed.
    """
    if not work.grad or free is None:
        return work
    recomputed = replace(work, recompute=True)
    kept, least = (required_bytes(subject, w, engine) for w in (work, recomputed))
    is_much = kept - least > free / 4 or (kept > free / 2 and least < kept)
    return recomputed if is_much else work


def _choose_engine(
    subject: Subject, works: Mapping[Engine, Workload], device: str, seeds: int, free: int | None
) -> tuple[Engine, str]:
    """The engine that `auto` stands for, and why."""
    needed = {e: required_bytes(subject, w, e) for e, w in works.items()}
    fits = [e for e in works if free is None or needed[e] <= free / 2]
    exact = [e for e in fits if e != "lazy" or _is_exact(subject)]
    dense_gb = f"{needed['dense'] / 1e9:.3g} GB"
    if not exact:
        best = "lazy" if fits else min(works, key=lambda e: needed[e])
        return best, f"dense would take {dense_gb}, over half of what is free."
    seconds = {e: estimated_seconds(subject, works[e], e, device, seeds) for e in exact}
    best = min(exact, key=lambda e: seconds[e])
    why = _why_fastest(best, seconds)
    if "lazy" not in exact and "lazy" in fits:
        why += " Entries that are not normal would make lazy an approximation."
    if best != "dense" and "dense" not in fits:
        why = f"All weights at once would take {dense_gb}. {why}"
    return best, why


def _why_fastest(best: Engine, seconds: Mapping[Engine, float]) -> str:
    """Why an engine was chosen, given the seconds of those that fit."""
    others = {e: s for e, s in seconds.items() if e != best}
    if not others:
        return "The only engine that fits in half of the free memory."
    second = min(others, key=lambda e: others[e])
    ratio = others[second] / seconds[best]
    if ratio < 1.1:
        return f"Estimated fastest, tied with {second}."
    return f"Estimated to be the fastest here: {second} would take {ratio:.2g} times as long."


def _is_exact(subject: Subject) -> bool:
    """Whether products with lazy weights have the distribution of those with real ones."""
    return all(_has_exact_products(p.distribution) for p in subject.program if len(p.shape) > 1)


def _has_exact_products(law: Distribution) -> bool:
    if isinstance(law, Piecewise):
        return all(_has_exact_products(piece) for _, piece in law.pieces)
    if isinstance(law, Copy):
        return _has_exact_products(law.source)
    return isinstance(law, Normal | Constant | Orthogonal)


def _require_memory(
    subject: Subject, work: Workload, engine: str, device: str, free: int | None
) -> int:
    """Bytes that a run needs.

    Raises:
        MeasureError: if they are not free: with what it needs, what is free, and what an engine
            that fits would need.
    """
    needed = required_bytes(subject, work, engine)
    if free is None or needed <= free:
        return needed
    others = {e: required_bytes(subject, work, e) for e in ("stream", "lazy") if e != engine}
    remedy = next(
        (f"--engine {e} needs {_gb(bytes_)}." for e, bytes_ in others.items() if bytes_ <= free),
        "Try a smaller model, fewer tokens (--seq-len, --batch-size), --dtype bfloat16 or no "
        "--grad.",
    )
    raise MeasureError(
        f"{subject.facts.name} must fit in memory: engine={engine} needs {_gb(needed)} on "
        f"{device}, got {_gb(free)} free. {remedy}"
    )


def _gb(count: int) -> str:
    return f"{count / 1e9:.3g} GB"
