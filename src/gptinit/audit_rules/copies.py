"""Tensors that start with the very values of another."""

from collections.abc import Iterator

from gptinit.audit_rules.context import Context
from gptinit.audit_rules.grouping import Hit, collapsed, grouped
from gptinit.audit_rules.matching import leaves
from gptinit.facts.distributions import Copy, Distribution, Mixture, Piecewise
from gptinit.results.profile import Finding
from gptinit.results.program import ModelProgram, ParameterProgram

__all__ = ["duplicate_experts", "duplicate_layers", "duplicate_shards", "duplicate_tensors"]

_STACKED = 3  # dimensions of experts that share a tensor; the blocks of a matrix are shards


def duplicate_layers(program: ModelProgram, _: Context) -> Iterator[Finding]:
    """Parameters with the values of the same parameter in another layer."""
    yield from grouped("duplicate-layers", _hits(program, "duplicate-layers"), program)


def duplicate_experts(program: ModelProgram, _: Context) -> Iterator[Finding]:
    """Experts with the values of another expert of the same layer."""
    yield from grouped("duplicate-experts", _hits(program, "duplicate-experts"), program)


def duplicate_shards(program: ModelProgram, _: Context) -> Iterator[Finding]:
    """Matrices whose blocks of rows hold the same values."""
    yield from grouped("duplicate-shards", _hits(program, "duplicate-shards"), program)


def duplicate_tensors(program: ModelProgram, _: Context) -> Iterator[Finding]:
    """Parameters with the values of a parameter of another name."""
    yield from grouped("duplicate-tensors", _hits(program, "duplicate-tensors"), program)


def _hits(program: ModelProgram, rule: str) -> Iterator[Hit]:
    """Every copy of random values that is of the kind that `rule` names."""
    origin = {p.name: p for p in program.parameters}
    for p in program.parameters:
        for copy in _copies(p.distribution):
            if _is_random(copy) and _kind(p, copy.of, origin.get(copy.of)) == rule:
                matrix = len(p.shape) > 1 and rule != "duplicate-tensors"
                yield p, "error" if matrix else "warning", _message(copy, rule)
                break


def _message(copy: Copy, rule: str) -> str:
    """The sentence about one copy."""
    if rule == "duplicate-shards":
        return (
            "Blocks of a matrix must be drawn apart, got the same values in several blocks of "
            "rows, as when ranks draw their shards from one seed: the std looks right, the rank of "
            "the matrix does not."
        )
    return (
        f"Each tensor must be drawn by itself, got the very values of {copy.of} "
        f"({copy.source}): units that start equal learn alike."
    )


def _copies(law: Distribution) -> Iterator[Copy]:
    """Every copy in a distribution."""
    match law:
        case Copy():
            yield law
        case Piecewise(pieces=parts) | Mixture(parts=parts):
            for _, part in parts:
                yield from _copies(part)


def _is_random(copy: Copy) -> bool:
    """Whether a seed changes what is copied: constants and tables are equal by design."""
    return any(
        leaf.kind not in ("constant", "fixed", "unset") and leaf.std > 0 for leaf in leaves(copy)
    )


def _kind(p: ParameterProgram, of: str, source: ParameterProgram | None) -> str:
    """Which rule a copy belongs to."""
    if of == p.name or of.startswith(f"{p.name}["):
        return "duplicate-experts" if len(p.shape) >= _STACKED else "duplicate-shards"
    layer = source.layer if source else None
    if collapsed(of, layer) != collapsed(p.name, p.layer):
        return "duplicate-tensors"
    return "duplicate-experts" if layer == p.layer else "duplicate-layers"
