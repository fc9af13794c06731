"""The blocks of a decoder, the layers that they make up, and the stream between them."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain as joined
from itertools import pairwise

from gptinit.errors import SubjectError
from gptinit.forward.block_sites import block_sites
from gptinit.forward.branches import branches
from gptinit.forward.graph import Graph
from gptinit.forward.observe import ModuleCall, Observation
from gptinit.forward.residual import Addition, additions, has_norm, outermost, way_back
from gptinit.forward.sites import BlockSites

__all__ = ["Decoder", "block_of", "find_decoder", "numbered", "stream_width"]

_BLOCK = re.compile(r"^((?:[A-Za-z_]\w*\.)*?[A-Za-z_]\w*\.\d+)\.")
_NUMBER = re.compile(r"(?<=\w)\.\d+(?=\.)")
_NAMED_BLOCK = re.compile(r"^(.*?\b(?:block|layer|h)_?\d+)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """The blocks of a model and its residual stream.

    Attributes:
        layers: paths of the blocks that make up each layer, in the order in which they run; one
            that runs several times occurs as often. A layer is one block, or two in a flat list of
            attention, MLP, attention, MLP ...
        sites: hook points of each layer.
        chain: every addition to the stream that reaches the logits, in order.
        end: the node of the stream that leaves the last layer.
        placement: "post" if a norm stands on the stream between most additions, else "pre".
        is_plain: whether layers are the blocks of the outermost lists. Where they are not (a flat
            list of attention, MLP, attention ..., stages of several blocks), a pass over some of
            the blocks does not show which they are.
    """

    layers: tuple[tuple[str, ...], ...]
    sites: tuple[BlockSites, ...]
    chain: tuple[Addition, ...]
    end: int
    placement: str
    is_plain: bool

    @property
    def blocks(self) -> tuple[str, ...]:
        """Paths of all blocks, in the order in which they run."""
        return tuple(joined.from_iterable(self.layers))


def stream_width(seen: Observation) -> int:
    """Width of the stream: the one with the most additions of a product with weights.

    Those in the branch of another, such as the steps of a recurrence, do not count.

    Raises:
        SubjectError: if the model adds nothing to a stream.
    """
    graph = seen.graph
    shapes = [v.node.shape for v in graph.vertices if v.name == "add" and v.node.shape]
    widths = dict.fromkeys(shape[-1] for shape in shapes)
    found = [a for width in widths for a in additions(graph, width) if a.writers]
    counted = Counter(graph.vertices[a.vertex].node.shape[-1] for a in outermost(graph, found))
    best = max(counted, key=lambda width: counted[width], default=0)
    if not best:
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
    chain = _chain(graph, [a for a in additions(graph, width) if a.writers])
    runs = _runs(seen, chain)
    if not runs:
        raise SubjectError(
            "model must have a list of repeated blocks that add to its residual stream, got none."
        )
    placement = _placement(graph, chain)
    is_nested = any(block_of(f"{run.paths[0]}.") != run.paths[0] for run in runs)
    layers, is_flat = _layers(graph, runs)
    following = [*layers[1:], None]
    followed = [
        _leaving(seen, layer, next_one, placement, chain)
        for layer, next_one in zip(layers, following, strict=True)
    ]
    return Decoder(
        layers=tuple(layer.paths for layer in layers),
        sites=tuple(_sites(seen, *pair) for pair in zip(layers, followed, strict=True)),
        chain=tuple(chain),
        end=followed[-1],
        placement=placement,
        is_plain=not is_flat and not is_nested,
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of a block, or of the blocks that make up a layer, and what it adds."""

    paths: tuple[str, ...]
    members: list[Addition]

    @property
    def first(self) -> int:
        """The stream before the first branch."""
        return self.members[0].stream

    @property
    def last(self) -> int:
        """The stream after the last branch."""
        return self.members[-1].vertex

    def has_any(self, addition: Addition) -> bool:
        """Whether a weight that writes to the stream in an addition does so here too."""
        weights = {w.weight for a in self.members for w in a.writers}
        return not weights.isdisjoint(w.weight for w in addition.writers)


def _sites(seen: Observation, layer: _Run, leaves: int) -> BlockSites:
    ends, added = (layer.first, layer.last, leaves), branches(seen.graph, layer.members)
    return block_sites(seen, layer.paths, ends=ends, added=added)


