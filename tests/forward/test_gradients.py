# ruff: noqa: D102 # small methods are documented by their class
"""Who gets a gradient, and from which step on: against training for real, on eight tokens."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from support.bug_models import Decoder, DecoderConfig, plain
from support.foreign_models import FOREIGN, WITHOUT_GRADIENTS, built, factory, reading
from torch import Tensor, nn
from torch.nn import functional as F

from gptinit.forward.call import call_model
from gptinit.forward.gradients import first_gradients
from gptinit.forward.graph import Graph
from gptinit.read.reading import read_live, read_model
from gptinit.results.program import FirstGradient, ModelProgram
from gptinit.trace.record.recorder import Recorder
from gptinit.trace.record.tracing import recording, trace

STEPS = 4
SMALL = DecoderConfig(n_layer=2, n_embd=8, n_head=2, d_ff=12, vocab_size=16, block_size=8)
IDS = torch.tensor([[3, 1, 4, 0, 5, 7, 2, 6]])


class Scaled(nn.Module):
    """A block with LayerNorm, packed qkv, softmax in plain operators, relu^2, and gates of its own.

    `gamma` scales channels of attention (LayerScale), `alpha` the whole MLP (ReZero).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.gamma, self.alpha = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.c_attn(self.ln_1(x)).chunk(3, -1)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        attention = scores.masked_fill(mask, float("-inf")).softmax(-1)
        x = x + self.gamma * self.c_proj(attention @ v)
        out: Tensor = x + self.alpha * self.down(F.relu(self.up(self.ln_2(x))).square())
        return out


