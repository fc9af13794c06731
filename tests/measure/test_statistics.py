"""Statistics against their definitions, written out directly."""

import math

import pytest
import torch
from torch import Tensor

from gptinit.facts.sampling import query_rows
from gptinit.measure.statistics import (
    Attention,
    copy_logit,
    final_statistics,
    logit_std,
    rms,
    score_statistics,
    stream_statistics,
)


def sample(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_stream_statistics_are_population_moments() -> None:
    x = 3 * sample(2, 5, 7) + 1

    values = stream_statistics(x.float())

    mean = float(x.mean())
    assert float(values["resid_var"]) == pytest.approx(float(((x - mean) ** 2).mean()), rel=1e-6)
    assert float(values["max_abs"]) == pytest.approx(float(x.abs().max()), rel=1e-6)
    assert float(values["nonfinite"]) == 0
    cosines = [
        float(x[b, s] @ x[b, t] / (x[b, s].norm() * x[b, t].norm()))
        for b in range(2)
        for s in range(5)
        for t in range(5)
        if s != t
    ]
    assert float(values["token_cosine"]) == pytest.approx(sum(cosines) / len(cosines), rel=1e-5)


def test_half_precision_is_measured_in_float32() -> None:
    x = sample(1, 64, 64).to(torch.bfloat16)

    # A bfloat16 result would carry 8 bits, an error of up to 2^-9; the float32 one agrees to 2^-20.
    assert float(stream_statistics(x)["resid_var"]) == pytest.approx(
        float(x.double().var(correction=0)), rel=2**-20
    )


def test_identical_positions_have_cosine_one_and_zero_vectors_none() -> None:
    x = sample(1, 1, 8).expand(1, 4, 8)

    assert float(stream_statistics(x)["token_cosine"]) == pytest.approx(1.0, abs=1e-6)
    assert math.isnan(float(stream_statistics(torch.zeros(1, 4, 8))["token_cosine"]))


def test_one_position_has_no_cosine() -> None:
    assert "token_cosine" not in stream_statistics(sample(2, 1, 8))


def test_nan_and_infinities_are_counted() -> None:
    x = torch.tensor([[[1.0, math.nan, math.inf, -math.inf, 2.0]]])

    assert float(stream_statistics(x)["nonfinite"]) == 3


def test_rms_is_the_root_of_the_mean_square() -> None:
    assert float(rms(torch.tensor([3.0, -4.0, 0.0, 0.0]))) == pytest.approx(2.5)


def test_logit_std_averages_the_std_of_each_position() -> None:
    # stds over the vocabulary: 1 and 3; a shift of a row changes nothing
    logits = torch.tensor([[[1.0, -1.0], [103.0, 97.0]]])

    assert float(logit_std(logits)) == pytest.approx(2.0)


def test_copy_logit_is_that_of_the_input_token() -> None:
    logits = torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]])

    assert float(copy_logit(logits, torch.tensor([[2, 0]]))) == pytest.approx(3.5)


def test_loss_excess_is_over_the_log_of_the_vocabulary() -> None:
    logits = torch.zeros(1, 2, 8)

    values = final_statistics(logits, torch.tensor([[0, 1]]), torch.tensor(2.5))

    assert float(values["loss_excess"]) == pytest.approx(2.5 - math.log(8))


@pytest.mark.parametrize(
    ("T", "count", "expected"),
    [(8, 4, [1, 3, 5, 7]), (3, 32, [0, 1, 2]), (1, 32, [0]), (256, 2, [64, 192])],
)
def test_query_rows_are_the_middles_of_strata(T: int, count: int, expected: list[int]) -> None:
    assert query_rows(T, count) == expected


