"""Lazy weights on their own and in small modules, and how to see all of a weight at the end.

The oracle of every test of the lazy engine: asked for its product with the identity at last, a
matrix tells entries that agree with all that it told before, so a dense twin with these entries
must give the same outputs and gradients, to rounding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptinit.facts.distributions import Distribution, Normal
from gptinit.results.profile import Note
from gptinit.results.program import ParameterProgram
from gptinit.trace.replay.recipes import Recipe
from gptinit.weights.draws import Draws
from gptinit.weights.lazy.parameter import LazyParameter
from gptinit.weights.lazy.policy import LazyPolicy
from gptinit.weights.lazy.rules import operate
from gptinit.weights.lazy.tiles import Rectangle
from gptinit.weights.policy import Installed, Restart
from gptinit.weights.tensor import WeightTensor
from support.foreign_models import MLP, Block, C, Decoder, EagerAttention, EagerDecoder, OneMLP
from support.subjects import cpu_draws

ROUNDING = 4 * 2.0**-24 / 1e-2
"""Largest relative error of what a lazy weight gives: float32's rounding, up to 100 times as large
where rows are nearly dependent (basis.py takes eigenvectors beyond), in four products in a row."""


class NeedsDrawingError(Exception):
    """An operator had no rule; holds its name."""


class NeedsKeepingError(Exception):
    """A weight was asked again after it had been forgotten."""


def program_of(
    shape: tuple[int, ...],
    law: Distribution,
    *,
    name: str = "h.0.w",
    layer: int | None = 0,
    role: str = "q",
) -> ParameterProgram:
    """The program of one matrix."""
    return ParameterProgram(name=name, shape=shape, role=role, layer=layer, distribution=law)  # type: ignore[arg-type] # tests name roles as text


def lazy_parameter(
    *shape: int, law: Distribution | None = None, seed: int = 0, in_block: bool = True
) -> LazyParameter:
    """The owner of a lazy weight that raises where a policy would start again."""

    def give_up(owner: LazyParameter, operator: str) -> Any:
        raise NeedsDrawingError(operator)

    def requery(owner: LazyParameter) -> Any:
        raise NeedsKeepingError

    return LazyParameter(
        parameter=program_of(shape, law or Normal(0.0, 0.3)),
        draws=cpu_draws(seed),
        rules=operate,
        give_up=give_up,
        requery=requery,
        blocks={"h.0"} if in_block else set(),
    )


def weight_of(owner: LazyParameter, name: str | None = None) -> WeightTensor:
    """The weight of an owner as a model holds it."""
    return WeightTensor(
        torch.empty(owner.parameter.shape, device="meta"),
        owner,
        parameter=name or owner.parameter.name,
        dtype=owner.draws.dtype,
        device=owner.draws.device,
    )


def lazy_weight(
    *shape: int, law: Distribution | None = None, seed: int = 0, in_block: bool = True
) -> WeightTensor:
    """A lazy weight on its own."""
    return weight_of(lazy_parameter(*shape, law=law, seed=seed, in_block=in_block))


def owner_of(weight: Tensor) -> LazyParameter:
    """The owner of a weight that is lazy."""
    assert isinstance(weight, WeightTensor)
    assert isinstance(weight.owner, LazyParameter)
    return weight.owner


def all_entries(weight: Tensor) -> Tensor:
    """Every entry of a lazy weight, in agreement with all that it told before; its shape."""
    owner = owner_of(weight)
    shape = owner.parameter.shape
    columns = owner._row_length
    if not columns:  # nothing was asked
        owner.whole_rows()
        columns = owner._row_length
    area = Rectangle(range(owner.parameter.numel // columns), range(columns))
    identity = torch.eye(columns)
    product, _ = owner.tiles.product(identity, area, from_inputs=True, keep=False)
    return product.T.reshape(shape)


class Holder(nn.Module):
    """A block with one weight, and what is done with it."""

    def __init__(self, shape: tuple[int, ...], call: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.empty(shape, device="meta"), requires_grad=False)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        """The call on the weight."""
        return self.call(x, self.w)


def holder(shape: tuple[int, ...], call: Callable[[Tensor, Tensor], Tensor]) -> nn.Module:
    """A model whose only block is a Holder: its weight is "h.0.w"."""
    return nn.ModuleDict({"h": nn.ModuleList([Holder(shape, call)])})


@dataclass(frozen=True, slots=True)
class Run:
    """What a module gave under the lazy policy.

    Attributes:
        result: of the run.
        weights: as they were installed last.
        restarts: how often they were installed anew.
    """

    result: Any
    weights: Installed
    restarts: int

    @property
    def notes(self) -> Sequence[Note]:
        """How the numbers came to be."""
        return self.weights.notes()


def run_lazily(
    module: nn.Module,
    program: Sequence[ParameterProgram],
    run: Callable[[nn.Module, Installed], Any],
    *,
    blocks: Sequence[str] = ("h.0",),
    seed: int = 0,
    recipes: dict[str, Recipe] | None = None,
) -> Run:
    """What `run` gives with lazy weights in a module, started again whenever the policy says."""
    policy = LazyPolicy(blocks)
    draws = Draws(seed=seed, device=torch.device("cpu"), dtype=torch.float32, recipes=recipes or {})
    for restarts in range(10):
        weights = policy(module, tuple(program), draws)
        try:
            return Run(run(module, weights), weights, restarts)
        except Restart:
            continue
    raise AssertionError("a policy learns something whenever it starts again")


def rounding_gap(one: Tensor, other: Tensor) -> float:
    """Largest difference over the largest magnitude; 0 where both are empty."""
    if not one.numel():
        return 0.0
    scale = max(float(other.detach().abs().max()), 1e-30)
    return float((one.detach() - other.detach()).abs().max()) / scale


def some(*shape: int, seed: int = 1) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class NormalisedMLP(MLP):
    """An operator without a rule: rows of a weight are made unit vectors when they are used."""

    def forward(self, x: Any) -> Any:
        """The usual with a normalised second matrix."""
        return F.linear(F.gelu(self.c_fc(x)), F.normalize(self.c_proj.weight), self.c_proj.bias)


class NormalisedBlock(Block):
    """Pre-norm with normalised rows."""

    def __init__(self) -> None:
        super().__init__(mlp=NormalisedMLP)


class Normalised(Decoder):
    """A model with an operator that has no rule."""

    block = NormalisedBlock


class Borrowing(Decoder):
    """Blocks whose forward reaches for the MLP of the first block, which holds it alone."""

    def __init__(self) -> None:
        super().__init__()
        first = self.h[0]
        for block in self.h[1:]:
            del block.mlp
            block.mlp = _Borrowed(first)


class _Borrowed(nn.Module):
    """Calls the MLP of a block that it does not hold."""

    def __init__(self, lender: Any) -> None:
        super().__init__()
        self._lender = (lender,)  # in a tuple, where no module is registered

    def forward(self, x: Any) -> Any:
        mlp = self._lender[0].mlp
        return F.linear(F.gelu(F.linear(x, mlp.c_fc.weight)), mlp.c_proj.weight)


class ManyExperts(nn.Module):
    """A router that sends every token to one of four experts, each a module; some get none."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(C, 4, bias=False)
        self.experts = nn.ModuleList(MLP() for _ in range(4))

    def forward(self, x: Any) -> Any:
        """Each token through its expert."""
        flat = x.flatten(0, 1)
        share = F.softmax(self.router(flat), -1)
        best = share.argmax(-1)
        out = torch.zeros_like(flat)
        for i, expert in enumerate(self.experts):
            rows = (best == i).nonzero().squeeze(1)
            out = out.index_add(0, rows, expert(flat[rows]) * share[rows, i : i + 1])
        return out.view_as(x)