def _runs(seen: Observation, chain: list[Addition]) -> list[_Run]:
    """The runs of all blocks. A block whose weights write to the stream again runs again."""
    runs: list[_Run] = []
    latest: dict[str, _Run] = {}
    for addition, path in _placed(seen, chain):
        if path not in latest or latest[path].has_any(addition):
            latest[path] = _Run((path,), [])
            runs.append(latest[path])
        latest[path].members.append(addition)
    return runs


def _placed(seen: Observation, chain: list[Addition]) -> list[tuple[Addition, str]]:
    """The additions of all blocks, with the path of the block.

    A block is a module of the outermost list; where these are stages of several blocks, one of the
    stages' own lists. An addition outside of all blocks, such as one of embeddings, is left out.
    """
    calls = [c for c in seen.calls if c.path in (*numbered(f"{c.path}."), block_of(f"{c.path}."))]
    blocks = [call for call in calls if block_of(f"{call.path}.") == call.path]
    outer, inner = [], []
    for addition in chain:
        named = (block_of(w.weight) for w in addition.writers)
        around = _block_around(seen.graph, blocks, addition.vertex)
        path = around or next((p for p in named if p), None)
        if path is not None:
            outer.append((addition, path))
            within = _block_around(seen.graph, calls, addition.vertex)
            inner.append((addition, within or path))
    sizes = Counter(path for _, path in inner)
    # What adds one branch alone is a part of a block: a list of attention and MLP.
    are_stages = len(sizes) > len({path for _, path in outer}) and min(sizes.values()) > 1
    return inner if are_stages else outer


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


def numbered(name: str) -> list[str]:
    """Paths of the members of lists that a parameter belongs to, from the outermost.

    Example:
        >>> numbered("layers.0.blocks.12.mlp.up.weight")
        ['layers.0', 'layers.0.blocks.12']
    """
    return [name[: match.end()] for match in _NUMBER.finditer(name)]


def _chain(graph: Graph, found: list[Addition]) -> list[Addition]:
    """The additions on the way from the embedding to the last one before the logits, in order."""
    by_vertex = {a.vertex: a for a in found}
    behind = 0 if graph.last is None else graph.cone(graph.last)
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
    reached = way_back(graph, addition.stream, by_vertex) & by_vertex.keys()
    return by_vertex[max(reached)] if reached else None


def _placement(graph: Graph, chain: list[Addition]) -> str:
    """Return "post" if a norm stands on the stream between most additions, else "pre"."""
    # Most and not all: one norm in between does not make a model post-norm.
    normed = [has_norm(graph, b.vertex, a.stream) for b, a in pairwise(chain)]
    return "post" if normed and sum(normed) * 2 > len(normed) else "pre"


def _layers(graph: Graph, runs: Sequence[_Run]) -> tuple[Sequence[_Run], bool]:
    """The runs of all layers, and whether the list of blocks is flat.

    It is where every block adds one branch, and not all of one kind. Two blocks make a layer if
    attention and MLP alternate; in any other order no block belongs to another.
    """
    kinds = [[branch.kind for branch in branches(graph, run.members)] for run in runs]
    is_flat = all(len(of_run) == 1 for of_run in kinds) and len({k for k, *_ in kinds}) > 1
    if not is_flat or kinds != [["attn"], ["mlp"]] * (len(runs) // 2):
        return runs, is_flat
    pairs = zip(runs[::2], runs[1::2], strict=True)
    return [_Run((*a.paths, *b.paths), [*a.members, *b.members]) for a, b in pairs], is_flat


def _leaving(
    seen: Observation,
    layer: _Run,
    following: _Run | None,
    placement: str,
    chain: Sequence[Addition],
) -> int:
    """The node of the stream that leaves a layer: what a hook on its last block sees.

    It is the sum after the last branch, or what the block still makes of it: a multiple, or the
    output of the norm that closes a post-norm block. Where nobody calls the block, that norm is the
    one on the way to the next layer; after the last layer the first one that follows.
    """
    graph = seen.graph
    outputs = [
        (node, site.path)
        for node, sites in seen.hook_points.items()
        for site in sites
        if site.side == "output"
    ]
    stops = {a.vertex for a in chain}

    def follows(node: int) -> bool:
        return graph.depends(node, layer.last) and layer.last in way_back(graph, node, stops)

    own = {node for node, path in outputs if path == layer.paths[-1] and follows(node)}
    if own:
        return layer.last if layer.last in own else min(own)
    if placement == "pre":
        return layer.last
    ways = [following.first] if following else sorted(node for node, _ in outputs if follows(node))
    return next((n for n in ways if has_norm(graph, layer.last, n)), layer.last)
