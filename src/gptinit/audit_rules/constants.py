"""Constants where random values belong, and the reverse: norms, biases, zeros, padding rows."""

import math
from collections.abc import Iterator

from gptinit.audit_rules.context import Context
from gptinit.audit_rules.grouping import Hit
from gptinit.audit_rules.matching import STANDARD_ERRORS, row_of
from gptinit.facts.algebra import is_random, one_value, simplified
from gptinit.facts.distributions import (
    Distribution,
    Measured,
    Mixture,
    Piecewise,
    Uniform,
)
from gptinit.facts.vocabulary import Severity
from gptinit.results.program import ModelProgram, ParameterProgram

__all__ = ["bias_nonzero", "norm_weight_wrong", "padding_row_nonzero", "zeros"]

_GAIN_ROOM = 0.05  # a norm's epsilon and a small forward move its gain by less
_MEANT_BIASES = ("dt_", "forget", "fgate", "igate", "gate", "router", "conv", "a_log", "decay")


def norm_weight_wrong(program: ModelProgram, context: Context) -> Iterator[Hit]:
    """Norms whose gain is not 1, judged by their effect, or drawn at random."""
    for p in program.parameters:
        if p.role != "norm_weight" or not context.free(p):
            continue
        is_drawn = _is_drawn(p.distribution)
        is_off = p.gain is not None and abs(p.gain - 1) > _GAIN_ROOM
        if is_drawn and (is_off or p.gain is None):
            message = f"A norm's weight must be a constant, got {p.distribution}, a random draw."
            yield Hit(p, "error", message, cause=message)
        elif is_off:
            # A branch may start at 0 by the norm that closes it, not by the one that it reads.
            is_read = p.writes_stream is False or p.layer is None
            severity: Severity = "error" if p.gain != 0 or is_read else "warning"
            message = (
                f"A norm must start with gain 1, got a weight of {p.distribution} that makes the "
                f"output {p.gain:.4g} times as large as the normalised input."
            )
            is_measured = isinstance(p.distribution, Measured)  # their numbers vary
            yield Hit(p, severity, message, cause=None if is_measured else message)


def bias_nonzero(program: ModelProgram, context: Context) -> Iterator[Hit]:
    """Random biases of norms and linear layers, except those of gates, routers and time steps."""
    weights = {p.name: p for p in program.parameters}
    for p in program.parameters:
        if p.role not in ("norm_bias", "linear_bias") or not context.free(p):
            continue
        if not _is_drawn(p.distribution) or any(word in p.name.lower() for word in _MEANT_BIASES):
            continue
        weight = weights.get(f"{p.name.removesuffix('bias')}weight")
        left = p.role == "linear_bias" and (weight is None or _is_default(weight))
        severity: Severity = "note" if left else "warning"
        why = (
            "as torch leaves it, like its weight"
            if left
            else "while its weight has an explicit init"
        )
        message = (
            f"Biases start at 0 in every known scheme but torch's default, got {p.distribution} "
            f"({why})."
        )
        yield Hit(p, severity, message, cause=why)


def _is_default(weight: ParameterProgram) -> bool:
    """Whether a linear layer's weight is what torch's constructor draws."""
    if weight.history and weight.history[-1].by_default:
        return True
    drawn = simplified(weight.distribution)  # of a deep copy: what the original is drawn from
    bound = 1 / math.sqrt(weight.fan_in) if weight.fan_in else math.nan
    if isinstance(drawn, Measured):
        near = STANDARD_ERRORS * drawn.std_stderr
        return abs(drawn.std - bound / math.sqrt(3)) <= near and drawn.high <= bound
    return isinstance(drawn, Uniform) and math.isclose(drawn.high, bound, rel_tol=1e-6)


def _is_drawn(d: Distribution) -> bool:
    d = simplified(d)
    return is_random(d) and not isinstance(d, Piecewise | Mixture)


def zeros(program: ModelProgram, context: Context) -> Iterator[Hit]:
    """Embeddings of zeros; `parameters-without-gradient` tells which other zeros do not learn."""
    for p in program.parameters:
        if p.role in ("tok_emb", "pos_emb") and one_value(p.distribution) == 0 and context.free(p):
            token = p.role == "tok_emb"
            message = (
                "A token embedding must not be zero: every token starts alike."
                if token
                else "All positions start at 0; many models mean it so."
            )
            yield Hit(p, "error" if token else "note", message)


def padding_row_nonzero(program: ModelProgram, _: Context) -> Iterator[Hit]:
    """Embeddings whose row for padding is random."""
    for p in program.parameters:
        row = program.padding.get(p.name)
        drawn = None if row is None else _row(p.distribution, row % p.shape[0])
        if drawn is not None and _is_drawn(drawn):
            yield Hit(p, "warning", f"Row {row} stands for padding and must be 0, got {drawn}.")


def _row(d: Distribution, row: int) -> Distribution | None:
    """The distribution of one row; None where only that of all rows together is known."""
    d = simplified(d)
    if isinstance(d, Piecewise):
        return row_of(d, row)
    return None if isinstance(d, Measured) else d