class Tied(nn.Module):
    """Two such blocks, with learned positions and one tensor for embedding and head."""

    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(16, 8), nn.Embedding(8, 8)
        self.h = nn.ModuleList(Scaled(8) for _ in range(2))
        self.ln_f, self.lm_head = nn.LayerNorm(8), nn.Linear(8, 16, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in self.h:
            x = block(x)
        logits: Tensor = self.lm_head(self.ln_f(x))
        return logits


def swiglu() -> nn.Module:
    """RMSNorm by hand, fused attention, SwiGLU, a head of its own."""
    return Decoder(SMALL, partial(plain, std=0.3))


def zeroed(build: Callable[[], nn.Module], *ends: str) -> nn.Module:
    """A model with zeros in the parameters whose names end so."""
    model = build()
    for name, parameter in model.named_parameters():
        if name.endswith(ends):
            nn.init.zeros_(parameter)
    return model


def trained(model: nn.Module) -> dict[str, int | None]:
    """The first step of a few in which each parameter has a gradient, by training for real."""
    first: dict[str, int | None] = {n: None for n, _ in model.named_parameters()}
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(STEPS):
        optimiser.zero_grad()
        F.cross_entropy(model(IDS)[0, :-1], IDS[0, 1:]).backward()
        for name, parameter in model.named_parameters():
            if first[name] is None and parameter.grad is not None and bool(parameter.grad.any()):
                first[name] = step
        optimiser.step()
    return first


def program(build: Callable[[], nn.Module], *, brief: bool = True) -> ModelProgram:
    """What the reader says of a model."""
    return read_model(factory(build), brief=brief).program


ZEROS = [
    (swiglu, ends)
    for ends in (
        (), ("w1.weight",), ("w1.weight", "w2.weight"), ("w1.weight", "w3.weight"),
        ("w3.weight", "w2.weight"), ("w2.weight",), ("wo.weight",), ("wo.weight", "w2.weight"),
        ("wq.weight",), ("wq.weight", "wk.weight"), ("wv.weight", "wo.weight"), ("head.weight",),
        ("head.weight", "wo.weight", "w2.weight"), ("s.1.norm_1.weight",), ("norm_2.weight",),
        ("norm_1.weight", "wo.weight"), ("head.weight", "s.1.norm_2.weight"), ("embed.weight",),
    )
] + [
    (Tied, ends)
    for ends in (
        (), ("c_proj.weight", "c_proj.bias"), ("c_attn.weight", "c_attn.bias"), ("gamma",),
        ("gamma", "c_proj.weight"), ("alpha",), ("up.weight", "up.bias"), ("alpha", "down.weight"),
        ("alpha", "down.weight", "down.bias"), ("ln_f.weight",), ("wte.weight",),
        ("ln_f.weight", "ln_f.bias"), ("h.0.gamma", "h.1.alpha"), ("wpe.weight", "gamma", "alpha"),
    )
]  # fmt: skip


@pytest.mark.parametrize(("build", "ends"), ZEROS)
def test_the_step_of_the_first_gradient_is_that_of_training(
    build: Callable[[], nn.Module], ends: tuple[str, ...]
) -> None:
    torch.manual_seed(0)

    found = program(partial(zeroed, build, *ends))

    steps = {p.name: p.gradient.step for p in found.parameters if p.gradient}
    assert steps == trained(zeroed(build, *ends))


@pytest.mark.parametrize("name", [name for name in FOREIGN if name not in WITHOUT_GRADIENTS])
def test_who_is_said_to_get_no_gradient_gets_none(name: str) -> None:
    """Foreign models as they are: sound whatever the operators."""
    found, model = reading(name), built(name)
    if found.seen is None:
        pytest.skip("its forward does not run")
    none = {
        p.name for p in found.program.parameters if p.gradient is not None and p.gradient.step != 0
    }

    logits = call_model(model, found.seen.call, found.seen.ids)
    logits.logsumexp(-1).sum().backward()  # its gradient in each logit is a probability

    assert not [
        n for n, p in model.named_parameters() if n in none and p.grad is not None and p.grad.any()
    ]


MASK = torch.tensor([True, False] * 4)
NUMBERS = torch.arange(1.0, 9.0)
EQUAL = torch.ones(8, 8)
EXPRESSIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    # Products of tokens x with zeros z: z learns, x does not.
    "product": lambda x, z: x * z,
    "matrix product": lambda x, z: x @ z.expand(8, 8),
    "linear": lambda x, z: F.linear(x, z.expand(8, 8), z),
    "added to a product": lambda x, z: torch.addmm(z, x, z.expand(8, 8)),
    "numbers added to a product": lambda x, z: torch.addmm(NUMBERS, x, z.expand(8, 8)),
    "product added to tokens": lambda x, z: torch.addmm(x, x, z.expand(8, 8)),
    "product added to zeros": lambda x, z: torch.addcmul(z, x, NUMBERS),
    "product of zeros and numbers": lambda x, z: torch.addcmul(z, z, NUMBERS) + 0 * x,
    # Quotients.
    "divided by tokens": lambda x, z: z / (x.square() + 1),
    "tokens divided": lambda x, z: x / (z + 1),
    "number over a sum": lambda x, z: 1 / (z + 1) * x,
    # Numbers that are added or put in.
    "number added": lambda x, z: (z + 1) * x,
    "nothing added": lambda x, z: (z + 0) * x,
    "number taken": lambda x, z: (z - 1.0) * x,
    "taken from a number": lambda x, z: (1.0 - z) * x,
    "taken from nothing": lambda x, z: (0.0 - z) * x,
    "numbers added": lambda x, z: (z + NUMBERS) * x,
    "real zeros added": lambda x, z: (z + torch.zeros(8)) * x,
    "made zeros added": lambda x, z: (z + torch.zeros_like(x)) * x,
    "made ones added": lambda x, z: (z + torch.ones_like(x)) * x,
    "masked by 0": lambda x, z: z.masked_fill(MASK, 0.0) * x,
    "masked by 1": lambda x, z: z.masked_fill(MASK, 1.0) * x,
    "tokens where masked": lambda x, z: torch.where(MASK, x, z),
    "zeros where masked": lambda x, z: torch.where(MASK, z, z) * x,
    "times 0": lambda x, z: 0 * x + z,
    "times 1": lambda x, z: 1 * z * x,
    "times real zeros": lambda x, z: x * torch.zeros(8) + z,
    "times real numbers": lambda x, z: z * NUMBERS * x,
    # Curves.
    "odd": lambda x, z: z.tanh() * x,
    "flat": lambda x, z: z.square() * x,
    "absolute": lambda x, z: z.abs() + x,
    "relu": lambda x, z: z.relu() * x + z,
    "power of 1": lambda x, z: z.pow(1) * x,
    "power of 2": lambda x, z: z.pow(2) * x,
    "power of 3": lambda x, z: z.pow(3.0) + x,
    "exponential": lambda x, z: z.exp() * x,
    # Sums and norms.
    "sum of both": lambda x, z: x + z,
    "side by side": lambda x, z: torch.cat([x[:, :4], z.expand(8, 8)[:, 4:]], -1),
    "norm of tokens": lambda x, z: F.layer_norm(x, (8,), z, z),
    "norm with a bias": lambda x, z: F.layer_norm(x, (8,), z, NUMBERS) * x,
    "norm without weight": lambda x, z: F.layer_norm(x, (8,), None, z),
    # Attention.
    "values of zeros": lambda x, z: attention(x, x, x * z),
    "queries of zeros": lambda x, z: attention(x * z, x, x),
    "keys of zeros": lambda x, z: attention(x, x * z, x),
    "queries and keys of zeros": lambda x, z: attention(x * z, x * z, x),
    "mask beside values of zeros": lambda x, z: attention(EQUAL, EQUAL, z.expand(8, 8), x),
    "mask beside other values": lambda x, z: attention(EQUAL, EQUAL, NUMBERS * x.detach(), x) * z,
}


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    q, k, v = q[None, None], k[None, None], v[None, None]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)[0, 0]


