"""What listens at the sites of a module while it runs, and keeps every statistic on its device."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gptinit.averaging import SeedPlace
from gptinit.program import Program
from gptinit.sites import AttentionProbe, BlockSites
from gptinit.stats import (
    Attention,
    final_statistics,
    logit_std,
    rms,
    score_statistics,
    square_sum,
    stream_statistics,
    variance,
)
from gptinit.subject import Lens

__all__ = ["Probes", "SeedResult"]

_EMBEDDING, _FINAL = -1, -2  # keys of the two places beside the layers, inside this file only


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedResult:
    """Everything one seed gave, as numbers."""

    embedding: SeedPlace
    layers: tuple[SeedPlace, ...]
    final: SeedPlace


class Probes:
    """Hooks on one module for one seed.

    Args:
        blocks: the sites.
        lens: what layers' logits are read with.
        rows: (R,) query positions for attention scores, on the run's device.
        step: called after every block, forward and backward: progress.
    """

    def __init__(
        self, blocks: tuple[BlockSites, ...], *, lens: Lens, rows: Tensor, step: Callable[[], None]
    ) -> None:
        self._blocks, self._lens, self._rows, self._step = blocks, lens, rows, step
        self._probe = AttentionProbe(self._on_attention)
        self._layer = _EMBEDDING  # the block that runs now
        self._values: dict[tuple[int, str], Tensor] = {}
        self._weights: dict[tuple[int, str], _WeightSquares] = {}

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Listen to the forward pass inside."""
        with ExitStack() as stack:
            for layer, sites in enumerate(self._blocks):
                for handle in self._hooks(layer, sites):
                    stack.callback(handle.remove)
            stack.callback(self._probe.off)
            yield

    @contextmanager
    def attached_to_weights(self, module: nn.Module, program: Program) -> Iterator[None]:
        """Ask for the gradients of the weights in blocks; note and drop each when complete."""
        with ExitStack() as stack:
            for parameter in program:
                if parameter.layer is None:
                    continue
                weight = module.get_parameter(parameter.name).requires_grad_(True)
                key = (parameter.layer, parameter.role)
                pool = self._weights.setdefault(key, _WeightSquares())
                handle = weight.register_post_accumulate_grad_hook(pool.add)
                stack.callback(handle.remove)
                stack.callback(weight.requires_grad_, False)
            yield

    def see_logits(self, logits: Tensor, idx: Tensor, loss: Tensor) -> None:
        """Note the statistics of the model's own output: (B, T, V), (B, T), ()."""
        self._keep(_FINAL, final_statistics(logits.detach(), idx, loss.detach()))

    def result(self, tokens: int) -> SeedResult:
        """All statistics as numbers: the one wait for the device.

        Args:
            tokens: how many losses were summed for the backward pass: weights report the gradient
                of their mean.
        """
        pooled = [s for pool in self._weights.values() for s in pool.squares()]
        flat = torch.stack([v.detach().float() for v in (*self._values.values(), *pooled)]).tolist()
        places: dict[int, dict[str, float]] = {}
        for (place, stat), value in zip(self._values, flat, strict=False):
            places.setdefault(place, {})[stat] = value
        squares = iter(flat[len(self._values) :])
        weight_grad: dict[int, dict[str, tuple[float, float]]] = {}
        for (layer, role), pool in self._weights.items():
            grad, weight = (math.sqrt(next(squares) / pool.count) for _ in range(2))
            weight_grad.setdefault(layer, {})[role] = (grad / tokens, weight)
        return SeedResult(
            embedding=SeedPlace(values=places[_EMBEDDING]),
            layers=tuple(
                SeedPlace(values=places[layer], weight_grad=weight_grad.get(layer, {}))
                for layer in range(len(self._blocks))
            ),
            final=SeedPlace(values=places[_FINAL]),
        )

    def _keep(self, place: int, values: dict[str, Tensor]) -> None:
        for stat, value in values.items():
            self._values[place, stat] = value

    def _hooks(self, layer: int, sites: BlockSites) -> list[RemovableHandle]:
        """All forward hooks of one block."""

        def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
            self._layer = layer
            if layer == 0:
                self._on_stream(_EMBEDDING, args[0])

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            stream = _tensor(output)
            self._on_stream(layer, stream)
            with torch.no_grad():
                self._keep(layer, {"logit_std": logit_std(self._lens(stream.detach()))})
            self._step()

        def before_attention(module: nn.Module, args: Any) -> None:
            self._probe.on()

        def after_attention(module: nn.Module, args: Any, output: Any) -> None:
            self._probe.off()
            self._keep(layer, {"attn_var": variance(_tensor(output).detach())})

        def after_mlp(module: nn.Module, args: Any, output: Any) -> None:
            self._keep(layer, {"mlp_var": variance(_tensor(output).detach())})

        return [
            sites.block.register_forward_pre_hook(enter),
            sites.attn.register_forward_pre_hook(before_attention),
            sites.attn.register_forward_hook(after_attention),
            sites.mlp.register_forward_hook(after_mlp),
            sites.block.register_forward_hook(leave),
        ]

    def _on_stream(self, place: int, stream: Tensor) -> None:
        """Note the stream, and its gradient when that arrives."""
        self._keep(place, stream_statistics(stream.detach()))
        if torch.is_grad_enabled():
            if not stream.requires_grad:  # embeddings ask for no gradient: the graph starts here
                stream.requires_grad_(True)
            stream.register_hook(partial(self._on_gradient, place))

    def _on_gradient(self, place: int, grad: Tensor) -> None:
        self._keep(place, {"grad_rms": rms(grad)})
        self._step()

    def _on_attention(self, attention: Attention) -> None:
        with torch.no_grad():
            self._keep(self._layer, score_statistics(attention, self._rows))


class _WeightSquares:
    """Sums of squares of the gradients and weights of one role in one layer."""

    def __init__(self) -> None:
        self.count = 0
        self._grads: list[Tensor] = []
        self._weights: list[Tensor] = []

    def add(self, weight: Tensor) -> None:
        """Take in a weight whose gradient is complete, and free the gradient."""
        assert weight.grad is not None  # the hook runs because there is one
        self._grads.append(square_sum(weight.grad))
        self._weights.append(square_sum(weight.detach()))
        self.count += weight.numel()
        weight.grad = None

    def squares(self) -> tuple[Tensor, Tensor]:
        """Sums of squares of all gradients and of all weights; () both."""
        return torch.stack(self._grads).sum(), torch.stack(self._weights).sum()


def _tensor(output: Any) -> Tensor:
    """The tensor a module returned, alone or first in a tuple."""
    first = output[0] if isinstance(output, tuple) else output
    assert isinstance(first, Tensor)  # a block returns its stream, a branch what it adds
    return first
