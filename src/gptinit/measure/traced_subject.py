"""Your model as a subject: traced, its blocks found, its buffers made real."""

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import nn

from gptinit.errors import SubjectError
from gptinit.facts.distributions import Measured
from gptinit.forward.call import call_model
from gptinit.forward.sites import BlockSites, named_blocks
from gptinit.load.factory import Factory, seeded
from gptinit.measure.subject import Subject
from gptinit.read.live import stand_ins, with_dependent_rows
from gptinit.read.reading import Reading, read_live, read_model
from gptinit.recognise.architecture import Forwarding, forwarding
from gptinit.results.changes import init_changes, listed_changes, uncalled_words
from gptinit.results.profile import Note
from gptinit.trace.record.tensor import TracedTensor
from gptinit.trace.replay.replay import Replay

__all__ = ["live_subject", "traced_subject"]

_POSITIONS = 1 << 20
"""Context length of a model without a limit: rotary angles have none."""


def traced_subject(
    factory: Factory,
    *,
    roles: Mapping[str, str] | None = None,
    sites: Mapping[str, str] | None = None,
) -> Subject:
    """The model that a factory builds, drawn from what its own code draws.

    Args:
        factory: builds it.
        roles: the user's map, parameter pattern to role.
        sites: the user's module paths of "blocks" and of "attn" and "mlp" inside a block.

    Raises:
        SubjectError: if it cannot be built, run, or has no repeated block.
    """
    reading = read_model(factory, roles=roles)
    return _subject(
        factory,
        reading,
        _sites(reading, sites),
        cache(lambda: _without_traces(reading.module).eval()),
        seeded(factory),
    )


def live_subject(
    module: nn.Module,
    factory: Factory,
    *,
    roles: Mapping[str, str] | None = None,
    sites: Mapping[str, str] | None = None,
) -> Subject:
    """A module that is built already, with the weights that it has.

    Raises:
        SubjectError: if it cannot be run, or has no repeated block.
    """
    reading = read_live(module, factory, roles=roles)

    def build() -> nn.Module:
        raise SubjectError("a live module must be measured with weights='own'.")

    def own(seed: int) -> nn.Module:
        return _twin(module).eval()

    made = _subject(factory, reading, _sites(reading, sites), build, own)
    return replace(made, is_live=True, recognised=_recognised_if_drawn(module, made))


def _recognised_if_drawn(module: nn.Module, made: Subject) -> Forwarding | Note:
    """What was recognised of a live module, or a note where it is no longer as drawn (trained)."""
    if isinstance(made.recognised, Note):
        return made.recognised
    name = with_dependent_rows(module.named_parameters())
    if name is None:
        return made.recognised
    message = "No prediction: its rows are not drawn independently of each other (trained?)."
    return Note(kind="theory-missing", where=name, message=message)


def _twin(module: nn.Module) -> nn.Module:
    """A copy that shares the memory of its parameters, but not modes, casts and gradients.

    Raises:
        SubjectError: if the module cannot be copied.
    """
    memo: dict[int, Any] = {
        id(p): nn.Parameter(p.detach(), requires_grad=False) for p in module.parameters()
    }
    try:
        return deepcopy(module, memo)
    except Exception as error:  # whatever it holds besides tensors
        raise SubjectError(
            f"{type(module).__name__} must be a module that can be copied, got "
            f"{type(error).__name__}: {error}."
        ) from error


def _subject(
    factory: Factory,
    reading: Reading,
    sites: tuple[BlockSites, ...],
    build: Callable[[], nn.Module],
    own: Callable[[int], nn.Module],
) -> Subject:
    """The subject of a reading.

    Raises:
        SubjectError: if the forward pass could not be followed.
    """
    if reading.seen is None or not sites:
        why = "; ".join(note.message for note in reading.notes if note.kind == "approximate")
        raise SubjectError(f"{factory.name} must run forward to be measured. {why}")
    tail, facts, call = reading.tail, reading.program.facts, reading.seen.call
    block_size = factory.block_size or _learned_positions(reading) or _POSITIONS
    return Subject(
        facts=facts,
        vocab_size=reading.seen.vocab_size,
        block_size=block_size,
        scheme=None,
        program=reading.program.parameters,
        recipes=reading.recipes,
        build=build,
        own=own,
        sites=sites,
        call=lambda module, ids: call_model(module, call, ids),
        lens=None if tail is None else lambda module, rows: tail.lens(module, rows),
        notes=(*reading.notes, *_init_notes(reading), *_without_branches(sites)),
        recognised=_recognised(reading, sites, block_size),
    )


