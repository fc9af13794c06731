# ruff: noqa: D102 # a forward is documented by its class
"""A pass through the first and the last block shows what one through all of them does."""

from typing import Any

import torch
from support.foreign_models import C, Decoder
from torch import nn

from gptinit.forward.flow import Flow, follow
from gptinit.trace.record.tracing import trace

DEEP = 7


class Deep(Decoder):
    """Seven blocks, each with a matrix that nothing uses."""

    def blocks(self, made: list[nn.Module]) -> nn.Module:
        found = [type(self).block() for _ in range(DEEP)]
        for block in found:
            block.spare = nn.Linear(1, 1)
        return nn.ModuleList(found)


def passes(build: type[nn.Module]) -> tuple[Flow, Flow]:
    """A brief pass and a full one, of one build."""
    module = trace(build)
    return follow(module, lambda _: False, brief=True), follow(module, lambda _: False)


def layers(flow: Flow) -> int:
    """How many blocks ran."""
    assert flow.decoder is not None
    return len(flow.decoder.layers)


def test_two_blocks_tell_of_all() -> None:
    brief, full = passes(Deep)

    assert (layers(brief), layers(full)) == (2, DEEP)
    assert brief.gradients == full.gradients
    assert not full.gradients["h.2.spare.weight"].is_used


def test_all_run_where_what_stands_beside_them_waits_for_one_that_is_left_out() -> None:
    class Beside(Deep):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(C))

        def stream(self, ids: Any) -> Any:
            x = self.embed(ids)
            for i, block in enumerate(self.h):
                x = block(x * self.table if i == 2 else x)
            return x

    brief, full = passes(Beside)

    assert (layers(brief), layers(full)) == (DEEP, DEEP)
    assert brief.gradients["table"].is_used


def test_of_what_the_last_block_does_not_learn_nothing_is_said_of_the_middle() -> None:
    class Frozen(Deep):
        def blocks(self, made: list[nn.Module]) -> nn.Module:
            found = super().blocks(made)
            found.get_submodule("6.mlp").requires_grad_(False)
            return found

    brief, full = passes(Frozen)

    unsaid = {n for n in full.gradients if ".mlp." in n and n[:4] not in ("h.0.", "h.6.")}
    assert len(unsaid) == 4 * (DEEP - 2)
    assert brief.gradients == {n: g for n, g in full.gradients.items() if n not in unsaid}
