"""Tensors that start with the values of another tensor, or of another part of themselves."""

from collections.abc import Iterator
from functools import partial
from typing import Literal

from gptinit.audit_rules.context import Context
from gptinit.audit_rules.grouping import Hit, pattern_of
from gptinit.facts.algebra import is_random
from gptinit.facts.distributions import Copy, Distribution, Mixture, Piecewise
from gptinit.results.program import ModelProgram, ParameterProgram

__all__ = ["duplicate_experts", "duplicate_layers", "duplicate_shards", "duplicate_tensors"]

_Kind = Literal["layers", "experts", "shards", "tensors"]
"""What is equal: one parameter of two layers, two experts, two blocks of rows, or two names."""

_STACKED = 3  # dimensions of experts that share a tensor; the blocks of a matrix are shards


def _duplicates(kind: _Kind, program: ModelProgram, _: Context) -> Iterator[Hit]:
    """Every parameter that copies random values in this way.

    Equal constants and tables are no fault: no seed could make them differ.
    """
    parameters = {p.name: p for p in program.parameters}
    for p in program.parameters:
        for copy in _copies(p.distribution):
            if is_random(copy) and _kind(p, copy, parameters.get(copy.of)) == kind:
                is_matrix = len(p.shape) > 1 and kind != "tensors"
                yield Hit(p, "error" if is_matrix else "warning", _message(copy, kind), cause=kind)
                break


duplicate_layers = partial(_duplicates, "layers")
"""Parameters with the values of the same parameter in another layer."""

duplicate_experts = partial(_duplicates, "experts")
"""Experts with the values of another expert of the same layer."""

duplicate_shards = partial(_duplicates, "shards")
"""Matrices whose blocks of rows hold the same values."""

duplicate_tensors = partial(_duplicates, "tensors")
"""Parameters with the values of a parameter of another name."""


def _copies(d: Distribution) -> Iterator[Copy]:
    match d:
        case Copy():
            yield d
        case Piecewise(pieces=parts) | Mixture(parts=parts):
            for _, part in parts:
                yield from _copies(part)


def _kind(p: ParameterProgram, copy: Copy, source: ParameterProgram | None) -> _Kind:
    if copy.of == p.name:
        return "experts" if len(p.shape) >= _STACKED else "shards"
    if source is None or pattern_of(source) != pattern_of(p):
        return "tensors"
    return "experts" if source.layer == p.layer else "layers"


def _message(copy: Copy, kind: _Kind) -> str:
    if kind == "shards":
        return (
            "Blocks of a matrix must be drawn apart, got the same values in several blocks of "
            "rows, as when ranks draw their shards from one seed: the std looks right, the rank of "
            "the matrix does not."
        )
    return (
        f"Each tensor must be drawn by itself, got the very values of {copy.origin} "
        f"({copy.source}): units that start equal learn alike."
    )
