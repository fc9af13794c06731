"""What a part of a recorded forward pass depends on, and whether two parts compute the same."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from gptinit.forward.graph import Graph
from gptinit.forward.values import Values, in_double, is_product
from gptinit.trace.graph import Read, reads_in
from gptinit.trace.nested import only

__all__ = ["constants", "fingerprint", "weights_between"]


def weights_between(graph: Graph, end: Any, given: Mapping[int, object]) -> tuple[str, ...]:
    """Names of the parameters that a read depends on, not counting those behind given nodes."""
    return tuple(
        dict.fromkeys(
            name
            for read in _reads_behind(graph, end, given)
            if (name := graph.weight_read(read)) is not None
        )
    )


def _reads_behind(graph: Graph, end: Any, given: Mapping[int, object]) -> Iterator[Read]:
    stack, seen = [end], set()
    while stack:
        read = stack.pop()
        yield read
        if graph.weight_read(read) is not None:
            continue
        for _, index in graph.writes(read):
            if index not in seen and index not in given:
                seen.add(index)
                stack += reads_in(graph.vertices[index].node)


def fingerprint(graph: Graph, end: Any, given: Mapping[int, str]) -> int:
    """A hash of how a read is computed from given nodes, so that equal layers are read once.

    Args:
        graph: of one forward pass.
        end: what is computed.
        given: index of a node -> its label, the same in layers that are to be compared.
    """
    return _Fingerprints(graph, given).of(end)


class _Fingerprints:
    def __init__(self, graph: Graph, given: Mapping[int, str]) -> None:
        self._graph = graph
        self._hashes: dict[int, int] = {index: hash(label) for index, label in given.items()}

    def of(self, value: Any) -> int:
        if isinstance(value, Read):
            return self._of_read(value)
        if isinstance(value, Tensor):
            return _hash_of(value)
        if isinstance(value, dict):
            return hash(tuple((k, self.of(v)) for k, v in value.items()))
        if isinstance(value, tuple | list):
            return hash(tuple(self.of(v) for v in value))
        return hash(str(value))

    def _of_read(self, read: Any) -> int:
        if self._graph.weight_read(read) is not None:  # without its name: layers differ in it
            return hash(("weight", read.geometry))
        parts = tuple((region, self._of_node(i)) for region, i in self._graph.writes(read))
        return hash((read.geometry, parts))

    def _of_node(self, index: int) -> int:
        if index not in self._hashes:
            v = self._graph.vertices[index]
            node = v.node
            if node.constant is not None:
                fingerprint = _hash_of(node.constant)
            elif is_product(self._graph, v):
                fingerprint = hash(("product", index))  # equal to no other: it is not given
            else:
                law = repr(node.law)
                arguments = self.of([*node.args, node.kwargs])
                fingerprint = hash((str(node.op), law, node.index, arguments))
            self._hashes[index] = fingerprint
        return self._hashes[index]


def _hash_of(tensor: Tensor) -> int:
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    return hash((tuple(tensor.shape), plain.view(torch.uint8).numpy().tobytes()))


def constants(graph: Graph) -> Iterator[Tensor | bool | float | str]:
    """All that nodes of tokens read besides tokens, parameters and sizes, in order.

    That is tables of angles and masks, each once, numbers and flags; and names of operators.
    """
    values = Values(graph, {})
    done: set[object] = set()
    for v in graph.vertices:
        if not graph.is_token(v.index):
            continue
        yield v.name
        for leaf in only(object, (v.node.args, v.node.kwargs)):
            if isinstance(leaf, Tensor) and id(leaf) not in done:
                done.add(id(leaf))
                yield in_double(leaf)
            elif isinstance(leaf, Read) and graph.weight_read(leaf) is None:
                indices = tuple(i for _, i in graph.writes(leaf))
                is_known = any(graph.is_token(i) or graph.weights_of(i) for i in indices)
                if not is_known and (indices, leaf.geometry) not in done:
                    done.add((indices, leaf.geometry))
                    yield values.read(leaf)
            elif isinstance(leaf, bool | float):
                yield leaf
