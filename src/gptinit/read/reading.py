"""Trace a factory: init distribution, role and hook points of every parameter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase

from torch import Tensor, nn

from gptinit.config import ModelFacts
from gptinit.errors import ConfigError, SubjectError, unknown_name
from gptinit.facts.algebra import one_value
from gptinit.facts.vocabulary import ROLES, Build
from gptinit.forward.blocks import Decoder
from gptinit.forward.flow import Flow, follow
from gptinit.forward.lens import Tail
from gptinit.forward.observe import Observation
from gptinit.forward.roles import WeightUse
from gptinit.forward.shape import Shape, merged, observed_shape
from gptinit.load.factory import Factory, built
from gptinit.load.settings import claimed_tie
from gptinit.read.branches import never_taken
from gptinit.read.inits import uncalled_inits, with_constructed
from gptinit.read.live import LiveLaws, stand_ins
from gptinit.read.parameters import (
    ParameterReader,
    is_float,
    layer_numbers,
    read_of,
    with_copies,
    with_entanglement,
)
from gptinit.results.profile import Note
from gptinit.results.program import ModelProgram, ParameterProgram, Program
from gptinit.trace.graph import Read
from gptinit.trace.laws.laws import Laws
from gptinit.trace.record.tensor import TracedTensor
from gptinit.trace.replay.recipes import Recipe, recipes
from gptinit.weights.policy import tied_names

__all__ = ["Reading", "read_live", "read_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A traced model.

    Attributes:
        module: with traced parameters and buffers.
        program: what the audit reads.
        recipes: how to draw every parameter and buffer again.
        seen: its forward pass on eight tokens; None if it did not run.
        decoder: its blocks; None if the pass shows none.
        tail: what follows the last block; None if that cannot be a lens.
        notes: what a user should know about the reading.
    """

    module: nn.Module
    program: ModelProgram
    recipes: Mapping[str, Recipe]
    seen: Observation | None
    decoder: Decoder | None
    tail: Tail | None
    notes: tuple[Note, ...] = ()


def read_model(
    factory: Factory,
    *,
    roles: Mapping[str, str] | None = None,
    build: Build = "own",
    brief: bool = False,
) -> Reading:
    """Build a model under the trace and read it.

    Args:
        factory: makes the module.
        roles: parameter pattern (as of fnmatch) -> role, by the user; overrides all else.
        build: how the factory builds, for the program: "own" or "meta".
        brief: whether it is for an audit, which needs no hook points: two blocks of every kind
            are run, and the branches of the init code are watched.

    Raises:
        SubjectError: if the model cannot be built, or has no repeated block.
    """
    _require_roles(roles or {})
    made = built(factory, factory.build, watch=brief)  # under the trace: its size does not matter
    module = made.module
    laws = Laws()
    flow = follow(module, lambda p: _drawn_value(p, laws), function=factory.forward, brief=brief)
    recorded = _Recorded(module=module, factory=factory, flow=flow, reads=_reads(module, {}))
    reading = _reading(recorded, _programs(recorded, laws, roles), build)
    names = (n for n, _ in (*module.named_parameters(), *module.named_modules()))
    program = replace(
        reading.program,
        never_taken=never_taken(made.watch.untaken, names) if brief and made.watch else (),
        uncalled=uncalled_inits(factory, made, reading.program.parameters)
        if build == "own"
        else (),
    )
    return replace(reading, program=program)


def read_live(
    module: nn.Module, factory: Factory, *, roles: Mapping[str, str] | None = None
) -> Reading:
    """Read a module that is already built, without changing it: its parameters are measured.

    Raises:
        SubjectError: if the model has no repeated block.
    """
    _require_roles(roles or {})
    weights = stand_ins(module)
    flow = follow(module, _live_value, weights, factory.forward)
    recorded = _Recorded(module=module, factory=factory, flow=flow, reads=_reads(module, weights))
    return _reading(recorded, _programs(recorded, LiveLaws(), roles), "live")


def _drawn_value(parameter: Tensor, laws: Laws) -> float | None:
    return one_value(laws.of(read_of(parameter)).distribution) if is_float(parameter) else None


def _live_value(parameter: Tensor) -> float | None:
    if not is_float(parameter) or not parameter.numel():
        return None
    values = parameter.detach().flatten()
    return float(values[0]) if bool((values == values[0]).all()) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recorded:
    module: nn.Module
    factory: Factory
    flow: Flow
    reads: Mapping[str, Read]


def _require_roles(roles: Mapping[str, str]) -> None:
    """Refuse unknown roles.

    Raises:
        ConfigError: if there is one.
    """
    for role in roles.values():
        if role not in (*ROLES, "other"):
            raise unknown_name("role", role, (*ROLES, "other"))


def _reads(module: nn.Module, weights: Mapping[str, TracedTensor]) -> dict[str, Read]:
    tensors = (*module.named_parameters(), *module.named_buffers())
    return {n: read_of(weights.get(n, t)) for n, t in tensors if is_float(t)}


