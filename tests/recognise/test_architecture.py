# ruff: noqa: D102 # small methods are documented by their class
"""What a model does between its matrices is read for theory, or refused: never guessed."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.foreign_models import (
    FOREIGN,
    MLP,
    NH,
    Block,
    C,
    Decoder,
    L,
    RotaryAttention,
    T,
    V,
)
from support.recognised import model_of, scores_of, softmax, subject_of, with_attention
from torch import nn

from gptinit.api.prediction import theory_of
from gptinit.recognise.architecture import Forwarding
from gptinit.results.profile import Note
from gptinit.theory import TheoryModel


def with_activation(act: Callable[[Any], Any]) -> type[Decoder]:
    """The pre-norm decoder with another activation."""

    class Other(MLP):
        def forward(self, x: Any) -> Any:
            return self.c_proj(act(self.c_fc(x)))

    class Model(Decoder):
        block = staticmethod(lambda: Block(mlp=Other))

    return Model


ODD: dict[str, tuple[type[Decoder], str]] = {
    "scores with a cap": (
        with_attention(lambda q, k, v: softmax(20 * torch.tanh(scores_of(q, k) / 20), v)),
        "more than a softmax",
    ),
    "alibi": (
        with_attention(lambda q, k, v: softmax(scores_of(q, k) + torch.arange(k.shape[2]), v)),
        "more than a softmax",
    ),
    "no mask": (
        with_attention(lambda q, k, v: F.scaled_dot_product_attention(q, k, v)),
        "more than a softmax",
    ),
    "window of four": (
        with_attention(lambda q, k, v: softmax(scores_of(q, k), v, window=4)),
        "more than a softmax",
    ),
    "sink": (
        with_attention(
            lambda q, k, v: (
                F.pad(
                    scores_of(q, k).masked_fill(
                        torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).triu(1), -math.inf
                    ),
                    (1, 0),
                ).softmax(-1)[..., 1:]
                @ v
            )
        ),
        "more than a softmax",
    ),
    "unit queries": (
        with_attention(
            lambda q, k, v: F.scaled_dot_product_attention(
                F.normalize(q, dim=-1), F.normalize(k, dim=-1), v, is_causal=True
            )
        ),
        "queries, keys and values are not just the outputs of their matrices",
    ),
    "clipped queries": (
        with_attention(
            lambda q, k, v: F.scaled_dot_product_attention(q.clamp(-8, 8), k, v, is_causal=True)
        ),
        "heads",
    ),
    "gated by its own values": (
        with_attention(
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True) * v.sigmoid()
        ),
        "more than a softmax",
    ),
    "values of the token before": (
        with_attention(
            lambda q, k, v: F.scaled_dot_product_attention(
                q, k, F.pad(v, (0, 0, 1, 0))[:, :, :-1], is_causal=True
            )
        ),
        "queries, keys and values are not just the outputs of their matrices",
    ),
    "an activation of its own": (
        with_activation(lambda h: h * torch.sigmoid(1.702 * h)),
        "no formula covers what its MLP does to hidden units",
    ),
    "clipped hidden units": (with_activation(lambda h: F.gelu(h.clamp(max=7))), "hidden units"),
}


class OwnNorms(Block):
    """Norms of its own: the second's parameters are made first, with one multiplied by a number."""

    weights: tuple[float | None, float | None] = 1.0, 1.0

    def __init__(self) -> None:
        super().__init__()
        del self.ln_1, self.ln_2
        self.ln_2, self.ln_1 = (
            nn.LayerNorm(C, elementwise_affine=w is not None) for w in self.weights
        )
        for norm, weight in zip((self.ln_2, self.ln_1), self.weights, strict=True):
            if weight is not None:
                nn.init.constant_(norm.weight, weight)


def with_norms(second: float | None, first: float | None) -> type[Decoder]:
    class Own(OwnNorms):
        weights = second, first

    class Model(Decoder):
        block = Own

    return Model


class OnePlus(nn.Module):
    """An RMSNorm that multiplies by 1 + weight."""

    std = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(C))
        nn.init.normal_(self.weight, std=self.std)

    def forward(self, x: Any) -> Any:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * (1 + self.weight)


class SpreadOnePlus(OnePlus):
    """The same with a weight that is drawn."""

    std = 0.5