class Expression(nn.Module):
    """b times a function of a times the embedding, and of zeros z."""

    function: Callable[[Tensor, Tensor], Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(16, 8)
        self.a, self.b = (nn.Parameter(torch.randn(8)) for _ in range(2))
        self.z = nn.Parameter(torch.zeros(8))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.wte(ids)[0] * self.a
        return type(self).function(x, self.z)[None] * self.b


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_what_an_operator_does_to_zeros_is_what_autograd_finds(name: str) -> None:
    """In the first step: of the zeros, of the tokens beside them, and of what multiplies both."""

    class Model(Expression):
        function = staticmethod(EXPRESSIONS[name])

    with torch.no_grad(), recording(Recorder(dummy=True)):
        traced = trace(Model)
        logits = traced(IDS)
    weights = {id(p._store): n for n, p in traced.named_parameters()}  # type: ignore[attr-defined] # traced

    found = first_gradients(Graph(logits, weights), weights.values(), ["z"])

    torch.manual_seed(0)
    model = Model()
    (model(IDS) * torch.randn(8, 8)).sum().backward()
    real = {n: p.grad is not None and bool(p.grad.any()) for n, p in model.named_parameters()}
    assert {n: gradient.step == 0 for n, gradient in found.items()} == real


def test_what_a_parameter_waits_for_is_named() -> None:
    found = program(partial(zeroed, swiglu, "w1.weight", "w2.weight"))
    gradients = {p.name: p.gradient for p in found.parameters}

    assert gradients["blocks.1.mlp.w1.weight"] == FirstGradient(
        step=None, waits_for=("blocks.1.mlp.w2.weight",)
    )
    assert gradients["blocks.1.attn.wq.weight"] == FirstGradient(step=0)


def test_a_parameter_that_no_logit_depends_on_is_unused() -> None:
    def build() -> nn.Module:
        model = swiglu()
        model.register_parameter("forgotten", nn.Parameter(torch.ones(3)))
        return model

    found = {p.name: p.gradient for p in program(build).parameters}

    assert found["forgotten"] == FirstGradient(step=None, is_used=False)
    assert all(g is not None and g.is_used for n, g in found.items() if n != "forgotten")


def test_a_frozen_parameter_has_no_gradient_to_judge_and_never_lets_others_learn() -> None:
    def build() -> nn.Module:
        model = zeroed(swiglu, "w2.weight")
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.endswith("w2.weight"))
        return model

    found = {p.name: p.gradient for p in program(build).parameters}

    assert found["blocks.0.mlp.w2.weight"] is None
    gate = found["blocks.0.mlp.w1.weight"]
    assert gate is not None
    assert gate.step is None


