"""The rule that explains how a parameter differs from what the claim expects."""

import math
from collections.abc import Iterator

from gptinit.audit_rules.context import RESIDUAL_ROLES, Context
from gptinit.audit_rules.grouping import Hit
from gptinit.audit_rules.hints import ANY_ROLE, HINTS, RESIDUAL_MISSING, Comparison, hint_of
from gptinit.audit_rules.matching import STANDARD_ERRORS, ratio_of, relative_error
from gptinit.config import ModelFacts
from gptinit.facts.algebra import leaves, simplified
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


def blamed(program: ModelProgram, context: Context) -> dict[str, list[Hit]]:
    """Hits on every parameter that differs from the claim, by the rule that explains each."""
    found: dict[str, list[Hit]] = {}
    for parameter, expected in context.broken(program):
        rule = blame(parameter, expected, program.facts, context)
        if rule is not None:
            severity: Severity = "warning" if rule == "wrong-distribution" else "error"
            message = _message(parameter, expected, program.facts, context)
            found.setdefault(rule, []).append(Hit(parameter, severity, message))
    return found


def blame(
    parameter: ParameterProgram, expected: Distribution, facts: ModelFacts, context: Context
) -> str | None:
    """The rule that explains how `parameter` differs from `expected`; None for unset memory."""
    drawn = parameter.distribution
    if any(isinstance(leaf, Unset) for leaf in leaves(drawn)):
        return None
    if parameter.role in ("norm_weight", "norm_bias", "linear_bias"):
        return _blame_vector(parameter, expected)
    ratio = ratio_of(drawn, expected)
    if ratio is None or ratio == 0:
        return "zeros" if ratio == 0 else "role-std-mismatch"
    if _only_the_kind(drawn, expected, ratio):
        return "wrong-distribution"
    room = _CLOSE + STANDARD_ERRORS * relative_error(drawn)
    causes = _causes(parameter, expected, facts, context)
    fitting = (rule for rule, value in causes if value > 0 and abs(ratio / value - 1) <= room)
    return next(fitting, "role-std-mismatch")


def _blame_vector(parameter: ParameterProgram, expected: Distribution) -> str:
    """The rule for a norm's weight, or a bias."""
    if parameter.role == "norm_weight":
        return "norm-weight-wrong"
    return "bias-nonzero" if expected == Constant(0.0) else "role-std-mismatch"


def _only_the_kind(drawn: Distribution, expected: Distribution, ratio: float) -> bool:
    """Whether the std is right, apart from a truncation, and the kind of distribution is not."""
    drawn, expected = simplified(drawn), simplified(expected)
    if abs(ratio - 1) <= _EXACT + STANDARD_ERRORS * relative_error(drawn):
        return True
    one, other = _std_before_cut(drawn), _std_before_cut(expected)
    cut = isinstance(drawn, TruncatedNormal) or isinstance(expected, TruncatedNormal)
    return cut and one is not None and other is not None and math.isclose(one, other, rel_tol=1e-6)


def _std_before_cut(d: Distribution) -> float | None:
    """The std of a normal before it is truncated; None for other kinds."""
    if isinstance(d, TruncatedNormal):
        return d.scale
    return d.std if isinstance(d, Normal) else None


def _causes(
    parameter: ParameterProgram, expected: Distribution, facts: ModelFacts, context: Context
) -> Iterator[tuple[str, float]]:
    """Pairs (rule, the ratio that breaking it leaves behind), the most likely cause first."""
    if _scales_by_depth(parameter, context):
        for ratio in _missing_ratios(parameter, expected.std, facts, context):
            yield RESIDUAL_MISSING.rules[parameter.role], ratio
    for hint in HINTS:
        if hint is not RESIDUAL_MISSING and parameter.role in hint.rules:
            yield hint.rules[parameter.role], hint.value(facts, expected.std)
    yield from _fan_ratios(parameter, facts)
    for hint in HINTS:
        if ANY_ROLE in hint.rules:
            yield hint.rules[ANY_ROLE], hint.value(facts, expected.std)


def _scales_by_depth(parameter: ParameterProgram, context: Context) -> bool:
    claim = context.claim
    return claim is not None and parameter.role in RESIDUAL_ROLES and claim.by_depth(parameter.role)


def _missing_ratios(
    parameter: ParameterProgram, std: float, facts: ModelFacts, context: Context
) -> Iterator[float]:
    """The ratios that a missing scaling leaves: sqrt(2 n_layer), and the claim's own factor.

    The second is the std of mlp_up over that of the projection.
    """
    yield RESIDUAL_MISSING.value(facts, std)
    assert context.claim is not None  # _scales_by_depth
    base = context.claim.expected(
        "mlp_up", facts, layer=parameter.layer, fan_in=facts.n_embd, fan_out=facts.d_ff
    )
    if base is not None and std > 0 and base.std / std > 1 + _CLOSE:
        yield base.std / std


def _fan_ratios(parameter: ParameterProgram, facts: ModelFacts) -> Iterator[tuple[str, float]]:
    """The ratios that wrong fans leave: those of a packed q, k, v, and fan_out for fan_in."""
    fan_in, fan_out = parameter.fan_in, parameter.fan_out
    if parameter.role == "qkv" and fan_in and fan_out and facts.n_layer:
        packed = 2 / (fan_in + fan_out)
        apart = 2 / (fan_in + fan_out / 3)
        yield "fan-in-wrong", math.sqrt(packed / apart)
    if parameter.layer is not None and fan_in and fan_out and fan_in != fan_out:
        yield "fan-in-wrong", math.sqrt(fan_in / fan_out)


def _message(
    parameter: ParameterProgram, expected: Distribution, facts: ModelFacts, context: Context
) -> str:
    """What the claim says, what is there, their ratio and its known cause."""
    assert context.claim is not None  # only a claim is broken
    gain = "" if parameter.gain is None else f" (output RMS {parameter.gain:.4g} x input RMS)"
    drawn = f"{_written(parameter.distribution)}{gain}"
    fact = f"{context.claim.slug} draws {parameter.role} from {_written(expected)}, got {drawn}"
    ratio = ratio_of(parameter.distribution, expected)
    if ratio is None or parameter.role == "norm_weight":
        return f"{fact}."
    error = STANDARD_ERRORS * relative_error(parameter.distribution)
    compared = Comparison(
        role=parameter.role, drawn=parameter.distribution, expected=expected,
        by_depth=context.claim.by_depth(parameter.role), facts=facts, fan_in=parameter.fan_in,
    )  # fmt: skip
    hint = hint_of(compared, ratio, error)
    return f"{fact}: ratio {ratio:.4g}" + (f" = {hint}." if hint else ".")


def _written(d: Distribution) -> str:
    """A distribution, with its std where the name does not show it."""
    is_hidden = isinstance(d, (TruncatedNormal, Uniform, Scaled))
    return f"{d} (std {d.std:.4g})" if is_hidden else str(d)