def allowed_scores(attention: Attention, b: int, h: int, t: int) -> list[float]:
    """The scores of one query with the keys that it may see."""
    query, key = attention.query, attention.key
    assert query is not None
    assert key is not None
    nh, hs = query.shape[1], query.shape[3]
    row = []
    for s in range(t + 1 if attention.causal else key.shape[2]):
        shared = key[b, h * key.shape[1] // nh, s]
        score = float(query[b, h, t] @ shared) * (attention.scale or hs**-0.5)
        if attention.mask is None:
            row.append(score)
            continue
        mask = attention.mask.expand(*query.shape[:3], key.shape[2])[b, h, t, s]
        if mask.dtype != torch.bool:
            score += float(mask)
        if bool(mask) if mask.dtype == torch.bool else score > -math.inf:
            row.append(score)
    return row


def by_definition(attention: Attention, rows: list[int]) -> dict[str, float]:
    """The three statistics pair by pair."""
    assert attention.query is not None
    B, nh = attention.query.shape[:2]
    seen = [allowed_scores(attention, b, h, t) for b in range(B) for h in range(nh) for t in rows]
    pairs = [score for row in seen for score in row]
    entropies = []
    for row in seen:
        if len(row) > 1:
            weights = [math.exp(s) / sum(math.exp(r) for r in row) for s in row]
            entropies.append(-sum(w * math.log(w) for w in weights) / math.log(len(row)))
    mean = sum(pairs) / len(pairs)
    return {
        "attn_score_std": math.sqrt(sum((s - mean) ** 2 for s in pairs) / len(pairs)),
        "attn_score_max": max(pairs),
        "attn_entropy": sum(entropies) / len(entropies),
    }


def band(T: int, width: int) -> Tensor:
    """A sliding window as a boolean mask."""
    i = torch.arange(T)
    return (i[:, None] >= i) & (i[:, None] - i < width)


CASES = {
    "causal": Attention(query=sample(2, 4, 9, 6), key=sample(2, 4, 9, 6, seed=1), causal=True),
    "full": Attention(query=sample(1, 2, 5, 3), key=sample(1, 2, 5, 3, seed=1)),
    "scaled": Attention(query=sample(1, 2, 5, 3), key=sample(1, 2, 5, 3, seed=1), scale=2.0),
    "grouped": Attention(query=sample(1, 4, 6, 3), key=sample(1, 2, 6, 3, seed=1), causal=True),
    "boolean mask": Attention(
        query=sample(2, 2, 7, 3), key=sample(2, 2, 7, 3, seed=1), mask=band(7, 3)
    ),
    "additive mask": Attention(
        query=sample(1, 2, 6, 3),
        key=sample(1, 2, 6, 3, seed=1),
        mask=torch.where(band(6, 4), sample(6, 6, seed=2), -math.inf)[None, None],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_score_statistics_equal_their_definition(name: str) -> None:
    attention = CASES[name]
    assert attention.query is not None
    rows = query_rows(attention.query.shape[2], 4)

    values = score_statistics(attention, torch.tensor(rows))

    expected = by_definition(attention, rows)
    assert set(values) == set(expected)
    for stat, value in expected.items():
        assert float(values[stat]) == pytest.approx(value, rel=2e-5), stat


def test_entropy_is_one_for_equal_scores_and_absent_for_one_key() -> None:
    flat = Attention(query=torch.zeros(1, 1, 4, 2), key=torch.zeros(1, 1, 4, 2), causal=True)
    single = Attention(query=torch.zeros(1, 1, 1, 2), key=torch.zeros(1, 1, 1, 2), causal=True)

    assert float(score_statistics(flat, torch.arange(4))["attn_entropy"]) == pytest.approx(1.0)
    assert "attn_entropy" not in score_statistics(single, torch.arange(1))


@pytest.mark.parametrize("fill", [-math.inf, float(torch.finfo(torch.float32).min)], ids=str)
def test_scores_that_are_given_have_the_statistics_of_their_definition(fill: float) -> None:
    scores = sample(2, 3, 6, 6).float()
    barred = torch.ones(6, 6, dtype=torch.bool).triu(1)
    rows = torch.tensor([0, 2, 5])

    values = score_statistics(Attention(scores=scores.masked_fill(barred, fill)), rows)

    allowed = torch.cat([scores[..., int(i), : int(i) + 1].flatten() for i in rows])
    entropies = []
    for i in (2, 5):  # row 0 has one key and no entropy to speak of
        p = scores[..., i, : i + 1].double().softmax(-1)
        entropies.append(-(p * p.log()).sum(-1) / math.log(i + 1))
    assert float(values["attn_score_std"]) == pytest.approx(
        float(allowed.std(correction=0)), rel=1e-5
    )
    assert float(values["attn_score_max"]) == float(allowed.max())
    expected = float(torch.stack(entropies).mean())
    assert float(values["attn_entropy"]) == pytest.approx(expected, rel=1e-5)


def test_scores_without_a_mask_are_all_allowed() -> None:
    scores = sample(1, 2, 4, 4).float()

    values = score_statistics(Attention(scores=scores), torch.arange(4))

    assert float(values["attn_score_std"]) == pytest.approx(
        float(scores.std(correction=0)), rel=1e-5
    )
