# a forward is documented by its class
"""The most tokens that a model treats as it treats eight."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.foreign_models import Decoder, T, V
from support.graphs import Layer, graph_of
from support.recognised import scores_of, softmax, subject_of, with_attention
from torch.nn import functional as F

from gptinit.recognise.architecture import Forwarding
from gptinit.recognise.longer import _continues, _is_alike


def with_logits(change: Callable[[Any, int], Any]) -> type[Decoder]:
    """The pre-norm decoder with its logits changed as their number of tokens has it."""

    class Model(Decoder):
        def forward(self, ids: Any) -> Any:
            return change(super().forward(ids), ids.shape[1])

    return Model


def with_positions(first: Callable[[int], int]) -> type[Decoder]:
    """The pre-norm decoder that numbers its positions from another one."""

    class Model(Decoder):
        def embed(self, ids: Any) -> Any:
            count, start = ids.shape[1], first(ids.shape[1])
            return self.wte(ids) + self.wpe(torch.arange(start, start + count).remainder(T))

    return Model


def too_long(y: Any, count: int) -> Any:
    """An error over more than 12 tokens."""
    if count > 12:
        raise ValueError
    return y


def barred(q: Any, k: Any, v: Any, *, shown: int) -> Any:
    """Causal attention whose mask, from so many tokens on, shows the first query the second key."""
    size = q.shape[2]
    allowed = torch.ones(size, size, dtype=torch.bool).tril()
    allowed[0, 1] = size >= shown
    return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)


# Passes over 24, 12 and no more than 8 tokens are compared with that over 8.
ALIKE: dict[str, tuple[type[Decoder], int]] = {
    "the same": (Decoder, 24),
    "the same number": (with_logits(lambda y, count: y * 0.5), 24),
    "an operator more at the end": (with_logits(lambda y, n: y * 0.5 if n > 8 else y), 8),
    "an operator more beyond 12": (with_logits(lambda y, n: y * 0.5 if n > 12 else y), 12),
    "an operator less at the end": (with_logits(lambda y, n: y if n > 8 else y * 0.5), 8),
    "an operator less beyond 12": (with_logits(lambda y, n: y if n > 12 else y * 0.5), 12),
    "another number": (with_logits(lambda y, n: y * (0.25 if n > 8 else 0.5)), 8),
    "another number beyond 12": (with_logits(lambda y, n: y * (0.25 if n > 12 else 0.5)), 12),
    "another operator": (with_logits(lambda y, n: y / 0.5 if n > 12 else y * 0.5), 12),
    "the operators in another order": (
        with_logits(lambda y, n: y * 0.5 / 4.0 if n <= 12 else y / 4.0 * 0.5),
        12,
    ),
    "an error": (with_logits(too_long), 12),
    "a table of other rows": (with_positions(lambda n: int(n > 12)), 12),
    "a table of more dimensions": (
        with_logits(lambda y, n: y * (torch.ones(1, 1, V) if n > 12 else torch.ones(V))),
        12,
    ),
    "a table of fewer dimensions": (
        with_logits(lambda y, n: y * (torch.ones(V) if n > 12 else torch.ones(1, 1, V))),
        12,
    ),
    "a flag": (
        with_attention(
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] <= 12)
        ),
        12,
    ),
    "an open mask": (with_attention(lambda q, k, v: barred(q, k, v, shown=13)), 12),
    "a mask": (with_attention(lambda q, k, v: barred(q, k, v, shown=99)), 24),
    "a window": (with_attention(lambda q, k, v: softmax(scores_of(q, k), v, window=23)), 12),
    "a window of all": (with_attention(lambda q, k, v: softmax(scores_of(q, k), v, window=24)), 24),
}


@pytest.mark.parametrize("name", ALIKE)
def test_tokens_are_known_up_to_the_last_pass_that_is_alike(name: str) -> None:
    build, longest = ALIKE[name]

    recognised = subject_of(build).recognised

    assert isinstance(recognised, Forwarding)
    assert recognised.tokens == longest


def mask(size: int, shown: float = 0.0, barred: float = -1.0) -> torch.Tensor:
    """A causal mask, (1, 1, T, T)."""
    later = torch.ones(size, size, dtype=torch.bool).triu(1)
    return torch.where(later, barred, shown)[None, None]


@pytest.mark.parametrize(
    ("short", "long", "goes_on"),
    [
        (mask(8), mask(16), True),
        (mask(8), mask(16).triu(-7), True),  # 0 either way
        (mask(8, 2.0), mask(16, 2.0).triu(-7), False),  # a window
        (mask(8) == 0, mask(16) == 0, True),
        (mask(8) == 0, (mask(16) == 0).triu(-7), False),
        (mask(8), mask(16).tril(), False),
        (mask(8)[0, 0], mask(16)[0, 0], True),
        (mask(8).expand(1, 2, 8, 8), mask(16).expand(1, 2, 16, 16), True),
        # A table that is as wide as tokens are many, or as there were few.
        (torch.arange(256.0).view(16, 16)[:8], torch.arange(256.0).view(16, 16), True),
        (torch.arange(64.0).view(8, 8), torch.arange(128.0).view(16, 8), True),
        (torch.arange(8.0), torch.arange(16.0), True),
        (torch.arange(8.0), torch.arange(16.0) + 1e-6, False),
        (torch.arange(8.0).double(), torch.arange(16.0).double() + 1e-10, True),
        (torch.arange(8), torch.arange(16), True),
        (torch.arange(8), torch.arange(16).flip(0), False),
        (torch.ones(8, 4), torch.ones(16, 3), False),
        (torch.ones(8), torch.ones(1, 8), False),
        (True, 1, False),
        (0.5, 0.5, True),
        ("mul", "div", False),
        (0.5, None, False),
    ],
)  # fmt: skip
def test_what_more_tokens_read_goes_on_as_it_began(
    short: object, long: object, goes_on: bool
) -> None:
    assert _continues(short, long, 8, 16) is goes_on


def test_what_is_drawn_in_a_pass_is_not_known_to_go_on() -> None:
    fixed = graph_of(lambda: Layer(lambda x, w, _: x @ w * 0.5))
    drawn = graph_of(lambda: Layer(lambda x, w, _: x @ w * torch.rand(6)))

    assert _is_alike(fixed, fixed, 4, 4)
    assert not _is_alike(drawn, drawn, 4, 4)
