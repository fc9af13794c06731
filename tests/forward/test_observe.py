# ruff: noqa: D102 # small methods are documented by their class
"""One forward pass is watched: nothing of the model changes, and what it raises is told."""

import random
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from support.foreign_models import C, Decoder, Shared, V, built, factory, reading
from torch import nn

from gptinit.errors import SubjectError
from gptinit.forward.observe import ModuleCall, Observation, observe, observe_longer
from gptinit.read.live import stand_ins
from gptinit.trace.record.tracing import trace


def observed(name: str) -> Observation:
    """The pass of a model of FOREIGN."""
    seen = reading(name).seen
    assert seen is not None
    return seen


def test_ids_cannot_be_taken_for_positions() -> None:
    (ids,) = observed("pre-norm").ids.tolist()

    assert len(set(ids)) == 8
    assert all(abs(b - a) != 1 for a, b in pairwise(ids))


def test_the_vocabulary_is_the_last_dimension_of_the_logits() -> None:
    assert observed("llama").vocab_size == V


def test_module_calls_are_noted_in_the_order_in_which_they_return() -> None:
    paths = [call.path for call in observed("pre-norm").calls]

    assert paths[:2] == ["wte", "wpe"]
    assert paths[-3:] == ["ln_f", "lm_head", ""]
    assert paths.index("h.0.attn.c_attn") < paths.index("h.0.attn") < paths.index("h.0")


def test_a_module_that_runs_thrice_is_noted_thrice_with_what_it_took_each_time() -> None:
    calls = [call for call in observed("shared").calls if call.path == "h.0"]

    assert len(calls) == 3
    for first, second in pairwise(calls):
        assert first.outputs == second.inputs


def test_the_graph_ends_at_the_logits() -> None:
    seen = observed("pre-norm")
    (leaf, node) = seen.calls[-1].outputs[0]

    assert (leaf, node) == (0, seen.graph.last)


@pytest.mark.parametrize("mode", [True, False])
def test_the_mode_of_the_model_stays_and_its_forward_runs_in_eval(mode: bool) -> None:
    class Asks(Decoder):
        def forward(self, ids: Any) -> Any:
            modes.append(self.training)
            return super().forward(ids)

    modes: list[bool] = []
    module = trace(Asks).train(mode)

    observe(module)

    assert module.training is mode
    assert modes == [False]


def test_watching_leaves_no_hooks_and_no_random_number_behind() -> None:
    module = trace(Decoder)
    before = torch.get_rng_state()
    python = random.getstate()

    observe(module)

    assert torch.equal(torch.get_rng_state(), before)
    assert random.getstate() == python
    for child in module.modules():
        assert not child._forward_hooks
        assert not child._forward_pre_hooks


def test_a_live_model_is_watched_through_stand_ins_and_keeps_its_parameters() -> None:
    module = built("tied")
    held = {n: (id(p), p.detach().clone()) for n, p in module.named_parameters()}

    seen = observe(module, stand_ins(module))

    assert seen.vocab_size == V
    for name, parameter in module.named_parameters():
        was, values = held[name]
        assert id(parameter) == was
        assert torch.equal(parameter, values)


class Raises(Decoder):
    """A forward with a mistake."""

    def forward(self, ids: Any) -> Any:
        return self.wte(ids) @ self.lm_head.weight


class NoLogits(Decoder):
    """Returns a loss alone."""

    def forward(self, ids: Any) -> Any:
        return super().forward(ids).mean()


class Asserts(Decoder):
    """Says nothing of what is wrong."""

    def forward(self, ids: Any) -> Any:
        raise AssertionError


