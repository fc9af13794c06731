# ruff: noqa: D102 # small methods are documented by their class
"""What one block adds to the stream, where branches are summed before they are added."""

from typing import Any

import pytest
from support.foreign_models import FF, MLP, Block, C, Decoder
from torch import nn

from gptinit.forward.blocks import find_decoder
from gptinit.forward.branches import Branch, branches
from gptinit.forward.observe import observe
from gptinit.trace.record.tracing import trace


class Summed(Block):
    """Attention and two MLPs on one stream; subclasses add them."""

    def __init__(self) -> None:
        super().__init__()
        self.more = MLP()


class Both(Summed):
    """Attention and an MLP, summed."""

    def forward(self, x: Any) -> Any:
        return x + (self.attn(self.ln_1(x)) + self.mlp(self.ln_2(x)))


class Three(Summed):
    """All three, summed one after another."""

    def forward(self, x: Any) -> Any:
        return x + ((self.attn(self.ln_1(x)) + self.mlp(self.ln_2(x))) + self.more(self.ln_2(x)))


class TwoMLPs(Summed):
    """Both MLPs, summed."""

    def forward(self, x: Any) -> Any:
        return x + (self.mlp(self.ln_1(x)) + self.more(self.ln_2(x)))


class Scaled(Summed):
    """A multiple of the sum."""

    def forward(self, x: Any) -> Any:
        return x + (self.attn(self.ln_1(x)) + self.mlp(self.ln_2(x))) * 0.5


class Mixer(nn.Module):
    """Sums hidden units over earlier positions."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(C, C), nn.Linear(C, C)

    def forward(self, x: Any) -> Any:
        return self.down(self.up(x).cumsum(1))


class MixerBlock(Block):
    """A mixer in the place of attention."""

    def __init__(self) -> None:
        super().__init__(attn=Mixer)


class BothMix(Both):
    """Attention, and a mixer in the place of the MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = Mixer()


def added_by(block: type[nn.Module]) -> tuple[int, list[Branch], dict[str, int]]:
    """Of what the first block of a model adds: the node, the branches, its modules' outputs."""

    class Model(Decoder):
        pass

    Model.block = block
    seen = observe(trace(Model))
    first = find_decoder(seen, C).chain[0]
    found = branches(seen.graph, [first])
    outputs = {call.path.removeprefix("h.0."): call.outputs[0][1] for call in seen.calls}
    return first.branch, found, outputs


def test_two_branches_that_are_summed_first_are_two() -> None:
    _, found, outputs = added_by(Both)

    assert found == [Branch("attn", outputs["attn"]), Branch("mlp", outputs["mlp"])]


def test_a_sum_of_two_kinds_inside_a_sum_is_neither() -> None:
    _, found, outputs = added_by(Three)

    assert found == [Branch("mlp", outputs["more"])]


def test_a_mixer_stands_in_for_attention_where_there_is_none() -> None:
    class Model(Decoder):
        block = MixerBlock

    seen = observe(trace(Model))
    chain = find_decoder(seen, C).chain[:2]

    found = branches(seen.graph, chain)
    assert [branch.kind for branch in found] == ["attn", "mlp"]
    _, found, outputs = added_by(BothMix)
    assert found == [Branch("attn", outputs["attn"]), Branch("mixer", outputs["mlp"])]


class Adapted(nn.Module):
    """A matrix, and the product of two small ones beside it (LoRA)."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.a, self.b = nn.Linear(FF, C), nn.Linear(FF, 2), nn.Linear(2, C)

    def forward(self, x: Any) -> Any:
        return self.base(x) + 2 * self.b(self.a(x))


class AdaptedBlock(Block):
    """Its MLP has an adapter."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp.c_proj = Adapted()

    def forward(self, x: Any) -> Any:
        return x + self.mlp(self.ln_1(x))


def test_an_adapter_beside_a_matrix_is_a_part_of_its_branch() -> None:
    whole, found, outputs = added_by(AdaptedBlock)

    assert found == [Branch("mlp", whole)]
    assert whole == outputs["mlp"]


@pytest.mark.parametrize(("block", "kind"), [(TwoMLPs, "mlp"), (Scaled, "attn")])
def test_a_sum_of_one_kind_or_a_multiple_of_one_is_one_branch(
    block: type[nn.Module], kind: str
) -> None:
    whole, found, _ = added_by(block)

    assert found == [Branch(kind, whole)]
