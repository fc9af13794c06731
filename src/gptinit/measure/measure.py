"""A subject, a run and its weights policy in; a Profile out.

The module runs its own forward once a seed; the probes' statistics stay on the device until the
seed is done.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptinit.config import Engine, RunConfig
from gptinit.errors import MeasureError
from gptinit.facts.sampling import LENS_ROWS, QUERY_ROWS, query_rows
from gptinit.forward.observe import operator_by_operator
from gptinit.forward.sites import BlockSites
from gptinit.measure.checkpointing import entering_blocks
from gptinit.measure.engine_choice import choose_device, choose_engine
from gptinit.measure.memory import Workload, check_memory, return_large_blocks
from gptinit.measure.probes import Probes
from gptinit.measure.subject import Subject
from gptinit.results.averaging import SeedResult, average_place
from gptinit.results.machine import processor_name
from gptinit.results.profile import Note, Place, Profile, RunFacts
from gptinit.theory import TheoryModel, predict
from gptinit.tokens import tokens_of_run
from gptinit.weights.dense import install_dense
from gptinit.weights.draws import Draws, seed_of
from gptinit.weights.lazy.policy import LazyPolicy
from gptinit.weights.policy import Installed, Resident, Restart, WeightsPolicy
from gptinit.weights.stream import install_stream

__all__ = ["Progress", "measure", "measure_seeds", "theory_of_run"]

POLICIES: Mapping[str, Callable[[Sequence[str]], WeightsPolicy]] = MappingProxyType(
    {
        "dense": lambda blocks: install_dense,
        "stream": lambda blocks: install_stream,
        "lazy": LazyPolicy,
    }
)
"""Engine to what makes its policy for the paths of a model's blocks."""

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all) as a run goes on."""


def measure(
    subject: Subject,
    run: RunConfig,
    *,
    tokens: npt.ArrayLike | None = None,
    progress: Progress | None = None,
) -> Profile:
    """The profile of `subject`, from running its own forward (and backward) pass.

    Args:
        subject: what to measure.
        run: how.
        tokens: (B, T + 1) ids to run on in place of those that `run` names.
        progress: told after every block.

    Raises:
        ConfigError: if sequence, data and model do not go together.
        MeasureError: if the device is not there or the memory is not enough.
    """
    done = _run_seeds(subject, run, tokens, progress)
    run, results = done.run, done.results
    n_layer = subject.facts.n_layer
    profile = Profile(
        torch=torch.__version__,
        model=subject.facts,
        scheme=subject.scheme,
        run=RunFacts(
            engine=done.engine,
            weights=run.weights,
            device=done.device.type,
            device_name=_device_name(done.device),
            dtype=run.dtype,
            seed=run.seed,
            seeds=run.seeds,
            batch_size=run.batch_size,
            seq_len=run.seq_len,
            data=run.data,
            data_sha256=done.fingerprint,
            lens_rows=min(LENS_ROWS, subject.vocab_size),
            query_rows=min(QUERY_ROWS, run.seq_len),
        ),
        embedding=average_place([r.embedding for r in results]),
        layers=tuple(average_place([r.layers[i] for r in results]) for i in range(n_layer)),
        final=average_place([r.final for r in results]),
        whole=average_place([r.whole for r in results]),
        notes=done.notes,
    )
    return _with_prediction(profile, subject, done.ids)


def measure_seeds(
    subject: Subject,
    run: RunConfig,
    *,
    tokens: npt.ArrayLike | None = None,
    progress: Progress | None = None,
) -> tuple[SeedResult, ...]:
    """What `measure` averages: the statistics of every seed of `run`, in order.

    The engine is chosen and the model is built once for all seeds; nothing is predicted.

    Args and errors are those of `measure`.
    """
    return _run_seeds(subject, run, tokens, progress).results


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """All seeds of a run.

    Attributes:
        run: as it was asked for, with its length.
        engine: that measured.
        device: that it ran on.
        ids: tokens of every seed.
        fingerprint: SHA-256 of what the tokens are.
        results: of every seed.
        notes: how the numbers came to be.
    """

    run: RunConfig
    engine: Engine
    device: torch.device
    ids: Sequence[npt.NDArray[np.int64]]
    fingerprint: str
    results: tuple[SeedResult, ...]
    notes: tuple[Note, ...]


def _run_seeds(
    subject: Subject, run: RunConfig, tokens: npt.ArrayLike | None, progress: Progress | None
) -> _Done:
    """Every seed of a run; arguments and errors are those of `measure`."""
    facts = subject.facts
    device, dtype = choose_device(run.device), _dtype(run.dtype)
    source, run = tokens_of_run(
        run, tokens, vocab_size=subject.vocab_size, block_size=subject.block_size
    )
    seq_len = run.seq_len
    work = Workload(tokens=run.batch_size * seq_len, dtype=dtype, grad=run.grad)
    choice = choose_engine(subject, work, run, device)
    engine = choice.engine
    check_memory(subject, choice.work, engine, device)
    if engine == "lazy":
        return_large_blocks()

    seeds = range(run.seed, run.seed + run.seeds)
    pass_ = _Pass(subject, engine, run, again=choice.work.again)
    steps = _Steps(progress, run.seeds * (facts.n_layer + (facts.n_layer + 1) * run.grad))
    ids = [source.draw(seed) for seed in seeds]
    results = [
        pass_.run(_draws(subject, seed, device, dtype), drawn, steps)
        for seed, drawn in zip(seeds, ids, strict=True)
    ]
    return _Done(
        run=run,
        engine=engine,
        device=device,
        ids=ids,
        fingerprint=source.fingerprint(seeds),
        results=tuple(results),
        notes=(choice.note, *pass_.notes, *subject.notes, *_without_lens(subject)),
    )


def _with_prediction(
    profile: Profile, subject: Subject, ids: Sequence[npt.NDArray[np.int64]]
) -> Profile:
    """The same with what theory expects of every number, or a note that says why it cannot tell."""
    theory = theory_of_run(subject, ids)
    if not isinstance(theory, TheoryModel):
        missing = (theory,) if theory else ()
        return replace(profile, notes=(*profile.notes, *missing))
    run = profile.run
    grad = "grad_rms" in profile.embedding.values
    try:
        expected = predict(
            theory, np.stack(ids), grad=grad, lens_rows=run.lens_rows, query_rows=run.query_rows
        )
    except Exception as error:  # whatever theory does: it must not stop a measurement
        why = f"No prediction: it failed ({type(error).__name__}: {error})."
        failed = Note(kind="theory-missing", where="theory", message=why)
        return replace(profile, notes=(*profile.notes, failed))

    def beside(place: Place, values: Mapping[str, float]) -> Place:
        known = {stat: values[stat] for stat in place.values if stat in values}
        return replace(place, predicted=known)

    return replace(
        profile,
        embedding=beside(profile.embedding, expected.embedding),
        layers=tuple(map(beside, profile.layers, expected.layers)),
        final=beside(profile.final, expected.final),
        whole=beside(profile.whole, expected.whole),
        notes=(*profile.notes, *expected.notes),
    )


def theory_of_run(
    subject: Subject, ids: Sequence[npt.NDArray[np.int64]]
) -> TheoryModel | Note | None:
    """What theory knows of a subject, or why it has no formula for these tokens.

    Args:
        subject: the model.
        ids: (B, T + 1) of every seed.
    """
    theory, most = subject.theory, subject.theory_tokens
    if not isinstance(theory, TheoryModel):
        return theory
    why = ""
    if most is not None and ids[0].shape[-1] - 1 > most:
        why = f"what the model does with more than {most} tokens is not known."
    elif theory.silent_tokens and np.isin(ids, list(theory.silent_tokens)).any():
        why = "some tokens have an embedding of zeros."
    if not why:
        return theory
    return Note(kind="theory-missing", where="tokens", message=f"No prediction: {why}")


class _Steps:
    """Counts steps and tells about them."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self.done = progress, total, 0

    def __call__(self) -> None:
        self.done += 1
        if self._progress:
            self._progress(self.done, self._total)


