# ruff: noqa: D102 # small methods are documented by their class
"""What follows the last block is a lens that gives the model's own logits."""

from typing import Any

import pytest
import torch
from support.foreign_models import (
    FOREIGN,
    C,
    Decoder,
    V,
    built,
    hearing,
    logits_of,
    reading,
    some_ids,
)
from torch import nn

from gptinit.forward.blocks import find_decoder
from gptinit.forward.lens import Tail, find_tail
from gptinit.forward.observe import observe
from gptinit.trace.record.tracing import trace


def tail_of(build: Any) -> Tail | None:
    """The tail of a model."""
    seen = observe(trace(build))
    return find_tail(seen, find_decoder(seen, C))


@pytest.mark.parametrize("name", FOREIGN)
def test_the_lens_of_the_last_stream_is_what_the_model_says(name: str) -> None:
    tail, module, ids = reading(name).tail, built(name), some_ids()
    rows = torch.tensor([0, 7, 11, V - 1])
    assert tail is not None

    with torch.no_grad(), hearing() as record:
        logits = logits_of(module(ids, ids) if name == "last position" else module(ids))
        stream = [t for kind, t in record if kind == "resid"][-1]
        seen = tail.lens(module, rows)(stream)

    # Products of 16 numbers near 1 in float32, added in another order: a few units of 6e-8.
    assert torch.allclose(seen, logits[..., rows], rtol=1e-5, atol=1e-6)


def test_the_steps_are_norm_head_and_what_comes_after() -> None:
    plain, biased, capped = (reading(n).tail for n in ("pre-norm", "head with bias", "soft cap"))

    assert plain is not None
    assert (plain.before, plain.weight, plain.bias) == (
        (("module", "ln_f"),),
        "lm_head.weight",
        None,
    )
    assert plain.after == ()
    assert biased is not None
    assert biased.bias == "lm_head.bias"
    assert capped is not None
    assert len(capped.after) == 3


class Divided(Decoder):
    """Logits that are divided by a number."""

    def forward(self, ids: Any) -> Any:
        return super().forward(ids) / 8


def test_the_multiplier_of_logits_is_one_over_what_they_are_divided_by() -> None:
    divided, capped = tail_of(Divided), reading("soft cap").tail

    assert divided is not None
    assert divided.multiplier == 0.125
    assert capped is not None
    assert capped.multiplier == 1.0  # divided by the cap, then multiplied by it


def test_a_head_without_a_bias_term_of_its_own_is_the_embedding() -> None:
    found = reading("tied by use").tail

    assert found is not None
    assert found.weight == "wte.weight"


class Transposed(Decoder):
    """A head that is stored (in, out)."""

    def make_head(self) -> None:
        self.head = nn.Parameter(torch.randn(C, V))

    def forward(self, ids: Any) -> Any:
        return self.ln_f(self.stream(ids)) @ self.head


def test_a_head_that_is_stored_the_other_way_round_is_read_so() -> None:
    tail, module, ids = tail_of(Transposed), Transposed(), some_ids()
    assert tail is not None
    rows = torch.tensor([1, 5])

    with torch.no_grad(), hearing() as record:
        logits = module(ids)
        stream = [t for kind, t in record if kind == "resid"][-1]
        seen = tail.lens(module, rows)(stream)

    assert not tail.vocabulary_first
    assert torch.allclose(seen, logits[..., rows], rtol=1e-5, atol=1e-5)


THREE, TABLE = torch.tensor(3.0), torch.linspace(1.0, 2.0, V)
"""Numbers of a file, made before any model."""


class Long(Decoder):
    """Two norms, a module that does nothing, and numbers before and after the head."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_g, self.drop = nn.LayerNorm(C), nn.Identity()

    def forward(self, ids: Any) -> Any:
        x = self.drop(self.ln_g(self.ln_f(self.stream(ids))) * 0.5)
        return self.lm_head(x) * THREE - 1.0


def test_steps_before_the_head_are_in_order() -> None:
    tail, module = tail_of(Long), Long()
    assert tail is not None

    assert tail.before[:2] == (("module", "ln_f"), ("module", "ln_g"))
    assert [getattr(step, "name", step) for _, step in tail.before[2:]] == ["mul"]
    assert tail.multiplier == 1.5
    assert len(tail.after) == 2
    rows, x = torch.arange(V), torch.randn(1, 2, C)
    with torch.no_grad():
        expected = module.lm_head(module.ln_g(module.ln_f(x)) * 0.5) * 3 - 1
        assert torch.allclose(tail.lens(module, rows)(x), expected, rtol=1e-5, atol=1e-6)


class Masked(Decoder):
    """Logits of which some are changed by a table."""

    def forward(self, ids: Any) -> Any:
        return super().forward(ids) * TABLE


class TwoHeads(Decoder):
    """Logits of two heads together."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(C, V)

    def forward(self, ids: Any) -> Any:
        x = self.ln_f(self.stream(ids))
        return self.lm_head(x) + self.second(x)


class Mixes(Decoder):
    """Logits that depend on other positions."""

    def forward(self, ids: Any) -> Any:
        return super().forward(ids).cumsum(1)


@pytest.mark.parametrize("build", [TwoHeads, Mixes, Masked])
def test_what_is_more_than_a_lens_can_be_is_none(build: Any) -> None:
    assert tail_of(build) is None


def test_hooks_of_the_final_norm_do_not_hear_the_lens() -> None:
    module, tail, heard = built("pre-norm"), reading("pre-norm").tail, list[int]()
    assert tail is not None
    module.get_submodule("ln_f").register_forward_hook(lambda *_: heard.append(1))

    tail.lens(module, torch.arange(3))(torch.randn(1, 2, C))

    assert heard == []
