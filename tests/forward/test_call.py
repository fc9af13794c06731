# ruff: noqa: D102 # small methods are documented by their class
"""However a model wants to be called and whatever it returns: its logits are found."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from support.foreign_models import FOREIGN, V, built, logits_of, some_ids
from torch import Tensor, nn

from gptinit.errors import ConfigError, SubjectError
from gptinit.forward.call import Call, call_model, find_call

IDS = some_ids(2, 5)


def scores(ids: Tensor) -> Tensor:
    """(B, T, 7), different at every position."""
    return ids[..., None].float() + torch.arange(7)


@dataclass
class Nested:
    """A dataclass that holds another's logits."""

    inner: Any
    logits: Any


class Returns(nn.Module):
    """Returns what it was told to make of its ids."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = make

    def forward(self, ids: Any) -> Any:
        return self.make(ids)


@pytest.mark.parametrize(
    "make",
    [
        scores,
        lambda ids: (scores(ids), None),
        lambda ids: [scores(ids).mean(), scores(ids)],
        lambda ids: {"hidden": scores(ids) * 0, "logits": scores(ids)},
        lambda ids: Nested(inner=scores(ids) * 0, logits=scores(ids)),
        lambda ids: {"aux": {"ids": ids}, "out": scores(ids)},
        lambda ids: scores(ids).flatten(0, 1),
        lambda ids: (ids, scores(ids)),
    ],
    ids=["tensor", "tuple", "list", "dict", "dataclass", "nest", "flat", "ids beside"],
)
def test_logits_are_found_in_whatever_is_returned(make: Any) -> None:
    assert torch.equal(call_model(Returns(make), Call(), IDS), scores(IDS))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda ids: None, "None"),
        (lambda ids: scores(ids).mean(), r"float32 of shape \(\)"),
        (lambda ids: scores(ids)[:, [-1]], r"float32 of shape \(2, 1, 7\)"),
        (lambda ids: scores(ids).int(), r"int32 of shape \(2, 5, 7\)"),
        (
            lambda ids: {"logits": scores(ids)[:, [-1]], "hidden": scores(ids)},
            r"float32 of shape \(2, 1, 7\) and float32 of shape \(2, 5, 7\)",
        ),
    ],
    ids=["nothing", "a loss", "last position", "integers", "logits of another shape"],
)
def test_a_forward_without_logits_is_named_in_one_line(make: Any, told: str) -> None:
    with pytest.raises(
        SubjectError,
        match=rf"^forward of Returns must return logits .* got {told} for ids of shape \(2, 5\)\.$",
    ):
        call_model(Returns(make), Call(), IDS)


class Targets(nn.Module):
    """Has all logits only where there are targets."""

    def forward(self, idx: Any, targets: Any = None) -> Any:
        return scores(idx) if targets is not None else scores(idx)[:, [-1]]


class Keywords(nn.Module):
    """Takes ids by keyword after something else."""

    def forward(
        self, mask: Any = None, input_ids: Any = None, use_cache: bool = True, labels: Any = None
    ) -> Any:
        assert mask is None
        return (scores(input_ids), "a cache") if use_cache else scores(input_ids)


class EncoderDecoder(nn.Module):
    """Takes ids twice."""

    def forward(self, input_ids: Any, decoder_input_ids: Any = None) -> Any:
        return scores(input_ids) + decoder_input_ids[..., None] * 0


@pytest.mark.parametrize(
    ("module", "calls"),
    [
        (Returns(scores), [Call(), Call(), Call(unbatched=True)]),
        (Targets(), [Call(), Call(targets="targets"), Call(), Call(unbatched=True)]),
        (
            Keywords(),
            [
                Call(keyword="input_ids", fixed=(("use_cache", False),)),
                Call(keyword="input_ids", fixed=(("use_cache", False),), targets="labels"),
                Call(fixed=(("use_cache", False),)),
                Call(),
                Call(fixed=(("use_cache", False),), unbatched=True),
            ],
        ),
    ],
    ids=["plain", "targets", "keywords"],
)
def test_ways_to_call_a_model_come_from_its_signature(module: nn.Module, calls: list[Call]) -> None:
    assert list(find_call(module)) == calls


def test_targets_bring_all_logits() -> None:
    assert torch.equal(call_model(Targets(), Call(targets="targets"), IDS), scores(IDS))


@pytest.mark.parametrize("module", [Keywords(), EncoderDecoder()], ids=["keywords", "decoder ids"])
def test_the_first_way_works_where_ids_have_the_usual_name(module: nn.Module) -> None:
    assert torch.equal(call_model(module, next(find_call(module)), IDS), scores(IDS))


class OneSequence(nn.Module):
    """Takes ids of shape (T,) and a state; gives logits of shape (T, V)."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(7, 7, bias=False)

    def forward(self, ids: Any, state: Any = None) -> Any:
        (length,) = ids.shape
        return self.head(scores(ids).view(length, -1))


