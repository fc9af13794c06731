# Untyped, undocumented and talkative on purpose: most models that people bring are.
# mypy: ignore-errors
# ruff: noqa: D101, D102, UP045
"""A Llama in one file, as somebody else would write it."""

import math
from dataclasses import dataclass
from typing import Optional

import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class ModelArgs:
    dim: int = 64
    n_layers: int = 4
    n_heads: int = 4
    n_kv_heads: Optional[int] = None
    vocab_size: int = 96
    hidden_dim: Optional[int] = None
    multiple_of: int = 32
    norm_eps: float = 1e-5
    max_seq_len: int = 64
    dropout: float = 0.0


class RMSNorm(nn.Module):
    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return wide.type_as(x) * self.weight


def angles(width: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    rates = 10000.0 ** (-torch.arange(0, width, 2).float() / width)
    turns = torch.outer(torch.arange(length).float(), rates)
    return turns.cos(), turns.sin()


def rotate(x, cos, sin):
    """Turn pairs of neighbours: x (B, T, nh, hs), cos and sin (T, hs / 2)."""
    real, imaginary = x[..., 0::2], x[..., 1::2]
    cos, sin = cos[:, None, :], sin[:, None, :]
    turned = (real * cos - imaginary * sin, real * sin + imaginary * cos)
    return torch.stack(turned, dim=-1).flatten(3)


class Attention(nn.Module):
    def __init__(self, args: ModelArgs):
        super().__init__()
        self.n_heads = args.n_heads
        self.n_kv_heads = args.n_kv_heads or args.n_heads
        self.width = args.dim // args.n_heads
        self.wq = nn.Linear(args.dim, self.n_heads * self.width, bias=False)
        self.wk = nn.Linear(args.dim, self.n_kv_heads * self.width, bias=False)
        self.wv = nn.Linear(args.dim, self.n_kv_heads * self.width, bias=False)
        self.wo = nn.Linear(self.n_heads * self.width, args.dim, bias=False)

    def forward(self, x, cos, sin):
        B, T, _ = x.shape
        q = rotate(self.wq(x).view(B, T, self.n_heads, self.width), cos, sin)
        k = rotate(self.wk(x).view(B, T, self.n_kv_heads, self.width), cos, sin)
        v = self.wv(x).view(B, T, self.n_kv_heads, self.width)
        shared = self.n_heads // self.n_kv_heads
        k, v = (t.repeat_interleave(shared, dim=2).transpose(1, 2) for t in (k, v))
        mixed = F.scaled_dot_product_attention(q.transpose(1, 2), k, v, is_causal=True)
        return self.wo(mixed.transpose(1, 2).reshape(B, T, -1))


class FeedForward(nn.Module):
    def __init__(self, args: ModelArgs):
        super().__init__()
        hidden = args.hidden_dim or args.multiple_of * math.ceil(
            8 * args.dim / 3 / args.multiple_of
        )
        self.w1 = nn.Linear(args.dim, hidden, bias=False)
        self.w2 = nn.Linear(hidden, args.dim, bias=False)
        self.w3 = nn.Linear(args.dim, hidden, bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class TransformerBlock(nn.Module):
    def __init__(self, layer_id: int, args: ModelArgs):
        super().__init__()
        self.layer_id = layer_id
        self.attention = Attention(args)
        self.feed_forward = FeedForward(args)
        self.attention_norm = RMSNorm(args.dim, args.norm_eps)
        self.ffn_norm = RMSNorm(args.dim, args.norm_eps)

    def forward(self, x, cos, sin):
        # Straight to forward, past every hook of the two.
        x = x + self.attention.forward(self.attention_norm(x), cos, sin)
        return x + self.feed_forward.forward(self.ffn_norm(x))


class Transformer(nn.Module):
    last_loss: Optional[torch.Tensor]

    def __init__(self, params: ModelArgs):
        super().__init__()
        self.params = params
        self.tok_embeddings = nn.Embedding(params.vocab_size, params.dim)
        self.layers = nn.ModuleList(TransformerBlock(i, params) for i in range(params.n_layers))
        self.norm = RMSNorm(params.dim, params.norm_eps)
        self.output = nn.Linear(params.dim, params.vocab_size, bias=False)
        self.tok_embeddings.weight = self.output.weight
        cos, sin = angles(params.dim // params.n_heads, params.max_seq_len)
        self.register_buffer("freqs_cos", cos, persistent=False)
        self.register_buffer("freqs_sin", sin, persistent=False)
        self.apply(self._init_weights)
        for name, parameter in self.named_parameters():
            if name.endswith(("w2.weight", "wo.weight")):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * params.n_layers))
        self.last_loss = None

    def _init_weights(self, module):
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)

    def forward(self, tokens, targets=None):
        T = tokens.shape[1]
        x = self.tok_embeddings(tokens)
        for layer in self.layers:
            x = layer(x, self.freqs_cos[:T], self.freqs_sin[:T])
        x = self.norm(x)
        if targets is None:
            self.last_loss = None
            return self.output(x[:, [-1], :])
        logits = self.output(x)
        self.last_loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)
        return logits
