# ruff: noqa: D102 # small methods are documented by their class
"""Blocks are found in our GPT and in others'; the probe hears attention only while it is on."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.listening import Seen
from support.subjects import tiny_subject
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack

from gptinit.config import RunConfig
from gptinit.errors import SubjectError
from gptinit.forward.sites import (
    Site,
    named_blocks,
    tensors_in,
)
from gptinit.measure.hooks import hook_site
from gptinit.measure.measure import measure
from gptinit.measure.statistics import score_statistics
from gptinit.model import CausalSelfAttention


def test_blocks_of_our_gpt_are_in_forward_order() -> None:
    subject = tiny_subject()
    module: Any = subject.build()

    sites = subject.sites

    assert [module.get_submodule(s.path) for s in sites] == list(module.transformer.h)
    assert [s.attn for s in sites] == [Site(path=f"{s.path}.attn") for s in sites]
    assert [s.mlp for s in sites] == [Site(path=f"{s.path}.mlp") for s in sites]
    assert sites[0].before == Site(path=sites[0].path, side="input")
    assert sites[0].after == Site(path=sites[0].path)


class Block(nn.Module):
    """A block by the names of its children."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            self.add_module(name, nn.Linear(2, 2))


def attend(**more: Any) -> Tensor:
    q, k, v = torch.randn(3, 1, 2, 4, 8, generator=torch.Generator().manual_seed(0))
    return F.scaled_dot_product_attention(q, k, v, **more)


def test_the_probe_hears_calls_only_while_it_is_on() -> None:
    seen = Seen()

    attend()
    with seen.listening():
        attend(is_causal=True)
        attend(scale=0.5)
    attend()

    assert [(c.causal, c.scale) for c in seen.calls] == [(True, None), (False, 0.5)]


def test_the_probe_hears_every_argument_by_its_name() -> None:
    seen, mask = Seen(), torch.ones(4, 4, dtype=torch.bool)
    q = torch.randn(1, 2, 4, 8, generator=torch.Generator().manual_seed(0))

    with seen.listening():
        F.scaled_dot_product_attention(q, q + 1, q, mask, 0.0, False, scale=1.0)
        F.scaled_dot_product_attention(value=q, key=q + 1, query=q, attn_mask=mask)

    for call in seen.calls:
        assert call.query is not None
        assert call.key is not None
        assert torch.equal(call.query, q)
        assert torch.equal(call.key, q + 1)
        assert call.mask is mask
    assert [c.scale for c in seen.calls] == [1.0, None]


def test_the_probe_changes_no_result() -> None:
    plain = attend(is_causal=True)
    with Seen().listening():
        heard = attend(is_causal=True)

    assert torch.equal(plain, heard)


def test_the_probe_can_be_turned_on_again_and_off_twice() -> None:
    seen = Seen()

    for _ in range(2):
        with seen.listening():
            attend()
        seen.probe.off()

    assert len(seen.calls) == 2
    assert _get_current_function_mode_stack() == []


def fail_half_way(self: CausalSelfAttention, x: Tensor) -> Tensor:
    F.scaled_dot_product_attention(*x.unsqueeze(0).unsqueeze(0).expand(3, *[-1] * 4))
    raise ZeroDivisionError


def test_an_exception_in_the_forward_pass_leaves_torch_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(CausalSelfAttention, "forward", fail_half_way)

    with pytest.raises(ZeroDivisionError):
        measure(tiny_subject(), RunConfig(seeds=1, seq_len=8, device="cpu"))

    assert _get_current_function_mode_stack() == []
    assert math.isfinite(float(attend().sum()))


