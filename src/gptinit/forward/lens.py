"""The logit lens: what a model does after its last block, to be applied after any layer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from gptinit.forward.blocks import Decoder
from gptinit.forward.graph import MATMULS, Graph
from gptinit.forward.observe import Observation
from gptinit.trace.graph import Node, Read
from gptinit.trace.nested import map_only

__all__ = ["Tail", "find_tail"]

_ELEMENTWISE = frozenset({"_to_copy", "add", "clamp", "clone", "div", "mul", "neg", "sub", "tanh"})

Step = tuple[str, Any]
"""("module", path) or ("operator", node)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """The steps from the stream to the logits.

    Attributes:
        before: steps before the head, in order.
        weight: name of the head's matrix.
        vocabulary_first: whether its first dimension is the vocabulary.
        bias: name of the head's bias, or None.
        after: steps after it.
    """

    before: tuple[Step, ...]
    weight: str
    vocabulary_first: bool
    bias: str | None
    after: tuple[Step, ...]

    @property
    def multiplier(self) -> float:
        """Product of the factors before and after the head."""
        product = 1.0
        for kind, node in (*self.before, *self.after):
            number = _number(node) if kind == "operator" else None
            if number is not None and node.name in {"mul", "div"}:
                product *= number if node.name == "mul" else 1 / number
        return product

    def lens(self, module: nn.Module, rows: Tensor) -> Callable[[Tensor], Tensor]:
        """The logit lens of `module` with its present weights.

        Shape:
            rows: (R,) of the vocabulary; of the lens: (B, T, C) to (B, T, R).
        """
        weight = module.get_parameter(self.weight).detach()
        matrix = weight[rows] if self.vocabulary_first else weight[:, rows].T
        bias = None if self.bias is None else module.get_parameter(self.bias).detach()[rows]

        def lens(x: Tensor) -> Tensor:
            for step in self.before:
                x = _apply(module, step, x)
            x = F.linear(x.to(matrix.dtype), matrix, bias)
            for step in self.after:
                x = _apply(module, step, x)
            return x

        return lens


def _apply(module: nn.Module, step: Step, x: Tensor) -> Tensor:
    kind, what = step
    if kind == "module":
        # Not called: hooks on the model must not record the lens.
        out: Tensor = module.get_submodule(what).forward(x)
        return out
    args, kwargs = map_only(Read, lambda _: x, (what.args, what.kwargs))
    result: Tensor = what.op(*args, **kwargs)
    return result


def _number(node: Node) -> float | None:
    """The number among an operator's arguments, plain or as a real tensor of one entry."""
    for value in node.args[1:]:
        if isinstance(value, Tensor) and value.numel() == 1:
            return float(value)
        if isinstance(value, int | float) and value:
            return float(value)
    return None


def find_tail(seen: Observation, decoder: Decoder) -> Tail | None:
    """The steps from the stream after the last layer to the logits; None if one is of no such kind.

    A step is a module that maps one tensor (a final norm), the head's product, or an elementwise
    operator with numbers.
    """
    graph, stream = seen.graph, decoder.end
    after: list[Step] = []
    index = graph.last
    # Backwards from the logits to the head's product, then from its input to the stream.
    while index is not None and graph.vertices[index].name not in MATMULS:
        parent = _elementwise_parent(graph, index)
        if parent is None:
            return None
        after.insert(0, ("operator", graph.vertices[index].node))
        index = parent
    if index is None:
        return None
    head = _head(graph, index)
    before = _steps_between(seen, stream, graph.token_parents(index))
    if head is None or before is None:
        return None
    weight, is_first, bias = head
    return Tail(
        before=tuple(before), weight=weight, vocabulary_first=is_first, bias=bias,
        after=tuple(after),
    )  # fmt: skip


def _head(graph: Graph, index: int) -> tuple[str, bool, str | None] | None:
    """(matrix, whether its rows are the vocabulary, bias) of the head's product."""
    matrices = [(o, n) for o, n in graph.weight_operands(index) if len(o.geometry.size) > 1]
    biases = [n for o, n in graph.weight_operands(index) if len(o.geometry.size) == 1]
    if len(matrices) != 1 or not matrices[0][0].weight:
        return None
    operand, name = matrices[0]
    # Read as (in, out): a matrix that is stored (out, in) was transposed for it.
    is_transposed = operand.geometry.stride[-1] != 1 or operand.geometry.size[-1] == 1
    return name, is_transposed, biases[0] if biases else None


def _elementwise_parent(graph: Graph, index: int) -> int | None:
    """The operand of an elementwise operator with numbers; None for other operators."""
    v = graph.vertices[index]
    parents = graph.token_parents(index)
    tensors = [a for a in v.node.args if isinstance(a, Tensor) and a.numel() != 1]  # a mask, say
    is_plain = v.name in _ELEMENTWISE and len(v.operands) == len(parents) == 1 and not tensors
    return parents[0] if is_plain else None


def _steps_between(seen: Observation, stream: int, ends: list[int]) -> list[Step] | None:
    """The steps from the stream to a node, read backwards; None if some are of another kind."""
    steps: list[Step] = []
    index = ends[0] if len(ends) == 1 else None
    while index is not None and index != stream:
        if not seen.graph.ancestors[index] >> stream & 1:
            return None
        module = _module_step(seen, index, stream)
        if module is not None:
            path, index = module
            steps.insert(0, ("module", path))
            continue
        parent = _elementwise_parent(seen.graph, index)
        if parent is not None:
            steps.insert(0, ("operator", seen.graph.vertices[index].node))
        index = parent
    return steps if index is not None else None


def _module_step(seen: Observation, index: int, stream: int) -> tuple[str, int] | None:
    """(path, input node) of the module that returns a node; of several the one with most steps."""
    steps = []
    for call in seen.calls:
        if len(call.inputs) == 1 and any(at == index for _, at in call.outputs[:1]):
            start = call.inputs[0][1]
            if seen.graph.depends(start, stream) and start != index:
                steps.append((start, call.path))
    return (min(steps)[1], min(steps)[0]) if steps else None
