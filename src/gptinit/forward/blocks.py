"""The blocks of a decoder, and the hook points of the stream and its branches in each."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from gptinit.errors import SubjectError
from gptinit.forward.branches import branch_kind
from gptinit.forward.graph import MATMULS, Graph, Vertex
from gptinit.forward.observe import ModuleCall, Observation
from gptinit.forward.residual import Addition, Writer, additions, writers
from gptinit.forward.sites import BlockSites, Site

__all__ = ["Decoder", "find_decoder", "stream_width"]

_BLOCK = re.compile(r"^((?:[A-Za-z_]\w*\.)*?[A-Za-z_]\w*\.\d+)\.")
_NAMED_BLOCK = re.compile(r"^(.*?\b(?:block|layer|h)_?\d+)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """The blocks of a model and its residual stream.

    Attributes:
        blocks: paths in the order in which they run; one that runs several times occurs as often.
        sites: hook points of each, in the same order.
        chain: every addition to the stream that reaches the logits, in order.
        placement: "pre", or "post" where a norm stands on the stream between two additions.
    """

    blocks: tuple[str, ...]
    sites: tuple[BlockSites, ...]
    chain: tuple[Addition, ...]
    placement: str


def stream_width(seen: Observation) -> int:
    """Width of the stream: the one with the most additions of a product with weights.

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
    """The blocks that lead to the logits, and their hook points.

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
    path: str
    members: list[tuple[Addition, list[Writer]]]

    def has_any(self, others: list[Writer]) -> bool:
        return bool({w.weight for _, ws in self.members for w in ws} & {w.weight for w in others})


def _runs(seen: Observation, chain: list[Addition]) -> list[_Run]:
    """The runs of all blocks. A block whose weights write to the stream again runs again."""
    runs: list[_Run] = []
    latest: dict[str, _Run] = {}
    calls = [call for call in seen.calls if block_of(f"{call.path}.") == call.path]
    for addition in chain:
        added = writers(seen.graph, addition)
        named = (block_of(w.weight) for w in added)
        around = _block_around(seen.graph, calls, addition.vertex)
        path = around or next((p for p in named if p), None)
        if path is None:  # an addition outside of all blocks, such as one of embeddings
            continue
        if path not in latest or latest[path].has_any(added):
            latest[path] = _Run(path, [])
            runs.append(latest[path])
        latest[path].members.append((addition, added))
    return runs


def _block_around(graph: Graph, calls: list[ModuleCall], vertex: int) -> str | None:
    """The block during whose call a node is computed; None outside of all calls of blocks.

    During a call means: after some input of it, before none, and before some output. Names of
    weights do not tell: one that blocks share is named after the first of them.
    """
    for call in calls:
        takes = [node for _, node in call.inputs]
        if any(graph.depends(node, vertex) for node in takes):
            continue
        begins = any(graph.depends(vertex, node) for node in takes)
        if begins and any(graph.depends(node, vertex) for _, node in call.outputs):
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
    """The additions on the way from the embedding to the last one before the logits, in order."""
    by_vertex = {a.vertex: a for a in found}
    behind = graph.ancestors[graph.last] | 1 << graph.last if graph.last is not None else 0
    reached = [a for a in found if behind >> a.vertex & 1]
    # Backwards from the last one, so that additions of a branch's own are left out.
    chain: list[Addition] = []
    current = reached[-1] if reached else None
    while current is not None:
        chain.append(current)
        current = _before(graph, current, by_vertex)
    return chain[::-1]


def _before(graph: Graph, addition: Addition, by_vertex: dict[int, Addition]) -> Addition | None:
    """The addition before another on the stream, past norms and casts but no matrix product."""

    def is_between(v: Vertex) -> bool:
        return v.index not in by_vertex and v.name not in MATMULS

    behind = graph.behind([addition.stream], is_between)
    reached = [v.index for v in behind if v.index in by_vertex]
    return by_vertex[max(reached)] if reached else None


def _placement(graph: Graph, chain: list[Addition]) -> str:
    """Return "post" if a norm stands on the stream between most additions, else "pre"."""
    # Most and not all: one multiple or norm in between does not make a model post-norm.
    between = [a.stream != b.vertex for b, a in pairwise(chain)]
    return "post" if between and sum(between) * 2 > len(between) else "pre"


def _block_sites(
    seen: Observation, path: str, members: list[tuple[Addition, list[Writer]]]
) -> BlockSites:
    branches: dict[str, Site | None] = {}
    for addition, added in members:
        for kind, index in _branches(seen.graph, addition, added):
            branches[kind] = branches.get(kind) or _site(seen, index, path)
    return BlockSites(
        path=path,
        before=_site(seen, members[0][0].stream, path, is_stream=True),
        after=_site(seen, members[-1][0].vertex, path, is_stream=True)
        or _block_output(seen, path, members[-1][0].vertex),
        attn=branches.get("attn"),
        mlp=branches.get("mlp"),
    )


def _block_output(seen: Observation, path: str, vertex: int) -> Site | None:
    """The output of a block that still scales the stream after its last addition."""
    for node, hooks in seen.hook_points["output"].items():
        for at, leaf, number in hooks:
            if at == path and seen.graph.ancestors[node] >> vertex & 1:
                return Site(path=path, leaf=leaf, call=number)
    return None


def _branches(graph: Graph, addition: Addition, added: list[Writer]) -> Iterator[tuple[str, int]]:
    """(kind, node) of the branch that is added, or of both where two are summed first."""
    kinds = [branch_kind(graph, w) for w in added]
    v = graph.vertices[addition.branch]
    parents = graph.token_parents(addition.branch)
    if len(set(kinds)) > 1 and v.name == "add" and len(parents) == 2:
        for parent in parents:
            inside = {branch_kind(graph, w) for w in added if graph.depends(parent, w.vertex)}
            if len(inside) == 1:
                yield inside.pop(), parent
    elif kinds:
        yield ("attn" if "attn" in kinds else kinds[0]), addition.branch


def _site(seen: Observation, index: int, block: str, *, is_stream: bool = False) -> Site | None:
    """The hook point of a node: a module that returns it, else one that takes it.

    Modules of the block come first, the outermost of them. A module outside the block may return
    it too, where blocks share one. If no module has the node itself, one may have a multiple of
    it: the factor is kept.
    """
    for node, factor in _scaled_back(seen.graph, index) if not is_stream else [(index, 1.0)]:
        for side in ("output", "input"):
            sites = [
                Site(path=path, side=side, leaf=leaf, call=number, factor=factor)
                for path, leaf, number in seen.hook_points[side].get(node, ())
                if is_stream or side == "output" or _is_inside(path, block)
            ]
            if sites:  # the path of the model itself is empty: last, for it is in no block
                return min(
                    sites, key=lambda s: (not s.path, not _is_inside(s.path, block), len(s.path))
                )
    return None


def _is_inside(path: str, block: str) -> bool:
    return f"{path}.".startswith(f"{block}.")


def _scaled_back(graph: Graph, index: int) -> Iterator[tuple[int, float]]:
    """(node, factor) of a node and of each earlier one that it is a multiple of."""
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
