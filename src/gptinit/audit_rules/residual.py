"""Whether the projections that write to the residual stream, and only they, are scaled by depth."""

import math
import re
from collections.abc import Iterator

from gptinit.audit_rules.blame import blamed
from gptinit.audit_rules.context import INPUT_ROLES, RESIDUAL_ROLES, SURE, Context, Layer
from gptinit.audit_rules.grouping import Hit, grouped
from gptinit.audit_rules.matching import settled
from gptinit.facts.architectures import KNOWN_CLAIMS
from gptinit.facts.distributions import Normal
from gptinit.facts.vocabulary import Severity
from gptinit.results.profile import Finding
from gptinit.results.program import ModelProgram, ParameterProgram

__all__ = [
    "residual_branches_unequal",
    "residual_scaling_missing",
    "residual_scaling_wrong_tensor",
    "scaled_twice",
]

_TWO = 2  # layers, of which sqrt(2 n_layer) is 2: a factor that rules have for other reasons
_FACTOR = re.compile(r"(mul|div)_?\(([0-9.e+-]+)\)")  # a step such as "mul(0.288675) at model.py:9"
_SUSPECTS = ("v", "qkv", "mlp_up", "mlp_gate")  # q and k have rules of their own in T5


def residual_scaling_missing(program: ModelProgram, context: Context) -> Iterator[Finding]:
    """Residual projections as wide as the input matrices where depth scaling is meant."""
    name = "residual-scaling-missing"
    hits = [*blamed(name, program, context), *_missing(program, context)]
    yield from grouped(name, hits, program)


def _missing(program: ModelProgram, context: Context) -> Iterator[Hit]:
    """The same, by the architecture's own word, its other branch, or its likeness to nanoGPT."""
    known = KNOWN_CLAIMS.get(program.architecture or "")
    like_nanogpt = _like_nanogpt(program)
    uneven = _uneven_everywhere(program, context)
    for layer in context.layers:
        unlike = {plain.name for plain, _ in uneven.get(layer.index, ())}
        for parameter in layer.of(*RESIDUAL_ROLES):
            if not context.free(parameter) or not _plainly_unscaled(layer, parameter, program):
                continue
            if known is not None:
                said = f"{program.architecture} is documented to scale them"
                yield _missing_hit(parameter, layer, program, "error", said)
            elif parameter.name in unlike:
                said = "the block's other branch is scaled"
                yield _missing_hit(parameter, layer, program, "error", said)
            elif like_nanogpt:
                said = "models of this shape scale them, and nothing here says that this one must"
                yield _missing_hit(parameter, layer, program, "warning", said)


def _missing_hit(
    parameter: ParameterProgram, layer: Layer, program: ModelProgram, severity: Severity, said: str
) -> Hit:
    """The sentence about one unscaled projection."""
    n_layer, std = program.facts.n_layer, parameter.distribution.std
    wanted = std / math.sqrt(2 * n_layer)
    message = (
        f"Weights that write to the residual stream must be drawn with std {std:.4g}/sqrt(2 "
        f"n_layer) = {wanted:.4g}, got {parameter.distribution}: ratio "
        f"{math.sqrt(2 * n_layer):.4g} = sqrt(2 n_layer), the residual scaling is missing ({said})."
    )
    return parameter, severity, message


def _plainly_unscaled(layer: Layer, parameter: ParameterProgram, program: ModelProgram) -> bool:
    """Whether it is as wide as the input matrices and cannot be read as scaled."""
    scaled = layer.depth_scaled(parameter, program.facts)
    return layer.unscaled(parameter, surely=True) and not scaled


def _plainly_scaled(layer: Layer, parameter: ParameterProgram, program: ModelProgram) -> bool:
    """Whether it is divided by a factor of the depth and cannot be read as unscaled."""
    scaled = layer.depth_scaled(parameter, program.facts, surely=True)
    return scaled and not layer.unscaled(parameter)


