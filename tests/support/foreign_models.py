# ruff: noqa: D101, D102 # a model is documented by its name in FOREIGN, a forward by its class
"""Small decoders as other people write them, each odd in one way, and a record of what they add.

Every model calls `note` where its stream is made or added to, so that a test can compare what is
heard from outside with what the model itself had in its hands.

Letters in shapes: B batch, T positions, C width, V vocabulary, nh heads, hs head width, F d_ff.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptinit.load.factory import Factory
from gptinit.read.reading import Reading, read_model

C, NH, FF, V, T, L = 16, 2, 40, 53, 24, 3
"""Width, heads, MLP width, vocabulary, context and layers of every model here."""

_heard: list[list[tuple[str, Tensor]]] = []


def note(kind: str, tensor: Tensor) -> Tensor:
    """The tensor itself, written down while somebody listens."""
    for record in _heard:
        record.append((kind, tensor.detach().clone()))
    return tensor


@contextmanager
def hearing() -> Iterator[list[tuple[str, Tensor]]]:
    """What models note inside: ("embedding", "attn", "mlp", "sum", "resid" or "scores", tensor)."""
    record: list[tuple[str, Tensor]] = []
    _heard.append(record)
    try:
        yield record
    finally:
        _heard.remove(record)


def _heads(x: Tensor, count: int) -> Any:
    """(B, T, nh hs) to (B, nh, T, hs)."""
    return x.unflatten(-1, (count, -1)).transpose(1, 2)


def _causal_scores(q: Tensor, k: Tensor) -> Tensor:
    """(B, nh, T, T) with -inf above the diagonal."""
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    barred = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).triu(1)
    return scores.masked_fill(barred, -math.inf)


class Attention(nn.Module):
    """Attention with a fused qkv and torch's fused operator."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.c_attn = nn.Linear(C, 3 * C, bias=bias)
        self.c_proj = nn.Linear(C, C, bias=bias)

    def forward(self, x: Any) -> Any:
        q, k, v = (_heads(t, NH) for t in self.c_attn(x).split(C, -1))
        if _heard:
            note("scores", _causal_scores(q, k))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.c_proj(y.transpose(1, 2).flatten(2))


class EagerAttention(nn.Module):
    """Attention by hand: a product, a mask, a softmax, a product."""

    def __init__(self) -> None:
        super().__init__()
        self.wq, self.wk, self.wv = (nn.Linear(C, C) for _ in range(3))
        self.wo = nn.Linear(C, C)

    def forward(self, x: Any) -> Any:
        q, k, v = _heads(self.wq(x), NH), _heads(self.wk(x), NH), _heads(self.wv(x), NH)
        weights = F.softmax(note("scores", _causal_scores(q, k)), dim=-1)
        return self.wo((weights @ v).transpose(1, 2).flatten(2))


class RotaryAttention(nn.Module):
    """Grouped queries turned by an angle that grows with the position; no biases."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(C, C, bias=False)
        self.k_proj = nn.Linear(C, C // NH, bias=False)
        self.v_proj = nn.Linear(C, C // NH, bias=False)
        self.o_proj = nn.Linear(C, C, bias=False)

    def forward(self, x: Any) -> Any:
        q, k, v = _heads(self.q_proj(x), NH), _heads(self.k_proj(x), 1), _heads(self.v_proj(x), 1)
        q, k = _turned(q), _turned(k).expand_as(q)
        if _heard:
            note("scores", _causal_scores(q, k))
        y = F.scaled_dot_product_attention(q, k, v.expand_as(q), is_causal=True)
        return self.o_proj(y.transpose(1, 2).flatten(2))


def _turned(x: Tensor) -> Tensor:
    """Pairs of entries turned by the position times 1, 1/10, ...: (B, nh, T, hs)."""
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[2])[:, None] * 10.0 ** -torch.arange(half)
    a, b = x.chunk(2, -1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class MLP(nn.Module):
    """Two matrices around a GELU."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(C, FF, bias=bias), nn.Linear(FF, C, bias=bias)

    def forward(self, x: Any) -> Any:
        return self.c_proj(F.gelu(self.c_fc(x)))


class GatedMLP(nn.Module):
    """SwiGLU."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(C, FF, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(FF, C, bias=False)

    def forward(self, x: Any) -> Any:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class ListOfExperts(nn.Module):
    """A router and two experts, each a module, both used at every position."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(C, 2, bias=False)
        self.experts = nn.ModuleList(GatedMLP() for _ in range(2))

    def forward(self, x: Any) -> Any:
        share = F.softmax(self.router(x), -1)  # (B, T, 2)
        return sum(share[..., i : i + 1] * e(x) for i, e in enumerate(self.experts))


