"""Stds and distributions that cannot be intended: squared, by the wrong fans, off centre."""

import math
from collections.abc import Iterator

from gptinit.audit_rules.context import INPUT_ROLES, RESIDUAL_ROLES, Context, Layer
from gptinit.audit_rules.grouping import Hit
from gptinit.audit_rules.matching import STANDARD_ERRORS, relative_error
from gptinit.audit_rules.overwritten import is_loaded
from gptinit.facts.algebra import simplified
from gptinit.facts.distributions import Constant, Normal, TruncatedNormal, Uniform
from gptinit.results.program import ModelProgram, ParameterProgram

__all__ = ["fan_in_wrong", "std_vs_variance", "wrong_distribution"]

_EXACT = 1e-4  # relative: a formula that was applied leaves its number exactly
_TYPICAL = (0.001, 0.2)  # stds of matrices whose square and root are no std of a matrix
_PRODUCTS = (*INPUT_ROLES, *RESIDUAL_ROLES, "lm_head")
_SQUARED_ROLES = ("mlp_up", "mlp_gate", *RESIDUAL_ROLES)  # T5 has such a rule for q


def wrong_distribution(program: ModelProgram, context: Context) -> Iterator[Hit]:
    """Matrices that hold one value, or are drawn around a mean above their std."""
    for p in program.parameters:
        d = simplified(p.distribution)
        if p.role not in _PRODUCTS or not context.free(p):
            continue
        if p.history and is_loaded(p.history[-1]):  # checkpoints may hold any values
            continue
        if isinstance(d, Constant) and d.value and p.fan_out and p.fan_out > 1:
            message = (
                f"The entries of a matrix must differ, got {d} in all of them: all of its outputs "
                "are equal."
            )
            yield Hit(p, "error", message)
        elif isinstance(d, Normal | Uniform | TruncatedNormal) and abs(d.mean) > d.std > 0:
            message = (
                f"A matrix must be drawn around 0, got {d} with mean {d.mean:.4g} and std "
                f"{d.std:.4g}: every output starts as a multiple of the sum of its inputs."
            )
            yield Hit(p, "warning", message)


def std_vs_variance(program: ModelProgram, context: Context) -> Iterator[Hit]:
    """Block matrices whose std is the square or the square root of the input matrices' std."""
    for layer in context.layers:
        if not _TYPICAL[0] < layer.std < _TYPICAL[1]:
            continue
        for p in layer.of(*_SQUARED_ROLES):
            for power, words in ((2.0, "the square"), (0.5, "the square root")):
                likely = layer.unscaled(p) or layer.depth_scaled(p, program.facts)
                if context.free(p) and _is(p, layer.std**power) and not likely:
                    message = (
                        f"A std must be passed where a std is expected, got {p.distribution} "
                        f"while input matrices have std {layer.std:.4g}: exactly {words} of it, as "
                        "when a variance is taken for a std."
                    )
                    yield Hit(p, "warning", message)


def fan_in_wrong(program: ModelProgram, context: Context) -> Iterator[Hit]:
    """Stds that count the wrong number of inputs."""
    yield from _packed(program, context)
    for layer in context.layers:
        yield from _swapped(layer, program, context)


def _packed(program: ModelProgram, context: Context) -> Iterator[Hit]:
    """Packed q, k, v drawn as one matrix by a rule that counts its outputs."""
    for p in program.parameters:
        if p.role != "qkv" or not p.fan_in or not p.fan_out or not context.free(p):
            continue
        packed, apart = (math.sqrt(2 / (p.fan_in + n)) for n in (p.fan_out, p.fan_out / 3))
        if isinstance(simplified(p.distribution), (Normal, Uniform)) and _is(p, packed):
            message = (
                f"q, k and v must each be drawn by their own fans, std sqrt(2/(fan_in + fan_out)) "
                f"= {apart:.4g}, got {p.distribution} (std {packed:.4g}): ratio "
                f"{packed / apart:.4g}, the packed matrix was taken for one of fan_out {p.fan_out}."
            )
            yield Hit(p, "warning", message)


def _swapped(layer: Layer, program: ModelProgram, context: Context) -> Iterator[Hit]:
    """Both MLP matrices at c/sqrt(fan_out) where attention has c/sqrt(fan_in)."""
    attention = [p for p in layer.of("q", "qkv", "v") if p.fan_in]
    if not attention:
        return
    unit = attention[0].distribution.std * math.sqrt(attention[0].fan_in or 1)
    found = [p for p in layer.of("mlp_up", "mlp_down") if _by_fan_out(p, unit)]
    ups = [p for p in found if p.role == "mlp_up"]
    if not ups or len(ups) == len(found) or layer.depth_scaled(ups[0], program.facts):
        return  # one matrix alone may follow a rule of the width
    for p in found:
        if context.free(p):
            yield Hit(p, "warning", _swapped_message(p))


def _by_fan_out(parameter: ParameterProgram, unit: float) -> bool:
    """Whether its std is `unit` over sqrt(fan_out), and that is not fan_in."""
    if not parameter.fan_in or not parameter.fan_out or parameter.fan_in == parameter.fan_out:
        return False
    return _is(parameter, unit / math.sqrt(parameter.fan_out))


def _swapped_message(p: ParameterProgram) -> str:
    right = p.distribution.std * math.sqrt((p.fan_out or 1) / (p.fan_in or 1))
    return (
        f"The std must follow fan_in = {p.fan_in}, which gives {right:.4g} by the rule of the "
        f"attention matrices, got {p.distribution}: ratio sqrt(fan_in/fan_out), rows and columns "
        "are exchanged."
    )


def _is(parameter: ParameterProgram, std: float) -> bool:
    """Whether its std is this number, within the error of a measured std."""
    room = _EXACT + STANDARD_ERRORS * relative_error(parameter.distribution)
    return std > 0 and abs(parameter.distribution.std / std - 1) <= room
