# ruff: noqa: D102 # small methods are documented by their class
"""Where a block's branches can be heard: past what only scales them, at the outermost module."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.foreign_models import Block, C, Decoder, L, factory
from torch import nn

from gptinit.forward.block_sites import _is_inside, _outermost
from gptinit.forward.blocks import find_decoder
from gptinit.forward.observe import observe
from gptinit.forward.sites import Site
from gptinit.read.reading import read_live, read_model
from gptinit.trace.record.tracing import trace

HALF = torch.tensor(0.5)


def first_attention(scaled: Callable[[Any], Any]) -> Site | None:
    """Where the first block's attention is heard if this is made of it before it is added."""

    class Other(Block):
        def forward(self, x: Any) -> Any:
            x = x + scaled(self.attn(self.ln_1(x)))
            return x + self.mlp(self.ln_2(x))

    class Model(Decoder):
        block = Other

    sites = find_decoder(observe(trace(Model)), C).sites
    assert [s.mlp for s in sites] == [Site(path=f"h.{i}.mlp") for i in range(L)]
    return sites[0].attn


@pytest.mark.parametrize(
    ("scaled", "factor"),
    [
        (lambda y: (y.double() * 0.5).float(), 0.5),
        (lambda y: (y * 3).clone() / 4, 0.75),
        (lambda y: y.clone(), 1.0),
        (lambda y: y * 2 / 2, 1.0),
        (lambda y: y / HALF, 2.0),
        (lambda y: HALF * y, 0.5),
    ],
    ids=["cast", "copied", "copy", "there and back", "divided by a tensor", "times a tensor"],
)
def test_casts_copies_and_numbers_leave_a_branch_to_its_module(
    scaled: Callable[[Any], Any], factor: float
) -> None:
    assert first_attention(scaled) == Site(path="h.0.attn", factor=factor)


@pytest.mark.parametrize(
    "scaled",
    [
        lambda y: y.tanh(), lambda y: y + 0.5, lambda y: y * torch.arange(C),
        lambda y: 0.5 / y,
    ],
    ids=["curve", "number added", "by channel", "inverse"],
)  # fmt: skip
def test_what_is_more_than_a_multiple_is_heard_nowhere(scaled: Callable[[Any], Any]) -> None:
    assert first_attention(scaled) is None


class Gated(Block):
    """Both branches pass a learned gate, as it is and as a function of it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.scale = nn.Parameter(torch.full((C,), 0.5)), nn.Parameter(torch.zeros(1))
        self.drawn = nn.Parameter(torch.rand(C))

    def forward(self, x: Any) -> Any:
        x = x + self.gate * self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x)) * (1 + self.scale.sigmoid())


class DrawnGate(Gated):
    """A gate that is drawn: no number is its factor."""

    def forward(self, x: Any) -> Any:
        return x + self.attn(self.ln_1(x)) + self.drawn * self.mlp(self.ln_2(x))


def test_a_gate_that_starts_with_one_value_leaves_a_branch_to_its_module() -> None:
    class Model(Decoder):
        block = Gated

    class Drawn(Decoder):
        block = DrawnGate

    for found in (read_model(factory(Model)), read_live(Model(), factory(Model))):
        assert found.decoder is not None
        sites = found.decoder.sites[1]
        assert sites.attn == Site(path="h.1.attn", factor=0.5)
        assert sites.mlp == Site(path="h.1.mlp", factor=1.5)

    drawn = read_model(factory(Drawn)).decoder
    assert drawn is not None
    assert drawn.sites[0].mlp is None


@pytest.mark.parametrize(
    ("path", "blocks", "expected"),
    [
        ("h.1.attn", ["h.1"], True),
        ("h.1", ["h.1"], True),
        ("h.10.attn", ["h.1"], False),
        ("h", ["h.1"], False),
        ("h.3.mlp", ["h.2", "h.3"], True),
        ("h.2.mlp", ["h.2", "h.3"], True),
        ("anything", [""], True),
        ("anything", [], False),
    ],
)
def test_a_module_is_inside_any_of_the_blocks(path: str, blocks: list[str], expected: bool) -> None:
    assert _is_inside(path, blocks) == expected


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["h.2.attn.c_proj", "h.2.attn"], "h.2.attn"),
        (["norm", "h.3.mlp.c_proj"], "h.3.mlp.c_proj"),
        (["h", "shared.attn.c_proj"], "shared.attn.c_proj"),
        (["", "elsewhere"], "elsewhere"),
        (["h", ""], ""),
        (["h.2", "h.2.attn"], "h.2"),
    ],
)
def test_the_outermost_module_of_the_blocks_is_heard_and_one_around_them_last(
    paths: list[str], expected: str
) -> None:
    sites = [Site(path=path) for path in paths]

    for order in (sites, sites[::-1]):
        assert _outermost(order, ["h.2", "h.3"]) == Site(path=expected)
