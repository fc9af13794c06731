"""The init of your own model: right, and with a typo that no run would show.

Run: python examples/audit_a_model.py
On the command line: gptinit audit examples/audit_a_model.py:GPT --scheme nanogpt
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

import gptinit


@dataclass
class GPTConfig:
    """Shape of the model, and how it is drawn."""

    n_layer: int = 12
    n_head: int = 4
    n_embd: int = 128
    vocab_size: int = 512
    block_size: int = 128
    init_std: float = 0.02
    scaled: str = "c_proj.weight"  # ends the names of what writes to the residual stream


class Attention(nn.Module):
    """Causal self-attention, q, k and v in one matrix."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Stream in, branch out: (B, T, C)."""
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
            for part in self.c_attn(x).split(C, dim=-1)
        )  # (B, nh, T, hs)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: torch.Tensor = self.c_proj(y.transpose(1, 2).reshape(B, T, C))
        return out


class MLP(nn.Module):
    """Two matrices around a GELU."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Stream in, branch out: (B, T, C)."""
        out: torch.Tensor = self.c_proj(F.gelu(self.c_fc(x)))
        return out


class Block(nn.Module):
    """One layer."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(config.n_embd), nn.LayerNorm(config.n_embd)
        self.attn, self.mlp = Attention(config), MLP(config)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Stream in, stream out: (B, T, C)."""
        x = x + self.attn(self.ln_1(x))
        out: torch.Tensor = x + self.mlp(self.ln_2(x))
        return out


class GPT(nn.Module):
    """A GPT whose author meant to scale both projections by depth."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.lm_head.weight = self.wte.weight
        depth = math.sqrt(2 * config.n_layer)
        for name, parameter in self.named_parameters():
            if name.endswith(config.scaled):
                nn.init.normal_(parameter, std=config.init_std / depth)
            elif parameter.ndim == 2:
                nn.init.normal_(parameter, std=config.init_std)
            elif "ln_" not in name:
                nn.init.zeros_(parameter)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits: ids (B, T) -> (B, T, V)."""
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1], device=ids.device))
        for block in self.h:
            x = block(x)
        logits: torch.Tensor = self.lm_head(self.ln_f(x))
        return logits


def show(audit: gptinit.Audit) -> None:
    """Print the findings of one audit and the closest known scheme."""
    closest = audit.closest
    like = f"{closest.name}, {'exactly' if closest.exact else 'nearly'}" if closest else "none"
    print(f"\n{audit.model.name}: closest scheme {like}; {len(audit.findings)} findings")
    for finding in audit.findings:
        print(f"  {finding.severity}: {finding.rule}: {finding.where}\n    {finding.message}")


def main() -> None:
    """Audit the model as it stands, then with a name that no parameter has."""
    build: Callable[..., nn.Module] = GPT  # its config's class is found by the annotation
    show(gptinit.audit(build, perturb=True))

    wrong = gptinit.audit(build, scheme="nanogpt", scaled="out_proj.weight")
    show(wrong)
    for row in wrong.parameters:
        if row.program.name.startswith("h.0.") and row.hint:
            drawn, expected = row.program.distribution, row.expected
            print(f"  {row.program.name}: {drawn} where {expected} is meant, {row.ratio:.2f} times")


if __name__ == "__main__":
    main()
