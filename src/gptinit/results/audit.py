"""The result of an audit; reports read nothing else."""

from dataclasses import dataclass

from gptinit.config import ModelFacts
from gptinit.facts.distributions import Distribution
from gptinit.facts.vocabulary import Build, Role
from gptinit.results.profile import Finding, Note
from gptinit.results.program import ParameterProgram

__all__ = ["Audit", "AuditedParameter", "ClosestScheme"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedParameter:
    """One parameter with its distribution expected under a scheme.

    Attributes:
        program: the parameter and its actual distribution.
        expected: its distribution under the scheme; None where the scheme has no rule for it.
        ratio: actual over expected RMS (std where the mean is zero); None where undefined.
        hint: the likely cause of the ratio, such as "sqrt(2 n_layer): residual scaling missing";
            None where the ratio is not a known one.
    """

    program: ParameterProgram
    expected: Distribution | None = None
    ratio: float | None = None
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosestScheme:
    """The known scheme that a program matches best.

    Attributes:
        name: its slug.
        exact: whether every parameter that the scheme has a rule for matches.
        differs: roles that do not match, in the order of `vocabulary.ROLES`.
    """

    name: str
    exact: bool
    differs: tuple[Role, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """How a model is initialised, and what is wrong with that.

    Attributes:
        torch: version of torch that traced it.
        model: its name, source and shape.
        build: "own", "meta" or "both".
        claim: slug of the scheme that it should match; None if none was named.
        closest: the known scheme that matches best; None where none has a rule for its roles.
        against: slug of the scheme that `expected` is taken from: the claim, else the closest
            one; None without any.
        parameters: every parameter and buffer, compared with that scheme.
        findings: what is wrong, worst first.
        notes: how the result was obtained.
    """

    torch: str
    model: ModelFacts
    build: Build
    claim: str | None
    closest: ClosestScheme | None
    against: str | None = None
    parameters: tuple[AuditedParameter, ...]
    findings: tuple[Finding, ...] = ()
    notes: tuple[Note, ...] = ()
