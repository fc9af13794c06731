"""Numbers for a part of a recorded forward pass: what goes in is given, what comes out computed.

Everything is computed in float64, whatever the model's dtype: what a formula says can then be held
against it to nine digits.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from gptinit.facts.distributions import Constant
from gptinit.forward.graph import MATMULS, Graph, Vertex
from gptinit.trace.graph import Read, reads_in

__all__ = ["LOOKUPS", "Uncovered", "Values", "constants", "fingerprint", "weights_between"]

LOOKUPS = frozenset({"embedding"})


class Uncovered(Exception):
    """Something in a forward pass that no formula covers: where, and what."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(why)
        self.where = where


class Values:
    """The values of some nodes of a graph.

    Args:
        graph: of one forward pass.
        given: index of a node to its value; nothing behind these is computed.
        weights: name of a parameter to its value, in the order of its storage.
    """

    def __init__(
        self,
        graph: Graph,
        given: Mapping[int, Tensor],
        weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._graph, self._weights = graph, weights or {}
        self._known = dict(given)

    def read(self, read: Any) -> Tensor:
        """The value of a view.

        Raises:
            Uncovered: if it depends on more than what is given.
        """
        graph, geometry = self._graph, read.geometry
        name = graph.weight_read(read)
        if name is not None:
            if name not in self._weights:
                raise Uncovered(name, "this parameter has an effect that no formula covers.")
            flat = self._weights[name]
            if flat.numel() != read.storage.numel:
                raise Uncovered(name, "this parameter has an effect that no formula covers.")
        else:
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
            Uncovered: if it depends on more than what is given.
        """
        if index not in self._known:
            self._known[index] = self._compute(self._graph.vertices[index])
        return self._known[index]

    def _compute(self, v: Vertex) -> Tensor:
        """The value of a node from what it reads."""
        node = v.node
        if node.constant is not None:
            return _double(node.constant)
        if isinstance(node.law, Constant):
            return torch.full(node.shape, node.law.value, dtype=torch.float64)
        # Fused attention counts as random for its dropout.
        is_still = "scaled_dot_product" in v.name and not any(node.args[3:4])
        if node.op is None or (node.is_random and not is_still):
            raise Uncovered(v.name, "its forward pass draws random numbers.")
        if _is_product(self._graph, v):
            raise Uncovered(
                next(o.weight for o in v.operands if o.weight) or "",
                "what this parameter does has no formula.",
            )
        args, kwargs = tree_map(self._argument, (node.args, node.kwargs))
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        try:
            made = node.op(*args, **kwargs)
        except Exception as error:  # an operator that is not there in float64
            raise Uncovered(v.name, f"{v.name} could not be computed.") from error
        value: Tensor = made if node.index is None else made[node.index]
        return _double(value)

    def _argument(self, value: Any) -> Any:
        """An argument with values in place of reads, in float64."""
        if isinstance(value, Read):
            return self.read(value)
        if isinstance(value, Tensor):
            return _double(value)
        if isinstance(value, torch.dtype) and value.is_floating_point:
            return torch.float64
        if isinstance(value, torch.dtype) and value.is_complex:
            return torch.complex128
        return value


def _is_product(graph: Graph, v: Vertex) -> bool:
    """Whether a node is tokens times a parameter, or rows of one."""
    has_weight = any(o.weight for o in v.operands)
    return v.name in MATMULS | LOOKUPS and has_weight and graph.is_token(v.index)


def _double(tensor: Tensor) -> Tensor:
    """Floating entries in double precision, others as they are."""
    if tensor.is_complex():
        return tensor.to(torch.complex128)
    return tensor.double() if tensor.is_floating_point() else tensor


def weights_between(graph: Graph, end: Any, given: Mapping[int, object]) -> tuple[str, ...]:
    """Names of the parameters that a read depends on, not past what is given."""
    return tuple(
        dict.fromkeys(
            name
            for read in _reads_behind(graph, end, given)
            if (name := graph.weight_read(read)) is not None
        )
    )


def _reads_behind(graph: Graph, end: Any, given: Mapping[int, object]) -> Iterator[Read]:
    """A read and all that it depends on, not past what is given."""
    stack, seen = [end], set()
    while stack:
        read = stack.pop()
        yield read
        if graph.weight_read(read) is not None:
            continue
        for _, index in graph.writes(read):
            if index not in seen and index not in given:
                seen.add(index)
                stack += list(reads_in(graph.vertices[index].node))


def fingerprint(graph: Graph, end: Any, given: Mapping[int, str]) -> int:
    """A number that two reads share whose values are computed alike from what is given.

    Args:
        graph: of one forward pass.
        end: what is computed.
        given: index of a node to what it is called: alike in the two.
    """
    return _Fingerprints(graph, given).of(end)


class _Fingerprints:
    """Hashes of how values of one graph come about."""

    def __init__(self, graph: Graph, given: Mapping[int, str]) -> None:
        self._graph = graph
        self._known: dict[int, int] = {index: hash(label) for index, label in given.items()}

    def of(self, value: Any) -> int:
        """Of an argument."""
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
        if self._graph.weight_read(read) is not None:
            return hash(("weight", read.geometry))
        parts = tuple((region, self._of_node(i)) for region, i in self._graph.writes(read))
        return hash((read.geometry, parts))

    def _of_node(self, index: int) -> int:
        if index not in self._known:
            v = self._graph.vertices[index]
            node = v.node
            if node.constant is not None:
                found = _hash_of(node.constant)
            elif _is_product(self._graph, v):
                found = hash(("product", index))  # not given: it cannot be computed
            else:
                law = repr(node.law)
                found = hash((str(node.op), law, node.index, self.of([*node.args, node.kwargs])))
            self._known[index] = found
        return self._known[index]


def _hash_of(tensor: Tensor) -> int:
    """A hash of the values."""
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    return hash((tuple(tensor.shape), plain.view(torch.uint8).numpy().tobytes()))


def constants(graph: Graph) -> Iterator[Tensor | bool | float | str]:
    """What nodes of tokens read besides tokens, parameters and sizes, in order.

    Tables of angles and masks, each for its first reader; numbers and flags.
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
