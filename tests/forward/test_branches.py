# ruff: noqa: D102 # a branch is documented by its name in BRANCHES
"""What the matrices of unusual branches are for: their true roles, or none, never wrong ones."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.foreign_models import FF, NH, Attention, Block, C, Decoder
from support.graphs import Layer, graph_of
from torch import Tensor, nn

from gptinit.forward.blocks import find_decoder, stream_width
from gptinit.forward.branches import _rows, fans_of, matrices_behind
from gptinit.forward.graph import Graph
from gptinit.forward.observe import observe
from gptinit.forward.roles import weight_uses
from gptinit.trace.record.tracing import trace


def linear(fan_in: int, fan_out: int) -> nn.Linear:
    return nn.Linear(fan_in, fan_out, bias=False)


def heads(x: Any) -> Any:
    """(B, T, nh hs) to (B, nh, T, hs)."""
    return x.unflatten(-1, (NH, -1)).transpose(1, 2)


def attended(q: Any, k: Any, v: Any) -> Any:
    y = F.scaled_dot_product_attention(heads(q), heads(k), heads(v), is_causal=True)
    return y.transpose(1, 2).flatten(2)


class Fused(nn.Module):
    """PaLM: one matrix makes queries, keys, values and hidden units of a gated MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.fused, self.attn_out, self.ff_out = (
            linear(C, 3 * C + 2 * FF), linear(C, C), linear(FF, C),
        )  # fmt: skip

    def forward(self, x: Any) -> Any:
        q, k, v, up, gate = self.fused(x).split((C, C, C, FF, FF), -1)
        return self.attn_out(attended(q, k, v)) + self.ff_out(F.silu(gate) * up)


