"""Whether the projections that write to the residual stream, and only they, are scaled by depth."""

import math
from collections.abc import Iterator

from gptinit.audit_rules.context import INPUT_ROLES, RESIDUAL_ROLES, SURE, Context, Layer
from gptinit.audit_rules.grouping import Hit, pattern_of
from gptinit.audit_rules.hints import RESIDUAL_EXTRA, RESIDUAL_MISSING, RESIDUAL_TWICE
from gptinit.facts.algebra import simplified
from gptinit.facts.architectures import KNOWN_CLAIMS
from gptinit.facts.distributions import Normal
from gptinit.facts.step import Step
from gptinit.facts.vocabulary import Severity
from gptinit.results.program import ModelProgram, ParameterProgram

__all__ = [
    "residual_branches_unequal",
    "residual_scaling_missing",
    "residual_scaling_wrong_tensor",
    "scaled_twice",
]

_TWO = 2  # layers, of which sqrt(2 n_layer) is 2: a factor that rules have for other reasons
_ON_PURPOSE = " torchtitan and OLMo-core do so on purpose."  # feed-forward init, w2 and w3
_SUSPECTS = ("v", "qkv", "mlp_up", "mlp_gate")  # q and k have rules of their own in T5


def residual_scaling_missing(program: ModelProgram, context: Context) -> Iterator[Hit]:
    """Unscaled residual projections where something says that they are to be scaled.

    That is, the most certain first: the documentation of the architecture, the block's other
    branch, or the parameter names and stds of nanoGPT (a warning only).
    """
    known = KNOWN_CLAIMS.get(program.architecture or "")
    like_nanogpt = _is_like_nanogpt(program)
    uneven = _uneven_everywhere(program, context)
    for layer in context.layers:
        unlike = {plain.name for plain, _ in uneven.get(layer.index, ())}
        for parameter in layer.writers:
            if not context.free(parameter) or not _plainly_unscaled(layer, parameter, program):
                continue
            if known is not None:
                why = f"{program.architecture} is documented to scale them"
                yield _missing(parameter, "error", program, why)
            elif parameter.name in unlike:
                why = "the block's other branch is scaled"
                yield _missing(parameter, "error", program, why)
            elif like_nanogpt:
                why = "models of this shape scale them, and nothing here says that this one must"
                yield _missing(parameter, "warning", program, why)


def _missing(
    parameter: ParameterProgram, severity: Severity, program: ModelProgram, why: str
) -> Hit:
    std = parameter.distribution.std
    ratio = RESIDUAL_MISSING.value(program.facts, std)
    message = (
        f"Weights that write to the residual stream must be drawn with std {std:.4g}/sqrt(2 "
        f"n_layer) = {std / ratio:.4g}, got {parameter.distribution}: ratio {ratio:.4g} = "
        f"{RESIDUAL_MISSING.formula}, the residual scaling is missing ({why})."
    )
    return Hit(parameter, severity, message, meant=std / ratio)


def _plainly_unscaled(layer: Layer, parameter: ParameterProgram, program: ModelProgram) -> bool:
    """Whether it has the std of the input matrices, and that cannot be read as a scaled one."""
    scaled = layer.depth_scaled(parameter, program.facts)
    return layer.unscaled(parameter, surely=True) and not scaled


def _plainly_scaled(layer: Layer, parameter: ParameterProgram, program: ModelProgram) -> bool:
    scaled = layer.depth_scaled(parameter, program.facts, surely=True)
    return scaled and not layer.unscaled(parameter)


def _is_like_nanogpt(program: ModelProgram) -> bool:
    """Whether an unpublished model has nanoGPT's parameter names, all drawn from N(0, 0.02)."""
    roles = ("tok_emb", "pos_emb", "qkv", *RESIDUAL_ROLES)
    drawn = {simplified(p.distribution) for p in program.parameters if p.role in roles}
    positions = any(p.role == "pos_emb" for p in program.parameters)
    fused = any(p.name.endswith("attn.c_attn.weight") for p in program.parameters)
    return program.architecture is None and fused and positions and drawn == {Normal(0.0, 0.02)}