class ManyExpertsBlock(Block):
    """Pre-norm with experts of which one is chosen."""

    def __init__(self) -> None:
        super().__init__(mlp=ManyExperts)


class OneOfManyExperts(Decoder):
    """A mixture of experts as most are written."""

    block = ManyExpertsBlock


class Dependent(EagerDecoder):
    """Keys are twice the queries: a copy that is not the same, and not lazy."""

    def draw(self, module: nn.Module) -> None:
        """As usual, then the bound one."""
        super().draw(module)
        if isinstance(module, EagerAttention):
            with torch.no_grad():
                module.wk.weight.copy_(module.wq.weight * 2)


class Copied(EagerDecoder):
    """Keys are the queries."""

    def draw(self, module: nn.Module) -> None:
        """As usual, then the copy."""
        super().draw(module)
        if isinstance(module, EagerAttention):
            with torch.no_grad():
                module.wk.weight.copy_(module.wq.weight)


ODD: dict[str, Callable[[], nn.Module]] = {
    "an operator without a rule": Normalised,
    "one MLP for all blocks": OneMLP,
    "an MLP borrowed from another block": Borrowing,
    "one of many experts": OneOfManyExperts,
    "a multiple of another weight": Dependent,
    "a copy of another weight": Copied,
}
"""Models that are odd to a lazy engine, by what is odd."""
