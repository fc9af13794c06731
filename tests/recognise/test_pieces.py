# ruff: noqa: D102 # a forward is documented by its class
"""Norms, sums, MLPs, embeddings and logits are read to the last number, or refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptinit.forward.graph import MATMULS, Graph
from gptinit.recognise.pieces import Pieces
from gptinit.theory.parameters import NoFormula
from gptinit.trace.graph import Read
from gptinit.trace.record.recorder import Recorder
from gptinit.trace.record.tensor import TracedTensor
from gptinit.trace.record.tracing import recording, trace

V, C, T, FF = 7, 6, 4, 10
IDS = torch.tensor([[3, 1, 4, 0]])


class Piece(nn.Module):
    """An embedding, matrices and the parameters of a norm, for a test to put together."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        super().__init__()
        self.call = forward
        self.wte, self.pos = nn.Embedding(V, C), nn.Parameter(torch.randn(9, C))
        self.up, self.gate = nn.Linear(C, FF, bias=False), nn.Linear(C, FF, bias=False)
        self.attn, self.mlp = nn.Linear(C, C, bias=False), nn.Linear(C, C, bias=False)
        self.weight, self.bias = nn.Parameter(torch.ones(C)), nn.Parameter(torch.zeros(C))

    def forward(self, ids: Any) -> Any:
        return self.call(self, ids)


def read(forward: Callable[..., Any]) -> tuple[Graph, Read]:
    """The graph of one pass, and what it returns."""
    module = trace(lambda: Piece(forward))
    with torch.no_grad(), recording(Recorder(dummy=True)):
        end = module(IDS)
    assert isinstance(end, TracedTensor)
    named = module.named_parameters()
    weights = {id(p._store): n for n, p in named if isinstance(p, TracedTensor)}
    return Graph(end, weights), end.read()


def product(graph: Graph, weight: str) -> int:
    """The node of the product with a matrix."""
    (index,) = (v.index for v in graph.vertices if f"{weight}.weight" in graph.matrices_of(v))
    return index


def lookup(graph: Graph) -> int:
    """The node of the token embedding."""
    return next(v.index for v in graph.vertices if v.name == "embedding")


def hidden(act: Callable[[Any], Any]) -> tuple[str, bool]:
    """What is read of an MLP with one matrix before `act`."""
    graph, end = read(lambda m, ids: act(m.up(m.wte(ids))))
    return Pieces(graph).mlp({"mlp_up": product(graph, "up")}, end)


@pytest.mark.parametrize(
    ("act", "found"),
    [
        (F.gelu, ("gelu", False)),
        (lambda h: F.gelu(h, approximate="tanh"), ("gelu_tanh", False)),
        (lambda h: F.relu(h).square(), ("relu2", False)),
        (lambda h: F.silu(h[..., :5]) * h[..., 5:], ("silu", True)),
        (lambda h: h[..., :5] * F.silu(h[..., 5:]), ("silu", False)),
        # Theory's erf is exact to 1.5e-7 before it is multiplied, here by up to 200.
        (lambda h: F.gelu(h[..., :5]) * h[..., 5:], ("gelu", True)),
        (lambda h: h[..., :5] * F.gelu(h[..., 5:]), ("gelu", False)),
        # As in gpt-oss: every other entry is a gate.
        (lambda h: F.silu(h[..., ::2]) * h[..., 1::2], ("silu", False)),
        (lambda h: h[..., ::2] * F.relu(h[..., 1::2]), ("relu", False)),
    ],
    ids=[
        "gelu", "gelu_tanh", "relu2", "gate first", "gate last",
        "gelu first", "gelu last", "even gates", "odd gates",
    ],
)  # fmt: skip
def test_the_activation_and_the_gate_of_one_matrix_are_read(
    act: Callable[[Any], Any], found: tuple[str, bool]
) -> None:
    assert hidden(act) == found


@pytest.mark.parametrize(
    "act",
    [
        lambda h: 2.0 * F.gelu(h),
        lambda h: F.gelu(1.01 * h),
        lambda h: F.gelu(h.clamp(max=50.0)),
        lambda h: F.silu(h[..., :5]) * F.silu(h[..., 5:]),
        lambda h: F.silu(h[..., :5]) * (h[..., 5:] + 1.0),
        lambda h: F.silu(h[..., ::3]) * h[..., 1::3].repeat(1, 1, 2)[..., :4],
        lambda h: F.silu(h[..., :5]),
    ],
    ids=["twice", "steeper", "clamp", "two gates", "shifted", "every third", "half is unused"],
)
def test_other_functions_of_hidden_units_are_refused(act: Callable[[Any], Any]) -> None:
    with pytest.raises(NoFormula, match="what its MLP does to hidden units"):
        hidden(act)


