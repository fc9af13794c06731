"""The variance of the stream of a 48-layer GPT by a nanoGPT-shaped model and forward hooks.

Initialised as nanoGPT does: PyTorch's defaults first, then every module by `apply`, then the
residual projections again.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

N_LAYER, N_HEAD, N_EMBD, VOCAB, BLOCK = 48, 12, 768, 50257, 1024


class Block(nn.Module):
    """A pre-LN block."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(N_EMBD), nn.LayerNorm(N_EMBD)
        self.c_attn = nn.Linear(N_EMBD, 3 * N_EMBD)
        self.attn_c_proj = nn.Linear(N_EMBD, N_EMBD)
        self.c_fc = nn.Linear(N_EMBD, 4 * N_EMBD)
        self.mlp_c_proj = nn.Linear(4 * N_EMBD, N_EMBD)

    def forward(self, x: Tensor) -> Tensor:
        """The stream after the block; (B, T, C)."""
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, N_HEAD, C // N_HEAD).transpose(1, 2)
            for part in self.c_attn(self.ln_1(x)).split(C, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_c_proj(y.transpose(1, 2).reshape(B, T, C))
        out: Tensor = x + self.mlp_c_proj(F.gelu(self.c_fc(self.ln_2(x))))
        return out


class Model(nn.Module):
    """Embeddings, blocks, norm and tied head."""

    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCAB, N_EMBD), nn.Embedding(BLOCK, N_EMBD)
        self.h = nn.ModuleList([Block() for _ in range(N_LAYER)])
        self.ln_f = nn.LayerNorm(N_EMBD)
        self.lm_head = nn.Linear(N_EMBD, VOCAB, bias=False)
        self.wte.weight = self.lm_head.weight
        self.apply(self._init_weights)
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, 0.0, 0.02 / math.sqrt(2 * N_LAYER))

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, 0.0, 0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, idx: Tensor) -> Tensor:
        """Logits; (B, T, V)."""
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1]))
        for block in self.h:
            x = block(x)
        logits: Tensor = self.lm_head(self.ln_f(x))
        return logits


def main() -> None:
    """Build, run 256 uniform tokens, print the variance after every block."""
    torch.manual_seed(0)
    model = Model()
    variances: list[float] = []
    for block in model.h:
        block.register_forward_hook(
            lambda m, args, out: variances.append(out.var(correction=0).item())
        )
    tokens = torch.randint(VOCAB, (1, 257))
    with torch.no_grad():
        loss = F.cross_entropy(model(tokens[:, :-1])[0], tokens[0, 1:])
    print(variances, float(loss))


if __name__ == "__main__":
    main()
