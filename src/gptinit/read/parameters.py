"""The program of one parameter: its distribution, its role, and how it got there."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from torch import Tensor, nn

from gptinit.facts.distributions import Copy, Distribution, Piecewise
from gptinit.facts.step import Step
from gptinit.facts.vocabulary import ParameterRole
from gptinit.forward.blocks import Decoder, block_of, numbered
from gptinit.forward.flow import Flow
from gptinit.forward.roles import WeightUse
from gptinit.read.live import LiveLaws
from gptinit.read.norm_gains import norm_gains
from gptinit.read.role_names import role_by_name
from gptinit.results.program import Draw, ParameterProgram, Program
from gptinit.trace.graph import Read, dependencies, draws_behind, reads_in
from gptinit.trace.laws.laws import Law, Laws
from gptinit.trace.record.tensor import TracedTensor, traced
from gptinit.weights.policy import tied_names

__all__ = [
    "ParameterReader",
    "is_float",
    "layer_numbers",
    "read_of",
    "with_copies",
    "with_entanglement",
]

_STEPS = 8
"""Last steps of a provenance that are kept."""

_NORM_ROLES = frozenset({"norm_weight", "norm_bias", "linear_bias"})


class ParameterReader:
    """Makes the program of one parameter or buffer.

    Args:
        module: the model.
        laws: works out distributions, of a trace or of live values.
        flow: what the forward pass shows.
        roles: the user's map, parameter pattern to role.
    """

    def __init__(
        self, module: nn.Module, laws: Laws | LiveLaws, flow: Flow, roles: Mapping[str, str]
    ) -> None:
        self._module, self._laws, self._roles = module, laws, roles
        self._decoder, self._uses = flow.decoder, flow.uses
        self._gradients = flow.gradients
        self._names = tied_names(module)
        self._layers = layer_numbers(self._names, flow.decoder)
        # Modules of which the pass used a weight: it may use their biases too.
        self._used_modules = tuple(f"{name.rpartition('.')[0]}." for name in flow.uses)
        parameters = list(module.named_parameters())
        self._role_of = {n: self._role(n, p, self._uses.get(n)) for n, p in parameters}
        norms = [n for n, role in self._role_of.items() if role == "norm_weight"]
        self._gains = norm_gains(module, norms, flow, lambda t: laws.of(read_of(t)).distribution)

    def parameter(self, name: str, tensor: Tensor, read: Read) -> ParameterProgram:
        """The program of a parameter."""
        use = self._uses.get(name)
        law = self._laws.of(read)
        fan_in, fan_out = _fans(self._module, name, tensor, use)
        return ParameterProgram(
            name=name,
            shape=tuple(tensor.shape),
            role=self._role_of[name],
            layer=self._layers.get(self._block(name) or ""),
            block=self._block(name),
            distribution=_with_repeats(name, law, tuple(tensor.shape)),
            dtype=_dtype(tensor),
            aliases=self._names.get(name, (name,))[1:],
            fan_in=fan_in,
            fan_out=fan_out,
            writes_stream=use.writes_stream if use else None,
            gain=self._gains.get(name),
            gradient=self._gradients.get(name),
            history=self._history(read),
            provenance=_provenance(read),
            looked=read.storage.looked,
        )

    def buffer(self, name: str, tensor: Tensor, read: Read) -> ParameterProgram:
        """The program of a buffer."""
        return ParameterProgram(
            name=name,
            shape=tuple(tensor.shape),
            role="other",
            layer=self._layers.get(self._block(name) or ""),
            block=self._block(name),
            distribution=self._laws.of(read).distribution,
            dtype=_dtype(tensor),
            kind="buffer",
            provenance=_provenance(read),
        )

    def _role(self, name: str, tensor: Tensor, use: WeightUse | None) -> ParameterRole:
        """The role by the user's map, else by the forward pass, else by the name."""
        for pattern, role in self._roles.items():
            if fnmatchcase(name, pattern):
                return role  # type: ignore[return-value] # reading refused other names
        named = role_by_name(name, tensor.ndim, self._names)
        if use is not None and use.roles[0] != "other":
            return use.roles[0]
        # A matrix that the pass uses for something unknown is not what its name says.
        if use is not None and named not in _NORM_ROLES:
            return "other"
        return named if self._may_be_in_decoder(name) else "other"

    def _may_be_in_decoder(self, name: str) -> bool:
        """Whether a weight whose use the pass does not show may belong to the decoder."""
        if self._decoder is None:
            return True
        if block_of(name) is None:
            return name.startswith(self._used_modules)
        return self._block(name) is not None

    def _block(self, name: str) -> str | None:
        paths = (*numbered(name), block_of(name))
        return next((path for path in paths if path in self._layers), None)

    def _history(self, read: Read) -> tuple[Draw, ...]:
        """Every time that all entries were set anew; writes that build on the last count as one."""
        storage = read.storage
        draws: list[Draw] = []
        for index, write in enumerate(storage.writes[: read.version]):
            if write.region.span() != (0, storage.numel):
                continue
            law = self._laws.of(Read(storage, index + 1, write.region)).distribution
            builds_on = any(r.storage is storage for r in reads_in(write.node))
            draw = Draw(distribution=law, step=write.node.step, by_default=write.node.by_default)
            if builds_on and draws:
                draws[-1] = draw
            else:
                draws.append(draw)
        return tuple(draws)


