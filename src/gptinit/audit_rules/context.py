"""What rules judge a program by: the claim, and the scale of the matrices of each block."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gptinit.audit_rules.matching import STANDARD_ERRORS, Expectations, relative_error, same_law
from gptinit.config import ModelFacts
from gptinit.facts.distributions import Distribution
from gptinit.facts.schemes import Scheme
from gptinit.results.program import ModelProgram, ParameterProgram

__all__ = ["INPUT_ROLES", "NEAR", "RESIDUAL_ROLES", "SURE", "Context", "Layer", "make_context"]

INPUT_ROLES = ("q", "k", "v", "qkv", "mlp_up", "mlp_gate")
"""Matrices of a block that read from the residual stream."""

RESIDUAL_ROLES = ("attn_out", "mlp_down")
"""Matrices of a block that write to the residual stream."""

NEAR = 0.02
"""Relative; a std this near to a number may be meant to be it (a cut at 3 sigma, L + 1 for L)."""

SURE = 1e-3
"""Relative; a std this near to a number is meant to be it: coincidences are rare."""

_RULES, _XAVIER = 4, 2
_FEW = 0.2  # relative error of a std from which it says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One block and the scale of the matrices that read from the stream.

    Attributes:
        index: 0-based.
        parameters: its parameters.
        units: for each rule of width (see `_divisor`), the median over the input matrices (see
            `_inputs`) of the std times what that rule divides by; 0 where none is random.
    """

    index: int
    parameters: tuple[ParameterProgram, ...]
    units: tuple[float, ...]

    @property
    def std(self) -> float:
        """Median std of its input matrices; 0 if none is random."""
        return self.units[0]

    def of(self, *roles: str) -> tuple[ParameterProgram, ...]:
        """Its random parameters that have one of the roles."""
        return tuple(p for p in self.parameters if p.role in roles and p.distribution.std > 0)

    @property
    def writers(self) -> tuple[ParameterProgram, ...]:
        """Its random matrices that write to the stream, of branches without a role of theirs too.

        The output of linear attention, of a recurrence, of a convolution.
        """
        return tuple(
            p
            for p in self.parameters
            if p.distribution.std > 0
            and (p.role in RESIDUAL_ROLES or (p.role == "other" and p.writes_stream and p.fan_in))
        )

    def factors(self, parameter: ParameterProgram) -> tuple[float, ...]:
        """Std of a parameter over the std that the input matrices' rule would give it.

        One factor for each rule of width, as the std alone does not say which one the code uses.
        """
        std = parameter.distribution.std
        return tuple(
            std * _divisor(rule, parameter) / unit
            for rule, unit in enumerate(self.units)
            if unit and (rule == 0 or parameter.fan_in)
        )

    def is_factor(
        self, parameter: ParameterProgram, factor: float, *, readings: int = 2, room: float = NEAR
    ) -> bool:
        """Whether one of the first `readings` factors is `factor`, within the error of the std."""
        error = STANDARD_ERRORS * relative_error(parameter.distribution)
        factors = self.factors(parameter)[:readings]
        return error < _FEW and any(abs(f / factor - 1) <= room + error for f in factors)

    def unscaled(self, parameter: ParameterProgram, *, surely: bool = False) -> bool:
        """Whether it may be (with `surely`: is) drawn by the rule of the input matrices."""
        if surely:
            return self.is_factor(parameter, 1.0, room=SURE)
        return self.is_factor(parameter, 1.0, readings=_RULES)

    def depth_scaled(
        self, parameter: ParameterProgram, facts: ModelFacts, *, surely: bool = False
    ) -> bool:
        """Whether its std may be (with `surely`: is) divided by a known factor of the depth."""
        room, n_layer = SURE if surely else NEAR, facts.n_layer
        depths = (2 * n_layer, n_layer, 2 * (self.index + 1), 2 * (n_layer + 1))
        wang = [c / (n_layer * math.sqrt(facts.n_embd)) for c in (1.0, 2.0)] if n_layer else []
        std = parameter.distribution.std
        error = SURE + STANDARD_ERRORS * relative_error(parameter.distribution)
        return any(d > 1 and self.is_factor(parameter, d**-0.5, room=room) for d in depths) or any(
            abs(std / w - 1) <= error for w in wang
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a rule knows in addition to the program.

    Attributes:
        claim: the scheme that the model is checked against; None if none was named.
        expected: what the claim draws each parameter from, by name.
        agreed: names of the parameters that match the claim.
        layers: every block, in order.
    """

    claim: Scheme | None
    expected: Mapping[str, Distribution]
    agreed: frozenset[str]
    layers: tuple[Layer, ...]

    def free(self, parameter: ParameterProgram) -> bool:
        """Whether the claim says nothing of it, so that it is judged by the rest of the model."""
        return parameter.name not in self.expected

    def broken(self, program: ModelProgram) -> Iterator[tuple[ParameterProgram, Distribution]]:
        """Every parameter that violates the claim, with what the claim expects."""
        for parameter in program.parameters:
            if parameter.name in self.expected and parameter.name not in self.agreed:
                yield parameter, self.expected[parameter.name]

    def siblings(self, parameter: ParameterProgram, program: ModelProgram) -> int:
        """How many other parameters of its kind (matrix or vector) have its distribution."""
        return sum(
            p.name != parameter.name
            and len(p.shape) == len(parameter.shape)
            and p.kind == parameter.kind
            and same_law(p.distribution, parameter.distribution)
            for p in program.parameters
        )


def make_context(program: ModelProgram, claim: Expectations | None = None) -> Context:
    """Everything that rules share, computed once for a program."""
    return Context(
        claim=claim.scheme if claim else None,
        expected=claim.expected if claim else {},
        agreed=claim.agreed if claim else frozenset(),
        layers=_layers(program),
    )


def _layers(program: ModelProgram) -> tuple[Layer, ...]:
    blocks: dict[int, list[ParameterProgram]] = {}
    for parameter in program.parameters:
        if parameter.layer is not None:
            blocks.setdefault(parameter.layer, []).append(parameter)
    width = program.facts.n_embd
    return tuple(_layer(index, tuple(blocks[index]), width) for index in sorted(blocks))


def _layer(index: int, parameters: tuple[ParameterProgram, ...], n_embd: int) -> Layer:
    inputs = _inputs([p for p in parameters if p.distribution.std > 0], n_embd)
    units = tuple(
        statistics.median_high(  # one of the values
            [p.distribution.std * _divisor(rule, p) for p in inputs if rule == 0 or p.fan_in]
            or [0.0]
        )
        for rule in range(_RULES)
    )
    return Layer(index=index, parameters=parameters, units=units)


def _inputs(drawn: Sequence[ParameterProgram], n_embd: int) -> Sequence[ParameterProgram]:
    """The matrices that tell the scale of a block: those that read from the stream.

    Where none has a role (one makes queries, keys, values and hidden units, or there is no
    attention), all that may read it. Those that a torch module draws by itself say nothing of the
    scale that the model's own code has in mind, where that draws any.
    """
    found = [p for p in drawn if p.role in INPUT_ROLES] or [
        p for p in drawn if p.role == "other" and p.writes_stream is False and p.fan_in == n_embd
    ]
    return [p for p in found if not (p.history and p.history[-1].by_default)] or found


def _divisor(rule: int, parameter: ParameterProgram) -> float:
    """What the std of a matrix is divided by under a rule of width.

    By number of the rule: nothing, sqrt(fan_in), sqrt(fan_in + fan_out), and the spectral rule's
    sqrt(fan_in)/min(1, sqrt(fan_out/fan_in)).
    """
    fan_in = parameter.fan_in or 1
    fan_out = parameter.fan_out or fan_in
    if rule == 0:
        return 1.0
    if rule == 1:
        return math.sqrt(fan_in)
    both = fan_in + fan_out if rule == _XAVIER else fan_in * max(1.0, fan_in / fan_out)
    return math.sqrt(both)
