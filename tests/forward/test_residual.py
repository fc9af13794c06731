# ruff: noqa: D102 # small methods are documented by their class
"""Additions to the stream are told from all others, and what they add is traced to its matrix."""

from typing import Any

import pytest
import torch
from support.foreign_models import FOREIGN, MLP, Block, C, Decoder, L, V, reading
from torch import nn

from gptinit.forward.blocks import stream_width
from gptinit.forward.observe import Observation, observe
from gptinit.forward.residual import additions
from gptinit.forward.roles import weight_uses
from gptinit.trace.record.tracing import trace


def observed(name: str) -> Observation:
    """The pass of a model of FOREIGN."""
    seen = reading(name).seen
    assert seen is not None
    return seen


EXPERTS = {
    "experts": ["h.{}.mlp.experts.0.down_proj.weight", "h.{}.mlp.experts.1.down_proj.weight"],
    "experts in one tensor": ["h.{}.mlp.down"],
}
OUT = {
    "llama": ["layers.{}.self_attn.o_proj.weight", "layers.{}.mlp.down_proj.weight"],
    "eager": ["h.{}.attn.wo.weight", "h.{}.mlp.c_proj.weight"],
    **{name: ["h.{}.attn.c_proj.weight", *downs] for name, downs in EXPERTS.items()},
    "slices in inference mode": ["h.{}.attn.wo.weight", "h.{}.mlp.c_proj.weight"],
    "torch's attention": ["h.{}.attn.inner.out_proj.weight", "h.{}.mlp.c_proj.weight"],
    "one MLP": ["h.{}.attn.c_proj.weight", "h.0.mlp.c_proj.weight"],
}
USUAL = ["h.{}.attn.c_proj.weight", "h.{}.mlp.c_proj.weight"]


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_added_comes_from_the_output_matrices_in_order(name: str) -> None:
    decoder = reading(name).decoder
    assert decoder is not None
    layers = [0] * L if name.startswith("shared") else range(L)

    written = [sorted(w.weight for w in a.writers) for a in decoder.chain]

    flat = [w for group in written for w in group]
    assert flat == [pattern.format(i) for i in layers for pattern in OUT.get(name, USUAL)]


@pytest.mark.parametrize("name", FOREIGN)
def test_the_stream_of_each_addition_is_behind_it(name: str) -> None:
    graph = observed(name).graph

    for addition in additions(graph, C):
        assert graph.ancestors[addition.vertex] >> addition.stream & 1
        assert graph.ancestors[addition.vertex] >> addition.branch & 1


class Odd(nn.Module):
    """One addition, made by `add(x, branch)`."""

    def __init__(self, add: Any) -> None:
        super().__init__()
        self.wte, self.up, self.head = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9)
        self.add = add

    def forward(self, ids: Any) -> Any:
        x = self.wte(ids)
        return self.head(self.add(x, self.up(x).relu() @ self.up.weight))


ADDS = {
    "stream first": lambda x, y: x + y,
    "branch first": lambda x, y: y + x,
    "torch.add": lambda x, y: torch.add(x, y, alpha=2),
    "in place on the branch": lambda x, y: y.add_(x),
    "a scaled stream": lambda x, y: x * 0.5 + y,
    "a divided stream": lambda x, y: x / 2 + y,
    "a divided stream behind the branch": lambda x, y: y + x / 2,
    "a cast stream": lambda x, y: x.double() + y,
    "a copied stream": lambda x, y: x.clone() + y,
    "a scaled, cast, copied and divided stream": lambda x, y: (2 * x).double().clone() / 3 + y,
    "a scaled branch": lambda x, y: x + y / 2,
    "a cast branch": lambda x, y: x + y.double(),
    "a copied branch": lambda x, y: x + y.clone(),
    "both scaled": lambda x, y: x / 2 + 0.5 * y,
}


@pytest.mark.parametrize("how", ADDS)
def test_the_stream_is_what_the_branch_was_computed_from(how: str) -> None:
    seen = observe(trace(lambda: Odd(ADDS[how])))
    graph = seen.graph
    embedding = next(v.index for v in graph.vertices if v.name == "embedding")

    (addition,) = additions(graph, 4)

    assert addition.stream == embedding
    assert [w.weight for w in addition.writers] == ["up.weight"]


