"""The gain of every norm: its effect on a vector of RMS 1, whatever it does with its weight."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gptinit.facts.distributions import Distribution
from gptinit.trace.record.tensor import TracedTensor
from gptinit.trace.replay.replay import Replay

__all__ = ["norm_gains"]

_LARGEST = 1 << 20
"""Widest norm that is run."""


def norm_gains(module: nn.Module, law: Callable[[Tensor], Distribution]) -> dict[str, float]:
    """RMS of the output of every norm for an input of mean 0 and RMS 1, by its weight's name.

    Args:
        module: with traced parameters.
        law: the distribution of a tensor, traced or live; norms that share class, width and law
            are run once.
    """
    gains: dict[str, float] = {}
    by_kind: dict[object, float | None] = {}
    for path, child in module.named_modules():
        weight = getattr(child, "weight", None)
        name = f"{path}.weight" if path else "weight"
        if not isinstance(weight, Tensor) or not _is_norm(path, child, weight):
            continue
        key = (type(child), tuple(weight.shape), law(weight), getattr(child, "eps", None))
        if key not in by_kind:
            by_kind[key] = _gain(child, weight.numel())
        gain = by_kind[key]
        if gain is not None:
            gains[name] = gain
    return gains


def _is_norm(path: str, child: nn.Module, weight: Tensor) -> bool:
    if weight.ndim != 1 or weight.numel() > _LARGEST:
        return False
    leaf = path.rpartition(".")[2].lower()
    return "norm" in type(child).__name__.lower() or "norm" in leaf or leaf.startswith("ln")


def _gain(child: nn.Module, width: int) -> float | None:
    """RMS of the output of one norm; None if it does not run on a plain vector."""
    generator = torch.Generator().manual_seed(0)
    # Mean 0 and RMS 1 for every row, which LayerNorm and RMSNorm do not change.
    x = torch.randn(64, width, generator=generator)
    x -= x.mean(-1, keepdim=True)
    x /= x.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-6)
    try:
        values = {n: _values(p) for n, p in (*child.named_parameters(), *child.named_buffers())}
        with torch.no_grad():
            y = functional_call(child, values, (x,))
    except Exception:  # its forward wants other arguments: the effect stays unknown
        return None
    if not isinstance(y, Tensor) or y.shape != x.shape:
        return None
    gain = float(y.float().square().mean().sqrt())
    return gain if math.isfinite(gain) else None


def _values(tensor: Tensor) -> Tensor:
    if isinstance(tensor, TracedTensor):
        tensor = Replay().value(tensor.read())
    return tensor.detach().cpu().float() if tensor.is_floating_point() else tensor
