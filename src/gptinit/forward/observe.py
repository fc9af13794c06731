"""One forward pass of a traced model on eight tokens, with inputs and outputs of its modules."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import Node

from gptinit.errors import GptInitError, SubjectError
from gptinit.forward.call import Call, Forward, call_model, find_call
from gptinit.forward.graph import Graph
from gptinit.forward.sites import Site, tensors_in
from gptinit.trace.graph import Read
from gptinit.trace.record.recorder import Recorder
from gptinit.trace.record.tensor import TracedTensor
from gptinit.trace.record.tracing import recording
from gptinit.user_code import defined_at, one_line

__all__ = [
    "ModuleCall",
    "Observation",
    "observe",
    "observe_longer",
    "operator_by_operator",
    "reached_by_autograd",
]

_IDS = (3, 1, 4, 0, 5, 7, 2, 6)
"""All different and never counting up, so that they cannot be mistaken for positions."""

_FEW_IDS = (3, 1, 2, 0, 3, 0, 2, 1), (1, 0, 1, 1, 0, 1, 0, 0), (0,) * 8
"""For vocabularies of 4 to 7 tokens, of 2 or 3, and of one: as close to _IDS as these allow."""

_WANTS_OTHER_IDS = {IndexError, RuntimeError}
"""Raised by a lookup, and by F.one_hot, of a token outside the vocabulary."""


_Reads = list[Read | None]
"""The present value of every tensor in a nest; None for a real one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleCall:
    """One call of one module.

    Attributes:
        path: the module's name in the model.
        inputs: (index among the tensors passed, node) of those in the graph.
        outputs: (index among the tensors returned, node) of those in the graph.
    """

    path: str
    inputs: tuple[tuple[int, int], ...]
    outputs: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)  # no slots: `hook_points` is cached
class Observation:
    """A recorded forward pass.

    Attributes:
        call: how the model was called.
        graph: the nodes that the logits depend on.
        calls: of modules, in the order in which they returned.
        ids: the token ids, (1, 8).
        vocab_size: last dimension of the logits.
        constants: name of each weight whose entries all start with one value -> the value, as far
            as whoever watched the pass knows.
    """

    call: Call
    graph: Graph
    calls: tuple[ModuleCall, ...]
    ids: Tensor
    vocab_size: int
    constants: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def hook_points(self) -> Mapping[int, list[Site]]:
        """Node -> where hooks on modules see it."""
        points: dict[int, list[Site]] = {}
        times = Counter(call.path for call in self.calls)
        done: Counter[str] = Counter()
        for call in self.calls:
            number = done[call.path] if times[call.path] > 1 else None
            done[call.path] += 1
            for side, tensors in (("input", call.inputs), ("output", call.outputs)):
                for leaf, node in tensors:
                    site = Site(path=call.path, side=side, leaf=leaf, call=number)
                    points.setdefault(node, []).append(site)
        return points


@contextmanager
def operator_by_operator() -> Iterator[None]:
    """Disable nn.MultiheadAttention's fused fast path so that its operators are recorded.

    In inference it is one operator otherwise, which hides attention and products alike.
    """
    was_enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_enabled)


@contextmanager
def _recorded_alone() -> Iterator[None]:
    with operator_by_operator(), recording(Recorder(dummy=True)):
        yield


def observe(
    module: nn.Module,
    weights: Mapping[str, TracedTensor] | None = None,
    function: Forward | None = None,
) -> Observation:
    """The record of a model's forward pass on eight tokens; nothing is computed.

    What modules cache for so many tokens (angles, a length) is restored afterwards, as in every
    pass here.

    Args:
        module: with traced parameters, or a live one.
        weights: traced tensors in place of the parameters and buffers of a live one.
        function: the user's way to call it.

    Raises:
        SubjectError: if no way to call it gives logits.
    """
    first: Exception | None = None
    kinds: set[type[Exception]] = set()
    # Smaller ids only if an error looks as though a vocabulary were exceeded.
    for tokens, call in product((_IDS, *_FEW_IDS), find_call(module, function)):
        if tokens is not _IDS and not kinds & _WANTS_OTHER_IDS:
            break
        ids = torch.tensor([tokens])
        seen: list[tuple[str, _Reads, _Reads]] = []
        try:
            with _left_as_found(module), torch.no_grad(), _recorded_alone(), _watched(module, seen):
                logits = call_model(module, call, ids, weights)
        except Exception as error:  # any error of the model's: the next way may do
            first = first or error
            kinds.add(type(error))
            continue
        if isinstance(logits, TracedTensor):
            graph = _graph_behind(logits, module, weights)
            calls = tuple(
                ModuleCall(path=path, inputs=_nodes(graph, inputs), outputs=_nodes(graph, outputs))
                for path, inputs, outputs in seen
            )
            return Observation(
                call=call, graph=graph, calls=calls, ids=ids, vocab_size=logits.shape[-1]
            )
    assert first  # there is a way to call any module
    raise SubjectError(_why_not(module, function, first)) from first


