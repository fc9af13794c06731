"""Ratios of a real to an expected std with a known cause."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gptinit.audit_rules.context import INPUT_ROLES, RESIDUAL_ROLES
from gptinit.config import ModelFacts
from gptinit.facts.algebra import simplified
from gptinit.facts.distributions import Distribution, TruncatedNormal, Uniform

__all__ = [
    "AMBIGUOUS",
    "ANY_ROLE",
    "HINTS",
    "RESIDUAL_EXTRA",
    "RESIDUAL_MISSING",
    "RESIDUAL_TWICE",
    "Comparison",
    "Hint",
    "hint_of",
]

AMBIGUOUS = 0.005
"""Relative; causes whose ratios are closer than this are given together."""

_TWO = 2  # layers, of which sqrt(2 n_layer) is 2: a factor that rules have for other reasons

ANY_ROLE = "*"
"""Key of `Hint.rules` for parameters of every role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A parameter's distribution next to the expected one.

    Attributes:
        role: of the parameter.
        drawn: what it is drawn from.
        expected: what the scheme draws it from.
        by_depth: whether the scheme's rule for the role depends on the depth.
        facts: the model's shape.
        fan_in: inputs that one output of the parameter sums over, if that is known.
    """

    role: str
    drawn: Distribution
    expected: Distribution
    by_depth: bool
    facts: ModelFacts
    fan_in: int | None = None


@dataclass(frozen=True, slots=True)
class Hint:
    """A ratio of a real to an expected std with a known cause.

    Attributes:
        formula: the ratio, as a person writes it; a key of _RATIOS.
        meaning: its cause.
        fits: whether the cause can be the one where a parameter has the ratio; other parameters
            have it by coincidence.
        rules: role of a parameter (or ANY_ROLE) to the rule that it breaks by this ratio; empty
            where the ratio alone does not tell which rule is broken.
    """

    formula: str
    meaning: str
    fits: Callable[[Comparison], bool] = lambda _: True
    rules: Mapping[str, str] = field(default_factory=dict)

    def value(self, facts: ModelFacts, std: float) -> float:
        """The ratio for a model and an expected std; not positive or not finite without one."""
        return _RATIOS[self.formula](facts, std)


def _over(top: float, below: float) -> float:
    """Their quotient, NaN for a zero below."""
    return top / below if below else math.nan


def _cut(sigmas: float) -> float:
    """Std of a standard normal truncated at so many sigmas, to both sides."""
    mass = math.erf(sigmas / math.sqrt(2))
    edge = 2 * sigmas * math.exp(-sigmas * sigmas / 2) / math.sqrt(2 * math.pi)
    return math.sqrt(1 - edge / mass)


_RATIOS: Mapping[str, Callable[[ModelFacts, float], float]] = MappingProxyType(
    {
        "sqrt(2 n_layer)": lambda m, _: math.sqrt(2 * m.n_layer),
        "1/sqrt(2 n_layer)": lambda m, _: _over(1, math.sqrt(2 * m.n_layer)),
        "1/(2 n_layer)": lambda m, _: _over(1, 2 * m.n_layer),
        "sqrt(n_layer)": lambda m, _: math.sqrt(m.n_layer),
        "1/sqrt(n_layer)": lambda m, _: _over(1, math.sqrt(m.n_layer)),
        "sqrt(n_layer/(n_layer + 1))": lambda m, _: math.sqrt(m.n_layer / (m.n_layer + 1)),
        "sqrt((n_layer + 1)/n_layer)": lambda m, _: math.sqrt(_over(m.n_layer + 1, m.n_layer)),
        "sqrt(n_embd)": lambda m, _: math.sqrt(m.n_embd),
        "1/sqrt(n_embd)": lambda m, _: _over(1, math.sqrt(m.n_embd)),
        "sqrt(2)": lambda _, __: math.sqrt(2),
        "1/sqrt(2)": lambda _, __: math.sqrt(0.5),
        "sqrt(3)": lambda _, __: math.sqrt(3),
        "1/sqrt(3)": lambda _, __: math.sqrt(1 / 3),
        "0.9866": lambda _, __: _cut(3),
        "0.8796": lambda _, __: _cut(2),
        "1/0.8796": lambda _, __: 1 / _cut(2),
        "0.02": lambda _, __: 0.02,
        "the expected std": lambda _, std: std if std < 1 else math.nan,
        "1/sqrt(the expected std)": lambda _, s: _over(1, math.sqrt(s)) if s < 1 else math.nan,
    }
)
"""Ratio, as a person writes it -> its value for a model and an expected std."""


def _lacks_depth(c: Comparison) -> bool:
    """Whether a factor of the depth is expected, so that it can be missing or another one."""
    return c.by_depth and c.role in RESIDUAL_ROLES


def _has_depth(c: Comparison) -> bool:
    """Whether a matrix of a block, of which no factor of the depth is expected, may have one.

    Not in one or two layers, where such factors are those of other rules too, nor where a rule of
    the fan_in explains the ratio.
    """
    in_block = c.role in (*RESIDUAL_ROLES, *INPUT_ROLES)
    by_width = math.sqrt(c.facts.n_embd / c.fan_in) if c.fan_in else math.nan
    is_by_width = math.isclose(c.drawn.std, by_width * c.expected.std, rel_tol=AMBIGUOUS)
    return in_block and not c.by_depth and not is_by_width and c.facts.n_layer > _TWO


def _is(*kinds: type[Distribution]) -> Callable[[Distribution], bool]:
    return lambda law: isinstance(simplified(law), kinds)


_is_uniform, _is_cut = _is(Uniform), _is(TruncatedNormal)


def _is_about(number: float) -> Callable[[Comparison], bool]:
    return lambda c: math.isclose(c.drawn.std, number, rel_tol=AMBIGUOUS)


_TWICE = dict.fromkeys(RESIDUAL_ROLES, "scaled-twice")
_SQUARED = {ANY_ROLE: "std-vs-variance"}

RESIDUAL_MISSING = Hint(
    "sqrt(2 n_layer)", "residual scaling missing", _lacks_depth,
    dict.fromkeys(RESIDUAL_ROLES, "residual-scaling-missing"),
)  # fmt: skip
RESIDUAL_EXTRA = Hint(
    "1/sqrt(2 n_layer)", "residual scaling applied where none is expected", _has_depth,
    _TWICE | dict.fromkeys(INPUT_ROLES, "residual-scaling-wrong-tensor"),
)  # fmt: skip
RESIDUAL_TWICE = Hint(
    "1/(2 n_layer)", "residual scaling applied twice where none is expected", _has_depth, _TWICE
)

HINTS: tuple[Hint, ...] = (
    RESIDUAL_MISSING,
    RESIDUAL_EXTRA,
    Hint("1/sqrt(2 n_layer)", "residual scaling applied twice", _lacks_depth),
    Hint("sqrt(n_layer)", "residual scaling by 1/sqrt(n_layer) missing", _lacks_depth),
    Hint(
        "1/sqrt(n_layer)", "residual scaling by 1/sqrt(n_layer) where none is expected", _has_depth
    ),
    RESIDUAL_TWICE,
    Hint("sqrt(n_layer/(n_layer + 1))", "n_layer + 1 in place of n_layer", _lacks_depth),
    Hint("sqrt((n_layer + 1)/n_layer)", "n_layer in place of n_layer + 1", _lacks_depth),
    Hint("sqrt(2)", "one branch a layer counted where the scheme counts two", _lacks_depth),
    Hint("1/sqrt(2)", "two branches a layer counted where the scheme counts one", _lacks_depth),
    Hint("sqrt(2)", "a gain of sqrt(2)", lambda c: not c.by_depth),
    Hint(
        "1/sqrt(2)", "q, k and v counted as one matrix of fan_out 3 n_embd",
        lambda c: c.role == "qkv",
    ),
    Hint("1/sqrt(3)", "a std used as the bound of a uniform", lambda c: _is_uniform(c.drawn)),
    Hint(
        "sqrt(3)", "the bound of a uniform used as a std",
        lambda c: _is_uniform(c.expected) and not _is_uniform(c.drawn),
    ),
    Hint("sqrt(n_embd)", "unit variance where 1/sqrt(n_embd) is expected", _is_about(1.0)),
    Hint("1/sqrt(n_embd)", "divided by sqrt(n_embd) once more"),
    Hint(
        "0.9866", "cut at 3 sigma without correction, not a fault", lambda c: _is_cut(c.drawn)
    ),
    Hint("0.8796", "cut at 2 sigma without correction", lambda c: _is_cut(c.drawn)),
    Hint("1/0.8796", "a cut at 2 sigma is missing", lambda c: _is_cut(c.expected)),
    Hint("0.02", "multiplied by 0.02", lambda c: not _is_about(0.02)(c)),
    Hint("the expected std", "variance given for std", rules=_SQUARED),
    Hint(
        "1/sqrt(the expected std)", "square root of the std taken once too often", rules=_SQUARED
    ),
)  # fmt: skip
"""Every ratio with a known cause."""


def hint_of(comparison: Comparison, ratio: float, tolerance: float = 1e-4) -> str | None:
    """The known cause of `ratio`, with its formula; None where it is 1 or has none.

    Args:
        comparison: the distributions, and what is known of the parameter.
        ratio: real over expected std.
        tolerance: relative error of the ratio itself; at most AMBIGUOUS counts.

    Returns:
        The nearest cause and all others within AMBIGUOUS of the ratio, joined by "or".

    Example:
        >>> from gptinit.facts.distributions import Normal
        >>> facts = ModelFacts(name="m", source="m.py", n_layer=12, n_embd=250, bias=True,
        ...                    tied=True, n_params=1)
        >>> found = Comparison(role="mlp_down", drawn=Normal(0.0, 0.02), by_depth=True,
        ...                    expected=Normal(0.0, 0.02 / 24**0.5), facts=facts)
        >>> hint_of(found, 24**0.5)
        'sqrt(2 n_layer): residual scaling missing'
    """
    room = min(max(tolerance, 1e-4), AMBIGUOUS)
    if not (math.isfinite(ratio) and ratio > 0) or abs(ratio - 1) <= room:
        return None
    facts, std = comparison.facts, comparison.expected.std
    near = [(abs(h.value(facts, std) / ratio - 1), h) for h in HINTS if h.fits(comparison)]
    near = sorted((pair for pair in near if pair[0] <= AMBIGUOUS), key=lambda pair: pair[0])
    if not near or near[0][0] > room:
        return None
    return " or ".join(f"{h.formula}: {h.meaning}" for _, h in near)
