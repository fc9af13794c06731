"""What a weights policy is, and how it puts a parameter into a module."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from gptinit.results.profile import Note
from gptinit.results.program import ParameterProgram, Program
from gptinit.weights.draws import Draws

__all__ = [
    "Installed",
    "Resident",
    "Restart",
    "SquareSums",
    "WeightsPolicy",
    "put_parameter",
    "tied_names",
]


class Restart(Exception):
    """This pass cannot go on with lazy weights: install them anew and start the seed over.

    Raised by the lazy policy in the middle of the model's forward or backward pass. The code that
    runs there is the model's own, so only an exception can leave it. The pass cannot simply
    materialise the weight and go on either: what it has computed so far would belong to other
    weights. The policy remembers the parameter, so the next pass gets further;
    `gptinit.measure.measure` is where it starts.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class SquareSums:
    """Of one parameter, over all its entries; () both."""

    gradient: Tensor
    weight: Tensor


class Installed(Protocol):
    """The weights of one seed in a module, while it runs."""

    def enter(self, block: str, *, rehearsal: bool) -> None:
        """Called when a block begins to run.

        Args:
            block: its path.
            rehearsal: whether the backward pass will recompute it.
        """

    def leave(self, block: str) -> None:
        """Called when a block has run and its activations are not kept."""

    def forms_gradient(self, parameter: ParameterProgram) -> bool:
        """Whether autograd is to form the gradient of a parameter."""

    def square_sums(self) -> Iterator[tuple[ParameterProgram, SquareSums]]:
        """Gradients that autograd has not formed, when the backward pass is over."""

    def notes(self) -> Sequence[Note]:
        """How the numbers came to be, when the run is over."""


class Resident:
    """Weights that are real tensors: autograd forms their gradients itself."""

    def enter(self, block: str, *, rehearsal: bool) -> None:
        """Nothing to do."""

    def leave(self, block: str) -> None:
        """Nothing to do."""

    def forms_gradient(self, parameter: ParameterProgram) -> bool:
        """Always."""
        return True

    def square_sums(self) -> Iterator[tuple[ParameterProgram, SquareSums]]:
        """None."""
        return iter(())

    def notes(self) -> Sequence[Note]:
        """None."""
        return ()


class WeightsPolicy(Protocol):
    """Gives a module the weights of a seed, in place."""

    def __call__(self, module: nn.Module, program: Program, draws: Draws) -> Installed:
        """Install the parameters of `program` in `module`, none of them requiring a gradient."""


def tied_names(module: nn.Module) -> Mapping[str, tuple[str, ...]]:
    """Canonical name of every parameter to all the names it has in the module.

    Example:
        >>> import torch
        >>> head = torch.nn.Linear(2, 3, bias=False)
        >>> tied = torch.nn.ModuleDict({"wte": torch.nn.Embedding(3, 2), "lm_head": head})
        >>> head.weight = tied["wte"].weight
        >>> tied_names(tied)
        {'wte.weight': ('wte.weight', 'lm_head.weight')}
    """
    by_id: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        by_id.setdefault(id(parameter), []).append(name)
    return {names[0]: tuple(names) for names in by_id.values()}


def put_parameter(module: nn.Module, names: tuple[str, ...], tensor: Tensor) -> None:
    """Make `tensor` the parameter under all of `names`, without a gradient."""
    parameter = nn.Parameter(tensor, requires_grad=False)
    for name in names:
        path, _, leaf = name.rpartition(".")
        module.get_submodule(path).register_parameter(leaf, parameter)