def test_the_gate_of_two_matrices_is_the_one_with_the_activation() -> None:
    def mlp(m: Any, ids: Any) -> Any:
        return F.silu(m.gate(m.wte(ids))) * m.up(m.wte(ids))

    graph, end = read(mlp)
    up, gate = product(graph, "up"), product(graph, "gate")

    assert Pieces(graph).mlp({"mlp_up": up, "mlp_gate": gate}, end) == ("silu", False)
    with pytest.raises(NoFormula):
        Pieces(graph).mlp({"mlp_up": gate, "mlp_gate": up}, end)


def rms(x: Any, eps: float) -> Any:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def normed(
    norm: Callable[[Any, Any], Any], weight: str | None, bias: str | None
) -> tuple[str, float, float, bool]:
    """What is read of a norm of the embedding; `norm` takes the module and its input."""
    graph, end = read(lambda m, ids: norm(m, m.wte(ids)))
    return Pieces(graph).norm(end, lookup(graph), weight, bias)


@pytest.mark.parametrize(
    ("norm", "weight", "bias", "found"),
    [
        (
            lambda m, x: F.layer_norm(x, (C,), m.weight, m.bias, 1e-5),
            "weight", "bias", ("layernorm", 1e-5, 1.0, False),
        ),
        (
            lambda m, x: F.layer_norm(x, (C,), m.weight, None, 1e-3),
            "weight", None, ("layernorm", 1e-3, 1.0, False),
        ),
        (lambda m, x: F.layer_norm(x, (C,)), None, None, ("layernorm", 1e-5, 1.0, False)),
        (lambda m, x: rms(x, 1e-6) * m.weight, "weight", None, ("rmsnorm", 1e-6, 1.0, False)),
        (lambda m, x: rms(x, 0.0), None, None, ("rmsnorm", 0.0, 1.0, False)),
        (
            lambda m, x: rms(x, 1e-6) * (1.0 + m.weight),
            "weight", None, ("rmsnorm", 1e-6, 1.0, True),
        ),
        (lambda m, x: 0.25 * rms(x, 1e-6), None, None, ("rmsnorm", 1e-6, 0.25, False)),
        (
            lambda m, x: (rms(x, 1e-6) * m.weight + m.bias) * 3.0,
            "weight", "bias", ("rmsnorm", 1e-6, 3.0, False),
        ),
        # eps on the sum of squares and not on their mean: C times as much.
        (
            lambda m, x: x * torch.rsqrt(x.square().sum(-1, keepdim=True) + C * 1e-4),
            None, None, ("rmsnorm", 1e-4, C**-0.5, False),
        ),
    ],
    ids=[
        "layer norm", "without bias", "without weight", "rms norm", "without eps", "1 + weight",
        "multiplied", "multiplied with its bias", "of length one",
    ],
)  # fmt: skip
def test_the_kind_the_eps_and_the_factor_of_a_norm_are_read(
    norm: Callable[[Any, Any], Any],
    weight: str | None,
    bias: str | None,
    found: tuple[str, float, float, bool],
) -> None:
    kind, eps, factor, is_plus_one = normed(norm, weight, bias)

    assert (kind, is_plus_one) == (found[0], found[3])
    assert (eps, factor) == pytest.approx((found[1], found[2]), rel=1e-5)


@pytest.mark.parametrize(
    ("norm", "weight", "bias"),
    [
        (lambda m, x: x / (x.square().mean(-1, keepdim=True).sqrt() + 1e-3), None, None),
        (lambda m, x: F.normalize(x, dim=-1, eps=1e-3), None, None),
        (lambda m, x: rms(x, 1e-6).clamp(-1.5, 1.5), None, None),
        (lambda m, x: rms(x, 1e-6) * m.weight.square(), "weight", None),
        (lambda m, x: rms(x, 1e-6) * (2.0 + m.weight), "weight", None),
        (lambda m, x: rms(x, 1e-6) * m.weight + 2.0 * m.bias, "weight", "bias"),
        (lambda m, x: rms(x, 1e-6) + 0.1, None, None),
        (lambda m, x: rms(x[..., :3], 1e-6), None, None),
        (lambda m, x: rms(rms(x, 1e-6) - 0.5, 1e-6), None, None),
    ],
    ids=[
        "eps outside of the root", "at least eps", "clamp", "squared weight", "2 + weight",
        "two biases", "shift", "half of the stream", "twice",
    ],
)  # fmt: skip
def test_what_is_nearly_a_norm_is_refused(
    norm: Callable[[Any, Any], Any], weight: str | None, bias: str | None
) -> None:
    with pytest.raises(NoFormula, match="exactly one LayerNorm or RMSNorm"):
        normed(norm, weight, bias)


def branches(add: Callable[[Any, Any, Any], Any]) -> tuple[float, float]:
    """The factors that are read of a sum of the stream, attention and MLP."""
    graph, end = read(lambda m, ids: (lambda x: add(x, m.attn(x), m.mlp(x)))(m.wte(ids)))
    nodes = lookup(graph), product(graph, "attn"), product(graph, "mlp")
    return Pieces(graph).branches(nodes, end)