def _like_nanogpt(program: ModelProgram) -> bool:
    """Whether a model of nobody's has nanoGPT's names, and N(0, 0.02) for all of them."""
    roles = ("tok_emb", "pos_emb", "qkv", *RESIDUAL_ROLES)
    drawn = {settled(p.distribution) for p in program.parameters if p.role in roles}
    positions = any(p.role == "pos_emb" for p in program.parameters)
    fused = any(p.name.endswith("attn.c_attn.weight") for p in program.parameters)
    return program.architecture is None and fused and positions and drawn == {Normal(0.0, 0.02)}


def _uneven(layer: Layer, program: ModelProgram) -> list[tuple[ParameterProgram, ParameterProgram]]:
    """(unscaled, scaled) if one of a block's two branches is scaled by depth, the other not."""
    projections = layer.of(*RESIDUAL_ROLES)
    scaled = [p for p in projections if _plainly_scaled(layer, p, program)]
    if not scaled:
        return []
    plain = [p for p in projections if _plainly_unscaled(layer, p, program)]
    return [(a, b) for a in plain for b in scaled if a.role != b.role]


def _uneven_everywhere(
    program: ModelProgram, context: Context
) -> dict[int, list[tuple[ParameterProgram, ParameterProgram]]]:
    """The same of every block; empty unless it is true of all that have both branches.

    A factor that only some layers meet is a coincidence with 1/sqrt(2 (layer + 1)).
    """
    both = [layer for layer in context.layers if all(layer.of(r) for r in RESIDUAL_ROLES)]
    found = {layer.index: _uneven(layer, program) for layer in both}
    return found if all(found.values()) else {}


def residual_branches_unequal(program: ModelProgram, context: Context) -> Iterator[Finding]:
    """Blocks that scale one of their two branches by depth and not the other."""
    name = "residual-branches-unequal"
    yield from grouped(name, _unequal(program, context), program)


def _unequal(program: ModelProgram, context: Context) -> Iterator[Hit]:
    """One hit a block, on the scaled projection; none where the scaling went astray."""
    uneven = _uneven_everywhere(program, context)
    for layer in context.layers:
        pairs = uneven.get(layer.index)
        if not pairs or any(True for _ in _astray(layer, program)):
            continue
        plain, scaled = pairs[0]
        if not (context.free(plain) or context.free(scaled)):
            continue  # the claim says which of the two is wrong
        ratio = plain.distribution.std / scaled.distribution.std
        message = (
            f"The two projections of a block that write to the residual stream must be scaled "
            f"alike, got {scaled.role} {scaled.distribution} and {plain.role} "
            f"{plain.distribution}: ratio {ratio:.4g}. Either {plain.role} lacks the scaling by "
            f"depth or {scaled.role} has it where none is meant."
        )
        yield scaled, "error", message


def scaled_twice(program: ModelProgram, context: Context) -> Iterator[Finding]:
    """Residual projections that are divided by a factor of the depth once too often."""
    name = "scaled-twice"
    hits = [*blamed(name, program, context), *_twice(program, context)]
    yield from grouped(name, hits, program)


def _twice(program: ModelProgram, context: Context) -> Iterator[Hit]:
    """Those at base/(2 n_layer), and those divided after a draw like the other matrices'."""
    n_layer, found = program.facts.n_layer, _uneven_everywhere(program, context)
    for layer in context.layers:
        uneven = {scaled.name: plain for plain, scaled in found.get(layer.index, ())}
        for p in layer.of(*RESIDUAL_ROLES):
            scaled, other = layer.depth_scaled(p, program.facts), uneven.get(p.name)
            if not context.free(p):
                continue
            if n_layer > 1 and not scaled and layer.is_factor(p, 1 / (2 * n_layer), room=SURE):
                message = (
                    f"The residual scaling must be applied once, got {p.distribution} beside input "
                    f"matrices of std {layer.std:.4g}: ratio 1/(2 n_layer), which is "
                    "1/sqrt(2 n_layer) twice."
                )
                yield p, "error", message
            elif other is not None and _divided_later(p, other):
                message = (
                    f"{p.role} must be scaled as the block's other branch is, "
                    f"{other.distribution}, got the same divided once more, to {p.distribution}."
                )
                yield p, "error", message


