"""The record of one forward pass as a graph: which node reads which, weights apart from tokens.

Bits of integers stand for sets of nodes, so that questions of descent are one operation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten

from gptinit.trace.graph import Geometry, Node, Read, ordered
from gptinit.trace.record.tensor import TracedTensor
from gptinit.trace.replay.replay import base_name

__all__ = ["MATMULS", "SOFTMAXES", "Graph", "Operand", "Vertex", "name_of"]

MATMULS = frozenset(
    {
        "_grouped_mm",
        "addbmm",
        "addmm",
        "addmv",
        "baddbmm",
        "bmm",
        "grouped_mm_fallback",
        "linear",
        "matmul",
        "mm",
        "mv",
    }
)
SOFTMAXES = frozenset({"_softmax", "_safe_softmax"})
"""The latter where no row may be barred whole."""

_LOOKUPS = frozenset({"embedding", "index_select", "index", "gather"})


@dataclass(frozen=True, slots=True)
class Operand:
    """One thing that a node reads.

    Attributes:
        position: index among the operator's tensor arguments.
        geometry: of the view that is read.
        weight: name of the parameter, where it is one.
        nodes: indices of the nodes that are read, where it is none.
    """

    position: int
    geometry: Geometry
    weight: str | None
    nodes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Vertex:
    """A node of the forward pass, with what it reads."""

    index: int
    node: Node
    operands: tuple[Operand, ...]

    @property
    def name(self) -> str:
        """The operator's name; "draw" or "constant" where there is none."""
        return name_of(self.node)


def name_of(node: Node) -> str:
    """Name of the operator of a node."""
    if node.op is None:
        return "draw" if node.law is not None else "constant"
    return base_name(node.op)


class Graph:
    """The nodes behind some logits.

    Args:
        logits: what the forward pass returned.
        weights: id of a parameter's storage to its name.
    """

    def __init__(self, logits: TracedTensor, weights: Mapping[int, str]) -> None:
        self._weights = weights
        found = self._reachable(logits.read())
        self._index = {node.number: i for i, node in enumerate(found)}
        self.vertices = [
            Vertex(i, node, tuple(self._operands(node))) for i, node in enumerate(found)
        ]
        self.last = self.at(logits.read())

    def _reachable(self, read: Read) -> list[Node]:
        """Every node behind a read, weights left out, each after what it reads."""
        return ordered(self._sources(read), self._sources)

    def _sources(self, read: Read) -> list[Node]:
        """The nodes whose values a read sees, none for a weight."""
        if id(read.storage) in self._weights:
            return []
        return [w.node for w in read.storage.visible(read.version)]

    def _operands(self, node: Node) -> list[Operand]:
        """What a node reads, in the order of its arguments."""
        leaves = [a for a in tree_flatten((node.args, node.kwargs))[0] if _is_tensor(a)]
        return [
            Operand(
                i, a.geometry, self._weights.get(id(a.storage)),
                tuple(self._index[n.number] for n in self._sources(a)),
            )
            for i, a in enumerate(leaves) if isinstance(a, Read)
        ]  # fmt: skip

    def weight_read(self, read: Read) -> str | None:
        """Name of the parameter that a read looks into; None where it is none."""
        return self._weights.get(id(read.storage))

    def writes(self, read: Read) -> list[tuple[Geometry, int]]:
        """What was written where a read looks, oldest first: (region, index of the node)."""
        found = read.storage.visible(read.version)
        return [(write.region, self._index[write.node.number]) for write in found]

    def at(self, read: Read) -> int | None:
        """Index of the node that a read sees last; None outside the graph."""
        sources = self._sources(read)
        return self._index.get(sources[-1].number) if sources else None

    @cached_property
    def tokens(self) -> int:
        """Set of the nodes that depend on a lookup of token ids or positions."""
        found = 0
        for v in self.vertices:
            below = any(found >> i & 1 for o in v.operands for i in o.nodes)
            if below or self._is_embedding(v):
                found |= 1 << v.index
        return found

    def _is_embedding(self, v: Vertex) -> bool:
        """Whether a node looks rows up in a table: a matrix, or a cast of one."""
        if v.name not in _LOOKUPS or not v.operands:
            return False
        table = v.operands[0]
        has_weight = bool(table.weight) or any(self.weights_of(i) for i in table.nodes)
        return has_weight and len(table.geometry.size) == 2

    @cached_property
    def ancestors(self) -> list[int]:
        """Set of the nodes behind every node."""
        sets: list[int] = []
        for v in self.vertices:
            behind = 0
            for o in v.operands:
                for i in o.nodes:
                    behind |= sets[i] | 1 << i
            sets.append(behind)
        return sets

    def weights_of(self, index: int) -> tuple[str, ...]:
        """Names of the weights that a node which depends on no token is made of."""
        names: dict[str, None] = {}
        stack, seen = [index], {index}
        while stack:
            v = self.vertices[stack.pop()]
            for o in v.operands:
                if o.weight:
                    names[o.weight] = None
                stack += [i for i in o.nodes if i not in seen]
                seen.update(o.nodes)
        return tuple(names)

    def is_token(self, index: int) -> bool:
        """Whether a node depends on tokens."""
        return bool(self.tokens >> index & 1)

    def token_parents(self, index: int) -> list[int]:
        """The nodes that a node reads and that depend on tokens."""
        parents = [i for o in self.vertices[index].operands for i in o.nodes]
        return [i for i in parents if self.is_token(i)]

    def weight_operands(self, index: int) -> list[tuple[Operand, str]]:
        """The operands of a node that are weights, or made of weights alone."""
        found = []
        for o in self.vertices[index].operands:
            if o.weight:
                found.append((o, o.weight))
            elif o.nodes and not any(self.is_token(i) for i in o.nodes):
                names = self.weights_of(o.nodes[-1])
                found += [(o, names[0])] if len(names) == 1 else []
        return found


def _is_tensor(value: Any) -> bool:
    """Whether an argument is a tensor, recorded or real."""
    return isinstance(value, Read | Tensor)
