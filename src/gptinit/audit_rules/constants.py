"""Constants where something else belongs, and the reverse: norms, biases, zeros, padding."""

import math
from collections.abc import Iterator

from gptinit.audit_rules.blame import blamed
from gptinit.audit_rules.context import Context, Layer
from gptinit.audit_rules.grouping import Hit, grouped
from gptinit.audit_rules.matching import STANDARD_ERRORS, settled
from gptinit.facts.distributions import (
    Constant,
    Distribution,
    Measured,
    Normal,
    Orthogonal,
    Piecewise,
    TruncatedNormal,
    Uniform,
)
from gptinit.facts.vocabulary import Severity
from gptinit.results.profile import Finding
from gptinit.results.program import ModelProgram, ParameterProgram

__all__ = ["bias_nonzero", "norm_weight_wrong", "padding_row_nonzero", "zeros"]

_GAIN_ROOM = 0.05  # a norm's epsilon and a small forward move its gain by less
_ZERO = Constant(0.0)
_MEANT_BIASES = ("dt_", "forget", "fgate", "igate", "gate", "router", "conv", "a_log", "decay")
_DEPENDENT = (("qkv", "v"), "attn_out"), (("mlp_up",), "mlp_down"), (("q",), "k")


def norm_weight_wrong(program: ModelProgram, context: Context) -> Iterator[Finding]:
    """Norms whose output is not as large as their input is normalised to."""
    name = "norm-weight-wrong"
    hits = [*blamed(name, program, context), *_gains(program, context)]
    yield from grouped(name, hits, program)


def _gains(program: ModelProgram, context: Context) -> Iterator[Hit]:
    """Norms with a gain off 1, by their effect, or drawn at random."""
    for p in program.parameters:
        if p.role != "norm_weight" or not context.free(p):
            continue
        if p.gain is not None and abs(p.gain - 1) > _GAIN_ROOM:
            severity: Severity = "warning" if p.gain == 0 and p.layer is not None else "error"
            message = (
                f"A norm must start with gain 1, got a weight of {p.distribution} that makes the "
                f"output {p.gain:.4g} times as large as the normalised input."
            )
            yield p, severity, message
        elif p.gain is None and _random(p.distribution):
            message = f"A norm's weight must be a constant, got {p.distribution}, a random draw."
            yield p, "error", message


def _random(law: Distribution) -> bool:
    """Whether a seed changes it."""
    law = settled(law)
    if isinstance(law, Measured):
        return law.high > law.low
    return isinstance(law, (Normal, TruncatedNormal, Uniform, Orthogonal))


def bias_nonzero(program: ModelProgram, context: Context) -> Iterator[Finding]:
    """Biases that are drawn at random although the weights have a rule of their own."""
    name = "bias-nonzero"
    hits = [*blamed(name, program, context), *_biases(program, context)]
    yield from grouped(name, hits, program)


def _biases(program: ModelProgram, context: Context) -> Iterator[Hit]:
    """Random biases of norms and linear layers, but for those that are meant so."""
    weights = {p.name: p for p in program.parameters}
    for p in program.parameters:
        if p.role not in ("norm_bias", "linear_bias") or not context.free(p):
            continue
        if not _random(p.distribution) or any(word in p.name.lower() for word in _MEANT_BIASES):
            continue
        weight = weights.get(f"{p.name.removesuffix('bias')}weight")
        left = p.role == "linear_bias" and (weight is None or _is_default(weight))
        severity: Severity = "note" if left else "warning"
        why = "as torch leaves it, like its weight" if left else "beside a weight with its own rule"
        message = f"A bias starts at 0 by any known scheme, got {p.distribution} ({why})."
        yield p, severity, message


def _is_default(weight: ParameterProgram) -> bool:
    """Whether a linear layer's weight is as torch's constructor leaves it."""
    if weight.history and weight.history[-1].by_default:
        return True
    law = settled(weight.distribution)  # of a deep copy: the law of what was copied
    bound = 1 / math.sqrt(weight.fan_in) if weight.fan_in else math.nan
    if isinstance(law, Measured):
        near = STANDARD_ERRORS * law.std_stderr
        return abs(law.std - bound / math.sqrt(3)) <= near and law.high <= bound
    return isinstance(law, Uniform) and math.isclose(law.high, bound, rel_tol=1e-6)


def zeros(program: ModelProgram, context: Context) -> Iterator[Finding]:
    """Matrices of zeros that get no gradient, or that nobody means to be zero."""
    layers = (hit for layer in context.layers for hit in _dead(layer, context))
    hits = [*blamed("zeros", program, context), *layers, *_dead_ends(program, context)]
    yield from grouped("zeros", hits, program)


def _dead(layer: Layer, context: Context) -> Iterator[Hit]:
    """Input matrices of zeros: dead if what they meet is zero too, else only unusual."""
    zero = {p.role for p in layer.parameters if _is_zero(p)}
    random = {p.role for p in layer.parameters if not _is_zero(p)}
    for inputs, partner in _DEPENDENT:
        for p in layer.parameters:
            if p.role not in inputs or not _is_zero(p) or not context.free(p):
                continue
            if partner in zero - random:
                message = (
                    f"A matrix and its partner must not both be zero, got zeros in {p.role} and "
                    f"{partner}: neither gets a gradient."
                )
                yield p, "error", message
            else:
                yield p, "note", f"All of {p.role} is zero; {partner} is not, so it can learn."


def _dead_ends(program: ModelProgram, context: Context) -> Iterator[Hit]:
    """Embeddings of zeros."""
    for p in program.parameters:
        if p.role in ("tok_emb", "pos_emb") and _is_zero(p) and context.free(p):
            token = p.role == "tok_emb"
            message = (
                "A token embedding must not be zero: every token starts alike."
                if token
                else "All positions start at 0; many models mean it so."
            )
            yield p, "error" if token else "note", message


def _is_zero(parameter: ParameterProgram) -> bool:
    """Whether it is a matrix of zeros."""
    law = settled(parameter.distribution)
    measured = isinstance(law, Measured) and law.low == law.high == 0
    return len(parameter.shape) > 1 and (law == _ZERO or measured)


def padding_row_nonzero(program: ModelProgram, _: Context) -> Iterator[Finding]:
    """Embeddings whose row for padding is drawn like every other."""
    yield from grouped("padding-row-nonzero", _padding(program), program)


def _padding(program: ModelProgram) -> Iterator[Hit]:
    """The hits: embeddings with a padding row of a known law that is not zero."""
    for p in program.parameters:
        row = program.padding.get(p.name)
        law = None if row is None else _row(p.distribution, row % p.shape[0])
        if law is not None and _random(law):
            message = f"Row {row} stands for padding and must be 0, got {law}."
            yield p, "warning", message


def _row(law: Distribution, row: int) -> Distribution | None:
    """The law of one row; None where it is not known apart from the others."""
    law = settled(law)
    if not isinstance(law, Piecewise):
        return None if isinstance(law, Measured) else law
    end = 0
    for rows, part in law.pieces:
        end += rows
        if row < end:
            return part
    return None
