"""The one shape of an audit's result; the reports read nothing else."""

from dataclasses import dataclass

from gptinit.config import ModelFacts
from gptinit.facts.distributions import Distribution
from gptinit.facts.vocabulary import Build, Role
from gptinit.results.profile import Finding, Note
from gptinit.results.program import ParameterProgram

__all__ = ["Audit", "AuditedParameter", "ClosestScheme"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedParameter:
    """One parameter beside what a scheme says of it.

    Attributes:
        program: what it is, and what it is really drawn from.
        expected: what the scheme would draw it from; None where the scheme is silent.
        ratio: real over expected RMS (std where the mean is zero); None where undefined.
        hint: what a tell-tale ratio means, such as "sqrt(2 n_layer): residual scaling missing";
            None where it tells nothing.
    """

    program: ParameterProgram
    expected: Distribution | None = None
    ratio: float | None = None
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosestScheme:
    """The known scheme that a program is most like.

    Attributes:
        name: its slug.
        exact: whether every parameter that the scheme speaks of agrees.
        differs: roles that do not, in the order of `vocabulary.ROLES`.
    """

    name: str
    exact: bool
    differs: tuple[Role, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """How a model is initialised, and what is wrong with that.

    Attributes:
        torch: version that traced it.
        model: its name, source and shape.
        build: "own", "meta" or "both".
        claim: slug of the scheme that it was held to; None if none was named.
        closest: the known scheme most like it; None where none has a rule for its roles.
        against: slug of the scheme beside which parameters are shown: the claim, else what the
            architecture is documented to have, else the closest one; None without any.
        parameters: every parameter and buffer, beside the claim or else the closest scheme.
        findings: what is wrong, worst first.
        notes: how the result came to be.
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
