"""Which init settings a model really follows: each is moved, and the program read again."""

import math
import re
from collections.abc import Callable, Mapping, Sequence

from gptinit.errors import GptInitError
from gptinit.facts.vocabulary import Severity
from gptinit.load.factory import Factory
from gptinit.results.profile import Finding
from gptinit.results.program import ModelProgram, Program

__all__ = ["PERTURBATION", "init_settings", "perturb"]

PERTURBATION = 1.5
"""Factor on every init setting: far from one, and from the square roots of small numbers."""

_NAMES = re.compile(r"(^|_)(init|initializer|std|sigma)(_|$)|_std$|^init")
_GENERAL = ("init_range", "init_std", "initializer_range", "initializer_std", "weight_std", "std")
_NOT_NAMES = re.compile(r"layer_?norm|_eps|rope|theta|temperature")


def init_settings(factory: Factory) -> dict[str, float]:
    """The settings that, by their name, say how weights are drawn."""
    return {
        name: value
        for name, value in factory.settings.items()
        if isinstance(value, float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value != 0
        and _NAMES.search(name.rpartition(".")[2])
        and not _NOT_NAMES.search(name)
    }


def perturb(
    factory: Factory, program: ModelProgram, read: Callable[[Factory], ModelProgram]
) -> list[Finding]:
    """A finding for every init setting that no role, or only some roles, follow."""
    if factory.with_settings is None:
        return []
    found = []
    for name, value in init_settings(factory).items():
        moved_to = value * PERTURBATION
        try:
            other = read(factory.with_settings({name: moved_to}))
        except GptInitError as error:
            found.append(_finding("note", name, f"{name} could not be moved: {error}"))
            continue
        found += _judge(name, value, moved_to, program.parameters, other.parameters)
    return found


def _judge(
    name: str, value: float, moved_to: float, before: Program, after: Program
) -> list[Finding]:
    followed = _random_roles(before, after)
    still = sorted(role for role, has_moved in followed.items() if not has_moved)
    change = f"{name} was moved from {value:g} to {moved_to:g}"
    if not any(followed.values()):
        message = (
            f"Weights must follow the settings that say how they are drawn, but {change} and "
            "nothing changed: the setting is ignored."
        )
        return [_finding("error", name, message)]
    if still:
        message = f"{change}: {', '.join(still)} did not follow."
        severity: Severity = "warning" if _is_meant_for(name, value, still, before) else "note"
        return [_finding(severity, name, message)]
    return []


def _is_meant_for(name: str, value: float, roles: Sequence[str], before: Program) -> bool:
    """Whether a setting for all weights did not move roles that have the std that it gives.

    Those have the same number written into the code, so that the default setting looks obeyed.
    """
    stds = {p.distribution.std for p in before if p.role in roles}
    general = name.rpartition(".")[2] in _GENERAL
    return general and any(math.isclose(std, value, rel_tol=1e-3) for std in stds)


def _random_roles(before: Program, after: Program) -> Mapping[str, bool]:
    """Roles with drawn weights, and whether any of them changed."""
    then = {p.name: p.distribution for p in after}
    roles: dict[str, bool] = {}
    for p in before:
        other = then.get(p.name)
        if p.distribution.std > 0 and other is not None and len(p.shape) > 1:
            has_moved = str(other) != str(p.distribution)
            roles[p.role] = roles.get(p.role, False) or has_moved
    return roles


def _finding(severity: Severity, where: str, message: str) -> Finding:
    return Finding(rule="setting-ignored", severity=severity, where=where, fact=message)
