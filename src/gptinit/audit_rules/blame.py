"""Which rule names the difference between a parameter and what the claim says of it."""

import math
from collections.abc import Iterator

from gptinit.audit_rules.context import INPUT_ROLES, RESIDUAL_ROLES, Context
from gptinit.audit_rules.grouping import Hit
from gptinit.audit_rules.hints import hint_of
from gptinit.audit_rules.matching import STANDARD_ERRORS, leaves, ratio_of, relative_error, settled
from gptinit.config import ModelFacts
from gptinit.facts.distributions import (
    Constant,
    Distribution,
    Normal,
    Scaled,
    TruncatedNormal,
    Uniform,
    Unset,
)
from gptinit.facts.vocabulary import Severity
from gptinit.results.program import ModelProgram, ParameterProgram

__all__ = ["blame", "blamed"]

_EXACT = 1e-4  # relative: several rules may be meant, and each gives its ratio exactly
_CLOSE = 1e-3  # as _EXACT, for what a person may have rounded to three digits


def blamed(rule: str, program: ModelProgram, context: Context) -> Iterator[Hit]:
    """Every parameter that breaks the claim in the way that `rule` names."""
    for parameter, expected in context.broken(program):
        if blame(parameter, expected, program.facts, context) == rule:
            severity: Severity = "warning" if rule == "wrong-distribution" else "error"
            yield parameter, severity, _sentence(parameter, expected, program.facts, context)


def blame(
    parameter: ParameterProgram, expected: Distribution, facts: ModelFacts, context: Context
) -> str | None:
    """The rule that names how `parameter` differs from what is expected; None for unset memory."""
    law = parameter.distribution
    if any(isinstance(leaf, Unset) for leaf in leaves(law)):
        return None
    if parameter.role in ("norm_weight", "norm_bias", "linear_bias"):
        return _blame_vector(parameter, expected)
    ratio = ratio_of(law, expected)
    if ratio is None or ratio == 0:
        return "zeros" if ratio == 0 else "role-std-mismatch"
    if _only_the_kind(law, expected, ratio):
        return "wrong-distribution"
    room = _CLOSE + STANDARD_ERRORS * relative_error(law)
    rules = _ratios(parameter, expected, facts, context)
    return next((r for r, value in rules if abs(ratio / value - 1) <= room), "role-std-mismatch")


def _blame_vector(parameter: ParameterProgram, expected: Distribution) -> str:
    """The rule for a norm's weight, or a bias."""
    if parameter.role == "norm_weight":
        return "norm-weight-wrong"
    return "bias-nonzero" if expected == Constant(0.0) else "role-std-mismatch"


def _only_the_kind(law: Distribution, expected: Distribution, ratio: float) -> bool:
    """Whether the std is as wide as it should be, but for a cut, and the law another."""
    law, expected = settled(law), settled(expected)
    if abs(ratio - 1) <= _EXACT + STANDARD_ERRORS * relative_error(law):
        return True
    before = _before_cut(law), _before_cut(expected)
    cut = isinstance(law, TruncatedNormal) or isinstance(expected, TruncatedNormal)
    return cut and None not in before and math.isclose(before[0] or 0, before[1] or 0, rel_tol=1e-6)


def _before_cut(law: Distribution) -> float | None:
    """The std of a normal before it was cut; None of what is not normal."""
    match law:
        case TruncatedNormal(scale=scale):
            return scale
        case Normal(std=std):
            return std
        case _:
            return None


def _ratios(
    parameter: ParameterProgram, expected: Distribution, facts: ModelFacts, context: Context
) -> Iterator[tuple[str, float]]:
    """Rules and the ratio that each leaves behind, in the order in which they are believed."""
    depth, std = math.sqrt(2 * facts.n_layer), expected.std
    if parameter.role in RESIDUAL_ROLES:
        for missing in _missing_ratios(parameter, std, depth, facts, context):
            yield "residual-scaling-missing", missing
        if depth > 1:
            yield "scaled-twice", 1 / depth
            yield "scaled-twice", 1 / depth**2
    elif parameter.role in INPUT_ROLES and depth > 1:
        yield "residual-scaling-wrong-tensor", 1 / depth
    fan_in, fan_out = parameter.fan_in, parameter.fan_out
    if parameter.role == "qkv" and fan_in and fan_out and facts.n_layer:
        packed = 2 / (fan_in + fan_out)
        apart = 2 / (fan_in + fan_out / 3)
        yield "fan-in-wrong", math.sqrt(packed / apart)
    if parameter.layer is not None and fan_in and fan_out and fan_in != fan_out:
        yield "fan-in-wrong", math.sqrt(fan_in / fan_out)
    if 0 < std < 1:
        yield "std-vs-variance", std
        yield "std-vs-variance", 1 / math.sqrt(std)


def _missing_ratios(
    parameter: ParameterProgram,
    std: float,
    depth: float,
    facts: ModelFacts,
    context: Context,
) -> Iterator[float]:
    """Ratios of a projection whose scaling was forgotten; none if the claim has no scaling."""
    claim = context.claim
    rule = claim.rules.get(parameter.role) if claim else None
    if claim is None or rule is None or not {"n_layer", "layer"} & rule.variables:
        return
    if depth > 1:
        yield depth
    base = claim.expected(
        "mlp_up", facts, layer=parameter.layer, fan_in=facts.n_embd, fan_out=facts.d_ff
    )
    if base is not None and std > 0 and base.std / std > 1 + _CLOSE:
        yield base.std / std


def _sentence(
    parameter: ParameterProgram, expected: Distribution, facts: ModelFacts, context: Context
) -> str:
    """What the claim says, what is there, their ratio and what that tells."""
    slug = context.claim.slug if context.claim else ""
    said = f"{slug} draws {parameter.role} from {_written(expected)}, got {_real(parameter)}"
    ratio = ratio_of(parameter.distribution, expected)
    if ratio is None or parameter.role == "norm_weight":
        return f"{said}."
    error = STANDARD_ERRORS * relative_error(parameter.distribution)
    hint = hint_of(ratio, facts, expected.std, error)
    return f"{said}: ratio {ratio:.4g}" + (f" = {hint}." if hint else ".")


def _written(law: Distribution) -> str:
    """A law with its std, where its name does not show that."""
    wide = isinstance(law, (TruncatedNormal, Uniform, Scaled))
    return f"{law} (std {law.std:.4g})" if wide else str(law)


def _real(parameter: ParameterProgram) -> str:
    """What a parameter is; of a norm its gain as well."""
    gain = "" if parameter.gain is None else f" (output RMS {parameter.gain:.4g} x input RMS)"
    return f"{_written(parameter.distribution)}{gain}"