def test_one_sequence_without_a_batch_axis_is_a_way_of_its_own() -> None:
    module, call = OneSequence(), Call(unbatched=True)

    logits = call_model(module, call, IDS[:1])

    assert torch.equal(logits, module(IDS[0])[None])
    with pytest.raises(ConfigError, match=r"^batch_size must be 1 for OneSequence, .* got 2\.$"):
        call_model(module, call, IDS)


def test_the_user_s_way_to_call_is_the_only_one_and_sees_other_weights() -> None:
    module = OneSequence()
    (call,) = find_call(module, lambda model, ids: model(ids[0], state="fresh"))

    own = call_model(module, call, IDS[:1])
    ones = call_model(module, call, IDS[:1], {"head.weight": torch.ones(7, 7)})

    assert torch.equal(own, module(IDS[0])[None])
    assert torch.equal(ones, scores(IDS[:1]).sum(-1, keepdim=True).expand(ones.shape))
    with pytest.raises(SubjectError, match=r"^--forward \(test_call\.py:\d+\) .* got None"):
        call_model(module, Call(function=lambda model, ids: None), IDS)


def test_weights_can_stand_in_for_a_call_and_leave_the_module_alone() -> None:
    head = nn.Linear(3, 2, bias=False)
    own = head.weight.detach().clone()
    ids = torch.rand(1, 4, 3)  # a layer takes vectors: what counts is whose weight it uses
    module = Returns(lambda x: head(ids))
    module.head = head

    made = call_model(module, Call(), IDS[:1, :4], {"head.weight": torch.ones(2, 3)})

    assert torch.allclose(made, ids.sum(-1, keepdim=True).expand(1, 4, 2))
    assert torch.equal(head.weight, own)


@pytest.mark.parametrize("name", FOREIGN)
def test_every_foreign_model_gives_its_logits(name: str) -> None:
    module, ids = built(name), some_ids()
    # The way that observing found: the first one that gives logits.
    for call in find_call(module):
        try:
            with torch.no_grad():
                found = call_model(module, call, ids)
            break
        except SubjectError:
            continue

    with torch.no_grad():
        told = module(ids, ids) if name == "last position" else module(ids)
    assert found.shape == (*ids.shape, V)
    assert torch.equal(found, logits_of(told))


@pytest.mark.parametrize("weights", [None, {}], ids=["own weights", "given weights"])
def test_a_call_passes_every_argument_that_it_names(weights: dict[str, Tensor] | None) -> None:
    passed: dict[str, Any] = {}

    class Noting(nn.Module):
        def forward(self, *first: Any, **named: Any) -> Tensor:
            passed.update(named, first=first)
            return scores(IDS)

    call = Call(keyword="x", targets="y", also=("z",), fixed=(("a", False), ("b", 3)))
    call_model(Noting(), call, IDS, weights)

    assert passed == {"x": IDS, "y": IDS, "z": IDS, "a": False, "b": 3, "first": ()}