def _init_notes(reading: Reading) -> Iterator[Note]:
    """Which init ran after the constructor and what it changed, or which one nothing ran."""
    program = reading.program
    if init := program.facts.init:
        changes = init_changes(program.parameters)
        changed = f"it changed {listed_changes(changes)}" if changes else "it changed nothing"
        message = f"{init.call} ({init.file}:{init.line}) ran after the constructor; {changed}."
        yield Note(kind="engine", where="init", message=message)
    for left in program.uncalled:
        message = uncalled_words(left, program.parameters)
        yield Note(kind="approximate", where="init", message=message)


def _recognised(
    reading: Reading, sites: tuple[BlockSites, ...], block_size: int
) -> Forwarding | Note:
    """The forward pass as theory's formulas describe it, or a note on why none do."""
    if reading.seen is None or reading.decoder is None:
        message = "No prediction: its forward pass was not followed."
        return Note(kind="theory-missing", where="blocks", message=message)
    if sites != reading.decoder.sites:
        message = "No prediction: theory does not know sites that are named by hand."
        return Note(kind="theory-missing", where="sites", message=message)
    is_live = reading.program.build == "live"
    for parameter in reading.program.parameters:
        if isinstance(parameter.distribution, Measured) and not is_live:
            message = "No prediction: no formula describes how its values are made."
            return Note(kind="theory-missing", where=parameter.name, message=message)
    weights = stand_ins(reading.module) if is_live else None
    return forwarding(
        reading.program, reading.module, reading.seen, reading.decoder, block_size, weights
    )


def _without_branches(sites: tuple[BlockSites, ...]) -> tuple[Note, ...]:
    """A note where no module gives what the branches add: they are written inline."""
    if any(s.attn or s.mlp for s in sites):
        return ()
    message = "No module gives what the branches add: layers have no attn_var and mlp_var."
    return (Note(kind="approximate", where="branches", message=message),)


def _sites(reading: Reading, named: Mapping[str, str] | None) -> tuple[BlockSites, ...]:
    """The blocks as the user names them, or as the forward pass shows them.

    Raises:
        SubjectError: if no module takes or returns the stream at a block.
    """
    if named:
        if "blocks" not in named:
            raise SubjectError(f"sites must name blocks, got only {', '.join(named)}.")
        return named_blocks(
            reading.module, named["blocks"], attn=named.get("attn"), mlp=named.get("mlp")
        )
    if reading.decoder is None:
        return ()
    for sites in reading.decoder.sites:
        if sites.before is None or sites.after is None:
            raise SubjectError(
                f"the stream at {sites.path} must pass in or out of a module to be measured, got "
                "none there. Name the blocks: --site blocks=PATH."
            )
    return reading.decoder.sites


def _learned_positions(reading: Reading) -> int | None:
    tables = [p for p in reading.program.parameters if p.role == "pos_emb"]
    return tables[0].shape[-2] if tables and len(tables[0].shape) > 1 else None


def _without_traces(module: nn.Module) -> nn.Module:
    """The module with meta parameters, ties kept, and real values for all other traced tensors."""
    parameters: dict[int, nn.Parameter] = {}
    for child in module.modules():
        for name, parameter in child._parameters.items():
            if isinstance(parameter, TracedTensor):
                if id(parameter) not in parameters:
                    empty = torch.empty(parameter.shape, dtype=parameter.dtype, device="meta")
                    parameters[id(parameter)] = nn.Parameter(empty, requires_grad=False)
                child._parameters[name] = parameters[id(parameter)]
        for name, buffer in child._buffers.items():
            if isinstance(buffer, TracedTensor):
                child._buffers[name] = _real(buffer)
        for name, value in list(vars(child).items()):
            if not name.startswith("_"):
                real = _real(value)
                if real is not value:
                    vars(child)[name] = real
    return module


def _real(value: Any) -> Any:
    """A plain attribute with real tensors in place of traced ones."""
    if isinstance(value, TracedTensor):
        return Replay(limit=1 << 62).value(value.read()).clone()
    if isinstance(value, list) and any(isinstance(v, TracedTensor) for v in value):
        return [_real(v) for v in value]
    if isinstance(value, tuple) and any(isinstance(v, TracedTensor) for v in value):
        return tuple(_real(v) for v in value)
    if isinstance(value, dict) and any(isinstance(v, TracedTensor) for v in value.values()):
        return {k: _real(v) for k, v in value.items()}
    return value
