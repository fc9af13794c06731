"""One forward pass of a traced model on eight tokens, with what every module took and gave."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from gptinit.errors import SubjectError
from gptinit.forward.call import Call, call_model, find_call
from gptinit.forward.graph import Graph
from gptinit.forward.sites import tensors_in
from gptinit.trace.graph import Read
from gptinit.trace.record.recorder import Recorder
from gptinit.trace.record.tensor import TracedTensor
from gptinit.trace.record.tracing import recording

__all__ = ["ModuleCall", "Observation", "observe", "observe_longer", "operator_by_operator"]

_IDS = (3, 1, 4, 0, 5, 7, 2, 6)
"""All different, no two in a row: no index of positions looks like them."""

_FEW_IDS = (3, 1, 2, 0, 3, 0, 2, 1), (1, 0, 1, 1, 0, 1, 0, 0), (0,) * 8
"""The same for vocabularies of 4 to 7, of 2 and 3, and of one token, as far as that goes."""

_WANTS_OTHER_IDS = {IndexError, RuntimeError}
"""What a lookup, and F.one_hot, raise where there are fewer tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleCall:
    """One call of one module.

    Attributes:
        path: its name in the model.
        inputs: (index among the tensors passed, node) of those in the graph.
        outputs: likewise for what it returned.
    """

    path: str
    inputs: tuple[tuple[int, int], ...]
    outputs: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)  # no slots: `heard` is kept once worked out
class Observation:
    """A forward pass and what was seen of it.

    Attributes:
        call: how the model was called.
        graph: of the nodes behind the logits.
        calls: of modules, in the order in which they returned.
        ids: the token ids, (1, 8).
        vocab_size: last dimension of the logits.
    """

    call: Call
    graph: Graph
    calls: tuple[ModuleCall, ...]
    ids: Tensor
    vocab_size: int

    @cached_property
    def heard(self) -> Mapping[str, Mapping[int, list[tuple[str, int, int | None]]]]:
        """Side ("input" or "output") and node to (module, index of the tensor, number of the call).

        The number is None for a module that is called once.
        """
        found: dict[str, dict[int, list[tuple[str, int, int | None]]]] = {"input": {}, "output": {}}
        times = Counter(call.path for call in self.calls)
        done: Counter[str] = Counter()
        for call in self.calls:
            number = done[call.path] if times[call.path] > 1 else None
            done[call.path] += 1
            for side, tensors in (("input", call.inputs), ("output", call.outputs)):
                for leaf, node in tensors:
                    found[side].setdefault(node, []).append((call.path, leaf, number))
        return found


@contextmanager
def operator_by_operator() -> Iterator[None]:
    """Have nn.MultiheadAttention compute what it does in parts that can be seen.

    In inference it is one operator otherwise, and its attention cannot be told from its products.
    """
    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was)


@contextmanager
def _without_values() -> Iterator[None]:
    """A pass that is recorded and not computed."""
    with operator_by_operator(), torch.no_grad(), recording(Recorder(dummy=True)):
        yield


def observe(module: nn.Module, weights: Mapping[str, TracedTensor] | None = None) -> Observation:
    """Run a model forward on eight tokens; nothing is computed.

    Args:
        module: with traced parameters, or a live one.
        weights: traced tensors that stand for the parameters and buffers of a live one.

    Raises:
        SubjectError: if no way to call it gives logits.
    """
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        return _observed(module, weights)
    finally:
        for child, mode in modes:
            child.training = mode