def _divided_later(parameter: ParameterProgram, other: ParameterProgram) -> bool:
    """Whether it was drawn as `other` is, and a step after the last draw made it smaller."""
    if not parameter.history:
        return False
    last, std = parameter.history[-1], parameter.distribution.std
    factor = _FACTOR.match(last.step)
    if factor is None:
        return last.distribution.std > 0 and std < 0.99 * last.distribution.std
    value = float(factor[2]) if factor[1] == "mul" else 1 / float(factor[2])
    return value < 1 and math.isclose(value, std / other.distribution.std, rel_tol=SURE)


def residual_scaling_wrong_tensor(program: ModelProgram, context: Context) -> Iterator[Finding]:
    """Input matrices that carry the scaling by depth which belongs to residual projections."""
    name = "residual-scaling-wrong-tensor"
    hits = [
        *blamed(name, program, context),
        *(hit for layer in context.layers for hit in _wrong(layer, program, context)),
        *_everywhere(program, context),
    ]
    yield from grouped(name, hits, program)


def _astray(layer: Layer, program: ModelProgram) -> Iterator[ParameterProgram]:
    """Input matrices of a block with the std of 1/sqrt(2 n_layer) of their siblings'."""
    if program.facts.n_layer <= _TWO:
        return
    factor = 1 / math.sqrt(2 * program.facts.n_layer)
    for parameter in layer.of(*_SUSPECTS):
        if layer.is_factor(parameter, factor, room=SURE) and not layer.unscaled(parameter):
            yield parameter


def _wrong(layer: Layer, program: ModelProgram, context: Context) -> Iterator[Hit]:
    """The same as hits: a note where the block's own projection is scaled besides."""
    for parameter in _astray(layer, program):
        if not context.free(parameter):
            continue
        partner = "mlp_down" if parameter.role.startswith("mlp") else "attn_out"
        plain = any(_plainly_unscaled(layer, p, program) for p in layer.of(partner))
        also = f"{partner}, which writes to the stream, is " + (
            "not scaled" if plain else "scaled besides, so the branch is damped twice"
        )
        message = (
            f"A matrix that reads from the stream must have the std of its siblings, "
            f"{layer.std:.4g}, got {parameter.distribution}: ratio 1/sqrt(2 n_layer), the residual "
            f"scaling is on the wrong tensor ({also})."
        )
        yield parameter, "error" if plain else "note", message


def _everywhere(program: ModelProgram, context: Context) -> Iterator[Hit]:
    """Input matrices at 1/sqrt(fan_in)/sqrt(2 n_layer), every one of them."""
    n_layer = program.facts.n_layer
    matrices = [p for layer in context.layers for p in layer.of(*INPUT_ROLES, *RESIDUAL_ROLES)]
    both = all(layer.of(role) for layer in context.layers for role in RESIDUAL_ROLES)
    damped = all(_is_damped(p, n_layer) for p in matrices)
    if n_layer <= _TWO or not both or not damped:
        return
    for p in matrices:
        if p.role in INPUT_ROLES and context.free(p) and p.fan_in:
            message = (
                f"A matrix that reads from the stream must not be scaled by depth, got "
                f"{p.distribution}: 1/sqrt(fan_in) = {p.fan_in**-0.5:.4g} divided by "
                "sqrt(2 n_layer), as in every matrix of the blocks."
            )
            yield p, "error", message


def _is_damped(parameter: ParameterProgram, n_layer: int) -> bool:
    """Whether its std is 1/sqrt(fan_in)/sqrt(2 n_layer), cut at 3 or 2 sigma or not."""
    if not parameter.fan_in:
        return False
    found = parameter.distribution.std * math.sqrt(2 * n_layer * parameter.fan_in)
    return any(abs(found / cut - 1) < 0.001 for cut in (1.0, 0.98658, 0.87963))
