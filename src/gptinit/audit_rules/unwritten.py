"""Inits that nobody calls, and parameters that nothing wrote."""

from collections.abc import Iterator

from gptinit.audit_rules.context import Context
from gptinit.audit_rules.grouping import Hit
from gptinit.facts.algebra import leaves
from gptinit.facts.distributions import Unset
from gptinit.facts.vocabulary import Severity
from gptinit.results.changes import uncalled_words
from gptinit.results.program import ModelProgram, ParameterProgram

__all__ = ["init_never_called", "init_not_called", "uninitialised"]


def init_never_called(program: ModelProgram, _: Context) -> Iterator[Hit]:
    """The whole model, if none of its parameters was ever written."""
    if _nothing_written(program):
        count = sum(p.numel for p in program.parameters)
        message = (
            f"All {len(program.parameters)} parameters ({count:,} values) are read from memory "
            "that nothing wrote: the init did not run, or drew nothing."
        )
        yield Hit(None, "error", message)


def init_not_called(program: ModelProgram, _: Context) -> Iterator[Hit]:
    """The whole model, if it has an init that neither its constructor nor a choice runs.

    A note where the model's own code draws all that this init would change: it may do in its place.
    """
    drawn = {p.name for p in program.parameters if p.history and not p.history[-1].by_default}
    for left in program.uncalled:
        meant = left.changes and left.changes.keys() <= drawn
        yield Hit(None, "note" if meant else "warning", uncalled_words(left, program.parameters))


def uninitialised(program: ModelProgram, _: Context) -> Iterator[Hit]:
    """Parameters and buffers that nothing wrote, wholly or in part."""
    parameters = () if _nothing_written(program) else program.parameters
    for p in (*parameters, *program.buffers):
        unset = [isinstance(part, Unset) for part in leaves(p.distribution)]
        if any(unset):
            much = "is" if all(unset) else "is in part"
            severity: Severity = "error" if p.kind == "parameter" else "warning"
            message = f"The {p.kind} {much} read from memory that nothing wrote."
            yield Hit(p, severity, message, cause=much)  # the init passed them all by


def _nothing_written(program: ModelProgram) -> bool:
    return bool(program.parameters) and all(map(_is_unset, program.parameters))


def _is_unset(parameter: ParameterProgram) -> bool:
    return all(isinstance(part, Unset) for part in leaves(parameter.distribution))
