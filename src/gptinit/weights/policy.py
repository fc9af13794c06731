"""What a weights policy is, and how it puts a parameter into a module."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn

from gptinit.program import Program
from gptinit.weights.draws import Draws

__all__ = ["WeightsPolicy", "put_parameter", "tied_names"]


class WeightsPolicy(Protocol):
    """Gives a module its weights, in place, again for every seed."""

    def __call__(self, module: nn.Module, program: Program, draws: Draws) -> None:
        """Install the parameters of `program` in `module`, none of them asking for a gradient."""
        ...


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
