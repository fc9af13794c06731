"""One seed at a time: install weights, attach hooks, run forward and backward, read the hooks."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptinit.errors import MeasureError
from gptinit.facts.sampling import LENS_ROWS, QUERY_ROWS, query_rows
from gptinit.forward.observe import operator_by_operator
from gptinit.measure.checkpointing import entering_blocks
from gptinit.measure.plan import Plan
from gptinit.measure.probes import Probes
from gptinit.results.averaging import SeedResult
from gptinit.results.profile import Note
from gptinit.weights.dense import install_dense
from gptinit.weights.draws import Draws, seed_of
from gptinit.weights.lazy.policy import LazyPolicy
from gptinit.weights.policy import Installed, Resident, WeightsPolicy
from gptinit.weights.stream import install_stream

__all__ = ["SeedRunner"]

POLICIES: Mapping[str, Callable[[Sequence[str]], WeightsPolicy]] = MappingProxyType(
    {
        "dense": lambda blocks: install_dense,
        "stream": lambda blocks: install_stream,
        "lazy": LazyPolicy,
    }
)
"""Engine to what makes its weights policy, given the paths of a model's blocks."""


class SeedRunner:
    """Runs the module of a plan, built once, with the weights of one seed after the other."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._subject = plan, plan.subject
        self._is_own = plan.run.weights == "own"
        self._module = nn.Module() if self._is_own else self._subject.build()
        self._paths = [p for s in self._subject.sites for p in (s.path, *s.also)]
        self._install = POLICIES[plan.run.engine](self._paths)
        held = dict(self._module.named_buffers())
        recipes = self._subject.recipes
        self._random_buffers = [n for n, r in recipes.items() if n in held and r.is_random]
        self.notes: tuple[Note, ...] = ()
        """How the numbers came to be, as of the latest seed."""

    def run(self, seed: int, ids: npt.NDArray[np.int64], step: Callable[[], None]) -> SeedResult:
        """The statistics of one seed.

        Args:
            seed: draws the weights.
            ids: tokens with one more for the last target; (B, T + 1).
            step: called after every block, forward and backward.

        Raises:
            MeasureError: if gradients are wanted and the model's forward keeps none.
            Restart: if a lazy weight turned out to be needed; the next run of this seed has it.
        """
        plan, grad = self._plan, self._plan.run.grad
        tokens = torch.as_tensor(ids, dtype=torch.int64).to(plan.device)
        # Contiguous: models flatten their targets by view.
        idx, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        draws = Draws(
            seed=seed, device=plan.device, dtype=plan.dtype, recipes=self._subject.recipes
        )
        weights = self._install_weights(draws)
        probes = self._probes(seed, idx.shape[1], step)
        with operator_by_operator(), torch.set_grad_enabled(grad), self._entering(weights):
            if grad:
                with probes.attached_to_weights(self._module, self._subject.program, weights):
                    loss = self._forward(probes, idx, targets)
                    if loss.grad_fn is None:
                        raise MeasureError(
                            f"{self._subject.facts.name} must keep what a backward pass needs, got "
                            "logits without it: its forward runs under no_grad or inference_mode. "
                            "Measure it without gradients."
                        )
                    loss.backward()
            else:
                self._forward(probes, idx, targets)
        self.notes = tuple(weights.notes())
        return probes.result(targets.numel())

    def _entering(self, weights: Installed) -> AbstractContextManager[None]:
        """Lets lazy weights know which block runs, and has blocks recomputed where planned."""
        is_lazy, run = self._plan.run.engine == "lazy", self._plan.run
        if not self._plan.recompute and (run.grad or not is_lazy):
            return nullcontext()
        return entering_blocks(self._module, self._paths, weights, recompute=self._plan.recompute)

    def _install_weights(self, draws: Draws) -> Installed:
        if self._is_own:
            assert self._subject.own is not None  # `plan_run` has checked
            self._module = self._subject.own(draws.seed).to(draws.device, draws.dtype)
            self._module.requires_grad_(False)
            return Resident()
        for module in self._module.modules():
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else buffer.to(draws.device)
        for name in self._random_buffers:
            self._module.get_buffer(name).copy_(draws.replayed(name))
        return self._install(self._module, self._subject.program, draws)

    def _forward(self, probes: Probes, idx: Tensor, targets: Tensor) -> Tensor:
        """The summed loss of one forward pass with hooks attached; ()."""
        with probes.attached():
            logits = self._subject.call(self._module, idx)  # (B, T, V)
        losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="sum")
        probes.record_logits(logits, idx, losses / targets.numel())
        return losses

    def _probes(self, seed: int, T: int, step: Callable[[], None]) -> Probes:
        """Probes with this seed's vocabulary rows for the lens."""
        subject, device = self._subject, self._plan.device
        shuffle = torch.Generator().manual_seed(seed_of(seed, "lens rows"))
        chosen = torch.randperm(subject.vocab_size, generator=shuffle)[:LENS_ROWS].sort().values
        return Probes(
            self._module,
            subject.sites,
            lens=subject.lens(self._module, chosen.to(device)) if subject.lens else None,
            rows=torch.tensor(query_rows(T, QUERY_ROWS), device=device),
            step=step,
        )
