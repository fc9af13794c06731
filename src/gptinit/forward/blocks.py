"""The blocks of a decoder, and at which modules the stream and its branches can be heard."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from gptinit.errors import SubjectError
from gptinit.forward.graph import MATMULS, Graph
from gptinit.forward.observe import ModuleCall, Observation
from gptinit.forward.residual import Addition, Writer, additions, writers
from gptinit.forward.roles import branch_kind
from gptinit.forward.sites import BlockSites, Site

__all__ = ["Decoder", "find_decoder", "stream_width"]

_BLOCK = re.compile(r"^((?:[A-Za-z_]\w*\.)*?[A-Za-z_]\w*\.\d+)\.")
_NAMED_BLOCK = re.compile(r"^(.*?\b(?:block|layer|h)_?\d+)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """The stream of a model.

    Attributes:
        blocks: in the order in which they run; one that runs several times is there as often.
        sites: where each can be heard, in the same order.
        chain: every addition to the stream that reaches the logits, in order.
        placement: "pre", or "post" where a norm stands on the stream between two additions.
    """

    blocks: tuple[str, ...]
    sites: tuple[BlockSites, ...]
    chain: tuple[Addition, ...]
    placement: str


def stream_width(seen: Observation) -> int:
    """Width of the stream: the one at which most products of weights are added to it.

    Raises:
        SubjectError: if the model adds nothing to a stream.
    """
    graph = seen.graph
    shapes = [v.node.shape for v in graph.vertices if v.name == "add" and v.node.shape]
    counted = {
        width: sum(bool(writers(graph, a)) for a in additions(graph, width))
        for width in dict.fromkeys(shape[-1] for shape in shapes)
    }
    best = max(counted, key=lambda width: counted[width], default=0)
    if not best or not counted[best]:
        raise SubjectError(
            "model must have repeated blocks that add to a residual stream, got none."
        )
    return best


def find_decoder(seen: Observation, width: int) -> Decoder:
    """The blocks behind the logits, and their sites.

    Raises:
        SubjectError: if no repeated block adds to the stream.
    """
    graph = seen.graph
    chain = _chain(graph, [a for a in additions(graph, width) if writers(graph, a)])
    runs = _runs(seen, chain)
    if not runs:
        raise SubjectError(
            "model must have a list of repeated blocks that add to its residual stream, got none."
        )
    return Decoder(
        blocks=tuple(run.path for run in runs),
        sites=tuple(_block_sites(seen, run.path, run.members) for run in runs),
        chain=tuple(chain),
        placement=_placement(graph, chain),
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of one block: its additions with what they add, in order."""

    path: str
    members: list[tuple[Addition, list[Writer]]]

    def has_any(self, found: list[Writer]) -> bool:
        """Whether a weight of `found` has written to the stream in this run."""
        return bool({w.weight for _, ws in self.members for w in ws} & {w.weight for w in found})


def _runs(seen: Observation, chain: list[Addition]) -> list[_Run]:
    """The runs of all blocks: a block whose weights write again runs again."""
    runs: list[_Run] = []
    latest: dict[str, _Run] = {}
    calls = [call for call in seen.calls if block_of(f"{call.path}.") == call.path]
    for addition in chain:
        found = writers(seen.graph, addition)
        named = (block_of(w.weight) for w in found)
        around = _block_around(seen.graph, calls, addition.vertex)
        path = around or next((p for p in named if p), None)
        if path is None:
            continue
        if path not in latest or latest[path].has_any(found):
            latest[path] = _Run(path, [])
            runs.append(latest[path])
        latest[path].members.append((addition, found))
    return runs


def _block_around(graph: Graph, calls: list[ModuleCall], vertex: int) -> str | None:
    """The block in whose call a node is made: a weight that blocks share is named after the first.

    It depends on what the call takes, nothing that the call takes depends on it, and what the call
    gives does. None where it is made outside of all calls of blocks.
    """
    ancestors = graph.ancestors
    for call in calls:
        takes = [node for _, node in call.inputs]
        if any(node == vertex or ancestors[node] >> vertex & 1 for node in takes):
            continue
        begins = any(ancestors[vertex] >> node & 1 for node in takes)
        if begins and any(vertex == n or ancestors[n] >> vertex & 1 for _, n in call.outputs):
            return call.path
    return None


def block_of(name: str) -> str | None:
    """Path of the block that a parameter belongs to, by the first number in its name.

    Example:
        >>> block_of("transformer.h.3.mlp.experts.1.weight"), block_of("lm_head.weight")
        ('transformer.h.3', None)
    """
    match = _BLOCK.match(name) or _NAMED_BLOCK.match(name)
    return match.group(1) if match else None


