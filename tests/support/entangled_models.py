"""A model whose parameters share draws without being copies."""

from collections.abc import Callable

import torch
from torch import nn

from gptinit.config import Engine, RunConfig
from gptinit.load.argument import factory_of
from gptinit.measure.measure import measure
from gptinit.measure.subject import Subject
from gptinit.measure.traced_subject import traced_subject

C, V, T = 16, 31, 8


class Block(nn.Module):
    """Pre-norm without attention's help: a square MLP, so that its matrices can be transposes."""

    def __init__(self, entangle: Callable[["Block"], None]) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.attn = nn.MultiheadAttention(C, 2, bias=False, batch_first=True)
        self.up, self.down = nn.Linear(C, C, bias=False), nn.Linear(C, C, bias=False)
        for linear in (self.up, self.down):
            nn.init.normal_(linear.weight, 0, 0.3)
        entangle(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The stream after both branches."""
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, attn_mask=mask, need_weights=False)[0]
        out: torch.Tensor = x + self.down(torch.relu(self.up(self.ln_2(x))))
        return out


class Model(nn.Module):
    """Two such blocks."""

    def __init__(self, entangle: Callable[[Block], None]) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, C), nn.Embedding(T, C)
        self.h = nn.ModuleList([Block(entangle) for _ in range(2)])
        self.ln_f, self.lm_head = nn.LayerNorm(C), nn.Linear(C, V, bias=False)

    def forward(self, idx: torch.Tensor) -> torch.Tensor:
        """Logits, (B, T, V)."""
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1]))
        for block in self.h:
            x = block(x)
        logits: torch.Tensor = self.lm_head(self.ln_f(x))
        return logits


def transposed(block: Block) -> None:
    with torch.no_grad():
        block.down.weight.copy_(block.up.weight.t())


def some_rows(block: Block) -> None:
    with torch.no_grad():
        block.down.weight[: C // 2].copy_(block.up.weight[: C // 2])


def centred(block: Block) -> None:
    with torch.no_grad():
        block.up.weight.copy_(block.up.weight - block.up.weight.mean(1, keepdim=True))


def subject_of(entangle: Callable[[Block], None]) -> Subject:
    def build() -> nn.Module:
        return Model(entangle)

    return traced_subject(factory_of(build, {}))


def assert_drawn_together(entangle: Callable[[Block], None], engine: Engine) -> None:
    """That weights drawn by an engine give the branches that the model's own draws give."""
    seeds = 40
    subject = subject_of(entangle)
    run = RunConfig(seeds=seeds, seq_len=8, device="cpu", engine=engine, data="uniform")

    traced = measure(subject, run)
    own = measure(subject, RunConfig(seeds=seeds, seq_len=8, device="cpu", data="uniform",
                                     weights="own", seed=1000))  # fmt: skip

    for one, other in zip(traced.layers, own.layers, strict=True):
        error = (one.stderr["mlp_var"] ** 2 + other.stderr["mlp_var"] ** 2) ** 0.5
        assert abs(one.values["mlp_var"] - other.values["mlp_var"]) < 5 * error
    for name in ("h.0.up.weight", "h.1.down.weight"):
        assert next(p for p in subject.program if p.name == name).is_entangled
