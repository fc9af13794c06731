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
        is_close: whether more of the matrices match than differ; where not, nothing is expected.
        factor: what all stds of the scheme are multiplied by to match best.
        cut: number of stds at which all its normals are truncated to match best; None for nowhere.
    """

    name: str
    exact: bool
    differs: tuple[Role, ...]
    is_close: bool = True
    factor: float = 1.0
    cut: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """How a model is initialised, and what is wrong with that.

    Attributes:
        torch: version of torch that traced it.
        model: its name, source and shape.
        build: "own", "meta" or "both".
        builder: what built it, in words: "its constructor", "build()".
        claim: slug of the scheme that it should match; None if none was named.
        closest: the known scheme that matches best; None where none has a rule for its roles.
        parameters: every parameter and buffer, compared with the claim, else with the closest
            scheme if it is close.
        findings: what is wrong, worst first.
        notes: how the result was obtained.
    """

    torch: str
    model: ModelFacts
    build: Build
    builder: str = "its constructor"
    claim: str | None
    closest: ClosestScheme | None
    parameters: tuple[AuditedParameter, ...]
    findings: tuple[Finding, ...] = ()
    notes: tuple[Note, ...] = ()
