"""Hook points of one layer: at which modules the stream and the branches can be recorded."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from gptinit.forward.branches import Branch
from gptinit.forward.graph import Graph, Vertex
from gptinit.forward.observe import Observation
from gptinit.forward.residual import has_norm, way_back
from gptinit.forward.sites import BlockSites, Site
from gptinit.forward.values import Uncomputable, Values
from gptinit.trace.graph import Read

__all__ = ["block_sites"]


def block_sites(
    seen: Observation, paths: Sequence[str], *, ends: tuple[int, int, int], added: Sequence[Branch]
) -> BlockSites:
    """The hook points of one layer.

    Args:
        seen: the forward pass.
        paths: of the blocks that make it up.
        ends: nodes of the stream: before the first branch, after the last one, and where it leaves
            the layer.
        added: the branches.
    """
    first, last, leaves = ends
    found: dict[str, Site | None] = {}
    for branch in added:
        found[branch.kind] = found.get(branch.kind) or _branch_site(seen, branch.vertex, paths)
    is_closed = has_norm(seen.graph, last, leaves)
    return BlockSites(
        path=paths[0],
        also=tuple(paths[1:]),
        before=_entry_site(seen, first, paths[0]),
        after=_stream_site(seen, leaves, paths[-1]),
        presum=_stream_site(seen, last, paths[-1]) if is_closed else None,
        attn=found.get("attn"),
        mlp=found.get("mlp"),
    )


def _stream_site(seen: Observation, index: int, block: str) -> Site | None:
    """The hook point of a state of the stream: a module that returns it, else one that takes it."""
    return _outermost(seen.hook_points.get(index, ()), [block])


def _entry_site(seen: Observation, first: int, block: str) -> Site | None:
    """The hook point of the stream that enters a block.

    Where the block mixes, scales or normalises it before its first branch, that is its input.
    """
    own = {
        node: site
        for node, sites in seen.hook_points.items()
        for site in reversed(sites)
        if site.side == "input" and site.path == block
    }
    entry = max((node for node in way_back(seen.graph, first) if node in own), default=first)
    return _stream_site(seen, first, block) if entry == first else own[entry]


def _branch_site(seen: Observation, index: int, blocks: Sequence[str]) -> Site | None:
    """The hook point of what a branch adds: a module that returns it, else one that takes it.

    A module outside the block may return it too, where blocks share one. If no module has the node
    itself, one may have a multiple of it: the factor is kept.
    """
    for node, factor in _scaled_back(seen, index):
        sites = seen.hook_points.get(node, ())
        known = [s for s in sites if s.side == "output" or _is_inside(s.path, blocks)]
        if known:
            return _outermost([replace(site, factor=factor) for site in known], blocks)
    return None


def _outermost(sites: Sequence[Site], blocks: Sequence[str]) -> Site | None:
    """The site at the outermost module of the blocks that returns the tensor, else that takes it.

    Else at one outside of them; last of all at one around them, which returns when all have run.
    """

    def key(site: Site) -> tuple[bool, bool, bool, int]:
        is_around = any(path != site.path and _is_inside(path, [site.path]) for path in blocks)
        is_outside = not _is_inside(site.path, blocks)
        return site.side == "input", is_around, is_outside, len(site.path)

    return min(sites, key=key, default=None)


def _is_inside(path: str, blocks: Sequence[str]) -> bool:
    return any(not block or f"{path}.".startswith(f"{block}.") for block in blocks)


def _scaled_back(seen: Observation, index: int) -> Iterator[tuple[int, float]]:
    """(node, factor) of a node and of each earlier one that it is a multiple of."""
    values, factor = Values(seen.graph, {}, seen.constants), 1.0
    while True:
        yield index, factor
        v = seen.graph.vertices[index]
        parents = seen.graph.token_parents(index)
        by = _multiplier(seen.graph, values, v) if len(parents) == 1 else None
        if by is None:
            return
        index, factor = parents[0], factor * by


def _multiplier(graph: Graph, values: Values, v: Vertex) -> float | None:
    """What a node multiplies the one thing of tokens that it reads by; None if by no one number.

    A number, or a gate: a parameter whose entries are all alike, or what the model makes of it.
    """
    if v.name in {"_to_copy", "clone", "native_dropout"}:
        return 1.0
    if v.name not in {"mul", "div"}:
        return None
    of_tokens, *others = sorted(v.node.args[:2], key=lambda a: not _is_of_tokens(graph, a))
    if v.name == "div" and of_tokens is not v.node.args[0]:
        return None
    (other,) = others
    try:
        found = values.read(other) if isinstance(other, Read) else torch.as_tensor(other)
    except Uncomputable:
        return None
    number = float(found.flatten()[0])
    if not bool((found == number).all()) or (v.name == "div" and not number):
        return None
    return number if v.name == "mul" else 1 / number


def _is_of_tokens(graph: Graph, argument: object) -> bool:
    node = graph.at(argument) if isinstance(argument, Read) else None
    return node is not None and graph.is_token(node)