class StackedExperts(nn.Module):
    """The same with all experts in one tensor, stored (expert, in, out)."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(C, 2, bias=False)
        self.up = nn.Parameter(torch.randn(2, C, FF) * 0.02)
        self.down = nn.Parameter(torch.randn(2, FF, C) * 0.01)

    def forward(self, x: Any) -> Any:
        flat = x.flatten(0, 1)  # (B T, C)
        share = F.softmax(self.router(flat), -1).T[..., None]  # (2, B T, 1)
        hidden = F.gelu(torch.bmm(flat.expand(2, -1, -1), self.up))  # (2, B T, F)
        return (share * torch.bmm(hidden, self.down)).sum(0).view_as(x)


class RMSNorm(nn.Module):
    """Over the root of the mean square, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(C))

    def forward(self, x: Any) -> Any:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight


class Block(nn.Module):
    """Pre-norm: the stream is only added to."""

    def __init__(self, attn: Any = Attention, mlp: Any = MLP, norm: Any = None) -> None:
        super().__init__()
        make = norm or (lambda: nn.LayerNorm(C))
        self.ln_1, self.attn, self.ln_2, self.mlp = make(), attn(), make(), mlp()

    def forward(self, x: Any) -> Any:
        x = x + note("attn", self.attn(self.ln_1(x)))
        return note("resid", x + note("mlp", self.mlp(self.ln_2(x))))


class EagerBlock(Block):
    """Pre-norm with attention by hand."""

    def __init__(self) -> None:
        super().__init__(attn=EagerAttention)


class LlamaBlock(nn.Module):
    """Pre-norm with RMSNorm and a gate; the stream is added, in place, to what a branch gives."""

    def __init__(self) -> None:
        super().__init__()
        self.self_attn, self.mlp = RotaryAttention(), GatedMLP()
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(), RMSNorm()

    def forward(self, x: Any) -> Any:
        h = note("attn", self.self_attn(self.input_layernorm(x)))
        h += x
        out = note("mlp", self.mlp(self.post_attention_layernorm(h)))
        out += h
        return note("resid", out)


class InPlaceBlock(Block):
    """Branches are added to the stream itself, in place: it can run forward, not backward."""

    def forward(self, x: Any) -> Any:
        x += note("attn", self.attn(self.ln_1(x)))
        x += note("mlp", self.mlp(self.ln_2(x)))
        return note("resid", x)


class PostNormBlock(Block):
    """The norm stands on the stream, after the addition."""

    def forward(self, x: Any) -> Any:
        x = self.ln_1(x + note("attn", self.attn(x)))
        return note("resid", self.ln_2(note("sum", x + note("mlp", self.mlp(x)))))


class ParallelBlock(Block):
    """Both branches start from one norm and are added together."""

    def __init__(self) -> None:
        super().__init__()
        del self.ln_2

    def forward(self, x: Any) -> Any:
        h = self.ln_1(x)
        return note("resid", x + note("attn", self.attn(h)) + note("mlp", self.mlp(h)))


class SummedParallelBlock(ParallelBlock):
    """The branches are added to each other before the stream."""

    def forward(self, x: Any) -> Any:
        h = self.ln_1(x)
        both = note("attn", self.attn(h)) + note("mlp", self.mlp(h))
        return note("resid", both + x)


class SandwichBlock(Block):
    """A second norm on what a branch adds."""

    def __init__(self) -> None:
        super().__init__()
        self.post_1, self.post_2 = nn.LayerNorm(C), nn.LayerNorm(C)
        nn.init.constant_(self.post_1.weight, 0.25)

    def forward(self, x: Any) -> Any:
        x = x + note("attn", self.post_1(self.attn(self.ln_1(x))))
        return note("resid", x + note("mlp", self.post_2(self.mlp(self.ln_2(x)))))


class MultiplierBlock(Block):
    """Branches are multiplied by a number before they are added."""

    def forward(self, x: Any) -> Any:
        x = x + note("attn", self.attn(self.ln_1(x)) * 0.25)
        return note("resid", x + note("mlp", 0.5 * self.mlp(self.ln_2(x))))


class LayerScale(nn.Module):
    """A learned factor for every channel."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((C,), 0.1))

    def forward(self, x: Any) -> Any:
        return x * self.gamma


class LayerScaleBlock(Block):
    """Branches are scaled by a vector of parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.ls_1, self.ls_2 = LayerScale(), LayerScale()

    def forward(self, x: Any) -> Any:
        x = x + note("attn", self.ls_1(self.attn(self.ln_1(x))))
        return note("resid", x + note("mlp", self.ls_2(self.mlp(self.ln_2(x)))))


