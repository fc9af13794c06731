"""Weights that are never drawn: each known only through the products it has taken part in.

exact for: matrices of independent normal entries, constants, Haar-orthogonal matrices, blocks of
rows of them, copies; forward, backward and the norms of their gradients.
approximate for: products with uniform and truncated normal entries (central limit; the distance is
noted); embeddings of such entries are looked up exactly.
not covered: other distributions, and operators without a rule: such a parameter is materialised.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import torch
from torch import nn

from gptinit.facts.distributions import Copy, Orthogonal
from gptinit.facts.names import number_pattern
from gptinit.facts.vocabulary import NoteKind
from gptinit.results.profile import Note
from gptinit.results.program import ParameterProgram, Program
from gptinit.trace.graph import dependencies
from gptinit.trace.replay.partial import Unanswerable
from gptinit.trace.replay.replay import Replay
from gptinit.weights.draws import Draws, is_drawable
from gptinit.weights.lazy.factor import forget_last_rows
from gptinit.weights.lazy.parameter import LazyParameter, is_lazy_law
from gptinit.weights.lazy.rules import operate
from gptinit.weights.policy import Installed, Restart, SquareSums, put_parameter, tied_names
from gptinit.weights.redrawn import redrawn
from gptinit.weights.tensor import WeightTensor

__all__ = ["LazyPolicy"]

_NO_GRADIENT = "weight_grad is absent: one of its products had no backward pass."
_NOT_NORMAL = (
    "Its entries are not normal, but its lazy products are drawn as normal: distribution functions "
    "differ by at most {:.2g} (Berry-Esseen)."
)

_COMPARED = 64
"""Entries by which a copy is known to be one, sign and scale included."""


class LazyPolicy:
    """Installs lazy weights; remembers over seeds which parameters cannot be lazy, and why.

    Args:
        blocks: paths of the blocks, in the order in which they run.
    """

    def __init__(self, blocks: Sequence[str]) -> None:
        self._blocks = tuple(blocks)
        self._drawn: dict[str, str] = {}  # pattern of names to the operator
        self._kept: set[str] = set()
        self._unlike: dict[str, str] = {}  # pattern of names to the reason
        self._unknown: dict[str, None] = {}  # patterns of names whose gradients are not known
        self._distances: dict[str, float] = {}

    def __call__(self, module: nn.Module, program: Program, draws: Draws) -> Installed:
        """Install the parameters of `program`: matrices lazily, all others as real tensors."""
        names = tied_names(module)
        laws = {p.name: p for p in program}
        sources = self._sources(laws, draws)
        owners: dict[str, LazyParameter] = {}
        made: dict[str, LazyParameter] = {}
        for parameter in program:
            source = sources[parameter.name]
            if source is None:
                self._say_why(parameter)
                small = parameter.layer is None or len(parameter.shape) < 2
                fresh = draws.new(parameter) if small else redrawn(parameter, draws, engine="lazy")
                put_parameter(module, names[parameter.name], fresh)
                continue
            if source.name not in owners:
                owners[source.name] = self._owner(source, draws)
            owner = made[parameter.name] = owners[source.name]
            owner.blocks |= self._blocks_of(names[parameter.name])
            weight = WeightTensor(
                torch.empty(parameter.shape, device="meta"),
                owner,
                parameter=parameter.name,
                dtype=draws.dtype,
                device=draws.device,
            )
            put_parameter(module, names[parameter.name], weight)
            installed = module.get_parameter(parameter.name)
            assert isinstance(installed, WeightTensor)
            installed.is_detached = False  # making a parameter of it detached it
        return _LazyWeights(program=laws, owners=made, blocks=self._blocks, tell=self._tell)

    def _say_why(self, parameter: ParameterProgram) -> None:
        """Note a matrix that is materialised because of its distribution, not of an operator."""
        pattern = number_pattern(parameter.name)
        if len(parameter.shape) < 2 or pattern in self._drawn:
            return
        law = parameter.distribution
        why = f"{law} has no lazy form"
        if parameter.is_entangled or isinstance(law, Copy):
            why = "another parameter is made of the same draws"
        self._unlike[pattern] = why

    def _owner(self, parameter: ParameterProgram, draws: Draws) -> LazyParameter:
        return LazyParameter(
            parameter=parameter,
            draws=draws,
            rules=operate,
            give_up=self._give_up,
            requery=self._requery,
            is_kept=parameter.name in self._kept,
        )

    def _sources(
        self, program: Mapping[str, ParameterProgram], draws: Draws
    ) -> dict[str, ParameterProgram | None]:
        """Parameter to the one whose matrices it has; None where it is materialised.

        What is replayed from the draws of others, such as a scaled copy, has those drawn too.
        """
        found = {name: self._source(p, program, draws) for name, p in program.items()}
        while True:
            replayed = [p for name, p in program.items() if found[name] is None]
            behind = {name for p in replayed for name in _drawn_for(p, draws)}
            bound = [name for name, s in found.items() if s is not None and s.name in behind]
            if not bound:
                return found
            found.update(dict.fromkeys(bound))

    def _source(
        self, parameter: ParameterProgram, program: Mapping[str, ParameterProgram], draws: Draws
    ) -> ParameterProgram | None:
        """The parameter whose matrices it has: itself, or what it copies; None if not lazy."""
        law = parameter.distribution
        if number_pattern(parameter.name) in self._drawn or len(parameter.shape) < 2:
            return None
        if isinstance(law, Copy):
            source = program.get(law.of)
            if source is None or not _is_same(parameter, source, draws):
                return None
            return self._source(source, program, draws)
        is_flat = isinstance(law, Orthogonal) and len(parameter.shape) > 2
        if parameter.is_entangled or is_flat or not is_lazy_law(law):
            return None
        return parameter

    def _blocks_of(self, names: Sequence[str]) -> set[str]:
        """Paths of the blocks that hold a parameter by any of its names."""
        return {b for b in self._blocks for name in names if name.startswith(f"{b}.")}

    def _give_up(self, owner: LazyParameter, operator: str) -> NoReturn:
        """Materialise a parameter and its likes in other layers; start this seed over."""
        self._drawn[number_pattern(owner.parameter.name)] = operator
        raise Restart

    def _requery(self, owner: LazyParameter) -> NoReturn:
        """Keep from now on all that queries reveal of a parameter, and start this seed over."""
        self._kept.add(owner.parameter.name)
        raise Restart

    def _tell(self, weights: "_LazyWeights") -> tuple[Note, ...]:
        """Notes: what was materialised and why, and how far products are from normal."""
        for owner in weights.owners.values():
            if owner.distance is not None:
                role = owner.parameter.role
                worst = max(self._distances.get(role, 0.0), float(owner.distance))
                self._distances[role] = worst
        for name in weights.without_gradient:
            self._unknown[number_pattern(name)] = None
        said: list[tuple[NoteKind, str, str]] = [
            *(
                ("materialised", where, f"No lazy rule for {name}; the weight was materialised.")
                for where, name in self._drawn.items()
            ),
            *(
                ("materialised", where, f"The weight was materialised: {why}.")
                for where, why in self._unlike.items()
            ),
            *(("approximate", where, _NO_GRADIENT) for where in self._unknown),
            *(
                ("approximate", role, _NOT_NORMAL.format(distance))
                for role, distance in self._distances.items()
            ),
        ]
        return tuple(Note(kind=kind, where=where, message=text) for kind, where, text in said)


def _drawn_for(parameter: ParameterProgram, draws: Draws) -> set[str]:
    recipe = draws.recipes.get(parameter.name)
    if recipe is None or is_drawable(parameter.distribution):
        return set()
    keys = {node.key for node in dependencies(recipe.read) if node.is_random}
    return {recipe.names[key][0] for key in keys if key in recipe.names}


def _is_same(one: ParameterProgram, other: ParameterProgram, draws: Draws) -> bool:
    """Whether a copy has the very values of its source, in place, sign and scale."""
    if one.shape != other.shape:
        return False
    pair = [draws.recipes.get(p.name) for p in (one, other)]
    if pair[0] is None or pair[1] is None:
        return False
    positions = torch.linspace(0, one.numel - 1, _COMPARED, dtype=torch.float64).long()
    replay = Replay()
    try:
        values = [replay.at(recipe.read, positions) for recipe in pair if recipe is not None]
    except Unanswerable:
        return False
    return bool(torch.equal(*values))


@dataclass(slots=True, kw_only=True)
class _LazyWeights:
    """The lazy weights of one seed."""

    program: Mapping[str, ParameterProgram]
    owners: Mapping[str, LazyParameter]
    blocks: tuple[str, ...]
    tell: Callable[["_LazyWeights"], tuple[Note, ...]]
    _sums: dict[str, SquareSums | None] = field(default_factory=dict)

    def forms_gradient(self, parameter: ParameterProgram) -> bool:
        return parameter.name not in self.owners

    def enter(self, block: str, *, rehearsal: bool) -> None:
        """Start a block; where it is recomputed, the gradients of the one before are complete."""
        is_again = torch._C._current_autograd_node() is not None  # for the backward pass
        if is_again:
            passing = [item for item in self.owners.items() if self._is_passing(item[1])]
            for name, owner in passing:
                if owner.is_touched:
                    self._sums[name] = owner.square_sums(name)
            for _, owner in passing:
                owner.forget()
        for owner in self.owners.values():  # a block may use a weight of another
            owner.keeps_uses = not rehearsal
        for owner in self._inside(block):
            owner.is_forgotten = owner.is_forgotten and not is_again

    def leave(self, block: str) -> None:
        """Forget what is known of a block's weights: equal queries get equal responses again."""
        for owner in self.owners.values():
            owner.keeps_uses = True
        for owner in self._inside(block):
            if self._is_passing(owner):
                owner.forget()
        forget_last_rows()

    def _inside(self, block: str) -> list[LazyParameter]:
        return [owner for owner in self.owners.values() if block in owner.blocks]

    def _is_passing(self, owner: LazyParameter) -> bool:
        """Whether one block alone uses it, and runs once."""
        if len(owner.blocks) != 1 or owner.is_kept:
            return False
        (block,) = owner.blocks
        return self.blocks.count(block) == 1

    def square_sums(self) -> Iterator[tuple[ParameterProgram, SquareSums]]:
        """Of every lazy parameter inside blocks whose products all had a backward pass."""
        for name, owner in self.owners.items():
            if owner.blocks and owner.is_touched and name not in self._sums:
                self._sums[name] = owner.square_sums(name)
        for name, sums in self._sums.items():
            if sums is not None:
                yield self.program[name], sums

    @property
    def without_gradient(self) -> list[str]:
        """Names of the parameters whose gradient the backward pass did not give."""
        return [name for name, sums in self._sums.items() if sums is None]

    def notes(self) -> tuple[Note, ...]:
        """Notes: what was materialised and why, and how far products are from normal."""
        return self.tell(self)