class TwoArguments(nn.Module):
    """Wants something that nobody has."""

    def forward(self, ids: Any, mask: Any) -> Any:
        return mask


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            Raises,
            r"^Raises must run forward on token ids, got RuntimeError: .*8x16 and 53x16\) "
            r"\(test_observe\.py:\d+\)\. ",
        ),
        (
            NoLogits,
            # C2: "got SubjectError: ..." is nothing that a user has raised.
            r"^forward of NoLogits must return logits of shape .*, got float32 of shape .*"
            r"\. If it wants more, say how to call it: --forward path\.py:FUNC\.$",
        ),
        (Asserts, r"^Asserts must .* got AssertionError.* \(test_observe\.py:\d+\)\. "),
        (TwoArguments, r"^TwoArguments must run forward on token ids, got TypeError: .*'mask'"),
    ],
)
def test_a_forward_that_cannot_run_is_told_with_its_own_message(build: Any, message: str) -> None:
    with pytest.raises(SubjectError, match=message) as caught:
        observe(trace(build))

    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_a_failed_pass_leaves_no_hooks_and_the_mode() -> None:
    module = trace(Raises).train()

    with pytest.raises(SubjectError):
        observe(module)

    assert module.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def test_a_large_model_is_observed_without_its_memory() -> None:
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte = nn.Embedding(1 << 20, 1 << 14)  # 64 GB in float32
            self.up = nn.Linear(1 << 14, 1 << 14)

        def forward(self, ids: Any) -> Any:
            return self.up(self.wte(ids))

    assert observe(trace(Large)).vocab_size == 1 << 14


def test_factories_of_these_tests_know_nothing_but_how_to_build() -> None:
    made = factory(Shared)

    assert (made.n_layer, made.n_embd, made.vocab_size, dict(made.settings)) == (None,) * 3 + ({},)
    assert made.build().get_parameter("wte.weight").shape == (V, C)


@pytest.mark.parametrize(("size", "used"), [(1, 1), (2, 2), (3, 2), (4, 4), (7, 4), (8, 8)])
def test_a_vocabulary_of_fewer_than_eight_tokens_is_enough(size: int, used: int) -> None:
    class Few(Decoder):
        def __init__(self) -> None:
            super().__init__()
            self.wte, self.lm_head = nn.Embedding(size, C), nn.Linear(C, size, bias=False)

    seen = observe(trace(Few))

    assert seen.vocab_size == size
    assert set(seen.ids.flatten().tolist()) == set(range(used))


def test_few_tokens_are_tried_where_the_first_way_to_call_fails_for_another_reason() -> None:
    class NeedsTargets(Decoder):
        def __init__(self) -> None:
            super().__init__()
            self.wte, self.lm_head = nn.Embedding(4, C), nn.Linear(C, 4, bias=False)

        def forward(self, ids: Any, targets: Any) -> Any:  # type: ignore[override]
            return super().forward(ids)

    assert observe(trace(NeedsTargets)).vocab_size == 4


class Caching(Decoder):
    """The pre-norm decoder that keeps a table of as many rows as it last saw tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(1))
        self.length = 0
        self.cache: nn.Module | None = None

    def embed(self, ids: Any) -> Any:
        self.length = ids.shape[1]
        self.cache = nn.Identity()  # as gpt-fast's keys and values: a module from then on
        self.table = torch.ones(ids.shape[1])
        return super().embed(ids)


def test_no_pass_leaves_a_cache_behind() -> None:
    module = trace(Caching)
    table = module.table

    seen = observe(module)
    longer = observe_longer(module, seen, 20)

    assert longer is not None
    assert (1, 20, C) in {v.node.shape for v in longer.vertices if v.name == "embedding"}
    assert module.table is table
    assert module.length == 0
    assert module.cache is None
    assert "cache" not in dict(module.named_modules())
    assert "cache" not in {call.path for call in seen.calls}


def test_a_hook_sees_the_number_of_a_call_where_a_module_runs_more_than_once() -> None:
    seen = observed("pre-norm")
    calls = (
        ModuleCall(path="once", inputs=((0, 3),), outputs=((1, 4),)),
        ModuleCall(path="twice", inputs=((0, 4),), outputs=((0, 5),)),
        ModuleCall(path="twice", inputs=((2, 4),), outputs=((0, 6), (1, 7))),
    )

    points = replace(seen, calls=calls).hook_points
    assert {
        node: [(s.path, s.side, s.leaf, s.call) for s in sites] for node, sites in points.items()
    } == {
        3: [("once", "input", 0, None)],
        4: [("once", "output", 1, None), ("twice", "input", 0, 0), ("twice", "input", 2, 1)],
        5: [("twice", "output", 0, 0)],
        6: [("twice", "output", 0, 1)],
        7: [("twice", "output", 1, 1)],
    }