class ListOfExpertsBlock(Block):
    """Pre-norm with experts as modules."""

    def __init__(self) -> None:
        super().__init__(mlp=ListOfExperts)


class StackedExpertsBlock(Block):
    """Pre-norm with experts in one tensor."""

    def __init__(self) -> None:
        super().__init__(mlp=StackedExperts)


class Decoder(nn.Module):
    """Embeddings, blocks, a final norm and a head; subclasses are odd."""

    block: Callable[[], nn.Module] = Block
    norm: Callable[[], nn.Module] = staticmethod(lambda: nn.LayerNorm(C))
    h: Any
    lm_head: Any

    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, C), nn.Embedding(T, C)
        self.h = self.blocks([type(self).block() for _ in range(L)])
        self.ln_f = type(self).norm()
        self.make_head()
        self.apply(self.draw)

    def make_head(self) -> None:
        self.lm_head = nn.Linear(C, V, bias=False)

    def blocks(self, made: list[nn.Module]) -> nn.Module:
        return nn.ModuleList(made)

    def draw(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.3)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def embed(self, ids: Any) -> Any:
        return self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))

    def stream(self, ids: Any) -> Any:
        x = note("embedding", self.embed(ids))
        for block in self.h:
            x = block(x)
        return x

    def forward(self, ids: Any) -> Any:
        return self.lm_head(self.ln_f(self.stream(ids)))


class EagerDecoder(Decoder):
    block = EagerBlock


class Llama(nn.Module):
    """Rotary, RMSNorm, gated MLP, grouped queries, no biases, and its own names."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(V, C)
        self.layers = nn.ModuleList(LlamaBlock() for _ in range(L))
        self.norm = RMSNorm()
        self.lm_head = nn.Linear(C, V, bias=False)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.2)

    def forward(self, input_ids: Any, use_cache: bool = True) -> Any:
        x = note("embedding", self.embed_tokens(input_ids))
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(self.norm(x))


class InPlace(Decoder):
    block = InPlaceBlock


class PostNorm(Decoder):
    block = PostNormBlock
    norm = nn.Identity


class Parallel(Decoder):
    block = ParallelBlock


class SummedParallel(Decoder):
    block = SummedParallelBlock


class Sandwich(Decoder):
    block = SandwichBlock


class Multiplier(Decoder):
    block = MultiplierBlock


class Scaled(Decoder):
    block = LayerScaleBlock


class Experts(Decoder):
    block = ListOfExpertsBlock


class ExpertsInOneTensor(Decoder):
    block = StackedExpertsBlock


class Shared(Decoder):
    """One block that runs several times."""

    def blocks(self, made: list[nn.Module]) -> nn.Module:
        return nn.ModuleList(made[:1])

    def stream(self, ids: Any) -> Any:
        x = note("embedding", self.embed(ids))
        for _ in range(L):
            x = self.h[0](x)
        return x


class SharedPostNorm(Shared):
    """One block that runs several times, with norms on the stream."""

    block = PostNormBlock
    norm = nn.Identity


class OneMLP(Decoder):
    """Blocks with attention of their own and one MLP for all."""

    def blocks(self, made: list[nn.Module]) -> nn.Module:
        """The MLP of the first in all."""
        for block in made[1:]:
            block.mlp = made[0].mlp
        return nn.ModuleList(made)


class InInferenceMode(Decoder):
    """A forward that leaves no graph and hands its operators over whole."""

    @torch.inference_mode()
    def forward(self, ids: Any) -> Any:
        return super().forward(ids)


class SlicedInInferenceMode(EagerDecoder):
    """The same, with attention in its own arithmetic and views of weights."""

    @torch.inference_mode()
    def forward(self, ids: Any) -> Any:
        x = self.ln_f(self.stream(ids))
        return x @ self.lm_head.weight.view(V, C).T


class ToldOfTheFirstBlock(Block):
    """Gives what is added to the stream, and is told of the embedding."""

    def forward(self, x: Any, first: Any = None) -> Any:
        attn = note("attn", self.attn(self.ln_1(x)))
        return attn + note("mlp", self.mlp(self.ln_2(x + 0.1 * first)))


class AddedOutside(Decoder):
    """The stream is added to outside of blocks, which all read the embedding."""

    block = ToldOfTheFirstBlock

    def stream(self, ids: Any) -> Any:
        x = first = note("embedding", self.embed(ids))
        for block in self.h:
            x = note("resid", x + block(x, first))
        return x


class MixedBack(Decoder):
    """Between blocks the embedding is mixed in again; the last block gets a skip from the first."""

    def __init__(self) -> None:
        super().__init__()
        self.resid, self.first = nn.Parameter(torch.full((L,), 1.1)), nn.Parameter(torch.ones(L))

    def stream(self, ids: Any) -> Any:
        x = first = self.embed(ids)
        ends: list[Any] = []
        for i, block in enumerate(self.h):
            x = self.resid[i] * x + 0.3 * self.first[i] * first
            if i == L - 1:
                x = x + 0.5 * ends[0]
            x = block(x if i else note("embedding", x))
            ends.append(x)
        return x


class MixingBlock(Block):
    """The embedding is mixed in again at its start."""

    def __init__(self) -> None:
        super().__init__()
        self.lambdas = nn.Parameter(torch.tensor([0.8, 0.4]))

    def forward(self, x: Any, first: Any = None) -> Any:
        return super().forward(self.lambdas[0] * x + self.lambdas[1] * first)


class MixedInside(Decoder):
    block = MixingBlock

    def stream(self, ids: Any) -> Any:
        x = first = note("embedding", self.embed(ids))
        for block in self.h:
            x = block(x, first)
        return x


class Sublayer(nn.Module):
    """One branch, added to the stream: an entry of a flat list."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.ln, self.inner = nn.LayerNorm(C), inner

    def forward(self, x: Any) -> Any:
        return x + self.inner(self.ln(x))


