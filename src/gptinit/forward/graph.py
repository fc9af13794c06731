"""The record of one forward pass as a graph: which node reads which, weights apart from tokens.

A set of nodes is an integer, bit i for node i. "Does b depend on a" is then `ancestors[b] >> a & 1`
and "the nodes between the two" is one subtraction of sets.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from gptinit.trace.graph import Geometry, Node, Read, ordered
from gptinit.trace.nested import only
from gptinit.trace.record.tensor import TracedTensor

__all__ = ["FUSED_NORMS", "MATMULS", "SOFTMAXES", "Graph", "Operand", "Vertex"]

FUSED_NORMS = frozenset({"native_layer_norm", "native_group_norm", "_fused_rms_norm", "rms_norm"})
"""Norms that are one operator, which takes the weight and the bias too."""

MATMULS = frozenset(
    {
        "_grouped_mm", "addbmm", "addmm", "addmv", "baddbmm", "bmm", "grouped_mm_fallback",
        "linear", "matmul", "mm", "mv",
    }
)  # fmt: skip
SOFTMAXES = frozenset({"_softmax", "_safe_softmax"})
"""torch uses the safe one where a mask may exclude all keys of a query."""

_LOOKUPS = frozenset({"embedding", "index_select", "index", "gather"})


@dataclass(frozen=True, slots=True)
class Operand:
    """One thing that a node reads.

    Attributes:
        position: index among the operator's tensor arguments.
        geometry: of the view that is read.
        weight: name of the parameter, if it is one.
        nodes: indices of the nodes that are read, if it is none.
    """

    position: int
    geometry: Geometry
    weight: str | None
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Vertex:
    """A node of the forward pass with its operands."""

    index: int
    node: Node
    operands: tuple[Operand, ...]

    @property
    def name(self) -> str:
        """The operator's name; "draw" or "constant" where there is none."""
        return self.node.name

    @property
    def power(self) -> float:
        """The exponent of a power of a tensor; 0 for another node."""
        exponent = self.node.args[1] if self.name == "pow" and len(self.node.args) > 1 else 0
        return float(exponent) if isinstance(exponent, int | float) else 0.0