def observe_longer(
    module: nn.Module,
    seen: Observation,
    length: int,
    weights: Mapping[str, TracedTensor] | None = None,
) -> Graph | None:
    """The graph of a second pass over more tokens; None if it does not run.

    Args:
        module: with traced parameters, or a live one.
        seen: its pass over eight tokens.
        length: number of tokens.
        weights: traced tensors in place of the parameters and buffers of a live one.
    """
    ids = seen.ids.repeat(1, length)[:, :length]
    try:
        with _left_as_found(module), torch.no_grad(), _recorded_alone():
            logits = call_model(module, seen.call, ids, weights)
    except Exception:  # any error of the model's: so many are too many
        return None
    if not isinstance(logits, TracedTensor):
        return None
    return _graph_behind(logits, module, weights)


def reached_by_autograd(module: nn.Module, seen: Observation) -> frozenset[str] | None:
    """Names of the parameters to which autograd finds a way from the logits.

    Args:
        module: with traced parameters.
        seen: its pass over eight tokens.

    Returns:
        None where that is not known: the pass does not run with gradients, records none at all, or
        has a Function of the user's, which may hide parameters (as checkpointing does).
    """
    try:
        with _left_as_found(module), torch.enable_grad(), _recorded_alone():
            logits = call_model(module, seen.call, seen.ids)
    except Exception:  # any error of the model's: it was written for inference
        return None
    stack, known = [logits.grad_fn], set[Node]()
    while stack:
        function = stack.pop()
        if isinstance(function, BackwardCFunction):
            return None
        if function is not None and function not in known:
            known.add(function)
            stack += [behind for behind, _ in function.next_functions]
    leaves = {id(getattr(function, "variable", None)) for function in known}
    return frozenset(n for n, p in module.named_parameters() if id(p) in leaves) or None


@contextmanager
def _left_as_found(module: nn.Module) -> Iterator[None]:
    """In eval mode for a while; then with the attributes, buffers and submodules that it had."""
    # Every module's own mode, as code may keep a part in eval mode. Buffers and modules apart: they
    # live in dicts of their own, of which vars() copies only the references.
    kept = [
        (held, dict(held))
        for child in module.modules()
        for held in (vars(child), child._buffers, child._modules)
    ]
    module.eval()
    try:
        yield
    finally:
        for held, before in kept:
            held.clear()
            held.update(before)


def _why_not(module: nn.Module, function: Forward | None, error: Exception) -> str:
    """Why no way to call a model gave logits."""
    name = type(module).__name__
    remedy = "If it wants more, say how to call it: --forward path.py:FUNC."
    if isinstance(error, GptInitError):
        return str(error) if function else f"{error} {remedy}"
    said = one_line(error)
    if function is None:
        return f"{name} must run forward on token ids, got {said}. {remedy}"
    how = f"--forward ({defined_at(function)})"
    return f"{how} must return the logits of {name} for token ids, got {said}."


def _graph_behind(
    logits: TracedTensor, module: nn.Module, weights: Mapping[str, TracedTensor] | None
) -> Graph:
    tensors: Mapping[str, Tensor] = weights or dict[str, Tensor](module.named_parameters())
    names: dict[int, str] = {}
    for name, parameter in tensors.items():
        if isinstance(parameter, TracedTensor):  # a tied one under the first of its names
            names.setdefault(id(parameter._store), name)
    return Graph(logits, names)


def _nodes(graph: Graph, reads: _Reads) -> tuple[tuple[int, int], ...]:
    nodes = [(i, graph.at(read)) for i, read in enumerate(reads) if read is not None]
    return tuple((i, node) for i, node in nodes if node is not None)


@contextmanager
def _watched(module: nn.Module, seen: list[tuple[str, _Reads, _Reads]]) -> Iterator[None]:
    """Record inputs and outputs of every module into `seen` while the block runs."""
    entered: dict[str, list[_Reads]] = {}
    with ExitStack() as stack:
        for path, child in module.named_modules():

            def enter(m: nn.Module, args: Any, kwargs: Any, path: str = path) -> None:
                entered.setdefault(path, []).append(_reads((args, kwargs)))

            def leave(m: nn.Module, args: Any, output: Any, path: str = path) -> None:
                seen.append((path, entered[path].pop(), _reads(output)))

            stack.callback(child.register_forward_pre_hook(enter, with_kwargs=True).remove)
            stack.callback(child.register_forward_hook(leave).remove)
        yield


def _reads(value: Any) -> _Reads:
    return [t.read() if isinstance(t, TracedTensor) else None for t in tensors_in(value)]