class Nest(nn.Module):
    """Takes and gives nests of tensors, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, x: Tensor, *, extra: dict[str, Tensor]) -> Any:
        return {"first": (None, self.inner(x) + 1), "second": [extra["y"] * 2]}


def heard_at(site: Site, calls: int = 1) -> list[float]:
    """What is heard at a site of a Nest, as sums."""
    module, heard = Nest(), list[float]()
    handle = hook_site(module, site, lambda t: heard.append(float(t.sum())))
    for i in range(calls):
        module(torch.full((2,), float(i)), extra={"y": torch.full((2,), 10.0 + i)})
    handle.remove()
    module(torch.ones(2), extra={"y": torch.ones(2)})
    return heard


@pytest.mark.parametrize(
    ("site", "expected"),
    [
        (Site(path="", side="input"), [0.0]),
        (Site(path="", side="input", leaf=1), [20.0]),
        (Site(path="", leaf=0), [2.0]),
        (Site(path="", leaf=1), [40.0]),
        (Site(path="inner"), [0.0]),
    ],
)
def test_one_tensor_is_heard_wherever_it_lies_and_no_more_once_removed(
    site: Site, expected: list[float]
) -> None:
    assert heard_at(site) == expected


@pytest.mark.parametrize("side", ["input", "output"])
def test_one_call_of_several_is_heard(side: str) -> None:
    assert heard_at(Site(path="inner", side=side), calls=3) == [0.0, 2.0, 4.0]
    assert heard_at(Site(path="inner", side=side, call=1), calls=3) == [2.0]
    assert heard_at(Site(path="inner", side=side, call=7), calls=3) == []


def test_tensors_are_taken_out_of_nests_in_order() -> None:
    @dataclass
    class Box:
        a: Any
        b: Any

    one, two, three = (torch.tensor(float(i)) for i in (1, 2, 3))

    assert tensors_in(one) == [one]
    assert tensors_in({"x": one, "y": (two, [Box(a=three, b="word")])}) == [one, two, three]
    assert tensors_in((None, "word", 3, Box)) == []


def test_blocks_that_a_user_names_have_sites_at_their_names() -> None:
    module = nn.ModuleDict({"body": nn.ModuleList([Block("a", "b") for _ in range(2)])})

    first, second = named_blocks(module, "body", attn="a")

    assert second.path == "body.1"
    assert first.before == Site(path="body.0", side="input")
    assert (first.after, first.attn, first.mlp) == (
        Site(path="body.0"),
        Site(path="body.0.a"),
        None,
    )


@pytest.mark.parametrize(
    ("path", "mlp", "message"),
    [
        ("bodies", None, r"^sites must name modules of ModuleDict, got .*'?bodies'?.*\.$"),
        ("body", "c", r"^sites must name modules of ModuleDict, got .*'?c'?.*\.$"),
        (
            "body.0.a",
            None,
            r"^body\.0\.a must be a list of blocks, got a module without children\.$",
        ),
    ],
)
def test_names_that_are_not_there_are_told(path: str, mlp: str | None, message: str) -> None:
    module = nn.ModuleDict({"body": nn.ModuleList([Block("a", "b")])})

    with pytest.raises(SubjectError, match=message):
        named_blocks(module, path, mlp=mlp)


@pytest.mark.parametrize(
    "softmax",
    [
        lambda s: F.softmax(s, dim=-1),
        lambda s: torch.softmax(s, -1),
        lambda s: s.softmax(-1),
        lambda s: torch.softmax(input=s, dim=-1),
    ],
    ids=["functional", "torch", "method", "keyword"],
)
def test_the_probe_hears_the_scores_of_attention_by_hand(softmax: Any) -> None:
    seen, scores = Seen(), torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))

    with seen.listening():
        softmax(scores)

    (call,) = seen.calls
    assert call.scores is not None
    assert torch.equal(call.scores, scores)


@pytest.mark.parametrize("shape", [(2, 4, 7), (1, 2, 9, 4), (4, 4)], ids=str)
def test_a_softmax_over_anything_else_is_no_attention(shape: tuple[int, ...]) -> None:
    seen = Seen()

    with seen.listening():
        torch.softmax(torch.randn(shape), -1)

    assert seen.calls == []


def test_attention_by_hand_and_by_torch_have_the_same_statistics() -> None:
    seen = Seen()
    q, k, v = torch.randn(3, 1, 2, 6, 8, generator=torch.Generator().manual_seed(0))
    barred = torch.ones(6, 6, dtype=torch.bool).triu(1)

    with seen.listening():
        F.scaled_dot_product_attention(q, k, v, is_causal=True)
        ((q @ k.transpose(-1, -2)) / 8**0.5).masked_fill(barred, -math.inf).softmax(-1)
        low = torch.finfo(torch.float32).min
        ((q @ k.transpose(-1, -2)) / 8**0.5).masked_fill(barred, low).softmax(-1)

    fused, infinite, finite = (score_statistics(c, torch.arange(6)) for c in seen.calls)
    for stat, value in fused.items():
        # Float32 sums of 8 products, in another order: a few units of 6e-8.
        assert float(infinite[stat]) == pytest.approx(float(value), rel=1e-5)
        assert float(finite[stat]) == pytest.approx(float(value), rel=1e-5)