@pytest.mark.parametrize(
    ("add", "found"),
    [
        (lambda x, a, m: x + a + m, (1.0, 1.0)),
        (lambda x, a, m: x + 0.5 * a - 0.25 * m, (0.5, -0.25)),
        (lambda x, a, m: (a / 3 + m * 0) + x, (1 / 3, 0.0)),
        (lambda x, a, m: x - 7 * m + 0 * a, (0.0, -7.0)),
    ],
)
def test_the_factors_of_both_branches_are_read(
    add: Callable[[Any, Any, Any], Any], found: tuple[float, float]
) -> None:
    assert branches(add) == pytest.approx(found, rel=1e-8)


@pytest.mark.parametrize(
    "add",
    [
        lambda x, a, m: 0.5 * x + a + m,
        lambda x, a, m: x + a + m + 0.01,
        lambda x, a, m: x + a.clamp(-20, 20) + m,
        lambda x, a, m: x + a + m.clamp(max=20),
        lambda x, a, m: x.clamp(-50, 50) + a + m,
        lambda x, a, m: x + a + a * m,
    ],
    ids=["half the stream", "shift", "clamped", "clamped MLP", "clamped stream", "gated"],
)
def test_what_is_no_sum_of_the_stream_and_its_branches_is_refused(
    add: Callable[[Any, Any, Any], Any],
) -> None:
    with pytest.raises(NoFormula, match="not just added to the stream"):
        branches(add)


def embedded(embed: Callable[[Any, Any], Any], **tables: int) -> tuple[float, str]:
    """What is read of a stream before the first block."""
    graph, end = read(embed)
    lookups = {v.operands[0].weight: v.index for v in graph.vertices if v.name == "embedding"}
    return Pieces(graph).embedding(end, lookups["wte.weight"], [*lookups.values()], tables)


@pytest.mark.parametrize(
    ("embed", "tables", "found"),
    [
        (lambda m, ids: m.wte(ids), {}, (1.0, "none")),
        (lambda m, ids: m.wte(ids) * C**0.5, {}, (C**0.5, "none")),
        (
            lambda m, ids: 3.0 * m.wte(ids) + F.embedding(torch.arange(T), m.pos),
            {}, (3.0, "learned"),
        ),
        (lambda m, ids: m.wte(ids) + m.pos[:T], {"pos": 9 * C}, (1.0, "learned")),
        (lambda m, ids: m.wte(ids) / 4 + m.pos[2 : 2 + T], {"pos": 9 * C}, (0.25, "learned")),
    ],
    ids=["tokens", "multiplied", "looked up", "a table", "a table from its third row"],
)  # fmt: skip
def test_the_factor_on_tokens_and_the_kind_of_positions_are_read(
    embed: Callable[[Any, Any], Any], tables: dict[str, int], found: tuple[float, str]
) -> None:
    factor, positions = embedded(embed, **tables)

    assert factor == pytest.approx(found[0], rel=1e-12)
    assert positions == found[1]


@pytest.mark.parametrize(
    ("embed", "tables", "why"),
    [
        (lambda m, ids: m.wte(ids).square(), {}, "not just multiplied by a number"),
        (lambda m, ids: m.wte(ids) + torch.arange(T)[:, None], {}, "neither learned nor rotary"),
        (lambda m, ids: m.wte(ids) + 2 * m.pos[:T], {"pos": 9 * C}, "not just added"),
        (lambda m, ids: m.wte(ids) + m.pos[:8:2], {"pos": 9 * C}, "not just added"),
        (lambda m, ids: m.wte(ids) + m.pos[:1], {"pos": 9 * C}, "not just added"),
    ],
    ids=["squared", "sinusoids", "twice the table", "every other row", "one row for all"],
)
def test_other_embeddings_are_refused(
    embed: Callable[[Any, Any], Any], tables: dict[str, int], why: str
) -> None:
    with pytest.raises(NoFormula, match=why):
        embedded(embed, **tables)


def logits(change: Callable[[Any], Any]) -> float:
    """The factor that is read of logits made of the head's product."""
    graph, _ = read(lambda m, ids: change(m.up(m.wte(ids))))
    (index,) = (v.index for v in graph.vertices if v.name in MATMULS)
    return Pieces(graph).logits(index)


@pytest.mark.parametrize(
    ("change", "factor"), [(lambda y: y * 1.0, 1.0), (lambda y: -0.5 * y, -0.5)]
)
def test_the_factor_on_logits_is_read(change: Callable[[Any], Any], factor: float) -> None:
    assert logits(change) == pytest.approx(factor, rel=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        lambda y: 1e6 * torch.tanh(y / 1e6),
        lambda y: y + 1e-3,
        lambda y: 0 * y,
        lambda y: y[..., :5] * 2,
        lambda y: y.log_softmax(-1),
    ],
    ids=["soft cap", "shift", "nothing", "half of them", "log softmax"],
)
def test_more_than_a_factor_on_logits_is_refused(change: Callable[[Any], Tensor]) -> None:
    with pytest.raises(NoFormula, match="not just the head's product times a number"):
        logits(change)
