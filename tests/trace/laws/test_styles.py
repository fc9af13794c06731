"""The law that the trace reads, against real draws of the same code.

Every style is run for real with SEEDS seeds. Seeds are independent whatever the entries of one
tensor are to each other, so the spread of a statistic over seeds gives its standard error.
"""

import math

import pytest
import torch
from scipy import stats
from support.trace_styles import STYLES
from support.traced import assert_agree, flat, real, traced

from gptinit.facts.distributions import (
    Fixed,
    Measured,
    Normal,
    Piecewise,
    TruncatedNormal,
    Uniform,
    Unset,
)
from gptinit.trace.graph import Read, reads_in
from gptinit.trace.laws.laws import Laws
from gptinit.trace.replay.partial import Unanswerable
from gptinit.trace.replay.replay import Replay


def sees_draws(read: Read) -> bool:
    """Whether the code looked at anything behind a value."""
    stack, seen = [read], set()
    while stack:
        one = stack.pop()
        if one.storage.looked:
            return True
        for write in one.storage.visible(one.version):
            if write.node.number not in seen:
                seen.add(write.node.number)
                stack += reads_in(write.node)
    return False


def test_there_are_enough_styles() -> None:
    assert len(STYLES) >= 90


@pytest.mark.parametrize("name", STYLES)
def test_the_law_is_the_one_that_the_code_says(name: str) -> None:
    style = STYLES[name]

    law = Laws().of(traced(style.make).read()).distribution

    if isinstance(style.law, type):
        assert isinstance(law, style.law)
    elif style.law is None:
        assert isinstance(law, Measured | Fixed)
    else:
        found, wanted = list(flat(law)), list(flat(style.law))
        assert found == [w if isinstance(w, str) else pytest.approx(w, 1e-6) for w in wanted]


@pytest.mark.parametrize(
    "name", [n for n, s in STYLES.items() if not isinstance(s.law, Unset) and "partly" not in n]
)
def test_the_law_has_the_moments_of_real_draws(name: str) -> None:
    style = STYLES[name]
    law = Laws().of(traced(style.make).read())
    draws = real(style.make)

    assert_agree(law.distribution, draws, looks=style.looks)
    if isinstance(law.distribution, Piecewise):
        rows = [n for n, _ in law.distribution.pieces]
        blocks = zip(*(d.split(rows) for d in draws), strict=True)
        for (_, piece), block in zip(law.distribution.pieces, blocks, strict=True):
            assert_agree(piece, list(block), looks=style.looks)


EXACT = [n for n, s in STYLES.items() if isinstance(s.law, Normal | Uniform | TruncatedNormal)]


@pytest.mark.parametrize("name", EXACT)
def test_exact_laws_have_the_quantiles_of_real_draws(name: str) -> None:
    style = STYLES[name]
    law = style.law
    values = torch.stack(real(style.make)).flatten().numpy()

    match law:
        case Normal(mean=mean, std=std):
            cdf = stats.norm(mean, std).cdf
        case Uniform(low=low, high=high):
            cdf = stats.uniform(low, high - low).cdf
        case TruncatedNormal(loc=loc, scale=scale, low=low, high=high):
            cdf = stats.truncnorm((low - loc) / scale, (high - loc) / scale, loc, scale).cdf
        case _:
            raise AssertionError(law)
    # Rounding to bfloat16 moves a value by up to 2^-9 of itself: by 1e-3 of the distribution.
    is_coarse = any(word in name for word in ("half", "bfloat16"))
    allowed = 2.6 / math.sqrt(values.size) + (2e-3 if is_coarse else 0.0)  # p = 3e-6 beyond
    assert stats.kstest(values, cdf).statistic < allowed


@pytest.mark.parametrize("name", [n for n, s in STYLES.items() if not isinstance(s.law, Unset)])
def test_replayed_values_agree_with_real_draws(name: str) -> None:
    style = STYLES[name]
    values = Replay().value(traced(style.make).read()).double()
    draws = real(style.make)
    if "partly" in name:
        values, draws = values[:32], [d[:32] for d in draws]

    as_law = Measured(
        mean=float(values.mean()), std=float(values.std(correction=0)), mean_stderr=0,
        std_stderr=0, low=0, high=0, kurtosis=3, count=1,
    )  # fmt: skip
    assert values.shape == draws[0].shape
    assert_agree(as_law, draws)


@pytest.mark.parametrize("name", STYLES)
def test_entries_asked_for_alone_are_those_of_the_whole(name: str) -> None:
    read = traced(STYLES[name].make).read()
    whole = Replay().value(read).flatten()
    positions = torch.randperm(read.numel, generator=torch.Generator().manual_seed(0))[:97]

    assert torch.equal(Replay().at(read, positions).nan_to_num(), whole[positions].nan_to_num())


@pytest.mark.parametrize("name", STYLES)
def test_entries_of_what_counts_as_large_are_those_of_the_whole(name: str) -> None:
    """With a limit of 1024 entries no tensor is replayed whole: rules by position, or a refusal."""
    read = traced(STYLES[name].make).read()
    whole = Replay().value(read).flatten()
    positions = torch.randperm(read.numel, generator=torch.Generator().manual_seed(0))[:97]

    try:
        entries = Replay(limit=1024).at(read, positions)
    except Unanswerable:
        assert name in _NOT_BY_POSITION
        return
    assert name not in _NOT_BY_POSITION
    # Sums of the same numbers in another order differ in their last bits.
    wanted = whole[positions].nan_to_num()
    assert torch.allclose(entries.nan_to_num(), wanted, rtol=1e-4, atol=1e-7)


_NOT_BY_POSITION = frozenset(
    {
        "bernoulli of numbers",
        "einsum of draws",
        "orthogonal_ 4-D",
        "orthogonal_ square",
        "orthogonal_ tall",
        "orthogonal_ wide",
        "rsub of draws, alpha",
        "rsub(u, tensor, alpha=2)",
        "svd of a draw",
    }
)
"""Styles whose entries depend on a whole matrix, and rsub of tensors, which torch does not tag as
pointwise: where they are large they are refused."""


@pytest.mark.parametrize("name", [n for n, s in STYLES.items() if s.looks])
def test_code_that_looks_at_drawn_values_is_noted(name: str) -> None:
    assert sees_draws(traced(STYLES[name].make).read())


@pytest.mark.parametrize(
    "name", [n for n, s in STYLES.items() if not s.looks and isinstance(s.law, Normal)]
)
def test_code_that_looks_at_nothing_is_not_accused(name: str) -> None:
    assert not sees_draws(traced(STYLES[name].make).read())
