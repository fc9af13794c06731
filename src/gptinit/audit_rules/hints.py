"""Ratios of a real to an expected std with a known cause."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gptinit.audit_rules.context import INPUT_ROLES, RESIDUAL_ROLES
from gptinit.config import ModelFacts

__all__ = [
    "AMBIGUOUS",
    "ANY_ROLE",
    "HINTS",
    "RESIDUAL_EXTRA",
    "RESIDUAL_MISSING",
    "RESIDUAL_TWICE",
    "Hint",
    "hint_of",
]

AMBIGUOUS = 0.005
"""Relative; causes whose ratios are closer than this are given together."""

ANY_ROLE = "*"
"""Key of `Hint.rules` for parameters of every role."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A ratio of a real to an expected std with a known cause.

    Attributes:
        formula: the ratio, as a person writes it.
        meaning: its cause.
        value: the ratio for a model and an expected std; not positive or not finite where the model
            has no such ratio.
        rules: role of a parameter (or ANY_ROLE) to the rule that it breaks by this ratio; empty
            where the ratio alone does not tell which rule is broken.
    """

    formula: str
    meaning: str
    value: Callable[[ModelFacts, float], float]
    rules: Mapping[str, str] = field(default_factory=dict)


def _over(top: float, below: float) -> float:
    """Their quotient, NaN for a zero below."""
    return top / below if below else math.nan


def _cut(sigmas: float) -> float:
    """Std of a standard normal truncated at so many sigmas, to both sides."""
    mass = math.erf(sigmas / math.sqrt(2))
    edge = 2 * sigmas * math.exp(-sigmas * sigmas / 2) / math.sqrt(2 * math.pi)
    return math.sqrt(1 - edge / mass)


RESIDUAL_MISSING = Hint(
    "sqrt(2 n_layer)",
    "residual scaling missing",
    lambda m, _: math.sqrt(2 * m.n_layer),
    rules=dict.fromkeys(RESIDUAL_ROLES, "residual-scaling-missing"),
)
RESIDUAL_EXTRA = Hint(
    "1/sqrt(2 n_layer)",
    "residual scaling applied where none is expected, or applied twice",
    lambda m, _: _over(1, math.sqrt(2 * m.n_layer)),
    rules=dict.fromkeys(RESIDUAL_ROLES, "scaled-twice")
    | dict.fromkeys(INPUT_ROLES, "residual-scaling-wrong-tensor"),
)
RESIDUAL_TWICE = Hint(
    "1/(2 n_layer)",
    "residual scaling twice where none is expected",
    lambda m, _: _over(1, 2 * m.n_layer),
    rules=dict.fromkeys(RESIDUAL_ROLES, "scaled-twice"),
)

HINTS: tuple[Hint, ...] = (
    RESIDUAL_MISSING,
    RESIDUAL_EXTRA,
    Hint(
        "sqrt(n_layer)",
        "residual scaling by 1/sqrt(n_layer) missing",
        lambda m, _: math.sqrt(m.n_layer),
    ),
    Hint(
        "1/sqrt(n_layer)",
        "residual scaling by 1/sqrt(n_layer) where none is expected",
        lambda m, _: _over(1, math.sqrt(m.n_layer)),
    ),
    RESIDUAL_TWICE,
    Hint(
        "sqrt(n_layer/(n_layer + 1))",
        "n_layer + 1 in place of n_layer",
        lambda m, _: math.sqrt(m.n_layer / (m.n_layer + 1)),
    ),
    Hint(
        "sqrt((n_layer + 1)/n_layer)",
        "n_layer in place of n_layer + 1",
        lambda m, _: math.sqrt(_over(m.n_layer + 1, m.n_layer)),
    ),
    Hint(
        "sqrt(2)",
        "one branch a layer counted where there are two, or a gain of sqrt(2) added",
        lambda _, __: math.sqrt(2),
    ),
    Hint(
        "1/sqrt(2)",
        "q, k and v counted as one matrix of fan_out 3 n_embd, or a factor 2 in a root",
        lambda _, __: math.sqrt(0.5),
    ),
    Hint("1/sqrt(3)", "a std used as the bound of a uniform", lambda _, __: math.sqrt(1 / 3)),
    Hint("sqrt(3)", "the bound of a uniform used as a std", lambda _, __: math.sqrt(3)),
    Hint(
        "sqrt(n_embd)",
        "unit variance where 1/sqrt(n_embd) is expected",
        lambda m, _: math.sqrt(m.n_embd),
    ),
    Hint(
        "1/sqrt(n_embd)",
        "divided by sqrt(n_embd) once more",
        lambda m, _: _over(1, math.sqrt(m.n_embd)),
    ),
    Hint("0.9866", "cut at 3 sigma without correction, not a fault", lambda _, __: _cut(3)),
    Hint("0.8796", "cut at 2 sigma without correction", lambda _, __: _cut(2)),
    Hint("1/0.8796", "a cut at 2 sigma is missing", lambda _, __: 1 / _cut(2)),
    Hint("0.02", "multiplied by 0.02", lambda _, __: 0.02),
    Hint(
        "the expected std",
        "variance given for std",
        lambda _, std: std if std < 1 else math.nan,
        rules={ANY_ROLE: "std-vs-variance"},
    ),
    Hint(
        "1/sqrt(the expected std)",
        "square root of the std taken once too often",
        lambda _, std: _over(1, math.sqrt(std)) if std < 1 else math.nan,
        rules={ANY_ROLE: "std-vs-variance"},
    ),
)
"""Every ratio with a known cause."""


def hint_of(
    ratio: float, facts: ModelFacts, expected_std: float, tolerance: float = 1e-4
) -> str | None:
    """The known cause of `ratio`, with its formula; None where it is 1 or has none.

    Args:
        ratio: real over expected std.
        facts: the model's shape.
        expected_std: in units of the weight entries.
        tolerance: relative error of the ratio itself; at most AMBIGUOUS counts.

    Returns:
        The nearest cause and all others within AMBIGUOUS of the ratio, joined by "or".

    Example:
        >>> facts = ModelFacts(name="m", source="m.py", n_layer=12, n_embd=250, bias=True,
        ...                    tied=True, n_params=1)
        >>> hint_of(24**0.5, facts, 0.004)
        'sqrt(2 n_layer): residual scaling missing'
        >>> hint_of(0.5773, facts, 0.004)
        '1/sqrt(3): a std used as the bound of a uniform'
    """
    room = min(max(tolerance, 1e-4), AMBIGUOUS)
    if not (math.isfinite(ratio) and ratio > 0) or abs(ratio - 1) <= room:
        return None
    near = [(abs(h.value(facts, expected_std) / ratio - 1), h) for h in HINTS]
    near = sorted((pair for pair in near if pair[0] <= AMBIGUOUS), key=lambda pair: pair[0])
    if not near or near[0][0] > room:
        return None
    return " or ".join(f"{h.formula}: {h.meaning}" for _, h in near)