class Three(nn.Module):
    """Three branches that start from one norm of the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.wte, self.ln, self.head = nn.Embedding(9, 4), nn.LayerNorm(4), nn.Linear(4, 9)
        self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))

    def forward(self, ids: Any) -> Any:
        x = self.wte(ids)
        h = self.ln(x)
        return self.head(x + self.a(h) + self.b(h) + self.c(h))


def test_three_parallel_branches_are_three_additions_to_the_stream() -> None:
    graph = observe(trace(Three)).graph

    found = additions(graph, 4)

    assert [[w.weight for w in a.writers] for a in found] == [
        ["a.weight"],
        ["b.weight"],
        ["c.weight"],
    ]


def test_sums_of_two_states_of_the_stream_are_no_additions_to_it() -> None:
    for name in ("mixed back", "mixed inside"):
        graph = observed(name).graph
        found = [w.weight for a in additions(graph, C) for w in a.writers]
        assert found == [
            f"h.{i}.{part}.c_proj.weight" for i in range(L) for part in ("attn", "mlp")
        ]


@pytest.mark.parametrize(
    "add",
    [
        lambda x, y: y,
        lambda x, y: y + 1.0,
        lambda x, y: torch.cat([x, y], -1)[..., 2:6],
        lambda x, y: x.tanh() + y,
        lambda x, y: x * x + y,
        lambda x, y: x / x.sum(-1, keepdim=True) + y,
    ],
    ids=["none", "a number", "joined", "no multiple", "a square", "divided by its own sum"],
)
def test_what_adds_nothing_to_a_stream_has_no_addition(add: Any) -> None:
    assert additions(observe(trace(lambda: Odd(add))).graph, 4) == []


def test_embeddings_and_biases_are_no_additions_to_the_stream() -> None:
    graph = observed("pre-norm").graph

    assert len(additions(graph, C)) == 2 * L


def test_norm_multiplier_and_experts_are_crossed_on_the_way_to_the_matrix() -> None:
    for name in ("sandwich", "multiplier", "layer scale", "experts"):
        graph = observed(name).graph
        assert all(a.writers for a in additions(graph, C)), name


def test_an_addition_inside_a_branch_is_not_one_of_the_chain() -> None:
    class Inner(Decoder):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(C, C)

        def forward(self, ids: Any) -> Any:
            x = self.stream(ids)
            y = self.inner(x)
            return self.lm_head(self.ln_f(y + self.inner(y)))

    graph = observe(trace(Inner)).graph
    last = additions(graph, C)[-1]

    assert [w.weight for w in last.writers] == ["inner.weight"]


class Recurrence(nn.Module):
    """A state of two entries a channel, as of Mamba: one addition to it a position."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.keep, self.out = nn.Linear(C, 2), nn.Linear(C, 2), nn.Linear(2 * C, C)

    def forward(self, x: Any) -> Any:
        enter, keep = x[..., None] * self.into(x)[..., None, :], self.keep(x).sigmoid()
        states = [enter[:, 0]]
        for t in range(1, x.shape[1]):
            states.append(states[-1] * keep[:, t, None] + enter[:, t])
        return self.out(torch.stack(states, 1).flatten(2))


def test_steps_of_a_recurrence_are_not_taken_for_the_stream() -> None:
    class Model(Decoder):
        block = staticmethod(lambda: Block(attn=Recurrence))

    seen = observe(trace(Model))
    width = stream_width(seen)

    assert width == C
    written = [w.weight for a in additions(seen.graph, C) for w in a.writers]
    ends = ("attn.out.weight", "mlp.c_proj.weight")
    assert written == [f"h.{i}.{end}" for i in range(L) for end in ends]


class EarlierValues(nn.Module):
    """Attention whose values are mixed with those of a table, as wide as the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(C, C) for _ in range(4))

    def forward(self, x: Any, earlier: Any) -> Any:
        q, k, v = (m.unflatten(-1, (2, -1)).transpose(1, 2) for m in (
            self.q(x), self.k(x), 0.5 * self.v(x) + 0.5 * earlier,
        ))  # fmt: skip
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(y.transpose(1, 2).flatten(2))


class EarlierBlock(nn.Module):
    """Hands them on."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2, self.attn, self.mlp = (
            nn.LayerNorm(C), nn.LayerNorm(C), EarlierValues(), MLP(),
        )  # fmt: skip

    def forward(self, x: Any, earlier: Any) -> Any:
        x = x + self.attn(self.ln_1(x), earlier)
        return x + self.mlp(self.ln_2(x))


class ValueEmbedding(Decoder):
    """A table of tokens of which rows are values, as nanochat's value_embeds."""

    block = EarlierBlock

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Embedding(V, C)

    def forward(self, ids: Any) -> Any:
        x = self.embed(ids)
        for block in self.h:
            x = block(x, self.values(ids))
        return self.lm_head(self.ln_f(x))


def test_a_table_of_values_is_neither_an_embedding_nor_a_stream() -> None:
    seen = observe(trace(ValueEmbedding))

    written = [w.weight for a in additions(seen.graph, C) for w in a.writers]
    uses = weight_uses(seen.graph, seen.ids, C)

    ends = ("attn.o.weight", "mlp.c_proj.weight")
    assert written == [f"h.{i}.{end}" for i in range(L) for end in ends]
    assert uses["values.weight"].roles == ("other",)
    assert uses["wte.weight"].roles == ("tok_emb",)
    assert uses["h.1.attn.v.weight"].roles == ("v",)
    assert not uses["h.1.attn.v.weight"].writes_stream