@pytest.mark.parametrize("zero", [(), (0,), (3,), (7,), (3, 4, 5), tuple(range(8))])
def test_a_shortened_pass_says_of_every_block_what_a_full_one_does(zero: tuple[int, ...]) -> None:
    def build() -> nn.Module:
        model = Decoder(replace(SMALL, n_layer=8), plain)
        for i in zero:
            nn.init.zeros_(model.get_parameter(f"blocks.{i}.mlp.w2.weight"))
        return model

    brief, full = (
        {p.name: p.gradient for p in program(build, brief=brief).parameters}
        for brief in (True, False)
    )

    assert brief == full


class WithTable(nn.Module):
    """Eight blocks of which the fifth has a table beside the list added, as value embeddings are.

    A forward that asks for its place in the list meets it in a full pass only.
    """

    def __init__(self) -> None:
        super().__init__()
        self.wte, self.table = nn.Embedding(16, 8), nn.Embedding(16, 8)
        self.h = nn.ModuleList(Scaled(8) for _ in range(8))
        self.lm_head = nn.Linear(8, 16)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.wte(ids)
        for place, block in enumerate(self.h):
            x = block(x + self.table(ids) if place == 4 else x)
        logits: Tensor = self.lm_head(x)
        return logits


def test_what_a_block_in_the_middle_alone_uses_is_used() -> None:
    found = {p.name: p.gradient for p in program(WithTable).parameters}

    assert found["table.weight"] == FirstGradient(step=0)


@pytest.mark.parametrize(
    ("ends", "zeros"),
    [
        ((), None),
        (("wo.weight", "w2.weight"), None),
        (("head.weight",), ("head.weight",)),
        (("norm.weight",), ("norm.weight",)),
        (("embed.weight",), ("embed.weight",)),
    ],
)
def test_logits_that_no_token_can_change_are_seen(
    ends: tuple[str, ...], zeros: tuple[str, ...] | None
) -> None:
    assert program(partial(zeroed, swiglu, *ends)).constant_logits == zeros


@pytest.mark.parametrize("build", [Tied, partial(Decoder, SMALL, plain)], ids=["learned", "none"])
def test_equal_embeddings_are_seen_whatever_the_positions(build: Callable[[], nn.Module]) -> None:
    def alike() -> nn.Module:
        model = build()
        table = next(model.parameters())
        table.data = torch.full_like(table, 0.5)
        return model

    found = read_model(factory(alike)).program
    name = found.parameters[0].name

    # A tied head of equal rows makes all logits of a position alike too.
    assert found.constant_logits == (name,)


class Cut(nn.Module):
    """Two of the blocks above, then an MLP whose first matrix detach() or no_grad() cuts off."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.wte, self.h = nn.Embedding(16, 8), nn.ModuleList(Scaled(8) for _ in range(2))
        self.up, self.down = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.lm_head = nn.Linear(8, 16, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.wte(ids)
        for block in self.h:
            x = block(x)
        with torch.set_grad_enabled(self.kind != "no_grad" and torch.is_grad_enabled()):
            inner = F.gelu(self.up(x))
        out: Tensor = self.lm_head(
            x + self.down(inner.detach() if self.kind == "detach" else inner)
        )
        return out


@pytest.mark.parametrize("kind", ["detach", "no_grad", ""])
def test_what_autograd_does_not_reach_is_cut(kind: str) -> None:
    build = partial(Cut, kind)
    reading = read_model(factory(build), brief=True)
    found = {p.name: p.gradient for p in reading.program.parameters}

    torch.manual_seed(0)
    real = build()
    real(IDS).square().sum().backward()
    none = {n for n, p in real.named_parameters() if p.grad is None or not p.grad.any()}

    assert none == ({"up.weight"} if kind else set())
    assert {n for n, g in found.items() if g and g.is_cut} == none


def test_a_forward_for_inference_alone_says_nothing_of_gradients() -> None:
    class Inference(Cut):
        @torch.no_grad()
        def forward(self, ids: Tensor) -> Tensor:
            return super().forward(ids)

    found = read_model(factory(partial(Inference, "")), brief=True).program.parameters

    assert not any(p.gradient.is_cut for p in found if p.gradient)


def test_a_final_norm_of_zeros_leaves_its_bias_to_the_logits() -> None:
    model = zeroed(Tied, "ln_f.weight")
    nn.init.ones_(model.get_parameter("ln_f.bias"))

    assert read_live(model, factory(Tied)).program.constant_logits == ("ln_f.weight",)