class Graph:
    """The nodes that logits depend on.

    Args:
        logits: what the forward pass returned.
        weights: id of a parameter's storage to its name.
    """

    def __init__(self, logits: TracedTensor, weights: Mapping[int, str]) -> None:
        self._weights = weights
        nodes = ordered(self._sources(logits.read()), self._sources)
        self._index = {node.number: i for i, node in enumerate(nodes)}
        self.vertices = [
            Vertex(i, node, tuple(self._operands(node))) for i, node in enumerate(nodes)
        ]
        self.last = self.at(logits.read())
        self.ends = tuple(self._index[n.number] for n in self._sources(logits.read()))

    def _sources(self, read: Read) -> list[Node]:
        """The nodes whose values a read shows; none for a weight, at which the graph ends."""
        if id(read.storage) in self._weights:
            return []
        return [w.node for w in read.storage.visible(read.version)]

    def _operands(self, node: Node) -> list[Operand]:
        tensors = only((Read, Tensor), (node.args, node.kwargs))
        return [
            Operand(
                i, a.geometry, self._weights.get(id(a.storage)),
                tuple(self._index[n.number] for n in self._sources(a)),
            )
            for i, a in enumerate(tensors) if isinstance(a, Read)
        ]  # fmt: skip

    def weight_read(self, read: Read) -> str | None:
        """Name of the parameter that a read shows; None if it shows none."""
        return self._weights.get(id(read.storage))

    def writes(self, read: Read) -> list[tuple[Geometry, int]]:
        """(region, index of the node) of every write that a read shows, oldest first."""
        visible = read.storage.visible(read.version)
        return [(write.region, self._index[write.node.number]) for write in visible]

    def at(self, read: Read) -> int | None:
        """Index of the node that wrote last to what a read shows; None outside the graph."""
        sources = self._sources(read)
        return self._index.get(sources[-1].number) if sources else None

    @cached_property
    def tokens(self) -> int:
        """Set of the nodes that depend on a lookup of token ids or positions."""
        tokens = 0
        for v in self.vertices:
            reads_tokens = any(tokens >> i & 1 for o in v.operands for i in o.nodes)
            if reads_tokens or self.table_of(v):
                tokens |= 1 << v.index
        return tokens

    def table_of(self, v: Vertex) -> tuple[str, ...]:
        """Names of the weights of the table that a node looks rows up in; () for another node.

        A table is a matrix, or a cast of one.
        """
        if v.name not in _LOOKUPS or not v.operands or len(v.operands[0].geometry.size) != 2:
            return ()
        table = v.operands[0]
        behind = (name for i in table.nodes for name in self.weights_of(i))
        return (table.weight,) if table.weight else tuple(dict.fromkeys(behind))

    @cached_property
    def ancestors(self) -> list[int]:
        """For every node the set of those that it depends on."""
        # In one sweep: vertices are ordered, so every operand's set is complete.
        sets: list[int] = []
        for v in self.vertices:
            behind = 0
            for o in v.operands:
                for i in o.nodes:
                    behind |= sets[i] | 1 << i
            sets.append(behind)
        return sets

    def weights_of(self, index: int) -> tuple[str, ...]:
        """Names of the weights that a node depends on; meant for nodes that depend on no token."""
        behind = self.within(self.cone(index))
        return tuple(dict.fromkeys(o.weight for v in behind for o in v.operands if o.weight))

    def picked_from(self, operand: Operand) -> tuple[int, ...]:
        """Size of the weight that an operand holds picked entries of; () if it holds none."""
        for node in operand.nodes:
            for v in self.within(self.cone(node)):
                if v.name in _LOOKUPS and v.operands and v.operands[0].weight:
                    return v.operands[0].geometry.size
        return ()

    def is_token(self, index: int) -> bool:
        """Whether a node depends on tokens."""
        return bool(self.tokens >> index & 1)

    def reads_tokens(self, operand: Operand) -> bool:
        """Whether an operand depends on tokens."""
        return any(self.is_token(i) for i in operand.nodes)

    def token_parents(self, index: int) -> list[int]:
        """The nodes that a node reads, of those that depend on tokens."""
        parents = [i for o in self.vertices[index].operands for i in o.nodes]
        return [i for i in parents if self.is_token(i)]

    def matrices_of(self, v: Vertex) -> list[str]:
        """The matrices that a node multiplies tokens by."""
        if v.name not in MATMULS or not self.token_parents(v.index):
            return []
        return [name for o, name in self.weight_operands(v.index) if len(o.geometry.size) > 1]

    def cone(self, index: int) -> int:
        """Set of a node and of all that it depends on."""
        return self.ancestors[index] | 1 << index

    def depends(self, index: int, on: int) -> bool:
        """Whether a node is another, or depends on it."""
        return bool(self.cone(index) >> on & 1)

    def within(self, cone: int) -> Iterator[Vertex]:
        """The vertices of a set, in order: its bits from the lowest up."""
        while cone:
            low = cone & -cone
            yield self.vertices[low.bit_length() - 1]
            cone ^= low

    def behind(self, start: list[int], passes: Callable[[Vertex], bool]) -> Iterator[Vertex]:
        """Nodes of tokens from `start` backwards, each once; not past those that fail `passes`."""
        stack, seen = list(start), set()
        while stack:
            index = stack.pop()
            if index not in seen:
                seen.add(index)
                yield self.vertices[index]
                if passes(self.vertices[index]):
                    stack += self.token_parents(index)

    def weight_operands(self, index: int) -> list[tuple[Operand, str]]:
        """The operands of a node that are a weight, or computed from one weight alone (a cast)."""
        operands = []
        for o in self.vertices[index].operands:
            if o.weight:
                operands.append((o, o.weight))
            # A cast or a copy of a weight counts as the weight, a product of two does not.
            elif o.nodes and not self.reads_tokens(o):
                names = self.weights_of(o.nodes[-1])
                operands += [(o, names[0])] if len(names) == 1 else []
        return operands