def _uneven(layer: Layer, program: ModelProgram) -> list[tuple[ParameterProgram, ParameterProgram]]:
    """Pairs (unscaled, scaled) of a block's residual projections, one from each branch."""
    scaled = [p for p in layer.writers if _plainly_scaled(layer, p, program)]
    if not scaled:
        return []
    plain = [p for p in layer.writers if _plainly_unscaled(layer, p, program)]
    return [(a, b) for a in plain for b in scaled if _branch(a) != _branch(b)]


def _branch(writer: ParameterProgram) -> str:
    """The branch that a residual projection ends, as messages call it: all experts are one."""
    return writer.role if writer.role in RESIDUAL_ROLES else pattern_of(writer)


def _uneven_everywhere(
    program: ModelProgram, context: Context
) -> dict[int, list[tuple[ParameterProgram, ParameterProgram]]]:
    """Block index to its pairs (unscaled, scaled); empty unless every block has some.

    Blocks of one branch do not count. A factor that only some blocks have is a coincidence
    with 1/sqrt(2 (layer + 1)).
    """
    both = [layer for layer in context.layers if len({*map(_branch, layer.writers)}) > 1]
    found = {layer.index: _uneven(layer, program) for layer in both}
    return found if all(found.values()) else {}


def residual_branches_unequal(program: ModelProgram, context: Context) -> Iterator[Hit]:
    """Blocks that scale one of their two branches by depth and not the other.

    One hit a block, on the scaled projection; none where an input matrix of the block carries the
    scaling, which `residual_scaling_wrong_tensor` reports.
    """
    uneven = _uneven_everywhere(program, context)
    for layer in context.layers:
        pairs = uneven.get(layer.index)
        if not pairs or any(True for _ in _astray(layer, program, context)):
            continue
        plain, scaled = pairs[0]
        if not (context.free(plain) or context.free(scaled)):
            continue  # the claim says which of the two is wrong
        ratio = plain.distribution.std / scaled.distribution.std
        message = (
            f"The two projections of a block that write to the residual stream must be scaled "
            f"alike, got {_branch(scaled)} {scaled.distribution} and {_branch(plain)} "
            f"{plain.distribution}: ratio {ratio:.4g}. Either {_branch(plain)} lacks the scaling "
            f"by depth or {_branch(scaled)} has it where none is meant."
        )
        yield Hit(scaled, "error", message)


def scaled_twice(program: ModelProgram, context: Context) -> Iterator[Hit]:
    """Residual projections that are divided by a factor of the depth once too often.

    Either the std is that of the input matrices over 2 n_layer, or the projection is drawn as the
    block's other one and then divided again.
    """
    twice = RESIDUAL_TWICE.value(program.facts, 0.0)
    found = _uneven_everywhere(program, context)
    for layer in context.layers:
        uneven = {scaled.name: plain for plain, scaled in found.get(layer.index, ())}
        for p in layer.writers:
            scaled, other = layer.depth_scaled(p, program.facts), uneven.get(p.name)
            if not context.free(p):
                continue
            # Of another width, a matrix may have that std by the very rule of the inputs.
            scaled = scaled or layer.unscaled(p)
            if program.facts.n_layer > 1 and not scaled and layer.is_factor(p, twice, room=SURE):
                message = (
                    f"The residual scaling must be applied once, got {p.distribution} while input "
                    f"matrices have std {layer.std:.4g}: ratio {RESIDUAL_TWICE.formula}, which is "
                    f"{RESIDUAL_EXTRA.formula} twice."
                )
                once = RESIDUAL_EXTRA.value(program.facts, 0.0) / twice
                yield Hit(p, "error", message, meant=p.distribution.std * once)
            elif other is not None and _divided_later(p, other):
                message = (
                    f"{_branch(p)} must be scaled as the block's other branch is, "
                    f"{other.distribution}, got the same divided once more, to {p.distribution}."
                )
                yield Hit(p, "error", message, meant=other.distribution.std)