def with_embedding(embed: Callable[[Any, Any], Any], *unused: str) -> type[Decoder]:
    class Model(Decoder):
        def __init__(self) -> None:
            super().__init__()
            self.more, self.table = nn.Embedding(V, C), nn.Parameter(torch.randn(T, C))
            for name in unused:
                delattr(self, name)

        def embed(self, ids: Any) -> Any:
            return embed(self, ids)

    return Model


class LateBias(MLP):
    """The bias of its last matrix is added after a multiplication."""

    def forward(self, x: Any) -> Any:
        return F.linear(F.gelu(self.c_fc(x)), self.c_proj.weight) * 0.5 + self.c_proj.bias


def positions(ids: Any) -> Any:
    return torch.arange(ids.shape[1])


ODD |= {
    "one norm without a weight": (with_norms(None, 1.0), "only one of a block's norms has"),
    "the other norm without one": (with_norms(1.0, None), "only one of a block's norms has"),
    "norms in another order": (with_norms(0.5, 1.0), "order of its norms"),
    "tokens twice": (
        with_embedding(lambda m, ids: m.wte(ids) + m.wpe(positions(ids)) + m.more(ids)),
        "embeds more than tokens and positions",
    ),
    "positions backwards": (
        with_embedding(lambda m, ids: m.wte(ids) + m.wpe(positions(ids).flip(0))),
        "embeds more than tokens and positions",
    ),
    "tokens backwards": (
        with_embedding(lambda m, ids: m.wte(ids.flip(1)) + m.wpe(positions(ids))),
        "embeds more than tokens and positions",
    ),
    "one plus weights that are drawn": (
        type("Model", (Decoder,), {"block": staticmethod(lambda: Block(norm=SpreadOnePlus))}),
        "effect of this norm weight is not known",
    ),
    "a bias added late": (
        type("Model", (Decoder,), {"block": staticmethod(lambda: Block(mlp=LateBias))}),
        "this parameter has an effect that no formula covers",
    ),
    "two positions": (
        with_embedding(lambda m, ids: m.wte(ids) + m.wpe(positions(ids)) + m.table[: ids.shape[1]]),
        "several position embeddings",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_what_no_formula_covers_is_refused(name: str) -> None:
    build, why = ODD[name]

    theory = theory_of(subject_of(build))

    assert isinstance(theory, Note)
    assert theory.kind == "theory-missing"
    assert why in theory.message


@pytest.mark.parametrize(
    "name",
    [
        "post-norm", "sandwich", "layer scale", "experts", "experts in one tensor", "shared",
        "shared post-norm", "soft cap",
    ],
)  # fmt: skip
def test_an_architecture_without_formulas_is_refused(name: str) -> None:
    assert isinstance(theory_of(subject_of(FOREIGN[name])), Note)


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("pre-norm", {"positions": "learned", "activation": "gelu", "norm_eps": 1e-5}),
        ("eager", {"n_head": NH, "n_kv_head": NH, "head_dim": C // NH, "parallel": False}),
        ("in place", {"parallel": False, "attn_multiplier": 1.0}),
        ("parallel", {"parallel": True}),
        ("summed parallel", {"parallel": True}),
        ("positions as parameter", {"positions": "learned"}),
        ("tied by use", {"tied": True}),
        ("head with bias", {"tied": False}),
        ("last position", {"logit_multiplier": 1.0}),
    ],
)
def test_what_parameters_do_not_show_is_read(name: str, facts: dict[str, object]) -> None:
    theory = model_of(FOREIGN[name])

    assert {key: getattr(theory, key) for key in facts} == facts


def test_multipliers_of_branches_and_logits_are_read() -> None:
    class Loud(Decoder):
        def embed(self, ids: Any) -> Any:
            return 3.0 * self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))

        def forward(self, ids: Any) -> Any:
            return self.lm_head(self.ln_f(self.stream(ids)) / 4) * 2

    class Quiet(Block):
        def forward(self, x: Any) -> Any:
            x = x + 0.5 * self.attn(self.ln_1(x))
            return x + self.mlp(self.ln_2(x)) * 0.25

    Loud.block = Quiet
    theory = model_of(Loud)

    assert (theory.attn_multiplier, theory.mlp_multiplier) == pytest.approx((0.5, 0.25))
    assert (theory.embedding_multiplier, theory.logit_multiplier) == pytest.approx((3.0, 0.5))


