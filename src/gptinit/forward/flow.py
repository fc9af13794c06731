"""All that a forward pass shows of a model, or a note on why it shows nothing."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TypeVar

from torch import Tensor, nn

from gptinit.errors import SubjectError
from gptinit.forward.blocks import Decoder, find_decoder, stream_width
from gptinit.forward.call import Forward
from gptinit.forward.gradients import constant_logits, first_gradients
from gptinit.forward.lens import Tail, find_tail
from gptinit.forward.observe import Observation, observe, reached_by_autograd
from gptinit.forward.roles import WeightUse, weight_uses
from gptinit.forward.shorten import shortened
from gptinit.results.profile import Note
from gptinit.results.program import FirstGradient
from gptinit.trace.record.tensor import TracedTensor

__all__ = ["Flow", "follow"]

_T = TypeVar("_T")


@dataclass(slots=True)
class Flow:
    """What a forward pass shows; what it does not show is None or empty.

    Attributes:
        seen: the pass itself.
        decoder: the blocks on the way to the logits.
        tail: what follows the last block, if it can serve as a lens.
        uses: the use of every weight that the pass reaches.
        width: of the stream.
        gradients: when each parameter that the pass could use first gets a gradient.
        constant_logits: parameters of one value each that make the logits the same for all tokens,
            if any.
        notes: why something is missing.
        failure: the error that ended it, if one did.
    """

    seen: Observation | None = None
    decoder: Decoder | None = None
    tail: Tail | None = None
    uses: Mapping[str, WeightUse] = field(default_factory=dict)
    width: int | None = None
    gradients: Mapping[str, FirstGradient] = field(default_factory=dict)
    constant_logits: tuple[str, ...] | None = None
    notes: list[Note] = field(default_factory=list)
    failure: SubjectError | None = None


def follow(
    module: nn.Module,
    value_of: Callable[[Tensor], float | None],
    weights: Mapping[str, TracedTensor] | None = None,
    function: Forward | None = None,
    *,
    brief: bool = False,
) -> Flow:
    """The flow of a forward pass; with a note where it does not run.

    A brief pass is one through two blocks of every kind where that is enough. It is not where they
    alone do not run, or do not show which blocks make up a layer; nor where a parameter beside the
    blocks is not used, as the block that uses it may be left out.

    Args:
        module: with traced parameters, or a live one.
        value_of: the value that all entries of a parameter start with; None where they differ.
        weights: traced tensors in place of the parameters and buffers of a live one.
        function: the user's way to call it.
        brief: whether to be brief, and to run it once more, to see what autograd reaches.

    Raises:
        SubjectError: if the user's way to call it fails.
    """
    whole: AbstractContextManager[Mapping[str, tuple[str, str]]] = nullcontext({})
    with shortened(module, lambda p: value_of(p) == 0) if brief else whole as left_out:
        flow = _followed(module, value_of, weights, function, with_autograd=brief)
    if left_out and (
        flow.decoder is None or not flow.decoder.is_plain or _has_unused(flow.gradients, left_out)
    ):
        flow = _followed(module, value_of, weights, function, with_autograd=True)
    elif left_out:
        names = [name for name, _ in module.named_parameters()]
        flow.gradients = _with_left_out(flow.gradients, names, left_out, _shared_gradient)
        flow.uses = _with_left_out(
            flow.uses, names, left_out, lambda _, first, last: first[1] or last[1]
        )
    # What the user says must run, while a model may be read without running.
    if function is not None and flow.seen is None and flow.failure is not None:
        raise flow.failure
    return flow


def _followed(
    module: nn.Module,
    value_of: Callable[[Tensor], float | None],
    weights: Mapping[str, TracedTensor] | None,
    function: Forward | None,
    *,
    with_autograd: bool,
) -> Flow:
    flow = Flow()
    try:
        values = {name: value_of(p) for name, p in module.named_parameters()}
        constants = {name: value for name, value in values.items() if value is not None}
        flow.seen = replace(observe(module, weights, function), constants=constants)
        reached = reached_by_autograd(module, flow.seen) if with_autograd else None
        _add_gradients(flow, flow.seen, module, reached)
        flow.width = stream_width(flow.seen)
        uses = weight_uses(flow.seen.graph, flow.seen.ids, flow.width)
        flow.uses = _with_siblings(uses, module)
        flow.decoder = find_decoder(flow.seen, flow.width)
        flow.tail = find_tail(flow.seen, flow.decoder)
    except SubjectError as error:  # what was found until then is still good
        flow.failure = error
        flow.notes.append(
            Note(kind="approximate", where="roles", message=f"Roles are read from names: {error}")
        )
    return flow


def _add_gradients(
    flow: Flow, seen: Observation, module: nn.Module, reached: frozenset[str] | None
) -> None:
    graph, parameters = seen.graph, dict(module.named_parameters())
    zeros = [name for name, value in seen.constants.items() if value == 0]
    frozen = [name for name, p in parameters.items() if not p.requires_grad]
    found = first_gradients(graph, parameters, zeros, frozen, reached)
    flow.gradients = {name: found[name] for name in parameters if name not in frozen}
    flow.constant_logits = constant_logits(graph, seen.constants)


def _has_unused(gradients: Mapping[str, FirstGradient], left_out: Iterable[str]) -> bool:
    """Whether the pass does not use some parameter beside the lists that blocks are left out of."""
    lists = tuple({f"{path.rpartition('.')[0]}." for path in left_out})
    return any(not g.is_used and not name.startswith(lists) for name, g in gradients.items())


def _with_siblings(uses: Mapping[str, WeightUse], module: nn.Module) -> dict[str, WeightUse]:
    """The uses, with those of experts that no token of the pass was sent to.

    A weight that the pass does not reach has the use of one of its shape whose name differs in one
    number.
    """
    shapes = {name: p.shape for name, p in module.named_parameters()}
    known = {
        (pattern, shapes.get(name)): use
        for name, use in uses.items()
        for pattern in _siblings(name)
    }
    found = {
        name: known[pattern, shape]
        for name, shape in shapes.items()
        for pattern in _siblings(name)
        if (pattern, shape) in known
    }
    return {**found, **uses}


def _siblings(name: str) -> Iterator[str]:
    """The name with `*` for one of its numbers, for each of them."""
    words = name.split(".")
    for i, word in enumerate(words):
        if word.isdecimal():
            yield ".".join([*words[:i], "*", *words[i + 1 :]])


def _with_left_out(
    known: Mapping[str, _T],
    names: Iterable[str],
    left_out: Mapping[str, tuple[str, str]],
    twin: Callable[[str, tuple[str, _T | None], tuple[str, _T | None]], _T | None],
) -> dict[str, _T]:
    """What is known of parameters, with what holds for those of blocks that were left out.

    `twin` makes it of the path of such a block, and of (path, what holds there) of the first and
    the last of its kind.
    """
    found: dict[str, _T | None] = dict(known)

    def find(name: str) -> _T | None:
        paths = accumulate(name.split("."), "{}.{}".format)
        path = next((path for path in paths if path in left_out), None)
        if name not in found and path is not None:
            inside = name.removeprefix(path)
            first, last = ((end, find(f"{end}{inside}")) for end in left_out[path])
            found[name] = twin(path, first, last)
        return found.get(name)

    every = {name: find(name) for name in dict.fromkeys((*known, *names))}
    return {name: value for name, value in every.items() if value is not None}


def _shared_gradient(
    path: str, first: tuple[str, FirstGradient | None], last: tuple[str, FirstGradient | None]
) -> FirstGradient | None:
    """What the first and the last block of a kind share.

    A zero stream stays zero only from the first block on, and a gradient that is stopped is so
    only up to the last: what holds at both ends holds between them.
    """
    (start, mine), (end, other) = first, last
    if mine is None or other is None:
        return None
    moved = _moved(mine, start, path)
    return moved if _moved(other, end, path) == moved else None


def _moved(gradient: FirstGradient, block: str, to: str) -> FirstGradient:
    """The same, waiting for the parameters of another block where it waits for this one's."""
    waits = (
        f"{to}{name.removeprefix(block)}" if name.startswith(f"{block}.") else name
        for name in gradient.waits_for
    )
    return replace(gradient, waits_for=tuple(sorted(waits)))
