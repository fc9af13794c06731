# small methods are documented by their class
"""Where a block's branches can be heard: past what only scales them, at the outermost module."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.foreign_models import Block, C, Decoder, L

from gptinit.forward.block_sites import _is_inside, _outermost
from gptinit.forward.blocks import find_decoder
from gptinit.forward.observe import observe
from gptinit.forward.sites import Site
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
    ],
    ids=["cast", "copied", "copy", "there and back"],
)
def test_casts_copies_and_numbers_leave_a_branch_to_its_module(
    scaled: Callable[[Any], Any], factor: float
) -> None:
    assert first_attention(scaled) == Site(path="h.0.attn", factor=factor)


@pytest.mark.parametrize(
    "scaled",
    [
        lambda y: y.tanh(), lambda y: y / HALF, lambda y: y * HALF, lambda y: y + 0.5,
        lambda y: y * torch.arange(C),
    ],
    ids=["curve", "divided by a tensor", "times a tensor", "number added", "by channel"],
)  # fmt: skip
def test_what_is_more_than_a_multiple_is_heard_nowhere(scaled: Callable[[Any], Any]) -> None:
    assert first_attention(scaled) is None


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
