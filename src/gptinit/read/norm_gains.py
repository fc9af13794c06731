"""The gain of every norm: its effect on a vector of RMS 1, whatever it does with its weight."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from gptinit.facts.distributions import Distribution
from gptinit.facts.names import number_pattern
from gptinit.forward.flow import Flow
from gptinit.forward.norms import Norm, norm_gain
from gptinit.trace.record.tensor import TracedTensor
from gptinit.trace.replay.replay import Replay

__all__ = ["norm_gains"]

_LARGEST = 1 << 20
"""Most entries of a weight that is computed with."""


def norm_gains(
    module: nn.Module, names: Iterable[str], flow: Flow, law: Callable[[Tensor], Distribution]
) -> dict[str, float]:
    """RMS of the output of every norm for an input of mean 0 and RMS 1, by its weight's name.

    Read from the part of the forward pass between the vector that is normalised and the product
    with the weight; where the pass does not show it, by running the module that has the weight.
    Norms whose effect neither way tells are left out.

    Args:
        module: with traced parameters.
        names: of the weights of its norms.
        flow: what its forward pass shows.
        law: the distribution of a tensor, traced or live; norms that are alike but for the number
            of their layer, and have one law, are computed once.
    """
    gains: dict[str, float] = {}
    shown = {name: use.norm for name, use in flow.uses.items() if use.norm is not None}
    parameters = dict(module.named_parameters(remove_duplicate=False))
    done: dict[object, float | None] = {}
    for name in names:
        weight = parameters[name]
        if weight.numel() > _LARGEST:
            continue
        norm = shown.get(name)
        bias = parameters.get(_bias_of(name, norm)) if norm else None
        laws = (law(weight), None if bias is None else law(bias))
        key = (number_pattern(name), norm is None, tuple(weight.shape), laws)
        if key not in done:
            gain = _in_pass(flow, norm, weight, bias)
            done[key] = _in_module(module, name) if gain is None else gain
        gain = done[key]
        if gain is not None:
            gains[name] = gain
    return gains


def _bias_of(name: str, norm: Norm) -> str:
    """The bias of the norm with weight `name`, which is `norm` itself or its twin; or ""."""
    owner, _, leaf = (norm.bias or "").rpartition(".")
    is_beside = bool(norm.bias) and owner == norm.weight.rpartition(".")[0]
    return f"{name.rpartition('.')[0]}.{leaf}".lstrip(".") if is_beside else norm.bias or ""


def _in_pass(flow: Flow, norm: Norm | None, weight: Tensor, bias: Tensor | None) -> float | None:
    """The gain of a norm of the pass with some weight and bias."""
    if norm is None or flow.seen is None:
        return None
    shift = 0.0 if bias is None else _values(bias).double().flatten()
    return norm_gain(flow.seen.graph, norm, _values(weight).double().flatten(), shift)


def _in_module(module: nn.Module, name: str) -> float | None:
    """The gain of the module that has a weight; None if it does not run on a plain vector."""
    child = module.get_submodule(name.rpartition(".")[0])
    if any(p.ndim > 1 for p in child.parameters()):  # more than a norm
        return None
    width = module.get_parameter(name).numel()
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