def layer_numbers(names: Mapping[str, tuple[str, ...]], decoder: Decoder | None) -> dict[str, int]:
    """Path of every block -> its number: in the order in which they run, else in that of names."""
    paths = list(dict.fromkeys(filter(None, map(block_of, names))))
    if decoder is None:
        return {path: int(re.sub(r"^.*?(\d+)$", r"\1", path)) for path in paths}
    lists = {path.rpartition(".")[0] for path in decoder.blocks}
    inside = (path for name in names for path in numbered(name))
    paths = [*paths, *dict.fromkeys(inside)] if not decoder.is_plain else paths
    if all(p in decoder.blocks for p in paths if p.rpartition(".")[0] in lists):
        order = {p: i for i, layer in reversed([*enumerate(decoder.layers)]) for p in layer}
        return {path: order[path] for path in decoder.blocks}
    shown = [p for p in paths if p in decoder.blocks or p.rpartition(".")[0] in lists]
    return {path: i for i, path in enumerate(shown)}


def read_of(tensor: Tensor) -> Read:
    """The record of a tensor; a real one is its values."""
    return tensor.read() if isinstance(tensor, TracedTensor) else traced(tensor).read()


def is_float(tensor: Tensor) -> bool:
    """Whether a tensor has entries that can have a distribution."""
    return not tensor.is_meta and (tensor.is_floating_point() or tensor.is_complex())


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _fans(
    module: nn.Module, name: str, tensor: Tensor, use: WeightUse | None
) -> tuple[int | None, int | None]:
    """(fan_in, fan_out) as the forward pass uses a matrix, else as its module stores it."""
    if use is not None and use.fan_in is not None:
        return use.fan_in, use.fan_out
    if tensor.ndim < 2:
        owner = name.rpartition(".")[0]
        weight = getattr(module.get_submodule(owner), "weight", None) if owner else None
        if isinstance(weight, Tensor) and weight.ndim == 2 and name.endswith("bias"):
            return _fans(module, f"{owner}.weight", weight, None)
        return None, None
    # nn.Linear stores (out, in), transformers' Conv1D (in, out).
    rows, columns = int(tensor.shape[-2]), int(tensor.shape[-1])
    kind = type(module.get_submodule(name.rpartition(".")[0])).__name__
    return (rows, columns) if kind == "Conv1D" else (columns, rows)


def _provenance(read: Read) -> tuple[Step, ...]:
    steps = [node.step for node in dependencies(read) if node.step]
    return tuple(dict.fromkeys(steps))[-_STEPS:]


def _with_repeats(name: str, law: Law, shape: Sequence[int]) -> Distribution:
    """The distribution, with blocks of rows that repeat others marked as copies of them."""
    parts = _parts_of(law)
    row = math.prod(shape[1:])
    # What does not vary has no basis: such blocks are no copies of each other.
    sources = [i if part[1] is None else parts.index(part) for i, part in enumerate(parts)]
    if len(set(sources)) == len(parts) or not row or any(n % row for n, *_ in parts):
        return law.distribution
    pieces: list[tuple[int, Distribution]] = []
    start = 0
    for i, ((count, *_), source) in enumerate(zip(parts, sources, strict=True)):
        stop = start + count // row
        drawn = pieces[source][1] if source < i else _of_rows(law.distribution, start, stop)
        if drawn is None:
            return law.distribution
        pieces.append((stop - start, Copy(name, drawn, block=source) if source < i else drawn))
        start = stop
    return Piecewise(tuple(pieces))


def _of_rows(d: Distribution, start: int, stop: int) -> Distribution | None:
    """The one distribution of some rows; None where they have several."""
    first = 0
    for rows, piece in d.pieces if isinstance(d, Piecewise) else ():
        if first <= start and stop <= first + rows:
            return piece
        first += rows
    return None


def _parts_of(law: Law) -> list[tuple[int, object, float]]:
    """(entries, basis, scale) of the blocks of a joined law."""
    basis = law.basis
    if not isinstance(basis, tuple) or not all(
        isinstance(part, tuple) and len(part) == 3 and isinstance(part[0], int) for part in basis
    ):
        return []
    return [part for part in basis if isinstance(part, tuple)]


def with_entanglement(
    parameters: Program, reads: Mapping[str, Read], buffers: Iterable[str]
) -> Program:
    """The parameters, with those marked as entangled that share draws without being copies.

    A transpose of another weight, some of its rows, a mixture of two, a buffer computed from it:
    drawn independently, each would have its own distribution but not their joint one.

    Args:
        parameters: all parameters.
        reads: the record of every parameter and buffer.
        buffers: names of the buffers.
    """
    in_buffers = {draw.key for name in buffers for draw in draws_behind(reads[name])}
    users: dict[int, list[ParameterProgram]] = {}
    for parameter in parameters:
        for draw in draws_behind(reads[parameter.name]):
            users.setdefault(draw.key, []).append(parameter)
    marked = {
        parameter.name
        for key, sharing in users.items()
        if key in in_buffers or (len(sharing) > 1 and not _are_copies(sharing))
        for parameter in sharing
    }
    return tuple(replace(p, is_entangled=True) if p.name in marked else p for p in parameters)


def _are_copies(parameters: Sequence[ParameterProgram]) -> bool:
    first, *others = parameters
    return all(isinstance(p.distribution, Copy) and p.distribution.of == first.name for p in others)


def with_copies(parameters: Program, laws: Mapping[str, Law]) -> Program:
    """The same, with every parameter whose values another has first marked as its copy."""
    first: dict[object, str] = {}
    made = []
    for parameter in parameters:
        basis, source = laws[parameter.name].basis, parameter.name
        if basis is not None:
            source = first.setdefault((_hashable(basis), parameter.numel), source)
        copied = Copy(source, parameter.distribution)
        is_first = source == parameter.name
        made.append(parameter if is_first else replace(parameter, distribution=copied))
    return tuple(made)


def _hashable(basis: object) -> object:
    """A basis with tuples in place of lists, which come from arguments of operators."""
    if isinstance(basis, tuple | list):
        return tuple(map(_hashable, basis))
    return basis
