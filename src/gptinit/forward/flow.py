"""All that a forward pass shows of a model, or a note on why it shows nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from gptinit.errors import SubjectError
from gptinit.forward.blocks import Decoder, find_decoder, stream_width
from gptinit.forward.lens import Tail, find_tail
from gptinit.forward.observe import Observation, observe
from gptinit.forward.roles import WeightUse, weight_uses
from gptinit.forward.shorten import shortened
from gptinit.results.profile import Note
from gptinit.trace.record.tensor import TracedTensor

__all__ = ["Flow", "follow", "follow_briefly"]


@dataclass(slots=True)
class Flow:
    """What a forward pass shows; what it does not show is None or empty.

    Attributes:
        seen: the pass itself.
        decoder: the blocks on the way to the logits.
        tail: what follows the last block, if it can serve as a lens.
        uses: the use of every weight that the pass reaches.
        width: of the stream.
        notes: why something is missing.
    """

    seen: Observation | None = None
    decoder: Decoder | None = None
    tail: Tail | None = None
    uses: Mapping[str, WeightUse] = field(default_factory=dict)
    width: int | None = None
    notes: list[Note] = field(default_factory=list)


def follow_briefly(module: nn.Module) -> Flow:
    """The flow of a pass through one block of every kind, or through all if that does not run.

    Args:
        module: with traced parameters.
    """
    with shortened(module) as is_cut:
        flow = follow(module)
    return follow(module) if is_cut and flow.decoder is None else flow


def follow(module: nn.Module, weights: Mapping[str, TracedTensor] | None = None) -> Flow:
    """The flow of a forward pass; with a note where it does not run.

    Args:
        module: with traced parameters, or a live one.
        weights: traced tensors in place of the parameters and buffers of a live one.
    """
    flow = Flow()
    try:
        flow.seen = observe(module, weights)
        flow.width = stream_width(flow.seen)
        flow.uses = weight_uses(flow.seen.graph, flow.seen.ids, flow.width)
        flow.decoder = find_decoder(flow.seen, flow.width)
        flow.tail = find_tail(flow.seen, flow.decoder)
    except SubjectError as error:  # what was found until then is still good
        flow.notes.append(
            Note(kind="approximate", where="roles", message=f"Roles are read from names: {error}")
        )
    return flow