def test_angles_are_read_whatever_the_code_that_turns() -> None:
    theory = model_of(FOREIGN["llama"])

    # By position times 1, 1/10, 1/100, 1/1000: head_dim is 8.
    assert theory.rotary_angles == pytest.approx([10.0**-i for i in range(3, -1, -1)], rel=1e-5)
    assert (theory.positions, theory.n_kv_head, theory.gated) == ("rotary", 1, True)
    assert theory.norm == "rmsnorm"
    assert theory.norm_eps == pytest.approx(1e-6)


@pytest.mark.parametrize(
    ("build", "gain"),
    [
        (with_norms(1.0, 1.0), 1.0),
        (with_norms(0.5, 0.5), 0.5),
        (with_norms(None, None), 1.0),
        (
            type(
                "Model",
                (Decoder,),
                {"block": staticmethod(lambda: Block(norm=OnePlus)), "norm": OnePlus},
            ),
            1.0,
        ),
    ],
    ids=["of ones", "of halves", "without weights", "one plus"],
)
def test_norms_that_act_alike_may_be_made_in_any_order(build: type[Decoder], gain: float) -> None:
    for layer in model_of(build).layers:
        assert layer.attn_norm_weight.mean == layer.mlp_norm_weight.mean == pytest.approx(gain)
        assert layer.attn_norm_weight.std == layer.mlp_norm_weight.std == pytest.approx(0)


@pytest.mark.parametrize(
    ("embed", "unused", "positions"),
    [
        (lambda m, ids: m.wte(ids), ("more", "table", "wpe"), "none"),
        (lambda m, ids: m.wte(ids) + m.table[: ids.shape[1]], ("more", "wpe"), "learned"),
    ],
    ids=["none", "table"],
)
def test_positions_are_none_or_one_table(
    embed: Any, unused: tuple[str, ...], positions: str
) -> None:
    assert model_of(with_embedding(embed, *unused)).positions == positions


def test_turned_queries_and_still_keys_are_refused() -> None:
    class Half(RotaryAttention):
        def forward(self, x: Any) -> Any:
            q = (
                self.q_proj(x).unflatten(-1, (NH, -1)).transpose(1, 2)
                * torch.arange(1, x.shape[1] + 1)[:, None]
            )
            k, v = (p(x)[:, None].expand_as(q) for p in (self.k_proj, self.v_proj))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.o_proj(y.transpose(1, 2).flatten(2))

    class Model(Decoder):
        block = staticmethod(lambda: Block(attn=Half))

    theory = theory_of(subject_of(Model))

    assert isinstance(theory, Note)
    assert "rotated differently" in theory.message


@pytest.mark.parametrize("window", [12, 13])
def test_a_window_limits_the_tokens_that_are_predicted(window: int) -> None:
    subject = subject_of(with_attention(lambda q, k, v: softmax(scores_of(q, k), v, window=window)))

    assert isinstance(theory_of(subject), TheoryModel)
    assert isinstance(subject.recognised, Forwarding)
    # Of 24, 12 and 6: the most that a window of 12 leaves.
    assert subject.recognised.tokens == T // 2


def test_what_a_model_keeps_of_a_longer_pass_is_put_back() -> None:
    class Keeping(Decoder):
        def __init__(self) -> None:
            super().__init__()
            self.longest = 0
            self.register_buffer("scale", torch.ones(1))

        def embed(self, ids: Any) -> Any:
            if ids.shape[1] > max(self.longest, 8):
                self.longest = ids.shape[1]
                self.scale = torch.full((1,), 2.0)
            return self.wte(ids) * self.scale + self.wpe(torch.arange(ids.shape[1]))

    subject = subject_of(Keeping)
    module: Any = subject.build()

    assert isinstance(theory_of(subject), TheoryModel)
    assert (module.longest, float(module.scale)) == (0, 1.0)
    assert isinstance(subject.recognised, Forwarding)
    assert subject.recognised.tokens == 8  # with more, embeddings are multiplied by two


def test_without_a_window_all_positions_are_predicted() -> None:
    recognised = subject_of(Decoder).recognised

    assert isinstance(recognised, Forwarding)
    assert recognised.tokens == T


def test_a_row_of_padding_is_known_and_not_part_of_the_moments() -> None:
    class Padded(Decoder):
        def __init__(self) -> None:
            super().__init__()
            with torch.no_grad():
                self.wte.weight[2] = 0

    theory = model_of(Padded)

    assert theory.silent_tokens == {2}
    assert theory.tok_emb.std == pytest.approx(0.3)
    # The head is a matrix of its own.
    assert theory.lm_head.std == pytest.approx(0.3)
    assert theory.vocab_size == V
    assert len(theory.layers) == L
