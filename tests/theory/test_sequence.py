"""Two blocks on a single token, where everything that is added and sent back is a number."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from gptinit.theory.model import LayerMoments, Moments, TheoryModel
from gptinit.theory.sequence import SequencePlaces, embedded, follow

C, FF = 64, 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Adds:
    """What the branches of one block add to E|x|^2 / C: attention, its output's bias, the MLP."""

    attn: float
    bias: float
    mlp: float


FIRST, SECOND = Adds(attn=3, bias=6, mlp=5), Adds(attn=15, bias=15, mlp=30)


def drawn(variance: float) -> Moments:
    """Weights around 0."""
    return Moments(0.0, math.sqrt(variance))


def block(adds: Adds, attn_multiplier: float, mlp_multiplier: float) -> LayerMoments:
    """With C var(v) = 1, C var(up) = 2 and a ReLU, which leaves half of that."""
    nothing = Moments()
    return LayerMoments(
        q=nothing,
        k=nothing,
        v=drawn(1 / C),
        attn_out=drawn(adds.attn / C / attn_multiplier**2),
        attn_out_bias=drawn(adds.bias / attn_multiplier**2),
        mlp_up=drawn(2 / C),
        mlp_down=drawn(adds.mlp / FF / mlp_multiplier**2),
    )


def model(**changes: Any) -> TheoryModel:
    """Blocks that add FIRST and SECOND to a stream of square 1."""
    factors = [changes.get(f"{branch}_multiplier", 1.0) for branch in ("attn", "mlp")]
    plain = TheoryModel(
        n_layer=2, n_head=4, n_kv_head=4, head_dim=C // 4, n_embd=C, d_ff=FF, vocab_size=97,
        layers=tuple(block(adds, *factors) for adds in (FIRST, SECOND)), tok_emb=drawn(1.0),
        lm_head=drawn(1 / C), activation="relu", norm_eps=0.0, positions="none",
    )  # fmt: skip
    return replace(plain, **changes)


def followed(of: TheoryModel) -> SequencePlaces:
    """Its statistics on one token."""
    return follow(of, np.array([3, 5]), grad=True, lens_rows=16, query_rows=1)


ARRANGEMENTS = [
    {},
    {"parallel": True},
    {"attn_multiplier": 2.0, "mlp_multiplier": 0.5},
    {"parallel": True, "attn_multiplier": 0.5, "mlp_multiplier": 4.0},
]


@pytest.mark.parametrize("changes", ARRANGEMENTS, ids=str)
def test_a_stream_grows_by_what_both_branches_of_each_block_add(changes: dict[str, Any]) -> None:
    places = followed(model(**changes))

    # Of numbers of mean square s over 64 channels 1/64 is the square of their mean.
    share = 1 - 1 / C
    assert places.embedding["resid_var"] == pytest.approx(share)
    found = [
        [layer[stat] / share for stat in ("attn_var", "mlp_var", "resid_var")]
        for layer in places.layers
    ]
    assert found[0] == pytest.approx([3 + 6, 5, 1 + 9 + 5], rel=1e-3)
    assert found[1] == pytest.approx([15 + 15, 30, 15 + 30 + 30], rel=1e-3)


@pytest.mark.parametrize("changes", ARRANGEMENTS, ids=str)
def test_a_gradient_grows_by_what_each_branch_sends_back(changes: dict[str, Any]) -> None:
    """A bias sends nothing back, and a branch what it adds without it over the square it read."""
    places = followed(model(**changes))

    last, middle, first = (
        place["grad_rms"] ** 2 for place in (*places.layers[::-1], places.embedding)
    )
    if changes.get("parallel"):  # both branches read one stream, of square 1 and 15
        growth = [1 + 3 / 1 + 5 / 1, 1 + 15 / 15 + 30 / 15]
    else:  # the MLP reads what attention left: 1 + 9 and 15 + 30
        growth = [(1 + 3 / 1) * (1 + 5 / 10), (1 + 15 / 15) * (1 + 30 / 45)]
    assert first / middle == pytest.approx(growth[0], rel=1e-3)
    assert middle / last == pytest.approx(growth[1], rel=1e-3)


def test_a_block_of_other_weights_is_computed_though_the_stream_hardly_grew() -> None:
    small, large = (block(a, 1.0, 1.0) for a in (Adds(attn=0, bias=0, mlp=0.001), SECOND))

    places = followed(model(layers=(small, large)))

    added = [layer["mlp_var"] / (1 - 1 / C) for layer in places.layers]
    assert added == pytest.approx([0.001, 30], rel=1e-3)


@pytest.mark.parametrize(
    ("parallel", "norms", "mlp"),
    [
        (False, {"attn_norm_weight": Moments(2.0)}, 5),
        (False, {"mlp_norm_weight": Moments(2.0)}, 20),
        (True, {"attn_norm_weight": Moments(2.0)}, 20),
        (True, {"mlp_norm_weight": Moments(2.0)}, 5),
    ],
)
def test_parallel_branches_read_one_norm(
    parallel: bool, norms: dict[str, Moments], mlp: float
) -> None:
    plain = model(parallel=parallel)
    layers = tuple(replace(layer, **norms) for layer in plain.layers)

    places = followed(replace(plain, layers=layers))

    assert places.layers[0]["mlp_var"] == pytest.approx(mlp * (1 - 1 / C), rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "square"),
    [
        ({"positions": "none"}, 1.0),
        ({"positions": "rotary", "pos_emb": drawn(0.5)}, 1.0),
        ({"positions": "none", "embedding_multiplier": 3.0}, 9.0),
    ],
)
def test_equal_tokens_share_their_embedding(changes: dict[str, Any], square: float) -> None:
    K = embedded(model(**changes), np.array([3, 5, 3]))

    assert pytest.approx(square * np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]])) == K


def test_positions_are_added_to_the_embedding_each_on_its_own() -> None:
    learned = model(positions="learned", pos_emb=drawn(0.5), embedding_multiplier=2.0)

    K = embedded(learned, np.array([3, 5, 3]))

    assert pytest.approx(np.array([[4.5, 0, 4], [0, 4.5, 0], [4, 0, 4.5]])) == K
