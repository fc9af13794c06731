"""An audit of one model: read in the requested ways, judged by every rule."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from gptinit.audit_rules.grouping import grouped_findings
from gptinit.audit_rules.matching import Expectations, expectations
from gptinit.auditing.drawn_values import findings_in_values
from gptinit.auditing.perturb import init_settings, perturb
from gptinit.auditing.program import audit_program, findings_of
from gptinit.errors import SubjectError, unknown_name
from gptinit.facts.schemes import Scheme
from gptinit.facts.vocabulary import BUILDS, Build, Severity
from gptinit.load.factory import Factory
from gptinit.load.meta_build import on_meta
from gptinit.read.reading import Reading, read_live, read_model
from gptinit.results.audit import Audit
from gptinit.results.profile import Finding, Note
from gptinit.results.program import ModelProgram

__all__ = ["audit_factory", "audit_module"]


def audit_factory(
    factory: Factory,
    *,
    claim: Scheme | None = None,
    build: Build = "own",
    perturbed: bool = False,
    drawn: bool = False,
    roles: Mapping[str, str] | None = None,
) -> Audit:
    """The audit of the model that a factory builds.

    Args:
        factory: makes it.
        claim: the scheme that it is audited against.
        build: one of BUILDS.
        perturbed: whether to move every init setting too.
        drawn: whether to build it for real too and look at the values.
        roles: the user's map, parameter pattern to role.

    Raises:
        ConfigError: if there is no such way to build.
        SubjectError: if the model cannot be built or read.
    """
    if build not in BUILDS:
        raise unknown_name("build", build, BUILDS)
    notes: list[Note] = []
    first = on_meta(factory, notes) if build == "meta" else factory
    way: Build = "meta" if build == "meta" else "own"
    reading = read_model(first, roles=roles, build=way, brief=True)
    held = _held(reading.program, claim)
    extra: list[Finding] = _not_followed(reading)
    if build == "both":
        extra += _on_meta_too(factory, reading, held, roles, notes)
    if perturbed:
        if factory.with_settings is None or not init_settings(factory):
            message = "The model has no init setting that could be moved."
            notes.append(Note(kind="approximate", where="perturb", message=message))
        extra += perturb(
            factory,
            reading.program,
            lambda f: read_model(f, roles=roles, build=way, brief=True).program,
        )
    if drawn:
        extra += _values(first, reading.program, held)
    audit = audit_program(
        reading.program,
        torch=torch.__version__,
        claim=held,
        extra=extra,
        notes=(*reading.notes, *notes),
    )
    return replace(audit, build=build)


def audit_module(
    module: nn.Module,
    factory: Factory,
    *,
    claim: Scheme | None = None,
    drawn: bool = False,
    roles: Mapping[str, str] | None = None,
) -> Audit:
    """The audit of a module that is built already, by its values; it is not changed.

    Arguments are those of `audit_factory`.

    Raises:
        SubjectError: if it cannot be read.
    """
    reading = read_live(module, factory, roles=roles)
    found = findings_in_values(module, reading.program) if drawn else []
    held = _held(reading.program, claim)
    extra = _not_known(found, reading.program, held)
    return audit_program(
        reading.program, torch=torch.__version__, claim=held, extra=extra, notes=reading.notes
    )


def _held(program: ModelProgram, claim: Scheme | None) -> Expectations | None:
    return expectations(claim, program) if claim else None


def _not_followed(reading: Reading) -> list[Finding]:
    """A warning where roles are names alone: what the rules then say is worth less."""
    if reading.seen is not None and reading.decoder is not None:
        return []
    why = " ".join(note.message for note in reading.notes if note.kind == "approximate")
    return [Finding(rule="forward-not-followed", severity="warning", where="*", fact=why)]


def _values(factory: Factory, program: ModelProgram, claim: Expectations | None) -> list[Finding]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _not_known(findings_in_values(factory.build(), program), program, claim)


def _not_known(
    found: list[Finding], program: ModelProgram, claim: Expectations | None
) -> list[Finding]:
    """Findings in values, one a rule, but for those that the program shows already."""
    shown = findings_of(program, claim) if found else ()
    known = {(f.rule, place) for f in shown for place in f.places}
    grouped = grouped_findings(found, program)
    return [f for f in grouped if any((f.rule, place) not in known for place in f.places)]


def _on_meta_too(
    factory: Factory,
    own: Reading,
    claim: Expectations | None,
    roles: Mapping[str, str] | None,
    notes: list[Note],
) -> list[Finding]:
    """What the build on meta has that the constructor's has not."""
    try:
        other = read_model(on_meta(factory, notes), roles=roles, build="meta", brief=True).program
    except SubjectError as error:
        return [_mismatch("error", factory.name, f"It cannot be built on meta: {error}")]
    known = set(findings_of(own.program, claim))
    held = _held(other, claim.scheme if claim else None)
    found = [f for f in findings_of(other, held) if f not in known]
    named = {f.where for f in found}
    return [
        *(replace(f, build="meta") for f in found),
        *_lost_ties(own.program, other, named),
        *_differences(own.program, other, named),
    ]


def _lost_ties(own: ModelProgram, other: ModelProgram, named: set[str]) -> list[Finding]:
    apart = {p.name for p in other.parameters}
    return [
        _mismatch(
            "warning",
            alias,
            f"Both ways to build must tie the same tensors, got {alias} tied to {p.name} by the "
            "constructor and a separate tensor on meta: to_empty takes ties apart.",
        )
        for p in own.parameters
        for alias in p.aliases
        if alias in apart and alias not in named
    ]


def _differences(own: ModelProgram, other: ModelProgram, named: set[str]) -> list[Finding]:
    """Parameters that the two builds draw otherwise, where nothing else tells."""
    then = {p.name: p for p in other.parameters}
    found = []
    for parameter in own.parameters:
        twin = then.get(parameter.name)
        if twin is None or str(twin.distribution) == str(parameter.distribution):
            continue
        if twin.distribution.kind == "unset" or named:
            continue
        message = (
            f"Both ways to build must give one init, got {parameter.distribution} from the "
            f"constructor and {twin.distribution} on meta."
        )
        found.append(_mismatch("error", parameter.name, message))
    return found


def _mismatch(severity: Severity, where: str, message: str) -> Finding:
    return Finding(rule="build-mismatch", severity=severity, where=where, fact=message)
