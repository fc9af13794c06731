"""Values that were set with care and then drawn over."""

import re
from collections.abc import Iterator

from gptinit.audit_rules.context import RESIDUAL_ROLES, Context
from gptinit.audit_rules.grouping import Hit, grouped
from gptinit.audit_rules.matching import same_law, settled
from gptinit.facts.distributions import Constant
from gptinit.results.profile import Finding
from gptinit.results.program import Draw, ModelProgram, ParameterProgram

__all__ = ["is_loaded", "pretrained_overwritten", "special_init_overwritten"]

_IN_PLACE = re.compile(r"\w+_\b")  # zeros(...) makes room; zeros_(...) means it
_LOADED = re.compile(r"copy_|load|set_data|from_pretrained")
_APART = 0.05  # stds that differ by less are two ways to say the same
_RANDOM = ("normal", "truncated_normal", "uniform", "orthogonal")


def special_init_overwritten(program: ModelProgram, context: Context) -> Iterator[Finding]:
    """Parameters that were given a law of their own, then the one that all others have."""
    yield from grouped("special-init-overwritten", _special(program, context), program)


def _special(program: ModelProgram, context: Context) -> Iterator[Hit]:
    """The hits: a deliberate earlier draw, and a last one that is everybody's."""
    for p in program.parameters:
        if len(p.history) < 2 or p.role == "other" or p.name in context.agreed or _is_neutral(p):
            continue
        last = p.history[-1]
        meant = [d for d in p.history[:-1] if _deliberate(d) and _apart(d, last)]
        if not meant or not same_law(p.distribution, last.distribution):
            continue
        if last.by_default or is_loaded(last):
            continue
        if context.siblings(p, program) < 2 or _is_everybodys(meant[-1], p, program):
            continue
        if _reach(last, program) <= _reach(meant[-1], program):  # the later draw is the special one
            continue
        scaled = p.role in RESIDUAL_ROLES and meant[-1].distribution.std > 0
        message = (
            f"What is set with care must be set last, got {meant[-1].distribution} "
            f"({meant[-1].step}), then {last.distribution} ({last.step}) as for other tensors."
        )
        yield p, "error" if scaled else "warning", message


def _reach(draw: Draw, program: ModelProgram) -> int:
    """How many parameters the same line of code set at any time.

    Of a parameter whose history nobody knows, its law tells.
    """
    place = _place(draw)
    return sum(
        any(_place(d) == place for d in p.history)
        if p.history
        else same_law(p.distribution, draw.distribution)
        for p in program.parameters
    )


def _place(draw: Draw) -> str:
    """The line of code of a draw; the whole step where that is not known."""
    return draw.step.rpartition(" at ")[2]


def _is_neutral(p: ParameterProgram) -> bool:
    """Whether it is a norm that leaves sizes alone: 0 for 1 is right where 1 + weight is used."""
    return p.gain is not None and abs(p.gain - 1) < _APART


def _deliberate(draw: Draw) -> bool:
    """Whether the model's own code set a tensor that was there already."""
    return not draw.by_default and _IN_PLACE.match(draw.step) is not None


def _apart(first: Draw, second: Draw) -> bool:
    """Whether two draws have clearly different laws."""
    a, b = settled(first.distribution), settled(second.distribution)
    if isinstance(a, Constant) and isinstance(b, Constant):
        return a != b
    wider = max(abs(a.std), abs(b.std))
    return abs(a.std - b.std) > _APART * wider


def _is_everybodys(draw: Draw, p: ParameterProgram, program: ModelProgram) -> bool:
    """Whether every other tensor with the same last draw had this earlier draw too."""
    alike = [
        q
        for q in program.parameters
        if q.name != p.name and same_law(q.distribution, p.distribution)
    ]
    return bool(alike) and all(
        any(same_law(d.distribution, draw.distribution) for d in q.history[:-1]) for q in alike
    )


def pretrained_overwritten(program: ModelProgram, _: Context) -> Iterator[Finding]:
    """Parameters that were filled with given values and then drawn at random."""
    yield from grouped("pretrained-overwritten", _drawn_over(program), program)


def _drawn_over(program: ModelProgram) -> Iterator[Hit]:
    """The hits: loaded values in the history, a random draw at its end."""
    for p in program.parameters:
        loaded = [d for d in p.history[:-1] if is_loaded(d)]
        if loaded and p.history[-1].distribution.kind in _RANDOM:
            message = (
                f"Loaded values must stay, got a draw of {p.history[-1].distribution} "
                f"({p.history[-1].step}) after {loaded[-1].step}."
            )
            yield p, "error", message


def is_loaded(draw: Draw) -> bool:
    """Whether a step put given values in place."""
    given = draw.distribution.kind in ("fixed", "measured", "constant")
    return given and not draw.by_default and _LOADED.search(draw.step) is not None