class Flat(Decoder):
    """Attention, MLP, attention, MLP ... in one list; `order` may be another."""

    order = "am" * L

    def blocks(self, made: list[nn.Module]) -> nn.Module:
        kinds = {"a": Attention, "m": MLP}
        return nn.ModuleList(Sublayer(kinds[kind]()) for kind in self.order)


class TorchAttention(nn.Module):
    """torch's own module, which is one fused operator in inference unless it is told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(C, NH, batch_first=True)

    def forward(self, x: Any) -> Any:
        if _heard:
            weight, bias = self.inner.in_proj_weight, self.inner.in_proj_bias
            q, k, _ = (_heads(t, NH) for t in F.linear(x, weight, bias).split(C, -1))
            note("scores", _causal_scores(q, k))
        T = x.shape[1]
        later = torch.ones(T, T, dtype=torch.bool).triu(1)
        return self.inner(x, x, x, attn_mask=later, need_weights=self.gives_weights)[0]

    gives_weights = False


class TorchAttentionWithWeights(TorchAttention):
    """The same by hand, inside of torch."""

    gives_weights = True


class TorchDecoder(Decoder):
    block = staticmethod(lambda: Block(attn=TorchAttention))


class TorchDecoderWithWeights(Decoder):
    block = staticmethod(lambda: Block(attn=TorchAttentionWithWeights))


class InSequence(Decoder):
    """Blocks in an nn.Sequential that is called as one."""

    def blocks(self, made: list[nn.Module]) -> nn.Module:
        return nn.Sequential(*made)

    def stream(self, ids: Any) -> Any:
        return self.h(note("embedding", self.embed(ids)))


class InDict(Decoder):
    """Blocks in an nn.ModuleDict."""

    def blocks(self, made: list[nn.Module]) -> nn.Module:
        return nn.ModuleDict({f"{i}": block for i, block in enumerate(made)})

    def stream(self, ids: Any) -> Any:
        x = note("embedding", self.embed(ids))
        for block in self.h.values():
            x = block(x)
        return x


class ByForward(Decoder):
    """Blocks are not called but their forward is, so that no hook of theirs runs."""

    def stream(self, ids: Any) -> Any:
        x = note("embedding", self.embed(ids))
        for block in self.h:
            x = block.forward(x)
        return x


class PositionsAsParameter(Decoder):
    """A table of positions that is sliced and added."""

    def __init__(self) -> None:
        super().__init__()
        del self.wpe
        self.pos = nn.Parameter(torch.randn(1, T, C) * 0.1)

    def embed(self, ids: Any) -> Any:
        return self.wte(ids) + self.pos[:, : ids.shape[1]]


class TiedByUse(Decoder):
    """The head is the embedding, in no other way than that it is used so."""

    def make_head(self) -> None:
        """No head."""

    def forward(self, ids: Any) -> Any:
        return F.linear(self.ln_f(self.stream(ids)), self.wte.weight)


class TiedByParameter(Decoder):
    """The head is the embedding's parameter."""

    def make_head(self) -> None:
        super().make_head()
        self.lm_head.weight = self.wte.weight


