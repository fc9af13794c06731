# ruff: noqa: D102 # small methods are documented by their class
"""What every weight of other people's decoders is for, from what the forward pass does with it."""

from fnmatch import fnmatchcase
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.foreign_models import FF, FOREIGN, Attention, C, Decoder, T, V, reading
from support.graphs import Layer, graph_of
from torch import nn

from gptinit.forward.blocks import stream_width
from gptinit.forward.observe import observe
from gptinit.forward.roles import WeightUse, _added_tables, _lookups, weight_uses
from gptinit.trace.record.tracing import trace

# Pattern of a name to (role, (fan_in, fan_out), whether it writes to the stream); first match.
EXPECTED: dict[str, tuple[str, tuple[int, int] | None, bool | None]] = {
    "*wte.weight": ("tok_emb", (C, V), False),
    "embed_tokens.weight": ("tok_emb", (C, V), False),
    "wpe.weight": ("pos_emb", (C, T), False),
    "pos": ("pos_emb", (C, T), False),
    "*.c_attn.weight": ("qkv", (C, 3 * C), False),
    "*.in_proj_weight": ("qkv", (C, 3 * C), False),
    "*.out_proj.weight": ("attn_out", (C, C), True),
    "*.wq.weight": ("q", (C, C), False),
    "*.wk.weight": ("k", (C, C), False),
    "*.wv.weight": ("v", (C, C), False),
    "*.q_proj.weight": ("q", (C, C), False),
    "*.k_proj.weight": ("k", (C, C // 2), False),
    "*.v_proj.weight": ("v", (C, C // 2), False),
    "*.attn.c_proj.weight": ("attn_out", (C, C), True),
    "*.wo.weight": ("attn_out", (C, C), True),
    "*.o_proj.weight": ("attn_out", (C, C), True),
    "*.c_fc.weight": ("mlp_up", (C, FF), False),
    "*.up_proj.weight": ("mlp_up", (C, FF), False),
    "*.mlp.up": ("mlp_up", (C, FF), False),
    "*.gate_proj.weight": ("mlp_gate", (C, FF), False),
    "*.mlp.c_proj.weight": ("mlp_down", (FF, C), True),
    "*.down_proj.weight": ("mlp_down", (FF, C), True),
    "*.mlp.down": ("mlp_down", (FF, C), True),
    "*.router.weight": ("other", (C, 2), False),
    "lm_head.weight": ("lm_head", (C, V), False),
    "lm_head.bias": ("linear_bias", (C, V), None),
    "*.gamma": ("other", None, None),
    "*.lambdas": ("other", None, None),
    "resid": ("other", None, None),
    "first": ("other", None, None),
    "*ln_?.weight": ("norm_weight", None, False),
    "*post_?.weight": ("norm_weight", None, True),  # it closes a branch
    "*norm.weight": ("norm_weight", None, False),
    "*ln_?.bias": ("norm_bias", None, None),
    "*post_?.bias": ("norm_bias", None, None),
    "*.c_attn.bias": ("linear_bias", (C, 3 * C), None),
    "*.c_fc.bias": ("linear_bias", (C, FF), None),
    "*.attn.c_proj.bias": ("linear_bias", (C, C), None),
    "*.mlp.c_proj.bias": ("linear_bias", (FF, C), None),
    "*.in_proj_bias": ("linear_bias", None, None),  # its matrix is called otherwise
    "*.out_proj.bias": ("linear_bias", (C, C), None),
    "*.w?.bias": ("linear_bias", (C, C), None),
}
"""Names differ between the models; what a name stands for does not."""


@pytest.mark.parametrize("name", FOREIGN)
def test_every_weight_of_every_model_has_its_role_fans_and_place(name: str) -> None:
    parameters = reading(name).program.parameters

    for p in parameters:
        fans = None if p.fan_in is None or p.fan_out is None else (p.fan_in, p.fan_out)
        role, expected_fans, writes = next(
            e for pattern, e in EXPECTED.items() if fnmatchcase(p.name, pattern)
        )
        assert (p.name, p.role, fans) == (p.name, role, expected_fans)
        if writes is not None:
            assert (p.name, p.writes_stream) == (p.name, writes)
        assert p.layer == (
            int(p.name.split(".")[1]) if p.name.startswith(("h.", "layers.")) else None
        )


def uses_of(build: Any) -> dict[str, WeightUse]:
    """The uses of the weights of a model that has none of the usual names."""
    seen = observe(trace(build))
    return weight_uses(seen.graph, seen.ids, stream_width(seen))


@pytest.mark.parametrize("name", ["tied by use", "tied"])
def test_a_tied_weight_plays_both_roles(name: str) -> None:
    found = reading(name)
    assert found.seen is not None

    uses = weight_uses(found.seen.graph, found.seen.ids, C)

    assert uses["wte.weight"].roles == ("tok_emb", "lm_head")


class Nameless(nn.Module):
    """A decoder whose names say nothing, or lie."""

    def __init__(self) -> None:
        super().__init__()
        self.lm_head = nn.Embedding(V, C)  # really the embedding
        self.a = nn.ModuleList(NamelessBlock() for _ in range(2))
        self.wte = nn.Linear(C, V, bias=False)  # really the head

    def forward(self, ids: Any) -> Any:
        x = self.lm_head(ids)
        for block in self.a:
            x = block(x)
        return self.wte(x)


class NamelessBlock(nn.Module):
    """k is called q, the output is called up, and the gate comes second."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.up = (nn.Linear(C, C, bias=False) for _ in range(4))
        self.one, self.two = nn.Linear(C, FF, bias=False), nn.Linear(C, FF, bias=False)
        self.three = nn.Parameter(nn.init.normal_(nn.Linear(C, FF).weight.detach()))  # (F, C)

    def forward(self, x: Any) -> Any:
        q, k, v = (m(x).unflatten(-1, (2, -1)).transpose(1, 2) for m in (self.k, self.q, self.v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.up(y.transpose(1, 2).flatten(2))
        return x + (self.one(x) * F.silu(self.two(x))) @ self.three


def test_the_flow_of_data_comes_before_names_that_lie() -> None:
    found = {n: (u.roles[0], u.fan_in, u.fan_out) for n, u in uses_of(Nameless).items()}

    assert found["lm_head.weight"][0] == "tok_emb"
    assert found["wte.weight"] == ("lm_head", C, V)
    assert found["a.0.k.weight"][0] == "q"
    assert found["a.0.q.weight"][0] == "k"
    assert found["a.0.v.weight"][0] == "v"
    assert found["a.1.up.weight"] == ("attn_out", C, C)
    assert found["a.1.one.weight"] == ("mlp_up", C, FF)
    assert found["a.1.two.weight"] == ("mlp_gate", C, FF)
    # Used as x @ three: stored (F, C), so its fans are not those of an nn.Linear of that shape.
    assert found["a.1.three"] == ("mlp_down", FF, C)


class PlainBranch(Decoder):
    """A branch that is one matrix, and a recurrence."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.into, self.out = (nn.Linear(C, C, bias=False) for _ in range(3))

    def forward(self, ids: Any) -> Any:
        x = self.stream(ids)
        x = x + self.plain(x)
        x = x + self.out(F.silu(self.into(x)).cumsum(1))
        return self.lm_head(self.ln_f(x))


def test_a_plain_product_and_a_recurrence_are_no_mlp() -> None:
    uses = uses_of(PlainBranch)

    assert uses["plain.weight"].roles == ("other",)
    assert uses["plain.weight"].writes_stream
    assert uses["out.weight"].roles == ("other",)
    assert uses["h.0.mlp.c_proj.weight"].roles == ("mlp_down",)


class Pointing(Decoder):
    """RWKV v1: a head, and queries and keys that point at the tokens so far."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(C, 8), nn.Linear(C, 8)

    def forward(self, ids: Any) -> Any:
        x = self.ln_f(self.stream(ids))
        copied = (self.query(x) @ self.key(x).mT).tril() @ F.one_hot(ids, V).float()
        return self.lm_head(x) + copied


def test_what_points_at_earlier_tokens_is_no_head() -> None:
    uses = uses_of(Pointing)

    assert uses["lm_head.weight"].roles == ("lm_head",)
    assert uses["query.weight"].roles == uses["key.weight"].roles == ("other",)


class OnlyQueries(Attention):
    """Keys are the values: one matrix for both."""

    def __init__(self) -> None:
        super().__init__()
        del self.c_attn
        self.query, self.both = nn.Linear(C, C), nn.Linear(C, C)

    def forward(self, x: Any) -> Any:
        q, k = (m(x).unflatten(-1, (2, -1)).transpose(1, 2) for m in (self.query, self.both))
        y = F.scaled_dot_product_attention(q, k, k, is_causal=True)
        return self.c_proj(y.transpose(1, 2).flatten(2))


def test_a_matrix_for_two_sides_of_attention_is_a_fused_one() -> None:
    class Model(Decoder):
        def __init__(self) -> None:
            super().__init__()
            for block in self.h.children():
                block.attn = OnlyQueries()

    uses = uses_of(Model)

    assert uses["h.0.attn.query.weight"].roles == ("q",)
    assert uses["h.0.attn.both.weight"].roles == ("qkv",)


def of_graph(find: Any, use: Any, ids: tuple[int, ...] = (3, 1, 4, 0)) -> list[Any]:
    """What is found in the pass of a layer, but for the lookup of its tokens."""
    graph = graph_of(lambda: Layer(use), ids)
    return [found for found in find(graph, torch.tensor(ids)) if found != ("wte.weight", "tok_emb")]


@pytest.mark.parametrize(
    ("use", "ids", "found"),
    [
        (lambda x, w, _: x + F.embedding(torch.tensor([0, 1, 2, 3]), w), (3, 1, 4, 0), "pos_emb"),
        (lambda x, w, _: x + w[torch.tensor([1, 2, 3, 4])], (3, 1, 4, 0), "pos_emb"),
        (lambda x, w, _: x + w.index_select(0, torch.tensor([0, 1])), (3, 1), "pos_emb"),
        (lambda x, w, _: x + w[torch.tensor([1, 0, 2, 3])], (3, 1, 4, 0), None),
        (lambda x, w, _: x + w[torch.tensor([0, 2, 4])], (3, 1, 4), None),
        (lambda x, w, _: x + w[torch.tensor([0])], (3,), None),
        (lambda x, w, _: x + w[torch.tensor([3, 1, 4, 0])], (3, 1, 4, 0), "tok_emb"),
        (lambda x, w, _: x + w[torch.tensor([[3], [1]])][:, 0], (3, 1), "tok_emb"),
    ],
    ids=["embedding", "index", "two", "mixed", "apart", "one", "tokens", "tokens in a column"],
)
def test_a_table_is_for_what_it_is_looked_up_by(
    use: Any, ids: tuple[int, ...], found: str | None
) -> None:
    assert of_graph(lambda graph, its: _lookups(graph, its, outside=-1), use, ids) == (
        [] if found is None else [("up.weight", found)]
    )


@pytest.mark.parametrize(
    ("use", "ids", "found"),
    [
        (lambda x, w, _: x + w, (3, 1, 4, 0, 2, 1), "up.weight"),
        (lambda x, w, _: x + w[:4], (3, 1, 4, 0), "up.weight"),
        (lambda x, w, _: x * w, (3, 1, 4, 0, 2, 1), None),
        (lambda x, w, _: x * (w + w), (3, 1, 4, 0, 2, 1), None),
        (lambda x, _, b: x + b, (3, 1, 4, 0), None),
        (lambda x, _, b: x + b, (3,), None),  # a bias of one token is as large as it
    ],
    ids=["whole", "rows", "product", "sum of weights", "bias", "bias of one token"],
)
def test_a_table_of_all_positions_may_be_added_as_it_is(
    use: Any, ids: tuple[int, ...], found: str | None
) -> None:
    told = of_graph(lambda graph, _: _added_tables(graph), use, ids)

    assert told == ([] if found is None else [(found, "pos_emb")])
