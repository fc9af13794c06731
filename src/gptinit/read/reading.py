"""A factory in; what every parameter is drawn from, what it is for and where to listen out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from gptinit.config import ModelFacts
from gptinit.errors import ConfigError, SubjectError, unknown_name
from gptinit.facts.vocabulary import ROLES, Build
from gptinit.forward.blocks import Decoder
from gptinit.forward.flow import Flow, follow, follow_briefly
from gptinit.forward.lens import Tail
from gptinit.forward.observe import Observation
from gptinit.forward.roles import WeightUse
from gptinit.forward.shape import (
    observed_activation,
    observed_heads,
    observed_norm,
    observed_positions,
    width_of,
)
from gptinit.load.factory import Factory
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
from gptinit.trace.record.tracing import trace
from gptinit.trace.replay.recipes import Recipe, recipes
from gptinit.weights.policy import tied_names

__all__ = ["Reading", "read_live", "read_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A traced model.

    Attributes:
        module: with traced parameters and buffers.
        program: what the audit reads.
        recipes: every parameter's and buffer's record, to draw it again.
        seen: its forward pass on eight tokens; None where it would not run.
        decoder: its blocks; None where the pass shows none.
        tail: what follows the last block; None where that is no lens.
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
        roles: the user's map, parameter pattern (as of fnmatch) to role; before everything else.
        build: how the factory builds, for the program: "own" or "meta".
        brief: whether a pass through one block of every kind is enough: for an audit, which needs
            roles and no sites.

    Raises:
        SubjectError: if the model cannot be built, or has no repeated block.
    """
    _require_roles(roles or {})
    module = trace(factory.build)
    flow = follow_briefly(module) if brief else follow(module)
    known = _Known(module=module, factory=factory, flow=flow, reads=_reads(module, {}))
    return _reading(known, _programs(known, Laws(), roles), build)


def read_live(
    module: nn.Module, factory: Factory, *, roles: Mapping[str, str] | None = None
) -> Reading:
    """Read a module that is built already: its parameters are measured; it stays as it is.

    Raises:
        SubjectError: if the model has no repeated block.
    """
    _require_roles(roles or {})
    weights = stand_ins(module)
    flow = follow(module, weights)
    known = _Known(module=module, factory=factory, flow=flow, reads=_reads(module, weights))
    return _reading(known, _programs(known, LiveLaws(), roles), "live")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """A module with what was recorded of it, before anything is made of that."""

    module: nn.Module
    factory: Factory
    flow: Flow
    reads: Mapping[str, Read]


def _require_roles(roles: Mapping[str, str]) -> None:
    """Refuse a role that there is not.

    Raises:
        ConfigError: if there is no such role.
    """
    for role in roles.values():
        if role not in (*ROLES, "other"):
            raise unknown_name("role", role, (*ROLES, "other"))


def _reads(module: nn.Module, weights: Mapping[str, TracedTensor]) -> dict[str, Read]:
    """The record of every float parameter and buffer; of a live one its stand-in's."""
    tensors = (*module.named_parameters(), *module.named_buffers())
    return {n: read_of(weights.get(n, t)) for n, t in tensors if is_float(t)}


def _programs(
    known: _Known, laws: Laws | LiveLaws, roles: Mapping[str, str] | None
) -> tuple[Program, Program]:
    """What is known of every parameter, and of every buffer."""
    module, reads = known.module, known.reads
    for pattern in roles or {}:
        if not any(fnmatchcase(name, pattern) for name in reads):
            raise ConfigError(f"role pattern must match a parameter of the model, got {pattern!r}.")
    reader = ParameterReader(module, laws, known.flow, roles or {})
    parameters = [(n, p) for n, p in module.named_parameters() if n in reads]
    buffers = [(n, b) for n, b in module.named_buffers() if n in reads]
    found = tuple(reader.parameter(n, p, reads[n]) for n, p in parameters)
    copied = with_copies(found, {n: laws.of(reads[n]) for n, _ in parameters})
    copied = with_entanglement(copied, reads, [n for n, _ in buffers])
    return copied, tuple(reader.buffer(n, b, reads[n]) for n, b in buffers)