class SoftCapped(Decoder):
    """Logits stay within 2."""

    def forward(self, ids: Any) -> Any:
        return 2 * torch.tanh(super().forward(ids) / 2)


class ScaledLogits(Decoder):
    """Logits are multiplied by a number."""

    def forward(self, ids: Any) -> Any:
        return super().forward(ids) * 0.125


class HeadWithBias(Decoder):
    """A head with a bias that is not zero."""

    def make_head(self) -> None:
        self.lm_head = nn.Linear(C, V)

    def draw(self, module: nn.Module) -> None:
        super().draw(module)
        if module is self.lm_head:
            nn.init.normal_(self.get_parameter("lm_head.bias"), std=2.0)


class GivesTuple(Decoder):
    """Returns (None, loss, logits), the loss first."""

    def forward(self, ids: Any) -> Any:
        logits = super().forward(ids)
        return None, logits.mean(), logits


class GivesDict(Decoder):
    """Returns a dict; another entry has the shape of logits and comes first."""

    def forward(self, ids: Any) -> Any:
        logits = super().forward(ids)
        return {"hidden": self.wte(ids), "logits": logits}


@dataclass
class Output:
    """What a forward returns."""

    loss: Any
    logits: Any


class GivesDataclass(Decoder):
    """Returns a dataclass."""

    def forward(self, ids: Any) -> Any:
        return Output(loss=None, logits=super().forward(ids))


class LastPositionOnly(Decoder):
    """All logits only where there are targets, as in nanoGPT."""

    def forward(self, idx: Any, targets: Any = None) -> Any:
        x = self.ln_f(self.stream(idx))
        if targets is None:
            return self.lm_head(x[:, [-1]]), None
        logits = self.lm_head(x)
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())


FOREIGN: dict[str, Callable[[], nn.Module]] = {
    "pre-norm": Decoder,
    "eager": EagerDecoder,
    "llama": Llama,
    "in place": InPlace,
    "post-norm": PostNorm,
    "parallel": Parallel,
    "summed parallel": SummedParallel,
    "sandwich": Sandwich,
    "multiplier": Multiplier,
    "layer scale": Scaled,
    "experts": Experts,
    "experts in one tensor": ExpertsInOneTensor,
    "shared": Shared,
    "shared post-norm": SharedPostNorm,
    "one MLP": OneMLP,
    "inference mode": InInferenceMode,
    "slices in inference mode": SlicedInInferenceMode,
    "added outside": AddedOutside,
    "mixed back": MixedBack,
    "mixed inside": MixedInside,
    "torch's attention": TorchDecoder,
    "sequential": InSequence,
    "dict": InDict,
    "by forward": ByForward,
    "positions as parameter": PositionsAsParameter,
    "tied by use": TiedByUse,
    "tied": TiedByParameter,
    "soft cap": SoftCapped,
    "scaled logits": ScaledLogits,
    "head with bias": HeadWithBias,
    "tuple": GivesTuple,
    "dict of logits": GivesDict,
    "dataclass": GivesDataclass,
    "last position": LastPositionOnly,
}
"""Every model by what is odd about it."""

WITHOUT_GRADIENTS = ("in place", "inference mode", "slices in inference mode")
"""Those that no backward pass goes through: autograd refuses the one, the other leaves no graph."""


def factory(build: Callable[[], nn.Module], **settings: Any) -> Factory:
    """A model as what the reader takes: nothing known of it but how to build it."""
    return Factory(
        name="foreign", source="tests", build=build, settings={}, with_settings=None, **settings
    )


@cache
def reading(name: str) -> Reading:
    """The reading of a model of FOREIGN, made once."""
    return read_model(factory(FOREIGN[name]))


def built(name: str, seed: int = 0) -> nn.Module:
    """A model of FOREIGN with the weights that its own code draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FOREIGN[name]().eval()


def logits_of(returned: Any) -> Tensor:
    """The logits in what a model of FOREIGN returns."""
    if isinstance(returned, tuple):
        return next(t for t in returned if isinstance(t, Tensor) and t.ndim == 3)
    found: Tensor = (
        returned["logits"] if isinstance(returned, dict) else getattr(returned, "logits", returned)
    )
    return found


def some_ids(batch: int = 2, length: int = 11) -> Tensor:
    """Token ids, (B, T)."""
    return torch.randint(V, (batch, length), generator=torch.Generator().manual_seed(5))