def _chain(graph: Graph, found: list[Addition]) -> list[Addition]:
    """The additions on the way from the last one back to the embedding, in order."""
    by_vertex = {a.vertex: a for a in found}
    behind = graph.ancestors[graph.last] | 1 << graph.last if graph.last is not None else 0
    reached = [a for a in found if behind >> a.vertex & 1]
    chain: list[Addition] = []
    current = reached[-1] if reached else None
    while current is not None:
        chain.append(current)
        current = _before(graph, current, by_vertex)
    return chain[::-1]


def _before(graph: Graph, addition: Addition, by_vertex: dict[int, Addition]) -> Addition | None:
    """The addition that the stream before another comes from, past norms and casts."""
    stack, seen, hits = [addition.stream], set(), []
    while stack:
        index = stack.pop()
        if index in by_vertex:
            hits.append(index)
            continue
        if index in seen or graph.vertices[index].name in MATMULS:
            continue
        seen.add(index)
        stack += graph.token_parents(index)
    return by_vertex[max(hits)] if hits else None


def _placement(graph: Graph, chain: list[Addition]) -> str:
    """Whether norms stand on the stream itself."""
    between = [a.stream != b.vertex for b, a in pairwise(chain)]
    return "post" if between and sum(between) * 2 > len(between) else "pre"


def _block_sites(
    seen: Observation, path: str, members: list[tuple[Addition, list[Writer]]]
) -> BlockSites:
    """Where one block can be heard."""
    attn, mlp = None, None
    for addition, found in members:
        for kind, index in _parts(seen.graph, addition, found):
            site = _site(seen, index, path)
            if kind == "attn" and attn is None:
                attn = site
            elif kind == "mlp" and mlp is None:
                mlp = site
    return BlockSites(
        path=path,
        before=_site(seen, members[0][0].stream, path, is_stream=True),
        after=_site(seen, members[-1][0].vertex, path, is_stream=True)
        or _block_output(seen, path, members[-1][0].vertex),
        attn=attn,
        mlp=mlp,
    )


def _block_output(seen: Observation, path: str, vertex: int) -> Site | None:
    """What a block gives out, where it scales the stream once more after its last addition."""
    for node, heard in seen.heard["output"].items():
        for at, leaf, number in heard:
            if at == path and seen.graph.ancestors[node] >> vertex & 1:
                return Site(path=path, leaf=leaf, call=number)
    return None


def _parts(graph: Graph, addition: Addition, found: list[Writer]) -> Iterator[tuple[str, int]]:
    """(kind, node) of what is added: one branch, or two where they are summed first."""
    kinds = [branch_kind(graph, w) for w in found]
    v = graph.vertices[addition.branch]
    parents = graph.token_parents(addition.branch)
    if len(set(kinds)) > 1 and v.name == "add" and len(parents) == 2:
        for parent in parents:
            inside = [
                k
                for k, w in zip(kinds, found, strict=True)
                if w.vertex == parent or graph.ancestors[parent] >> w.vertex & 1
            ]
            if len(set(inside)) == 1:
                yield inside[0], parent
    elif kinds:
        yield ("attn" if "attn" in kinds else kinds[0]), addition.branch


def _site(seen: Observation, index: int, block: str, *, is_stream: bool = False) -> Site | None:
    """The module at which a node can be heard: what gives it, or else what takes it.

    Modules of the block come first, the outermost of them; a factor in between is kept. A module
    of another block can be what gives it, where blocks share it.
    """
    for node, factor in _scaled_back(seen.graph, index) if not is_stream else [(index, 1.0)]:
        for side in ("output", "input"):
            found = [
                Site(path=path, side=side, leaf=leaf, call=number, factor=factor)
                for path, leaf, number in seen.heard[side].get(node, ())
                if is_stream or side == "output" or _is_inside(path, block)
            ]
            found.sort(key=lambda s: (not s.path, not _is_inside(s.path, block), len(s.path)))
            if found:
                return found[0]
    return None


def _is_inside(path: str, block: str) -> bool:
    """Whether a module is a block or part of it."""
    return f"{path}.".startswith(f"{block}.")


def _scaled_back(graph: Graph, index: int) -> Iterator[tuple[int, float]]:
    """A node and those it is a plain multiple of, with the factors."""
    factor = 1.0
    while True:
        yield index, factor
        v = graph.vertices[index]
        parents = graph.token_parents(index)
        if len(parents) != 1:
            return
        number = next((a for a in v.node.args[1:] if isinstance(a, int | float)), None)
        if v.name == "mul" and number is not None:
            factor *= float(number)
        elif v.name == "div" and number:
            factor /= float(number)
        elif v.name not in {"_to_copy", "clone", "native_dropout"}:
            return
        index = parents[0]
