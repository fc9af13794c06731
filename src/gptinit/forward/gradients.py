"""Who gets a gradient in the first training steps, by which values of a forward pass are exactly 0.

Nothing is computed: a product is 0 if a factor is, a sum if all its terms are, and the gradient of
a factor is 0 if another factor is. What an operator that is not known here does to zeros is not
guessed: its value counts as nonzero and it passes gradients on. So "no gradient" is proven, and
"a gradient" means that none of these reasons speaks against it.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from torch import Tensor

from gptinit.facts.distributions import Constant
from gptinit.forward.graph import FUSED_NORMS, Graph, Operand, Vertex
from gptinit.results.program import FirstGradient
from gptinit.trace.graph import Read
from gptinit.trace.nested import only
from gptinit.trace.replay.operators import named

__all__ = ["constant_logits", "first_gradients"]

_Cause = frozenset[str]
"""Names of the weights of zeros that make something 0; empty where the code itself does."""

_CODE: _Cause = frozenset()

_FACTORS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        **dict.fromkeys(
            ("mul", "mm", "bmm", "mv", "dot", "matmul", "linear", "convolution", "_grouped_mm",
             "grouped_mm_fallback"),
            (0, 1),
        ),
        **dict.fromkeys(("addmm", "addmv", "baddbmm", "addbmm", "addcmul"), (1, 2)),
    }
)  # fmt: skip
"""Positions of the tensors that an operator multiplies; it adds those at other positions."""

_LINEAR = frozenset(
    {
        "_to_copy", "_unsafe_view", "add", "cat", "clone", "copy", "cumsum", "diagonal_scatter",
        "embedding", "expand", "flip", "gather", "index", "index_add", "index_put", "index_select",
        "masked_fill", "mean", "neg", "permute", "repeat", "repeat_interleave", "reshape", "roll",
        "rsub", "scatter_add", "select_scatter", "slice_scatter", "stack", "sub", "sum",
        "transpose", "tril", "triu", "view", "where",
    }
)  # fmt: skip
"""Operators whose value is 0 if all tensors and numbers that they add are."""

_ADDED_NUMBER: Mapping[str, int] = MappingProxyType(
    {"add": 1, "sub": 1, "rsub": 1, "masked_fill": 2}
)
"""Position of an argument that may be a number other than a dimension."""

_ODD = frozenset(
    {
        "asinh", "atan", "celu", "elu", "erf", "expm1", "gelu", "glu", "hardswish", "leaky_relu",
        "log1p", "mish", "selu", "silu", "sin", "softsign", "tanh",
    }
)  # fmt: skip
"""Functions that are 0 at 0 and have a slope there."""

_FLAT = frozenset({"abs", "relu", "square"})
"""Functions that are 0 at 0, where torch gives them the slope 0."""

_LARGEST = 1 << 20
"""Most entries of a constant that are looked at."""


def first_gradients(
    graph: Graph,
    names: Iterable[str],
    zeros: Iterable[str],
    frozen: Iterable[str] = (),
    reached: frozenset[str] | None = None,
) -> dict[str, FirstGradient]:
    """The step at which each parameter gets its first gradient.

    A parameter of zeros counts as nonzero after the first step in which it gets one.

    Args:
        graph: of a forward pass.
        names: the parameters.
        zeros: those that start as zeros.
        frozen: those that training does not change.
        reached: those to which autograd finds a way from the logits; None if that is not known.
    """
    used = {o.weight for v in graph.vertices for o in v.operands if o.weight}
    cut = frozenset() if reached is None else frozenset(used - reached)
    fixed = frozenset(frozen) | cut
    found = {n: FirstGradient(step=None, is_used=False) for n in names if n not in used}
    found |= {n: FirstGradient(step=None, is_cut=True) for n in cut}
    waiting = used - found.keys()
    zero = frozenset(zeros) & used
    first: Mapping[str, _Cause] | None = None
    step = 0
    while True:
        without = _without_gradient(graph, zero)
        first = without if first is None else first
        for name in waiting - without.keys():
            waits = tuple(sorted(first.get(name, _CODE)))
            found[name] = FirstGradient(step=step, waits_for=waits)
        waiting &= without.keys()
        still = zero & (waiting | fixed)
        if still == zero:
            break
        zero, step = still, step + 1
    never = {n: FirstGradient(step=None, waits_for=tuple(sorted(without[n]))) for n in waiting}
    return found | never


def constant_logits(graph: Graph, constants: Mapping[str, float]) -> tuple[str, ...] | None:
    """Parameters of one value each that keep the logits from depending on the tokens.

    Args:
        graph: of a forward pass.
        constants: name of each parameter whose entries are all alike -> their value.

    Returns:
        their names; None where the logits depend on tokens, or not even the operators show that
        they might.
    """
    pass_ = _Pass(graph, frozenset(name for name, value in constants.items() if value == 0))
    blocked: dict[int, _Cause] = {}  # nodes of tokens that do not vary with them
    for v in graph.vertices:
        if graph.is_token(v.index):
            table = graph.table_of(v)
            cause = _alike(v, table, constants) if table else pass_.blocked(v, blocked)
            if cause is not None:
                blocked[v.index] = cause
    cause = _together(map(blocked.get, graph.ends)) if graph.ends else None
    return None if cause is None else tuple(sorted(cause))


def _together(causes: Iterable[_Cause | None]) -> _Cause | None:
    """What makes several things 0 at once; None if one of them is not."""
    given = list(causes)
    known = [cause for cause in given if cause is not None]
    return _CODE.union(*known) if len(known) == len(given) else None


def _alike(v: Vertex, table: tuple[str, ...], constants: Mapping[str, float]) -> _Cause | None:
    """Why all tokens have the same row of a table; None if they may not."""
    if all(name in constants for name in table):
        return frozenset(table)
    # Positions count up, and token ids never do (see observe).
    indices = only(Tensor, (v.node.args, v.node.kwargs))
    return _CODE if any(bool((i.flatten().diff() == 1).all()) for i in indices) else None


def _without_gradient(graph: Graph, zeros: frozenset[str]) -> dict[str, _Cause]:
    """The parameters whose gradient is exactly 0, with the parameters of zeros that cause it."""
    forward = _Pass(graph, zeros)
    alive = set(graph.ends)
    alive_weights: set[str] = set()
    causes: dict[int | str, _Cause] = {}
    for v in reversed(graph.vertices):
        behind = None if v.index in alive else causes.get(v.index, _CODE)
        for o in v.operands:
            cause = forward.stops(v, o) if behind is None else behind
            reached: tuple[int | str, ...] = (o.weight,) if o.weight else o.nodes
            for key in reached:
                if cause is not None:
                    causes[key] = causes.get(key, _CODE) | cause
                elif isinstance(key, str):
                    alive_weights.add(key)
                else:
                    alive.add(key)
    return {k: c for k, c in causes.items() if isinstance(k, str) and k not in alive_weights}


class _Pass:
    """The values of a forward pass that are exactly 0 if these parameters are."""

    def __init__(self, graph: Graph, zeros: frozenset[str]) -> None:
        self._graph, self._zeros = graph, zeros
        self._of_node: dict[int, _Cause] = {}
        for v in graph.vertices:
            cause = self._value(v)
            if cause is not None:
                self._of_node[v.index] = cause

    def _operand(self, o: Operand) -> _Cause | None:
        """Why an operand is 0; None if it is not surely so."""
        if o.weight:
            return frozenset({o.weight}) if o.weight in self._zeros else None
        return _together(map(self._of_node.get, o.nodes)) if o.nodes else None

    def _sum(self, operands: Iterable[Operand]) -> _Cause | None:
        """Why all operands are 0; None if one is not."""
        return _together(map(self._operand, operands))

    def _any(self, operands: Iterable[Operand]) -> _Cause | None:
        """Why a product of the operands is 0, by a parameter of zeros if one is a factor."""
        ordered = sorted(operands, key=lambda o: o.weight is None)
        return next((cause for cause in map(self._operand, ordered) if cause is not None), None)

    def _value(self, v: Vertex) -> _Cause | None:
        """Why the value of a node is 0; None if it is not surely so."""
        name, node = v.name, v.node
        if node.op is None:
            return _CODE if node.law == Constant(0.0) or _is_zero(node.constant) else None
        if name in _FACTORS:
            return self._product(v)
        if name in FUSED_NORMS and not node.index:
            weight, bias = _norm_places(v)
            scaled = self._any(_at(v, 0, *weight))
            shift = self._sum(_at(v, *bias)) if _nonzero_reals(v).isdisjoint(bias) else None
            return _together((scaled, shift))
        if "scaled_dot_product" in name and not node.index:
            return self._any(_at(v, 2))
        if name == "div":
            return self._any(_at(v, 0))
        adds = name in _LINEAR and not _adds_number(v) and not _nonzero_reals(v)
        keeps_zero = adds or name in _ODD or name in _FLAT or v.power >= 1
        return self._sum(v.operands) if keeps_zero and v.operands else None

    def _product(self, v: Vertex) -> _Cause | None:
        if _times_zero(v):
            return _CODE
        positions = _FACTORS[v.name]
        rest = [o for o in v.operands if o.position not in positions]
        added = None if _nonzero_reals(v) - set(positions) else self._sum(rest)
        return _together((self._any(_at(v, *positions)), added))

    def stops(self, v: Vertex, operand: Operand) -> _Cause | None:
        """Why a node passes no gradient on to one of its operands; None if it may."""
        return _CODE if _times_zero(v) else self._any(_at(v, *_needed(v, operand.position)))

    def blocked(self, v: Vertex, known: Mapping[int, _Cause]) -> _Cause | None:
        """Why a node of tokens does not vary with them; None if it may.

        Args:
            v: the node.
            known: the nodes before it that do not vary, and why.
        """
        zero = self._of_node.get(v.index)
        if zero is not None:
            return zero
        cause = _CODE
        varying = [o for o in v.operands if self._graph.reads_tokens(o)]
        for o in varying:
            if all(i in known or not self._graph.is_token(i) for i in o.nodes):
                cause = cause.union(*(known.get(i, _CODE) for i in o.nodes))
            else:
                stopped = self.stops(v, o)
                if stopped is None:
                    return None
                cause |= stopped
        return cause if varying else None


def _needed(v: Vertex, at: int) -> tuple[int, ...]:
    """Positions of the operands that must not be 0 for the one at `at` to get a gradient."""
    if v.name in _FACTORS:
        factors = _FACTORS[v.name]
        return tuple(other for other in factors if other != at) if at in factors else ()
    if v.name in FUSED_NORMS:
        weight, _ = _norm_places(v)
        return weight if at == 0 else (0,) * (at in weight)
    if "scaled_dot_product" in v.name:
        return {0: (1, 2), 1: (0, 2), 3: (2,)}.get(at, ())
    if v.name == "div":
        return (0,) if at == 1 else ()
    return (at,) if v.name in _FLAT or v.power > 1 else ()


def _norm_places(v: Vertex) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Positions of a norm's weight and of its bias among the tensors it reads; () without one."""
    given = named(v.node.op, v.node.args, v.node.kwargs)
    there = [name for name in ("input", "weight", "bias") if given.get(name) is not None]
    weight, bias = ((there.index(name),) if name in there else () for name in ("weight", "bias"))
    return weight, bias


def _at(v: Vertex, *positions: int) -> Iterator[Operand]:
    return (o for o in v.operands if o.position in positions)


def _nonzero_reals(v: Vertex) -> set[int]:
    """Positions of the real tensors of numbers that a node reads, but for those of zeros."""
    tensors = only((Read, Tensor), (v.node.args, v.node.kwargs))
    return {
        at
        for at, tensor in enumerate(tensors)
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and not _is_zero(tensor)
    }


def _is_zero(values: Tensor | None) -> bool:
    return values is not None and values.numel() <= _LARGEST and not bool(values.any())


def _adds_number(v: Vertex) -> bool:
    """Whether a node adds a number that is not 0, or puts it in some places."""
    at = _ADDED_NUMBER.get(v.name)
    number = v.node.args[at] if at is not None and at < len(v.node.args) else 0
    return isinstance(number, int | float) and number != 0


def _times_zero(v: Vertex) -> bool:
    return v.name == "mul" and any(isinstance(a, int | float) and a == 0 for a in v.node.args)
