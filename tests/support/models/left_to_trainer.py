# Untyped and undocumented on purpose: most models that people bring are.
# mypy: ignore-errors
# ruff: noqa: D101, D102
"""GPTs whose weights a trainer draws once the constructor is done, each in the way of others."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class Config:
    n_layer: int = 2
    n_head: int = 2
    n_embd: int = 32
    vocab_size: int = 64
    block_size: int = 32


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.ones_(self.weight)

    def forward(self, x):
        return self.weight * F.rms_norm(x, (x.shape[-1],))


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.n_head = c.n_head
        self.q, self.k, self.v, self.o = (
            nn.Linear(c.n_embd, c.n_embd, bias=False) for _ in range(4)
        )

    def reset_parameters(self, std=None, factor=1.0):
        std = std or self.q.in_features**-0.5
        for w in (self.q, self.k, self.v):
            cut_normal(w.weight, std)
        cut_normal(self.o.weight, std / factor)

    def forward(self, x):
        q, k, v = (w(x).unflatten(-1, (self.n_head, -1)).transpose(1, 2) for w in self.heads())
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(mixed.transpose(1, 2).flatten(2))

    def heads(self):
        return self.q, self.k, self.v


class MLP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.up = nn.Linear(c.n_embd, 4 * c.n_embd, bias=False)
        self.down = nn.Linear(4 * c.n_embd, c.n_embd, bias=False)

    def reset_parameters(self, std=None, factor=1.0):
        cut_normal(self.up.weight, std or self.up.in_features**-0.5)
        cut_normal(self.down.weight, (std or self.down.in_features**-0.5) / factor)

    def forward(self, x):
        return self.down(F.gelu(self.up(x)))


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm_1, self.attn = RMSNorm(c.n_embd), Attention(c)
        self.norm_2, self.mlp = RMSNorm(c.n_embd), MLP(c)

    def init_weights(self, std=None, factor=1.0):
        self.attn.reset_parameters(std, factor)
        self.mlp.reset_parameters(std, factor)
        self.norm_1.reset_parameters()
        self.norm_2.reset_parameters()

    def forward(self, x):
        x = x + self.attn(self.norm_1(x))
        return x + self.mlp(self.norm_2(x))


class Bare(nn.Module):
    """No init of its own: torch's defaults stay."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(config.vocab_size, config.n_embd)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = RMSNorm(config.n_embd)
        self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


class Chat(Bare):
    """One method for all, as in nanochat: it is built on meta, so the constructor draws nothing."""

    @torch.no_grad()
    def init_weights(self):
        bound = 3**0.5 * self.config.n_embd**-0.5
        nn.init.normal_(self.embed.weight, std=0.8)
        nn.init.normal_(self.head.weight, std=0.001)
        for layer in self.layers:
            for w in (layer.attn.q, layer.attn.k, layer.attn.v, layer.mlp.up):
                nn.init.uniform_(w.weight, -bound, bound)
            nn.init.zeros_(layer.attn.o.weight)
            nn.init.zeros_(layer.mlp.down.weight)


class Titan(Bare):
    """States and an older name for them, as in torchtitan."""

    def init_states(self, *, buffer_device=None):
        nn.init.normal_(self.embed.weight)
        for i, layer in enumerate(self.layers):
            layer.init_weights(0.02, (2 * (i + 1)) ** 0.5)
        cut_normal(self.head.weight, self.config.n_embd**-0.5)

    def init_weights(self, **kwargs):
        self.init_states(buffer_device=kwargs.get("buffer_device"))


class Lingua(Bare):
    """A method of the base class that calls one of the subclass, as in lingua."""

    def reset_parameters(self, init_std=None):
        std = init_std or self.config.n_embd**-0.5
        cut_normal(self.embed.weight, std)
        cut_normal(self.head.weight, std)
        self.norm.reset_parameters()

    def init_weights(self):
        self.reset_parameters()
        for layer in self.layers:
            layer.init_weights(None, 1.0)


