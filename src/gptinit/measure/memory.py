"""How much memory a run needs and how much is free, both known before anything is allocated."""

import ctypes
import math
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from gptinit.measure.subject import Subject

__all__ = [
    "Workload",
    "available_bytes",
    "peak_bytes",
    "required_bytes",
    "reset_peak_memory",
    "return_large_blocks",
]

_FLOAT32 = 4
_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What one forward (and backward) pass works on.

    Attributes:
        tokens: positions in all sequences, B * T.
        dtype: of weights and activations.
        grad: whether there is a backward pass.
        recompute: whether that recomputes blocks, so that only the stream between them is kept.
    """

    tokens: int
    dtype: torch.dtype
    grad: bool
    recompute: bool = False


def required_bytes(subject: Subject, work: Workload, engine: str) -> int:
    """Bytes that a run of `engine` holds at its peak: weights, activations, logits; an estimate.

    Counts what grows with the model; the interpreter and torch itself come on top.
    """
    return _weight_bytes(subject, work, engine) + _activation_bytes(subject, work)


def _weight_bytes(subject: Subject, work: Workload, engine: str) -> int:
    """Weights resident at once, one gradient, and the float32 values a draw starts from."""
    if engine == "lazy":
        return _query_bytes(subject, work)
    item = work.dtype.itemsize
    largest = max(p.numel for p in subject.program)
    in_blocks = [p.numel for p in subject.program if p.layer is not None]
    passing = largest * (_FLOAT32 if item < _FLOAT32 else 0)
    gradient = max(in_blocks, default=0) * item if work.grad else 0
    if engine == "dense":
        return subject.facts.n_params * item + passing + gradient
    outside = subject.facts.n_params - sum(in_blocks)
    return (outside + max(in_blocks, default=0)) * item + passing + gradient


def _query_bytes(subject: Subject, work: Workload) -> int:
    """What lazy weights hold at once: queries and responses of one block, or of all."""
    blocks: dict[int | None, int] = {}
    for p in subject.program:
        if len(p.shape) > 1:
            sides = p.numel // p.shape[-1] + p.shape[-1] * (p.numel // math.prod(p.shape[-2:]))
            held = sides * min(work.tokens, *p.shape[-2:])
            blocks[p.layer] = blocks.get(p.layer, 0) + held
    outside = blocks.pop(None, 0)
    inside = sum(blocks.values()) if work.grad and not work.recompute else max(blocks.values())
    return (inside * (2 if work.grad else 1) + outside) * _FLOAT32


def _activation_bytes(subject: Subject, work: Workload) -> int:
    """Activations alive at once, the logits, and the float32 copies that the loss makes of them."""
    facts, item = subject.facts, work.dtype.itemsize
    inner = (facts.n_head or 1) * (facts.head_dim or facts.n_embd)
    # Kept a layer for the backward pass: stream twice, two norms with inputs, qkv, attention, MLP.
    block = 6 * facts.n_embd + 5 * inner + 2 * (facts.d_ff or 4 * facts.n_embd)
    layers = facts.n_layer if work.grad and not work.recompute else 1
    between = facts.n_layer * facts.n_embd if work.grad and work.recompute else 0
    logits = subject.vocab_size * (item + 2 * _FLOAT32 + (item if work.grad else 0))
    return work.tokens * ((layers * block + between) * item + logits)


def available_bytes(device: torch.device) -> int | None:
    """Bytes free on `device`; None if not known."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch has cached of earlier tensors is free to it, though not to others.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    limits = [n for n in (_free_physical_bytes(), _cgroup_bytes()) if n is not None]
    return min(limits, default=None)


def _free_physical_bytes() -> int | None:
    """Memory that the operating system could give this process, or all there is if not known."""
    kilobytes = _number_in(Path("/proc/meminfo"), "MemAvailable:")
    if kilobytes is not None:
        return kilobytes * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _cgroup_bytes() -> int | None:
    """Memory left under a container's limit (cgroup v2); None without one.

    Files in the page cache count as used there, but are dropped when memory is needed.
    """
    try:
        limit = int((_CGROUP / "memory.max").read_text(encoding="ascii"))  # "max": no limit
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return max(0, limit - used + (_number_in(_CGROUP / "memory.stat", "inactive_file") or 0))


def _number_in(path: Path, name: str) -> int | None:
    """The number after `name` in a kernel file such as /proc/meminfo; None if it is not there."""
    try:
        for line in path.read_text(encoding="ascii").splitlines():
            first, *rest = line.split() or [""]
            if first == name:
                return int(rest[0])
    except (OSError, ValueError, IndexError):
        pass
    return None


def reset_peak_memory() -> None:
    """Reset the peak memory of the GPU; the peak of a process cannot be reset."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_bytes(device: str) -> int:
    """Peak memory of tensors on a GPU, or of this process since it began; 0 if unavailable."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    kilobytes = _number_in(Path("/proc/self/status"), "VmHWM:")
    return _largest_resident_bytes() if kilobytes is None else kilobytes * 1024


def _largest_resident_bytes() -> int:
    """The peak that getrusage reports: in bytes on macOS, kilobytes elsewhere; 0 on Windows."""
    if sys.platform == "win32":
        return 0
    import resource  # does not exist on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def return_large_blocks() -> None:
    """Return freed blocks of a megabyte or more to the operating system (glibc only).

    By default glibc learns to keep blocks of up to 32 MB, and the gaps between those still in use
    add up to gigabytes where sizes differ from layer to layer.
    """
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 20)