def _divided_later(parameter: ParameterProgram, other: ParameterProgram) -> bool:
    """Whether it was drawn as `other` is, and a step after the last draw made it smaller."""
    if not parameter.history:
        return False
    last, std = parameter.history[-1], parameter.distribution.std
    factor = _factor(last.step)
    if factor is None:
        return last.distribution.std > 0 and std < 0.99 * last.distribution.std
    return factor < 1 and math.isclose(factor, std / other.distribution.std, rel_tol=SURE)


def _factor(step: Step | None) -> float | None:
    """The number that a step multiplies by; None for every other step."""
    if step is None or step.op not in ("mul", "div") or len(step.numbers or ()) != 1:
        return None
    (number,) = step.numbers or ()
    return number if step.op == "mul" else 1 / number


def residual_scaling_wrong_tensor(program: ModelProgram, context: Context) -> Iterator[Hit]:
    """Input matrices that carry the scaling by depth which belongs to residual projections."""
    for layer in context.layers:
        yield from _wrong(layer, program, context)
    yield from _everywhere(program, context)


def _astray(layer: Layer, program: ModelProgram, context: Context) -> Iterator[ParameterProgram]:
    """The input matrices of a block that are scaled by the model's depth or by the block's own."""
    if program.facts.n_layer <= _TWO:
        return
    factor = RESIDUAL_EXTRA.value(program.facts, 0.0)
    for parameter in layer.of(*_SUSPECTS):
        whole = layer.is_factor(parameter, factor, room=SURE) and not layer.unscaled(parameter)
        if whole or parameter.role in _scaled_by_layer(context):
            yield parameter


def _scaled_by_layer(context: Context) -> frozenset[str]:
    """The roles of input matrices that have the factor 1/sqrt(2 (layer + 1)) in every block.

    In one block it may be a coincidence; in all of them it is not.
    """
    having = [layer for layer in context.layers if layer.of(*_SUSPECTS)]
    return frozenset(
        role
        for role in _SUSPECTS
        if len(having) > _TWO
        and all(
            layer.of(role)
            and all(
                layer.is_factor(p, (2 * (layer.index + 1)) ** -0.5, room=SURE)
                for p in layer.of(role)
            )
            for layer in having
        )
    )


def _wrong(layer: Layer, program: ModelProgram, context: Context) -> Iterator[Hit]:
    """Hits on scaled input matrices, and whether their branch is damped once or twice."""
    for parameter in _astray(layer, program, context):
        if not context.free(parameter):
            continue
        partner = "mlp_down" if parameter.role.startswith("mlp") else "attn_out"
        plain = any(_plainly_unscaled(layer, p, program) for p in layer.of(partner))
        published = not plain and parameter.role == "mlp_up" and bool(layer.of("mlp_gate"))
        by_layer = parameter.role in _scaled_by_layer(context)
        formula = "1/sqrt(2 (layer + 1))" if by_layer else RESIDUAL_EXTRA.formula
        what = (
            f"the residual scaling is on the wrong tensor ({partner}, which writes to the stream, "
            "is not scaled)."
            if plain
            else f"the residual scaling is on {parameter.role} and on {partner}, so what the "
            "branch writes is damped twice."
        )
        message = (
            f"A matrix that reads from the stream must have the std of its siblings, "
            f"{layer.std:.4g}, got {parameter.distribution}: ratio {formula}, {what}"
            f"{_ON_PURPOSE if published else ''}"
        )
        yield Hit(parameter, "note" if published else "error", message, meant=layer.std)


def _everywhere(program: ModelProgram, context: Context) -> Iterator[Hit]:
    """Hits on all input matrices, if every block matrix has 1/sqrt(fan_in)/sqrt(2 n_layer)."""
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
            meant = p.distribution.std * math.sqrt(2 * n_layer)
            yield Hit(p, "error", message, cause="everywhere", meant=meant)


def _is_damped(parameter: ParameterProgram, n_layer: int) -> bool:
    """Whether its std is 1/sqrt(fan_in)/sqrt(2 n_layer), or that truncated at 3 or 2 sigma."""
    if not parameter.fan_in:
        return False
    found = parameter.distribution.std * math.sqrt(2 * n_layer * parameter.fan_in)
    return any(abs(found / cut - 1) < 0.001 for cut in (1.0, 0.98658, 0.87963))
