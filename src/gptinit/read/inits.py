"""The same model with another init: what the constructor alone draws, or an uncalled one."""

from collections.abc import Mapping
from dataclasses import replace

from torch import nn

from gptinit.facts.distributions import Distribution
from gptinit.load.factory import Built, Factory, built
from gptinit.load.init_choice import left_uncalled
from gptinit.read.parameters import is_float, read_of
from gptinit.results.program import Program, UncalledInit
from gptinit.trace.laws.laws import Laws

__all__ = ["uncalled_inits", "with_constructed"]


def with_constructed(parameters: Program, factory: Factory) -> Program:
    """The program with what the constructor alone draws, where the init after it changes that."""
    if factory.init is None:
        return parameters
    before = _drawn(built(factory, factory.init.constructed, watch=False).module)
    return tuple(
        replace(p, constructed=before[p.name])
        if _differs(p.distribution, before.get(p.name))
        else p
        for p in parameters
    )


def uncalled_inits(factory: Factory, made: Built, parameters: Program) -> tuple[UncalledInit, ...]:
    """The inits that a model has and that nothing runs, without those that would change nothing.

    Args:
        factory: the model.
        made: one build of it.
        parameters: what it is drawn from.
    """
    found = []
    for left in left_uncalled(factory, made):
        after = _drawn(left.module) if left.module else {}
        changes = {
            p.name: after[p.name] for p in parameters if _differs(p.distribution, after.get(p.name))
        }
        if changes or left.obstacle:
            found.append(UncalledInit(init=left.call, changes=changes, obstacle=left.obstacle))
    return tuple(found)


def _drawn(module: nn.Module) -> Mapping[str, Distribution]:
    laws = Laws()
    named = module.named_parameters()
    return {name: laws.of(read_of(p)).distribution for name, p in named if is_float(p)}


def _differs(one: Distribution, other: Distribution | None) -> bool:
    # As texts: NaN is not equal to itself, and rounding of a std is no change.
    return other is not None and str(one) != str(other)
