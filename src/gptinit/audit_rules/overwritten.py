"""Values that were set on purpose and then drawn over."""

from collections.abc import Iterator

from gptinit.audit_rules.context import RESIDUAL_ROLES, Context
from gptinit.audit_rules.grouping import Hit
from gptinit.audit_rules.matching import same_law
from gptinit.facts.algebra import simplified
from gptinit.facts.distributions import Constant
from gptinit.results.program import Draw, ModelProgram, ParameterProgram

__all__ = ["is_loaded", "pretrained_overwritten", "special_init_overwritten"]

_APART = 0.05  # stds that differ by less are two ways to write the same init
_RANDOM = ("normal", "truncated_normal", "uniform", "orthogonal")
_GIVEN = ("fixed", "measured", "constant")


def special_init_overwritten(program: ModelProgram, context: Context) -> Iterator[Hit]:
    """Parameters that the code set in a special way, and later drew as it draws all others."""
    for p in program.parameters:
        if len(p.history) < 2 or p.role == "other" or p.name in context.agreed or _is_neutral(p):
            continue
        last = p.history[-1]
        meant = [d for d in p.history[:-1] if _is_deliberate(d) and _differ(d, last)]
        if not meant or not same_law(p.distribution, last.distribution):
            continue
        if last.by_default or is_loaded(last):
            continue
        if context.siblings(p, program) < 2 or _is_shared(meant[-1], p, program):
            continue
        if _reach(last, program) <= _reach(meant[-1], program):  # the later draw is the special one
            continue
        scaled = p.role in RESIDUAL_ROLES and meant[-1].distribution.std > 0
        message = (
            f"What is set with care must be set last, got {meant[-1].distribution} "
            f"({meant[-1].step}), then {last.distribution} ({last.step}) as for other tensors."
        )
        yield Hit(p, "error" if scaled else "warning", message, cause=_place(last))


def pretrained_overwritten(program: ModelProgram, _: Context) -> Iterator[Hit]:
    """Parameters that were filled with given values and then drawn at random."""
    for p in program.parameters:
        loaded = [d for d in p.history[:-1] if is_loaded(d)]
        if loaded and p.history[-1].distribution.kind in _RANDOM:
            message = (
                f"Loaded values must stay, got a draw of {p.history[-1].distribution} "
                f"({p.history[-1].step}) after {loaded[-1].step}."
            )
            yield Hit(p, "error", message, cause=_place(p.history[-1]))


def is_loaded(draw: Draw) -> bool:
    """Whether the code copied given values in, as loading a checkpoint does."""
    is_copied = draw.step is not None and draw.step.op == "copy_"
    return is_copied and draw.distribution.kind in _GIVEN and not draw.by_default


def _is_neutral(p: ParameterProgram) -> bool:
    """Whether it is a norm of gain 1: writing 0 over 1 is right where the class uses 1 + weight."""
    return p.gain is not None and abs(p.gain - 1) < _APART


def _is_deliberate(draw: Draw) -> bool:
    """Whether the model's own code set a tensor that was there already.

    zeros() only makes room for what is drawn next; zeros_() means it.
    """
    return draw.step is not None and draw.step.is_in_place and not draw.by_default


def _differ(first: Draw, second: Draw) -> bool:
    a, b = simplified(first.distribution), simplified(second.distribution)
    if isinstance(a, Constant) and isinstance(b, Constant):
        return a != b
    wider = max(abs(a.std), abs(b.std))
    return abs(a.std - b.std) > _APART * wider


def _is_shared(draw: Draw, p: ParameterProgram, program: ModelProgram) -> bool:
    """Whether all other parameters drawn as `p` is had this earlier draw too."""
    alike = [
        q
        for q in program.parameters
        if q.name != p.name and same_law(q.distribution, p.distribution)
    ]
    return bool(alike) and all(
        any(same_law(d.distribution, draw.distribution) for d in q.history[:-1]) for q in alike
    )


def _reach(draw: Draw, program: ModelProgram) -> int:
    """How many parameters the draw's line of code set at any time: a general rule sets many.

    A parameter without a history counts where it has the draw's distribution.
    """
    place = _place(draw)
    return sum(
        any(_place(d) == place for d in p.history)
        if p.history
        else same_law(p.distribution, draw.distribution)
        for p in program.parameters
    )


def _place(draw: Draw) -> object:
    """The line of code of a draw; the whole step where the line is not known."""
    step = draw.step
    return (step.file, step.line) if step is not None and step.file else step
