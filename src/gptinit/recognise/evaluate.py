"""Values for a part of a recorded forward pass: its inputs are given, its outputs computed.

Everything is computed in float64, whatever the model's dtype, so that a formula can be compared
with it to nine digits.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from gptinit.facts.distributions import Constant
from gptinit.forward.graph import MATMULS, Graph, Vertex
from gptinit.theory.parameters import NoFormula
from gptinit.trace.graph import Read, reads_in

__all__ = ["LOOKUPS", "Values", "constants", "fingerprint", "weights_between"]

LOOKUPS = frozenset({"embedding"})


class Values:
    """The values of some nodes of a graph.

    Args:
        graph: of one forward pass.
        given: index of a node -> its value; nothing behind these is computed.
        weights: name of a parameter -> its value, in the order of its storage.
    """

    def __init__(
        self,
        graph: Graph,
        given: Mapping[int, Tensor],
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._graph, self._weights = graph, weights or {}
        self._values = dict(given)

    def read(self, read: Any) -> Tensor:
        """The value of a view.

        Raises:
            NoFormula: if it depends on more than what is given.
        """
        graph, geometry = self._graph, read.geometry
        name = graph.weight_read(read)
        if name is not None:
            if name not in self._weights or self._weights[name].numel() != read.storage.numel:
                raise NoFormula(name, "this parameter has an effect that no formula covers.")
            flat = self._weights[name]
        else:
            # A single write of the whole view needs no buffer; others are painted over each other.
            writes = graph.writes(read)
            if len(writes) == 1 and writes[0][0] == geometry:
                return self.vertex(writes[0][1])
            kind = torch.complex128 if read.storage.dtype.is_complex else torch.float64
            flat = torch.full((read.storage.numel,), torch.nan, dtype=kind)
            for region, index in writes:
                value = self.vertex(index).reshape(region.size)
                flat.as_strided(region.size, region.stride, region.offset).copy_(value)
        return flat.as_strided(geometry.size, geometry.stride, geometry.offset)

    def vertex(self, index: int) -> Tensor:
        """The value of a node.

        Raises:
            NoFormula: if it depends on more than what is given.
        """
        if index not in self._values:
            self._values[index] = self._compute(self._graph.vertices[index])
        return self._values[index]

    def _compute(self, v: Vertex) -> Tensor:
        node = v.node
        if node.constant is not None:
            return _double(node.constant)
        if isinstance(node.law, Constant):
            return torch.full(node.shape, node.law.value, dtype=torch.float64)
        # torch tags fused attention as random, for its dropout; without any it is not.
        is_without_dropout = "scaled_dot_product" in v.name and not any(node.args[3:4])
        if node.op is None or (node.is_random and not is_without_dropout):
            raise NoFormula(v.name, "its forward pass draws random numbers.")
        if _is_product(self._graph, v):
            raise NoFormula(
                next(o.weight for o in v.operands if o.weight) or "",
                "what this parameter does has no formula.",
            )
        args, kwargs = tree_map(self._argument, (node.args, node.kwargs))
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        try:
            value: Tensor = node.result(node.op(*args, **kwargs))
        except Exception as error:  # an operator that does not exist in float64
            raise NoFormula(v.name, f"{v.name} could not be computed.") from error
        return _double(value)

    def _argument(self, value: Any) -> Any:
        if isinstance(value, Read):
            return self.read(value)
        if isinstance(value, Tensor):
            return _double(value)
        is_dtype = isinstance(value, torch.dtype)
        return _double(torch.empty(0, dtype=value)).dtype if is_dtype else value


def _is_product(graph: Graph, v: Vertex) -> bool:
    """Whether a node multiplies tokens by a parameter or looks rows of one up: a cut."""
    has_weight = any(o.weight for o in v.operands)
    return v.name in MATMULS | LOOKUPS and has_weight and graph.is_token(v.index)


def _double(tensor: Tensor) -> Tensor:
    if tensor.is_complex():
        return tensor.to(torch.complex128)
    return tensor.double() if tensor.is_floating_point() else tensor


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
            elif _is_product(self._graph, v):
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
        for leaf in tree_flatten((v.node.args, v.node.kwargs))[0]:
            if isinstance(leaf, Tensor) and id(leaf) not in done:
                done.add(id(leaf))
                yield _double(leaf)
            elif isinstance(leaf, Read) and graph.weight_read(leaf) is None:
                indices = tuple(i for _, i in graph.writes(leaf))
                is_known = any(graph.is_token(i) or graph.weights_of(i) for i in indices)
                if not is_known and (indices, leaf.geometry) not in done:
                    done.add((indices, leaf.geometry))
                    yield values.read(leaf)
            elif isinstance(leaf, bool | float):
                yield leaf