class Tiny(Bare):
    """A method for each module with a number from the trainer, as in TinyLlama."""

    def _init_weights(self, module: nn.Module, n_layer):
        std = math.sqrt(2 / 5 / self.config.n_embd)
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
        for name, p in module.named_parameters():
            if (name == "o.weight" and isinstance(module, Attention)) or (
                name == "down.weight" and isinstance(module, MLP)
            ):
                nn.init.normal_(p, std=1 / math.sqrt(self.config.n_embd) / n_layer)


class Called(Tiny):
    """The constructor calls it, as in nanoGPT."""

    def __init__(self, config: Config):
        super().__init__(config)
        draw = self._init_weights
        self.apply(lambda module: draw(module, config.n_layer))


class Declined(Tiny):
    """The constructor draws them itself, and would call the method with other settings."""

    def __init__(self, config: Config, fancy: bool = True):
        super().__init__(config)
        if not fancy:
            self.apply(lambda module: self._init_weights(module, config.n_layer))
        for p in self.parameters():
            nn.init.normal_(p, std=0.01) if p.ndim > 1 else nn.init.ones_(p)


class Deferred(Chat):
    """The constructor calls it where a flag says so, and the trainer else, as in OLMo."""

    def __init__(self, config: Config, draw: bool = False):
        super().__init__(config)
        if draw:
            self.init_weights()


class Rivals(Chat):
    """Two that know nothing of each other."""

    def reset_parameters(self):
        for p in self.parameters():
            nn.init.normal_(p, std=0.02)


class Caches(Chat):
    """A method that sets no parameter is no init, and so no rival."""

    def reset_states(self):
        self.cache = None


class Needs(Bare):
    """Nothing says the std."""

    def init_weights(self, std):
        for p in self.parameters():
            nn.init.normal_(p, std=std)


class Same(Bare):
    """It draws what is drawn already."""

    def reset_parameters(self):
        self.embed.reset_parameters()
        self.head.reset_parameters()


class Fails(Bare):
    def init_weights(self):
        raise RuntimeError("no mesh")


def cut_normal(weight, std):
    nn.init.trunc_normal_(weight, 0.0, std, -3 * std, 3 * std)


def forgets():
    return Chat(Config())


def remembers():
    model = Chat(Config())
    model.init_weights()
    return model


def harmless():
    return Same(Config())


def draw_all(parameters):
    for p in parameters:
        if p.ndim > 1:
            nn.init.normal_(p, std=0.02)


class Alone(nn.Module):
    """A model none of whose modules has an init."""

    def __init__(self, n_layer: int = 2):
        super().__init__()
        self.embed = nn.Embedding(64, 32)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 2, 64, norm_first=True, batch_first=True)
            for _ in range(n_layer)
        )
        self.head = nn.Linear(32, 64, bias=False)

    def forward(self, ids):
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class Unconventional(Alone):
    """Its init has the name of none."""

    def prepare(self):
        self.draw()

    def draw(self):
        draw_all(self.parameters())

    def decay(self):
        with torch.no_grad():
            for p in self.parameters():
                p.mul_(0.9)

    def noise(self):
        return torch.randn(3)


class Doubtful(Unconventional):
    """Two under names of none."""

    def other(self):
        self.embed.weight.data.normal_(0, 0.03)
        draw_all(self.parameters())


class Partly(Alone):
    """It draws the head alone."""

    def new_head(self):
        nn.init.normal_(self.head.weight, std=0.02)


class Finished(Alone):
    """The constructor draws all, so that what draws the head again is for later."""

    def __init__(self, n_layer: int = 2):
        super().__init__(n_layer)
        draw_all(self.parameters())

    def new_head(self):
        nn.init.zeros_(self.head.weight)


class Unknown(Alone):
    """Nothing says the std, and its name is that of no init."""

    def prepare(self, std):
        for p in self.parameters():
            nn.init.normal_(p, std=std)
