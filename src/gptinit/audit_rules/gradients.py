"""What training cannot change at first or ever, and logits that do not depend on tokens."""

from collections.abc import Iterable, Iterator

from gptinit.audit_rules.context import Context
from gptinit.audit_rules.grouping import Hit, named, pattern_of
from gptinit.audit_rules.overwritten import is_loaded
from gptinit.facts.algebra import one_value
from gptinit.facts.vocabulary import Severity
from gptinit.results.program import FirstGradient, ModelProgram, ParameterProgram

__all__ = ["logits_constant", "parameters_without_gradient"]

_MATRIX = 2  # dimensions


def parameters_without_gradient(program: ModelProgram, _: Context) -> Iterator[Hit]:
    """Parameters that get no gradient: never (an error), at first, or for want of any use."""
    yield from _never(program)
    yield from _cut(program)
    yield from _at_first(program)
    yield from _unused(program)


def _never(program: ModelProgram) -> Iterator[Hit]:
    """Parameters that are used and never get a gradient; one cause for those that are linked."""
    used = ((p, g) for p, g in _with_gradient(program) if g.is_used and not g.is_cut)
    stuck = {p.name: p for p, g in used if g.step is None}
    links = [
        {pattern_of(p), *(pattern_of(stuck[n]) for n in _waits(p) if n in stuck)}
        for p in stuck.values()
    ]
    for patterns in _joined(links):
        members = [p for p in stuck.values() if pattern_of(p) in patterns]
        needed = {n for p in members for n in _waits(p)}
        zeros = _starting_as_zeros(p for p in program.parameters if p.name in needed)
        why = f"{zeros} and nothing changes that" if needed else "the code multiplies it by 0"
        message = f"A parameter must get a gradient, got exactly 0 in every step: {why}."
        for p in sorted(members, key=lambda p: p.name not in needed):
            yield Hit(p, "error", message, cause=patterns)


def _cut(program: ModelProgram) -> Iterator[Hit]:
    """Parameters that are used in ways that autograd does not follow."""
    message = (
        "A parameter must get a gradient, got none in any step: the forward pass uses it, but only "
        "behind detach(), torch.no_grad() or an operator without a derivative."
    )
    cut = [p for p, gradient in _with_gradient(program) if gradient.is_cut]
    for p in sorted(cut, key=lambda p: len(p.shape) < _MATRIX):  # the place that is shown first
        yield Hit(p, "warning", message, cause="cut")


def _at_first(program: ModelProgram) -> Iterator[Hit]:
    """The parameters of zeros for which others wait in the first step, and then learn."""
    waiting = [p for p, g in _with_gradient(program) if g.step]
    needed = {name for p in waiting for name in _waits(p)}
    if not needed:
        return
    causes = _without_shifts([p for p in program.parameters if p.name in needed])
    last = max(p.gradient.step or 0 for p in waiting if p.gradient)
    message = (
        f"{len(waiting)} of {len(program.parameters)} parameters ({named(waiting)}) get no "
        f"gradient in the first step: {_starting_as_zeros(causes)}. All have one by step "
        f"{last + 1}, so it may be meant."
    )
    for p in causes:
        yield Hit(p, "note", message, cause="at first")


def _starting_as_zeros(parameters: Iterable[ParameterProgram]) -> str:
    """Of which parameters it is said that they start as zeros."""
    zeros = list(parameters)
    is_one = len({pattern_of(p) for p in zeros}) == 1
    return f"{named(zeros)} {'starts' if is_one else 'start'} as zeros"


def _without_shifts(zeros: list[ParameterProgram]) -> list[ParameterProgram]:
    """Without biases, unless they are all: the zero shift of a norm is as it should be."""
    return [p for p in zeros if p.role not in ("norm_bias", "linear_bias")] or zeros


def _unused(program: ModelProgram) -> Iterator[Hit]:
    """Parameters on which the logits do not depend; of experts, where no expert is used."""
    used = {pattern_of(p) for p, g in _with_gradient(program) if g.is_used}
    message = (
        "A parameter must be used, got logits that do not depend on it (eight tokens, in eval "
        "mode), so it gets no gradient."
    )
    for p, gradient in _with_gradient(program):
        if not gradient.is_used and pattern_of(p) not in used:
            yield Hit(p, "note", message, cause="unused")


def logits_constant(program: ModelProgram, _: Context) -> Iterator[Hit]:
    """What makes the logits alike for all tokens: head or final norm of zeros, equal embeddings.

    A head that learns in the first step is a note, as several schemes start so.
    """
    names = program.constant_logits or ()
    causes = _without_shifts([p for p in program.parameters if p.name in names])
    if any(p.history and is_loaded(p.history[-1]) for p in causes):  # any values may be loaded
        return
    stuck = any(p.gradient is not None and p.gradient.step is None for p in causes)
    if stuck or any(p.role == "tok_emb" and one_value(p.distribution) == 0 for p in causes):
        return  # told by parameters-without-gradient, and by zeros
    for p in causes:
        meant = p.role == "lm_head" and p.gradient is not None and p.gradient.step == 0
        severity: Severity = "note" if meant else "error"
        message = (
            f"Logits must depend on the tokens, got the same for all of them: every entry starts "
            f"as {p.distribution.mean:g}."
        )
        if meant:
            message += " Schemes with a head of zeros mean it: the first step changes it."
        yield Hit(p, severity, message)


def _with_gradient(
    program: ModelProgram,
) -> Iterator[tuple[ParameterProgram, FirstGradient]]:
    return ((p, p.gradient) for p in program.parameters if p.gradient is not None)


def _waits(parameter: ParameterProgram) -> tuple[str, ...]:
    return parameter.gradient.waits_for if parameter.gradient else ()


def _joined(links: Iterable[set[str]]) -> list[frozenset[str]]:
    """The sets, those with a common element joined."""
    groups: dict[str, frozenset[str]] = {}
    for link in links:
        whole = frozenset[str]().union(link, *(groups.get(name, frozenset()) for name in link))
        groups |= dict.fromkeys(whole, whole)
    return list(dict.fromkeys(groups.values()))
