"""Which parameters were never written: read from memory as it happened to be."""

from collections.abc import Iterator

from gptinit.audit_rules.context import Context
from gptinit.audit_rules.grouping import Hit, grouped
from gptinit.audit_rules.matching import leaves
from gptinit.facts.distributions import Unset
from gptinit.facts.vocabulary import Severity
from gptinit.results.profile import Finding
from gptinit.results.program import ModelProgram, ParameterProgram

__all__ = ["init_never_called", "uninitialised"]


def init_never_called(program: ModelProgram, _: Context) -> Iterator[Finding]:
    """One finding if no parameter of the model was ever written."""
    if not _nothing_written(program):
        return
    count = sum(p.numel for p in program.parameters)
    yield Finding(
        rule="init-never-called",
        severity="error",
        where="*",
        fact=(
            f"All {len(program.parameters)} parameters ({count:,} values) are read from memory "
            "that nothing wrote: the init did not run, or drew nothing."
        ),
    )


def uninitialised(program: ModelProgram, _: Context) -> Iterator[Finding]:
    """Parameters and buffers that nothing wrote, wholly or in part."""
    parameters = () if _nothing_written(program) else program.parameters
    hits = (hit for p in (*parameters, *program.buffers) for hit in _unset(p))
    yield from grouped("uninitialised", hits, program)


def _nothing_written(program: ModelProgram) -> bool:
    """Whether every parameter is wholly unset."""
    laws = [p.distribution for p in program.parameters]
    return bool(laws) and all(isinstance(part, Unset) for law in laws for part in leaves(law))


def _unset(parameter: ParameterProgram) -> Iterator[Hit]:
    """The hit, if any entry was never written."""
    parts = [isinstance(part, Unset) for part in leaves(parameter.distribution)]
    if any(parts):
        much = "is" if all(parts) else "is in part"
        severity: Severity = "error" if parameter.kind == "parameter" else "warning"
        message = f"The {parameter.kind} {much} read from memory that nothing wrote."
        yield parameter, severity, message