def _reading(known: _Known, programs: tuple[Program, Program], build: Build) -> Reading:
    """Everything that was found, together.

    Raises:
        SubjectError: if the model has no repeated block.
    """
    factory, flow, names = known.factory, known.flow, tied_names(known.module)
    program = ModelProgram(
        facts=_facts(factory, flow, programs[0], layer_numbers(names, flow.decoder)),
        parameters=programs[0],
        buffers=programs[1],
        claims_tied=factory.tied,
        padding=_padding(known.module, names),
        build=build,
        architecture=factory.architecture,
        logit_multiplier=flow.tail.multiplier if flow.tail else None,
    )
    return Reading(
        module=known.module,
        program=program,
        recipes=recipes(known.reads.items()),
        seen=flow.seen,
        decoder=flow.decoder,
        tail=flow.tail,
        notes=tuple(flow.notes),
    )


def _padding(module: nn.Module, names: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Embeddings that keep a row for padding."""
    found = {}
    for path, child in module.named_modules():
        index = getattr(child, "padding_idx", None)
        name = f"{path}.weight" if path else "weight"
        if isinstance(child, nn.Embedding) and index is not None and name in names:
            found[name] = int(index)
    return found


def _facts(
    factory: Factory, flow: Flow, parameters: Program, layers: Mapping[str, int]
) -> ModelFacts:
    """The shape: from settings where they tell, else from the forward pass.

    Raises:
        SubjectError: if there is no repeated block.
    """
    graph = flow.seen.graph if flow.seen else None
    heads = observed_heads(graph, flow.uses) if graph else None
    runs = len(flow.decoder.blocks) if flow.decoder else factory.n_layer or 0
    n_layer = max(len(layers), runs) if flow.decoder else (runs or len(layers))
    embeddings = [p for p in parameters if p.role == "tok_emb"]
    if not n_layer:
        # Where the forward did not run, only names were looked at, and its error is the cause.
        why = "" if flow.seen else "".join(f" {note.message}" for note in flow.notes)
        raise SubjectError(
            f"{factory.name} must have repeated blocks, got a model without any.{why}"
        )
    head = any(p.role == "lm_head" for p in parameters)
    return ModelFacts(
        name=factory.name,
        source=factory.source,
        n_layer=n_layer,
        n_head=factory.n_head or (heads[0] if heads else None),
        n_kv_head=factory.n_kv_head or (heads[1] if heads else factory.n_head),
        head_dim=factory.head_dim or (heads[2] if heads else None),
        n_embd=flow.width or (embeddings[0].shape[-1] if embeddings else factory.n_embd or 0),
        d_ff=factory.d_ff or width_of(flow.uses, "mlp_up"),
        block_size=factory.block_size,
        vocab_size=flow.seen.vocab_size if flow.seen else factory.vocab_size,
        norm=observed_norm(graph) if graph else None,
        norm_placement=flow.decoder.placement if flow.decoder else None,
        positions=observed_positions(graph, flow.uses) if graph else None,
        activation=observed_activation(graph, flow.decoder) if graph and flow.decoder else None,
        bias=any(p.role == "linear_bias" for p in parameters),
        tied=_is_tied(flow.uses, embeddings, has_head=head),
        n_params=sum(p.numel for p in parameters),
    )


def _is_tied(
    uses: Mapping[str, WeightUse], embeddings: Sequence[ParameterProgram], *, has_head: bool
) -> bool:
    """Whether one tensor is embedding and head."""
    if any({"tok_emb", "lm_head"} <= set(use.roles) for use in uses.values()):
        return True
    return any(p.aliases for p in embeddings) and not has_head
