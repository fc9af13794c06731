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
from gptinit.read.reading import read_live, read_model
from gptinit.results.program import FirstGradient, ModelProgram

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


def test_a_final_norm_of_zeros_leaves_its_bias_to_the_logits() -> None:
    model = zeroed(Tied, "ln_f.weight")
    nn.init.ones_(model.get_parameter("ln_f.bias"))

    assert read_live(model, factory(Tied)).program.constant_logits == ("ln_f.weight",)
