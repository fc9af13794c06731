"""The built-in GPT: pre-LN blocks, learned positions, fused qkv, shaped like nanoGPT and GPT-2.

Letters in shapes: B batch, T positions, C n_embd, nh n_head, hs head_dim, F d_ff, V vocab_size.

References:
    Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3.
    Module names as in karpathy/nanoGPT model.py @3adf61e1.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptinit.config import GPTConfig

__all__ = ["GPT"]


def _gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its tanh approximation, as GPT-2 has it."""
    return F.gelu(x, approximate="tanh")


ACTIVATION_FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {"gelu": F.gelu, "gelu_tanh": _gelu_tanh, "relu": F.relu}
)


class CausalSelfAttention(nn.Module):
    """Multi-head causal self-attention with one fused projection to q, k and v.

    Shape:
        x: (B, T, C); result: (B, T, C).
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head, self.head_dim = config.n_head, config.head_dim
        inner = config.n_head * config.head_dim
        self.c_attn = nn.Linear(config.n_embd, 3 * inner, bias=config.bias)
        self.c_proj = nn.Linear(inner, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """What the attention branch adds to the stream."""
        B, T, _ = x.shape
        qkv = self.c_attn(x)  # (B, T, 3 * nh * hs)
        q, k, v = qkv.view(B, T, 3, self.n_head, self.head_dim).unbind(2)  # (B, T, nh, hs) each
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # (B, nh, T, hs)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, nh, T, hs)
        y = y.transpose(1, 2).reshape(B, T, self.n_head * self.head_dim)  # (B, T, nh * hs)
        out: Tensor = self.c_proj(y)  # (B, T, C)
        return out


class MLP(nn.Module):
    """Two linear layers around an activation.

    Shape:
        x: (B, T, C); result: (B, T, C).
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, config.d_ff, bias=config.bias)
        self.activation = ACTIVATION_FUNCTIONS[config.activation]
        self.c_proj = nn.Linear(config.d_ff, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """What the MLP branch adds to the stream."""
        out: Tensor = self.c_proj(self.activation(self.c_fc(x)))  # (B, T, F) inside
        return out


class Block(nn.Module):
    """One layer: attention and MLP, each behind a LayerNorm, each added to the stream.

    Shape:
        x: (B, T, C); result: (B, T, C).
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        """The stream after the block."""
        x = x + self.attn(self.ln_1(x))
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Transformer(nn.Module):
    """Everything before the head: embeddings, blocks and final norm.

    Shape:
        idx: (B, T) token ids; result: (B, T, C), the stream after the last block.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.h = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd, bias=config.bias)

    def forward(self, idx: Tensor) -> Tensor:
        """The residual stream after the last block, before the final norm."""
        positions = torch.arange(idx.shape[1], device=idx.device)  # (T,)
        x: Tensor = self.wte(idx) + self.wpe(positions)  # (B, T, C)
        for block in self.h:
            x = block(x)
        return x


class GPT(nn.Module):
    """The whole model. Its weights are PyTorch's defaults until a scheme's program is installed.

    Shape:
        idx: (B, T) token ids; result: (B, T, V) logits.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.transformer = Transformer(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        if config.tied:
            self.lm_head.weight = self.transformer.wte.weight

    def forward(self, idx: Tensor) -> Tensor:
        """Logits of the next token at every position."""
        logits: Tensor = self.lm_head(self.transformer.ln_f(self.transformer(idx)))
        return logits

    def lens(self, rows: Tensor) -> Callable[[Tensor], Tensor]:
        """The logit lens on some rows of the vocabulary, with the head's present weights.

        Shape:
            rows: (R,); of the lens: a stream (B, T, C) to logits (B, T, R).
        """
        head = self.lm_head.weight[rows]
        return lambda x: F.linear(self.transformer.ln_f(x), head)
