"""Laws of tensors that are made of parts: `Piecewise` for blocks of rows, else a `Mixture`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from gptinit.facts.algebra import is_iid, moments_only
from gptinit.facts.distributions import (
    Constant,
    Distribution,
    Fixed,
    Measured,
    Mixture,
    Piecewise,
    Unset,
)
from gptinit.trace.graph import Geometry, Read
from gptinit.trace.laws.law import Law
from gptinit.trace.replay.points import in_region, sample_positions, to_storage
from gptinit.trace.replay.replay import LIMIT

__all__ = ["Part", "covers", "joined", "mixed", "reshaped", "seen_blocks", "without_order"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some entries of a tensor.

    Attributes:
        count: how many.
        law: their law.
        keys: of the draws that they depend on.
        source: number of the node whose entries they are; None for none. Parts of one node never
            show the same entry twice.
    """

    count: int
    law: Law
    keys: frozenset[int] = frozenset()
    source: int | None = None


def joined(parts: Sequence[Part], size: tuple[int, ...], *, in_order: bool) -> Law:
    """The law of a tensor whose parts follow each other, or lie anywhere if not `in_order`."""
    parts = _independent([p for p in parts if p.count])
    if not parts:
        return Law(Constant(0.0))
    bases = tuple((p.count, p.law.basis, p.law.scale) for p in parts)
    basis = bases if in_order and any(p.law.basis for p in parts) else None
    # A part of unknown draws: nothing can be said to equal the whole.
    if not all(p.law.basis or not _is_random(p.law.distribution) for p in parts):
        basis = None
    if len(parts) == 1:
        return parts[0].law
    if len({p.law.distribution for p in parts}) == 1 and is_iid(parts[0].law.distribution):
        return Law(parts[0].law.distribution, basis)
    # Whole rows stay apart, as a fused matrix of q, k and v needs them; anything else is a mixture.
    row = math.prod(size[1:])
    if in_order and row and all(p.count % row == 0 for p in parts):
        return Law(_merged([(p.count // row, p.law.distribution) for p in parts]), basis)
    return Law(_pooled([(p.count, p.law.distribution) for p in parts]), basis)


def mixed(numel: int, count: int, inside: Distribution, outside: Distribution) -> Law:
    """The law of `numel` entries, `count` of them of one distribution, the others of another."""
    return Law(_pooled([(count, inside), (numel - count, outside)]))


def without_order(law: Law, numel: int) -> Law:
    """The law after the entries were reordered: row blocks become a mixture."""
    d = law.distribution
    if not isinstance(d, Piecewise):
        return law
    rows = sum(n for n, _ in d.pieces)
    return replace(law, distribution=_pooled([(n * numel // rows, p) for n, p in d.pieces]))


def reshaped(law: Law, size: tuple[int, ...], numel: int) -> Law:
    """The law of the entries in another shape, which keeps their order."""
    d = law.distribution
    if not isinstance(d, Piecewise) or not size or not numel:
        return law
    old, new = sum(n for n, _ in d.pieces), size[0]
    if any(n * new % old for n, _ in d.pieces):
        return without_order(law, numel)
    return replace(law, distribution=Piecewise(tuple((n * new // old, p) for n, p in d.pieces)))


def covers(region: Geometry, view: Geometry) -> bool:
    """Whether a region is one block of memory with the view inside."""
    inner = view.span() or (view.offset, view.offset)
    last = view.offset + sum((n - 1) * s for n, s in zip(view.size, view.stride, strict=True))
    outer = region.span()
    return outer is not None and outer[0] <= inner[0] and last < outer[1]


def seen_blocks(read: Read) -> tuple[list[tuple[int, int]], bool]:
    """([(entries, index of the write they show, -1 for none)], whether the blocks are in order)."""
    writes = read.storage.visible(read.version)
    spans = [w.region.span() for w in writes]
    span = read.geometry.span()
    blocks = [s for s in spans if s is not None]
    if span is not None and read.geometry.is_dense() and len(blocks) == len(spans):
        return _painted(span, blocks), True
    labels = _labels(read)
    factor = read.numel / max(1, labels.numel())
    change = torch.nonzero(labels[1:] != labels[:-1]).flatten() + 1
    if factor == 1 and len(change) <= 1024 and read.geometry.size:
        row = math.prod(read.geometry.size[1:])
        if bool((change % row == 0).all()):
            ends = [0, *change.tolist(), labels.numel()]
            return [(b - a, int(labels[a])) for a, b in pairwise(ends)], True
    shown, counts = labels.unique(return_counts=True)
    pairs = zip(shown.tolist(), counts.tolist(), strict=True)
    return [(round(n * factor), label) for label, n in pairs], False


def _painted(span: tuple[int, int], spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The blocks that show in `span` after `spans` were painted over it, oldest first."""
    # Between two neighbouring ends of spans a single one shows: the last that covers it.
    cuts = sorted({*span, *(e for s in spans for e in s if span[0] < e < span[1])})
    owner = [-1] * (len(cuts) - 1)
    place = {cut: index for index, cut in enumerate(cuts)}
    for label, (start, end) in enumerate(spans):
        first, last = place.get(max(start, span[0])), place.get(min(end, span[1]))
        if first is not None and last is not None:
            owner[first:last] = [label] * max(0, last - first)
    return [(b - a, label) for a, b, label in zip(cuts[:-1], cuts[1:], owner, strict=True)]


def _labels(read: Read) -> Tensor:
    """Index of the write that shows at each entry of a view, or at a sample of a large one."""
    geometry, writes = read.geometry, read.storage.visible(read.version)
    if read.storage.numel <= LIMIT:
        labels = torch.full((read.storage.numel,), -1, dtype=torch.int32)
        for label, write in enumerate(writes):
            region = write.region
            labels.as_strided(region.size, region.stride, region.offset).fill_(label)
        return labels.as_strided(geometry.size, geometry.stride, geometry.offset).flatten()
    flat = to_storage(geometry, sample_positions(geometry.size))
    seen = torch.full(flat.shape, -1, dtype=torch.int32)
    for label, write in enumerate(writes):
        seen[in_region(write.region, flat)[0]] = label
    return seen


def _independent(parts: list[Part]) -> list[Part]:
    """The parts, of which those that share a draw with an earlier one keep only their moments.

    A law of independent entries would claim that the two parts have nothing to do with each other.
    Parts of one node are exempt: they show different entries of it, around a later write.
    """
    seen: dict[int, int | None] = {}
    kept = []
    for part in parts:
        d = part.law.distribution
        shared = [key for key in part.keys if key in seen]
        is_apart = part.source is not None and all(seen[key] == part.source for key in shared)
        if shared and not is_apart and _is_random(d) and not isinstance(d, Measured):
            part = replace(part, law=replace(part.law, distribution=moments_only(d.mean, d.std)))
        seen |= dict.fromkeys(part.keys, part.source)
        kept.append(part)
    return kept


def _is_random(d: Distribution) -> bool:
    return not isinstance(d, Constant | Fixed | Unset)


def _merged(parts: list[tuple[int, Distribution]]) -> Distribution:
    """Row blocks, flat, with equal neighbours merged."""
    merged: list[tuple[int, Distribution]] = []
    for n, d in parts:
        inner = d.pieces if isinstance(d, Piecewise) else ((1, d),)
        whole = sum(m for m, _ in inner)
        if any(n * m % whole for m, _ in inner):
            inner, whole = ((1, d),), 1
        for m, piece in inner:
            if merged and merged[-1][1] == piece and is_iid(piece):
                merged[-1] = (merged[-1][0] + n * m // whole, piece)
            else:
                merged.append((n * m // whole, piece))
    return merged[0][1] if len(merged) == 1 else Piecewise(tuple(merged))


def _pooled(parts: list[tuple[int, Distribution]]) -> Distribution:
    """A flat mixture in which every distribution occurs once."""
    counts: dict[Distribution, int] = {}
    for n, d in parts:
        inner: tuple[tuple[int, Distribution], ...] = ((1, d),)
        if isinstance(d, Mixture | Piecewise):
            inner = d.parts if isinstance(d, Mixture) else d.pieces
        whole = sum(m for m, _ in inner)
        for m, part in inner:
            counts[part] = counts.get(part, 0) + n * m // whole
    mixed_in = [(n, d) for d, n in counts.items() if n]
    return mixed_in[0][1] if len(mixed_in) == 1 else Mixture(tuple(mixed_in))
