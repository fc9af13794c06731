"""Hooks that record statistics of one forward and backward pass, each as a tensor on its device."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from gptinit.facts.vocabulary import ParameterRole
from gptinit.forward.sites import BlockSites, Site
from gptinit.measure.attention_probe import AttentionProbe
from gptinit.measure.hooks import hook_site
from gptinit.measure.statistics import (
    Attention,
    final_statistics,
    logit_std,
    rms,
    score_statistics,
    square_sum,
    stream_statistics,
    variance,
)
from gptinit.measure.subject import Lens
from gptinit.results.averaging import SeedPlace, SeedResult, with_ratios
from gptinit.results.program import Program
from gptinit.weights.policy import Installed, SquareSums

__all__ = ["Probes"]

_EMBEDDING, _FINAL = -1, -2  # keys of the two places that are no layer, in this file only


class Probes:
    """Hooks on one module for one seed.

    Args:
        module: the model.
        blocks: its sites.
        lens: the logit lens of layers; None leaves their logits out.
        rows: (R,) query positions for attention scores, on the run's device.
        step: called after every block, forward and backward: progress.
    """

    def __init__(
        self,
        module: nn.Module,
        blocks: tuple[BlockSites, ...],
        *,
        lens: Lens | None,
        rows: Tensor,
        step: Callable[[], None],
    ) -> None:
        self._module, self._blocks = module, blocks
        self._lens, self._rows, self._step = lens, rows, step
        self._probe = AttentionProbe(self._on_attention)
        self._layer = _EMBEDDING  # the block that runs now
        self._is_lens_on = False
        self._length = 0  # T, once the stream has been recorded
        self._values: dict[tuple[int, str], Tensor] = {}
        self._weights: dict[tuple[int, ParameterRole], _WeightSquares] = {}

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Record the forward pass that runs inside."""
        with ExitStack() as stack:
            for layer, sites in enumerate(self._blocks):
                for site, record in self._recorders(layer, sites):
                    if site is not None:
                        stack.callback(hook_site(self._module, site, record).remove)
            stack.callback(self._probe.off)
            yield

    @contextmanager
    def attached_to_weights(
        self, module: nn.Module, program: Program, weights: Installed
    ) -> Iterator[None]:
        """Require gradients of the weights in blocks; record and free each when it is complete."""
        with ExitStack() as stack:
            for parameter in program:
                if parameter.layer is None or not weights.forms_gradient(parameter):
                    continue
                weight = module.get_parameter(parameter.name).requires_grad_(True)
                key = (parameter.layer, parameter.role)
                pool = self._weights.setdefault(key, _WeightSquares())
                handle = weight.register_post_accumulate_grad_hook(pool.add)
                stack.callback(handle.remove)
                stack.callback(weight.requires_grad_, False)
            yield
        for parameter, sums in weights.square_sums():
            if parameter.layer is not None:
                key = (parameter.layer, parameter.role)
                pool = self._weights.setdefault(key, _WeightSquares())
                pool.add_sums(sums, parameter.numel)

    def record_logits(self, logits: Tensor, idx: Tensor, loss: Tensor) -> None:
        """Record the statistics of the model's own output: (B, T, V), (B, T), ()."""
        self._keep(_FINAL, final_statistics(logits.detach(), idx, loss.detach()))

    def result(self, tokens: int) -> SeedResult:
        """All statistics as numbers; the only place that waits for the device.

        Args:
            tokens: how many losses were summed for the backward pass; what is reported of weights
                is the gradient of their mean.
        """
        pools = {key: pool for key, pool in self._weights.items() if pool.count}
        pooled = [s for pool in pools.values() for s in pool.squares()]
        flat = torch.stack([v.detach().float() for v in (*self._values.values(), *pooled)]).tolist()
        places: dict[int, dict[str, float]] = {}
        for (place, stat), value in zip(self._values, flat, strict=False):
            places.setdefault(place, {})[stat] = value
        squares = iter(flat[len(self._values) :])
        weight_grad: dict[int, dict[ParameterRole, tuple[float, float]]] = {}
        for (layer, role), pool in pools.items():
            grad, weight = (math.sqrt(next(squares) / pool.count) for _ in range(2))
            weight_grad.setdefault(layer, {})[role] = (grad / tokens, weight)
        layers = [
            SeedPlace(values=places.get(layer, {}), weight_grad=weight_grad.get(layer, {}))
            for layer in range(len(self._blocks))
        ]
        return with_ratios(
            SeedPlace(values=places[_EMBEDDING]), layers, SeedPlace(values=places[_FINAL])
        )

    def _keep(self, place: int, values: dict[str, Tensor]) -> None:
        for stat, value in values.items():
            self._values[place, stat] = value

    def _recorders(
        self, layer: int, sites: BlockSites
    ) -> list[tuple[Site | None, Callable[[Tensor], None]]]:
        """The sites of one block with what records them, in the order in which the block runs."""

        def enter(stream: Tensor) -> None:
            self._layer = layer
            self._probe.on()
            if layer == 0:
                self._on_stream(_EMBEDDING, stream)

        def leave(stream: Tensor) -> None:
            if self._is_lens_on:  # the lens runs a module that has a hook itself
                return
            self._probe.off()
            self._on_stream(layer, stream)
            self._on_lens(layer, stream.detach())
            self._step()

        return [
            (sites.before, enter),
            (sites.attn, partial(self._on_branch, layer, "attn_var", sites.attn)),
            (sites.mlp, partial(self._on_branch, layer, "mlp_var", sites.mlp)),
            (sites.presum, partial(self._on_sum, layer)),
            (sites.after, leave),
        ]

    def _on_lens(self, layer: int, stream: Tensor) -> None:
        """Record the logits that the model would give if it ended here."""
        if self._lens is None:
            return
        self._is_lens_on = True
        try:
            with torch.no_grad():
                self._keep(layer, {"logit_std": logit_std(self._lens(stream))})
        finally:
            self._is_lens_on = False

    def _on_branch(self, layer: int, stat: str, site: Site | None, output: Tensor) -> None:
        """Record the variance of what a branch adds."""
        factor = 1.0 if site is None else site.factor
        value = variance(output.detach())
        self._keep(layer, {stat: value if factor == 1 else value * factor**2})
        if stat == "attn_var":
            self._probe.off()  # no attention is left in this block

    def _on_sum(self, layer: int, output: Tensor) -> None:
        """Record the variance of what the norm closing a post-norm block receives."""
        if not self._is_lens_on:
            self._keep(layer, {"presum_var": variance(output.detach())})

    def _on_stream(self, place: int, stream: Tensor) -> None:
        """Record the stream, and its gradient when the backward pass reaches it."""
        # Without a batch axis where the model takes one sequence alone.
        sequences = stream.detach() if stream.ndim > 2 else stream.detach().unsqueeze(0)
        self._length = sequences.shape[1]
        self._keep(place, stream_statistics(sequences))
        if torch.is_grad_enabled():
            if not stream.requires_grad:  # embeddings require no gradient: the graph starts here
                stream.requires_grad_(True)
            stream.register_hook(partial(self._on_gradient, place))

    def _on_gradient(self, place: int, grad: Tensor) -> None:
        self._keep(place, {"grad_rms": rms(grad)})
        self._step()

    def _on_attention(self, attention: Attention) -> None:
        rows = attention.query if attention.scores is None else attention.scores
        if rows is None or rows.shape[2] != self._length:  # it does not mix positions
            return
        with torch.no_grad():
            self._keep(self._layer, score_statistics(attention, self._rows))


class _WeightSquares:
    """Sums of squares of the gradients and weights of one role in one layer."""

    def __init__(self) -> None:
        self.count = 0
        self._grads: list[Tensor] = []
        self._weights: list[Tensor] = []

    def add(self, weight: Tensor) -> None:
        """Add a weight whose gradient is complete, and free the gradient."""
        assert weight.grad is not None  # the hook runs because there is one
        self._grads.append(square_sum(weight.grad))
        self._weights.append(square_sum(weight.detach()))
        self.count += weight.numel()
        weight.grad = None

    def add_sums(self, sums: SquareSums, count: int) -> None:
        """Add a weight whose gradient was never formed."""
        self._grads.append(sums.gradient)
        self._weights.append(sums.weight)
        self.count += count

    def squares(self) -> tuple[Tensor, Tensor]:
        """Sums of squares of all gradients and of all weights; () both."""
        return torch.stack(self._grads).sum(), torch.stack(self._weights).sum()