class _Pass:
    """Forward (and backward) passes of one module, its weights installed anew for every seed."""

    def __init__(self, subject: Subject, engine: str, run: RunConfig, *, again: bool) -> None:
        self._subject, self._grad, self._is_own = subject, run.grad, run.weights == "own"
        self._module = nn.Module() if self._is_own else subject.build()
        self._blocks: tuple[BlockSites, ...] = subject.sites
        self._paths = [sites.path for sites in self._blocks]
        self._install = POLICIES[engine](self._paths)
        self._is_lazy, self._again = engine == "lazy", again
        held = dict(self._module.named_buffers())
        self._random_buffers = [n for n, r in subject.recipes.items() if n in held and r.is_random]
        self.notes: tuple[Note, ...] = ()

    def run(self, draws: Draws, ids: object, steps: "_Steps") -> SeedResult:
        """What one seed gives; `ids` are its tokens with one more for the last target, (B, T+1)."""
        tokens = torch.as_tensor(ids, dtype=torch.int64).to(draws.device)
        # Contiguous: models flatten their targets by view.
        idx, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        while True:
            done = steps.done
            try:
                return self._run(draws, idx, targets, steps)
            except Restart:
                steps.done = done

    def _run(self, draws: Draws, idx: Tensor, targets: Tensor, steps: "_Steps") -> SeedResult:
        """One try."""
        weights = self._install_weights(draws)
        probes = self._probes(draws, idx.shape[1], steps)
        with operator_by_operator(), torch.set_grad_enabled(self._grad), self._entering(weights):
            if self._grad:
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
        """Tells the weights of blocks where they are to forget others, or run again."""
        if not self._again and (self._grad or not self._is_lazy):
            return nullcontext()
        return entering_blocks(self._module, self._paths, weights, again=self._again)

    def _install_weights(self, draws: Draws) -> Installed:
        """Give the module the weights of this seed."""
        if self._is_own:
            assert self._subject.own is not None  # `measure` has looked
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
        """The summed loss of one forward pass with the probes listening; ()."""
        with probes.attached():
            logits = self._subject.call(self._module, idx)  # (B, T, V)
        losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="sum")
        probes.see_logits(logits, idx, losses / targets.numel())
        return losses

    def _probes(self, draws: Draws, T: int, step: Callable[[], None]) -> Probes:
        """Probes with this seed's vocabulary rows for the lens."""
        vocab_size = self._subject.vocab_size
        shuffle = torch.Generator().manual_seed(seed_of(draws.seed, "lens rows"))
        chosen = torch.randperm(vocab_size, generator=shuffle)[:LENS_ROWS].sort().values
        chosen = chosen.to(draws.device)
        return Probes(
            self._module,
            self._blocks,
            lens=self._subject.lens(self._module, chosen) if self._subject.lens else None,
            rows=torch.tensor(query_rows(T, QUERY_ROWS), device=draws.device),
            step=step,
        )


def _draws(subject: Subject, seed: int, device: torch.device, dtype: torch.dtype) -> Draws:
    """The draws of one seed."""
    return Draws(seed=seed, device=device, dtype=dtype, recipes=subject.recipes)


def _without_lens(subject: Subject) -> tuple[Note, ...]:
    """A note where layers have no logits."""
    if subject.lens is not None:
        return ()
    message = "What follows the last block is more than a lens can do: layers have no logit_std."
    return (Note(kind="approximate", where="logit_std", message=message),)


def _dtype(name: str) -> torch.dtype:
    """The torch dtype called `name` in RunConfig."""
    return {
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
    }[name]


def _device_name(device: torch.device) -> str:
    """The maker's name of the device, as well as it can be known."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor_name()