def _programs(
    recorded: _Recorded, laws: Laws | LiveLaws, roles: Mapping[str, str] | None
) -> tuple[Program, Program]:
    module, reads = recorded.module, recorded.reads
    for pattern in roles or {}:
        if not any(fnmatchcase(name, pattern) for name in reads):
            raise ConfigError(f"role pattern must match a parameter of the model, got {pattern!r}.")
    reader = ParameterReader(module, laws, recorded.flow, roles or {})
    parameters = [(n, p) for n, p in module.named_parameters() if n in reads]
    buffers = [(n, b) for n, b in module.named_buffers() if n in reads]
    program = tuple(reader.parameter(n, p, reads[n]) for n, p in parameters)
    program = with_copies(program, {n: laws.of(reads[n]) for n, _ in parameters})
    program = with_entanglement(program, reads, [n for n, _ in buffers])
    return program, tuple(reader.buffer(n, b, reads[n]) for n, b in buffers)


def _reading(recorded: _Recorded, programs: tuple[Program, Program], build: Build) -> Reading:
    """The reading, from what was recorded and the programs of parameters and buffers.

    Raises:
        SubjectError: if the model has no repeated block.
    """
    factory, flow, names = recorded.factory, recorded.flow, tied_names(recorded.module)
    # A module that a function built carries settings that the factory never saw.
    own_claim = claimed_tie(getattr(recorded.module, "config", None))
    parameters, is_own = programs[0], build == "own"
    program = ModelProgram(
        facts=_facts(factory, flow, parameters, layer_numbers(names, flow.decoder)),
        parameters=with_constructed(parameters, factory) if is_own else parameters,
        buffers=programs[1],
        claims_tied=own_claim if factory.tied is None else factory.tied,
        padding=_padding(recorded.module, names),
        build=build,
        builder=factory.builder,
        architecture=factory.architecture,
        logit_multiplier=flow.tail.multiplier if flow.tail else None,
        constant_logits=flow.constant_logits,
    )
    return Reading(
        module=recorded.module,
        program=program,
        recipes=recipes(recorded.reads.items()),
        seen=flow.seen,
        decoder=flow.decoder,
        tail=flow.tail,
        notes=(*factory.notes(), *flow.notes),
    )


def _padding(module: nn.Module, names: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Name of each embedding with a row for padding -> the row."""
    rows = {}
    for path, child in module.named_modules():
        index = getattr(child, "padding_idx", None)
        name = f"{path}.weight" if path else "weight"
        if isinstance(child, nn.Embedding) and index is not None and name in names:
            rows[name] = int(index)
    return rows


def _facts(
    factory: Factory, flow: Flow, parameters: Program, layers: Mapping[str, int]
) -> ModelFacts:
    """The shape: counted in the record, else from settings, else inferred from the forward pass.

    Raises:
        SubjectError: if there is no repeated block.
    """
    embeddings = [p for p in parameters if p.role == "tok_emb"]
    observed = observed_shape(flow)
    shape = merged(
        _counted(flow, observed, embeddings, layers),
        Shape(**{f.name: getattr(factory, f.name, None) for f in fields(Shape)}),
        observed,
        # Without grouped keys settings name n_head alone.
        Shape(n_layer=len(layers) or None, n_kv_head=factory.n_head),
    )
    if not shape.n_layer:
        # Where the forward did not run, only names were looked at, and its error is the cause.
        why = "" if flow.seen else "".join(f" {note.message}" for note in flow.notes)
        raise SubjectError(
            f"{factory.name} must have repeated blocks, got a model without any.{why}"
        )
    head = any(p.role == "lm_head" for p in parameters)
    return ModelFacts(
        name=factory.name,
        source=factory.source,
        n_layer=shape.n_layer,
        n_head=shape.n_head,
        n_kv_head=shape.n_kv_head,
        head_dim=shape.head_dim,
        n_embd=shape.n_embd or 0,
        d_ff=shape.d_ff,
        block_size=factory.block_size,
        vocab_size=shape.vocab_size,
        norm=shape.norm,
        norm_placement=shape.norm_placement,
        positions=shape.positions,
        activation=shape.activation,
        bias=any(p.role == "linear_bias" for p in parameters),
        tied=_is_tied(flow.uses, embeddings, has_head=head),
        n_params=sum(p.numel for p in parameters),
        init=factory.init.call if factory.init else None,
    )


def _counted(
    flow: Flow,
    observed: Shape,
    embeddings: Sequence[ParameterProgram],
    layers: Mapping[str, int],
) -> Shape:
    """The sizes that the record shows beyond doubt, whatever settings say."""
    width = embeddings[0].shape[-1] if embeddings else None
    return Shape(
        n_layer=max(len({*layers.values()}), len(flow.decoder.layers)) if flow.decoder else None,
        n_embd=observed.n_embd or width,
        vocab_size=observed.vocab_size,
    )


def _is_tied(
    uses: Mapping[str, WeightUse], embeddings: Sequence[ParameterProgram], *, has_head: bool
) -> bool:
    if any({"tok_emb", "lm_head"} <= set(use.roles) for use in uses.values()):
        return True
    return any(p.aliases for p in embeddings) and not has_head