class Latent(nn.Module):
    """Keys and values are made from a latent vector, and one part of the keys beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv_a = linear(C, C), linear(C, 4 + 4)
        self.kv_b, self.out = linear(4, C + C), linear(C, C)

    def forward(self, x: Any) -> Any:
        latent, rotary = self.kv_a(x).split((4, 4), -1)
        k, v = self.kv_b(latent).split((C, C), -1)
        k = torch.cat([heads(k)[..., :4], heads(rotary.repeat(1, 1, NH))], -1)
        y = F.scaled_dot_product_attention(heads(self.q(x)), k, heads(v), is_causal=True)
        return self.out(y.transpose(1, 2).flatten(2))


class GatedValues(nn.Module):
    """nanochat: a second vector, of tokens, enters the values through a gate for every head."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (linear(C, C) for _ in range(4))
        self.gate = linear(4, NH)
        nn.init.uniform_(self.gate.weight, 0.0, 0.02)

    def forward(self, x: Any) -> Any:
        share = 3 * torch.sigmoid(self.gate(x[..., :4])).repeat_interleave(C // NH, -1)
        return self.out(attended(self.q(x), self.k(x), self.v(x) + share * x))


class TimeMix(nn.Module):
    """RWKV: a sum over earlier positions, one position at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.receptance, self.key, self.value, self.output = (linear(C, C) for _ in range(4))
        self.time_mix_key = nn.Parameter(torch.full((C,), 0.5))

    def forward(self, x: Any) -> Any:
        k = self.key(x * self.time_mix_key + F.pad(x, (0, 0, 1, -1)) * (1 - self.time_mix_key))
        v, r = self.value(x), torch.sigmoid(self.receptance(x))
        above, below, out = torch.zeros_like(k[:, 0]), torch.ones_like(k[:, 0]), []
        for t in range(x.shape[1]):
            above = 0.9 * above + torch.exp(k[:, t]) * v[:, t]
            below = 0.9 * below + torch.exp(k[:, t])
            out.append(above / below)
        return self.output(r * torch.stack(out, 1))


class Retention(nn.Module):
    """RetNet: scores without a softmax, and a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.gate, self.out = (linear(C, C) for _ in range(5))

    def forward(self, x: Any) -> Any:
        q, k, v = heads(self.q(x)), heads(self.k(x)), heads(self.v(x))
        y = (q @ k.transpose(-1, -2)).tril() @ v
        return self.out(F.silu(self.gate(x)) * y.transpose(1, 2).flatten(2))


class Recurrence(nn.Module):
    """RG-LRU: a gated sum over positions beside a branch with an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.beside, self.decay, self.out = (linear(C, C) for _ in range(4))

    def forward(self, x: Any) -> Any:
        y, decay, state = self.into(x), torch.sigmoid(self.decay(x)), torch.zeros_like(x[:, 0])
        states = torch.empty_like(y)
        for t in range(x.shape[1]):
            state = decay[:, t] * state + y[:, t]
            states[:, t] = state
        return self.out(states * F.gelu(self.beside(x)))


class FeatureMap(nn.Module):
    """Linear attention: keys and values are summed over positions before queries meet them."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (linear(C, C) for _ in range(4))

    def forward(self, x: Any) -> Any:
        q, k = (F.elu(heads(m(x))) + 1 for m in (self.q, self.k))
        return self.out((q @ (k.transpose(-1, -2) @ heads(self.v(x)))).transpose(1, 2).flatten(2))


class XIELU(nn.Module):
    """Apertus: an activation that is a square on one side and an exponential on the other."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = linear(C, FF), linear(FF, C)
        self.alpha = nn.Parameter(torch.tensor(0.8))

    def forward(self, x: Any) -> Any:
        h = self.up(x)
        curve = torch.where(
            h > 0, self.alpha * h * h + 0.5 * h, (torch.expm1(h.clamp(max=0)) - h) * self.alpha
        )
        return self.down(curve)


class Squared(nn.Module):
    """Hidden units are squared by a product with themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = linear(C, FF), linear(FF, C)

    def forward(self, x: Any) -> Any:
        h = self.up(x)
        return self.down(h * h)


class Stacked(nn.Module):
    """Griffin's MLP: gate and up in one tensor of two matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.down = nn.Parameter(torch.randn(2, C, FF)), linear(FF, C)

    def forward(self, x: Any) -> Any:
        gate, up = torch.einsum("btc,scf->sbtf", x, self.both)
        return self.down(F.gelu(gate) * up)


class RoutedBefore(nn.Module):
    """Llama 4: an expert reads its input times the share that its router gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.router, self.up, self.down = linear(C, 1), linear(C, FF), linear(FF, C)

    def forward(self, x: Any) -> Any:
        return self.down(F.gelu(self.up(x)) * torch.sigmoid(self.router(x)))


class Picked(nn.Module):
    """gpt-oss: the matrices of two of three experts are picked, and their outputs multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.router = linear(C, 3)
        self.up = nn.ParameterDict({"weight": torch.randn(3, 2 * FF, C)})
        self.down = nn.ParameterDict({"weight": torch.randn(3, C, FF)})

    def forward(self, x: Any) -> Any:
        flat = x.flatten(0, 1)
        share, chosen = self.router(flat).topk(2)
        both = torch.einsum("kehc,kc->keh", self.up["weight"][chosen], flat)
        gate, up = both.chunk(2, -1)
        out = torch.einsum("kech,keh->kec", self.down["weight"][chosen], F.silu(gate) * up)
        return torch.einsum("kec,ke->kc", out, share.softmax(-1)).view_as(x)


BRANCHES: dict[str, tuple[Callable[[], nn.Module], dict[str, str]]] = {
    "fused": (Fused, {"fused": "other", "attn_out": "attn_out", "ff_out": "mlp_down"}),
    "latent": (Latent, {"q": "q", "kv_a": "other", "kv_b": "qkv", "out": "attn_out"}),
    "gated values": (
        GatedValues, {"q": "q", "k": "k", "v": "v", "gate": "other", "out": "attn_out"},
    ),
    "time mix": (
        TimeMix, dict.fromkeys(("receptance", "key", "value", "output"), "other"),
    ),
    "retention": (Retention, dict.fromkeys(("q", "k", "v", "gate", "out"), "other")),
    "recurrence": (Recurrence, dict.fromkeys(("into", "beside", "decay", "out"), "other")),
    "linear attention": (FeatureMap, dict.fromkeys(("q", "k", "v", "out"), "other")),
    "xIELU": (XIELU, {"up": "mlp_up", "down": "mlp_down"}),
    "squared": (Squared, {"up": "mlp_up", "down": "mlp_down"}),
    "stacked": (Stacked, {"down": "mlp_down"}),
    "picked": (Picked, {"router": "other", "up": "mlp_up", "down": "mlp_down"}),
    "routed before": (RoutedBefore, {"router": "other", "up": "mlp_up", "down": "mlp_down"}),
}  # fmt: skip


def with_branch(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """A decoder whose MLPs are another branch, beside attention as usual."""

    class Model(Decoder):
        block = staticmethod(lambda: Block(attn=Attention, mlp=make))

    return Model


@pytest.mark.parametrize("name", BRANCHES)
def test_defect_13_matrices_have_their_true_roles_or_none(name: str) -> None:
    make, expected = BRANCHES[name]
    seen = observe(trace(with_branch(make)))

    uses = weight_uses(seen.graph, seen.ids, stream_width(seen))

    found = {n: uses[f"h.1.mlp.{n}.weight"].roles[0] for n in expected}
    assert found == expected


def test_experts_that_are_picked_have_the_fans_of_one() -> None:
    seen = observe(trace(with_branch(Picked)))
    uses = weight_uses(seen.graph, seen.ids, stream_width(seen))

    fans = {n: (uses[n].fan_in, uses[n].fan_out) for n in uses if ".mlp." in n and "h.0" in n}
    assert fans["h.0.mlp.up.weight"] == (C, 2 * FF)
    assert fans["h.0.mlp.down.weight"] == (FF, C)


def test_defect_13_factors_of_a_mix_of_positions_are_no_weights_of_norms() -> None:
    seen = observe(trace(with_branch(TimeMix)))
    uses = weight_uses(seen.graph, seen.ids, stream_width(seen))

    assert "h.1.mlp.time_mix_key" not in uses
    assert uses["h.1.ln_2.weight"].roles == ("norm_weight",)


def test_defect_13_the_hidden_units_of_an_unusual_mlp_are_measured() -> None:
    seen = observe(trace(with_branch(XIELU)))

    assert all(s.mlp is not None for s in find_decoder(seen, stream_width(seen)).sites)


class FusedParallel(nn.Module):
    """PaLM's branches, added one after the other: the second starts before the first is added."""

    def __init__(self) -> None:
        super().__init__()
        self.ln, self.inner = nn.LayerNorm(C), Fused()

    def forward(self, x: Any) -> Any:
        fused = self.inner
        q, k, v, up, gate = fused.fused(self.ln(x)).split((C, C, C, FF, FF), -1)
        return x + fused.attn_out(attended(q, k, v)) + fused.ff_out(F.silu(gate) * up)


def test_parallel_branches_of_one_fused_matrix_have_their_roles_and_are_measured() -> None:
    class Model(Decoder):
        block = FusedParallel

    seen = observe(trace(Model))
    uses = weight_uses(seen.graph, seen.ids, stream_width(seen))

    roles = {n: uses[f"h.1.inner.{n}.weight"].roles for n in ("fused", "attn_out", "ff_out")}
    assert roles == {"fused": ("other",), "attn_out": ("attn_out",), "ff_out": ("mlp_down",)}
    for sites in find_decoder(seen, stream_width(seen)).sites:
        assert sites.attn is not None
        assert sites.mlp is not None


class TwoFacedBlock(Block):
    """A norm on what is read, and one on what is added."""

    def __init__(self) -> None:
        super().__init__()
        self.closing = nn.Parameter(torch.ones(C))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + F.rms_norm(self.mlp(self.ln_2(x)), (C,)) * self.closing


def test_a_norm_that_closes_a_branch_writes_to_the_stream() -> None:
    class Model(Decoder):
        block = TwoFacedBlock

    seen = observe(trace(Model))
    uses = weight_uses(seen.graph, seen.ids, stream_width(seen))

    assert uses["h.0.closing"].roles == ("norm_weight",)
    assert uses["h.0.closing"].writes_stream
    assert not uses["h.0.ln_2.weight"].writes_stream


def last_of(use: Any) -> tuple[Graph, int]:
    """The graph of a layer, and its last node."""
    graph = graph_of(lambda: Layer(use))
    assert graph.last is not None
    return graph, graph.last


@pytest.mark.parametrize(
    ("use", "fans"),
    [
        (lambda x, w, _: F.linear(x, w[:4]), (6, 4)),
        (lambda x, w, _: x @ w[:, :4], (6, 4)),
        (lambda x, w, _: w[:4] @ x[0].T, (6, 4)),
        (lambda x, w, _: torch.bmm(x, w[:, :4].unsqueeze(0)), (6, 4)),
        (lambda x, w, _: torch.bmm(w[:4].unsqueeze(0), x.mT), (6, 4)),
        (lambda x, w, b: torch.addmm(b[:4], x[0], w[:, :4]), (6, 4)),
        (lambda x, w, _: torch.mv(x[0], w[0]), None),
        (lambda x, w, _: (w @ w)[:4] * x, None),
    ],
    ids=["linear", "right", "left", "batch", "batch from the left", "bias", "vector", "weights"],
)
def test_fans_are_what_one_output_sums_and_how_many_there_are(
    use: Any, fans: tuple[int, int] | None
) -> None:
    graph, last = last_of(use)

    assert dict(fans_of(graph, graph.vertices[last])) == ({"up.weight": fans} if fans else {})


def test_the_nearest_matrices_are_found_inside_a_set_with_what_stands_on_the_way() -> None:
    graph, last = last_of(lambda x, w, b: F.linear(x, w).relu() + F.linear(x, w).exp() * x.cos())
    products = {v.index for v in graph.vertices if v.name == "mm"}
    inside = graph.ancestors[last] | 1 << last

    (source,) = matrices_behind(graph, [last], inside).values()

    assert source.vertices == products
    assert source.crossings == {True}
    for product in products:
        kept = matrices_behind(graph, [last], inside & ~(1 << product))
        assert kept["up.weight"].vertices == products - {product}
    assert matrices_behind(graph, [last], inside & ~(1 << last)) == {}


@pytest.mark.parametrize(
    ("use", "rows"),
    [(lambda x, *_: x.sin(), 4), (lambda x, *_: x.sum(-1), 1), (lambda x, *_: x[..., :0] * 2, 0)],
    ids=["tokens", "numbers", "nothing"],
)
def test_a_node_holds_as_many_vectors_as_its_last_dimension_leaves(use: Any, rows: int) -> None:
    assert _rows(*last_of(use)) == rows