def observe_longer(
    module: nn.Module,
    seen: Observation,
    length: int,
    weights: Mapping[str, TracedTensor] | None = None,
) -> Graph | None:
    """The graph of one more pass over more tokens; None where it does not run.

    What modules keep for so many tokens (angles, a cached length) is put back.

    Args:
        module: with traced parameters, or a live one.
        seen: its pass over eight tokens.
        length: tokens.
        weights: traced tensors that stand for the parameters and buffers of a live one.
    """
    kept = [(child, dict(vars(child)), dict(child._buffers)) for child in module.modules()]
    module.eval()
    ids = seen.ids.repeat(1, -(-length // seen.ids.shape[1]))[:, :length]
    try:
        with _without_values():
            logits = call_model(module, seen.call, ids, weights)
    except Exception:  # any error of the model's: so many are too many
        return None
    finally:
        for child, attributes, buffers in kept:
            vars(child).clear()
            vars(child).update(attributes)
            child._buffers.clear()
            child._buffers.update(buffers)
    if not isinstance(logits, TracedTensor):
        return None
    return _graph_behind(logits, module, weights)


def _observed(module: nn.Module, weights: Mapping[str, TracedTensor] | None) -> Observation:
    """The first call of the model that gives logits."""
    first: Exception | None = None
    kinds: set[type[Exception]] = set()
    for tokens, call in product((_IDS, *_FEW_IDS), find_call(module)):
        if tokens is not _IDS and not kinds & _WANTS_OTHER_IDS:
            break
        ids = torch.tensor([tokens])
        seen: list[tuple[str, list[Read | None], list[Read | None]]] = []
        try:
            with _without_values(), _watched(module, seen):
                logits = call_model(module, call, ids, weights)
        except Exception as error:  # any error of the model's: the next way may do
            first = first or error
            kinds.add(type(error))
            continue
        if isinstance(logits, TracedTensor):
            graph = _graph_behind(logits, module, weights)
            return _observation(graph, call, logits, seen, ids)
    raise SubjectError(
        f"{type(module).__name__} must run forward on token ids, got "
        f"{type(first).__name__}: {_in_one_line(first)}."
    ) from first


def _in_one_line(error: Exception | None) -> str:
    """What an error says, without the full stop."""
    return " ".join(str(error).split()).removesuffix(".")


def _observation(
    graph: Graph,
    call: Call,
    logits: TracedTensor,
    seen: list[tuple[str, list[Read | None], list[Read | None]]],
    ids: Tensor,
) -> Observation:
    """The record as a graph."""
    calls = tuple(
        ModuleCall(path=path, inputs=_nodes(graph, inputs), outputs=_nodes(graph, outputs))
        for path, inputs, outputs in seen
    )
    return Observation(call=call, graph=graph, calls=calls, ids=ids, vocab_size=logits.shape[-1])


def _graph_behind(
    logits: TracedTensor, module: nn.Module, weights: Mapping[str, TracedTensor] | None
) -> Graph:
    """The graph of a pass; `weights` stand for the parameters of a live module."""
    return Graph(logits, _weight_names(weights or dict(module.named_parameters())))


def _weight_names(weights: Mapping[str, Tensor]) -> Mapping[int, str]:
    """Storage of every traced parameter to its first name."""
    names: dict[int, str] = {}
    for name, parameter in weights.items():
        if isinstance(parameter, TracedTensor):
            names.setdefault(id(parameter._store), name)
    return names


def _nodes(graph: Graph, reads: list[Read | None]) -> tuple[tuple[int, int], ...]:
    """Those reads that are nodes of the graph, with their positions."""
    found = [(i, graph.at(read)) for i, read in enumerate(reads) if read is not None]
    return tuple((i, node) for i, node in found if node is not None)


@contextmanager
def _watched(
    module: nn.Module, seen: list[tuple[str, list[Read | None], list[Read | None]]]
) -> Iterator[None]:
    """Note the tensors that go into every module and come out of it."""
    entered: dict[str, list[list[Read | None]]] = {}
    with ExitStack() as stack:
        for path, child in module.named_modules():

            def enter(m: nn.Module, args: Any, kwargs: Any, path: str = path) -> None:
                entered.setdefault(path, []).append(_reads((args, kwargs)))

            def leave(m: nn.Module, args: Any, output: Any, path: str = path) -> None:
                seen.append((path, entered[path].pop(), _reads(output)))

            stack.callback(child.register_forward_pre_hook(enter, with_kwargs=True).remove)
            stack.callback(child.register_forward_hook(leave).remove)
        yield


def _reads(value: Any) -> list[Read | None]:
    """The values of all tensors in a nest, as they are now; None for real ones."""
    return [t.read() if isinstance(t, TracedTensor) else None for t in tensors_in(value)]
