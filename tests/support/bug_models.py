"""Small decoders of our own, one for every init bug that shipped, each beside its correct twin.

The mistake is always in how weights are drawn (or in what an attention or a stack of torch does by
itself), so one decoder serves most of them: what differs is the function that draws.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DEPTH = 6
"""Blocks of every model: sqrt(2 n_layer) = sqrt(12) = 3.46 is no other number of these shapes."""

WIDTH, HIDDEN, VOCAB = 48, 128, 160

STD = 0.02

Draw = Callable[["Decoder"], None]
"""Draws every weight of a decoder in place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderConfig:
    """Settings of a decoder; the fields are named as configurations in the wild name them."""

    n_layer: int = DEPTH
    n_embd: int = WIDTH
    n_head: int = 4
    d_ff: int = HIDDEN
    vocab_size: int = VOCAB
    block_size: int = 64
    tie_word_embeddings: bool = False
    padding_idx: int | None = None


class RmsNorm(nn.Module):
    """Root mean square norm; `offset` is what is added to its weight in the forward."""

    def __init__(self, width: int, offset: float = 0.0) -> None:
        super().__init__()
        self.offset = offset
        self.weight = nn.Parameter(torch.full((width,), 1.0 - offset))

    def reset_parameters(self) -> None:
        """Gain 1."""
        nn.init.constant_(self.weight, 1.0 - self.offset)

    def forward(self, x: Tensor) -> Tensor:
        """Stream to stream: x (B, T, C) -> (B, T, C)."""
        size = x.square().mean(-1, keepdim=True).add(1e-6).sqrt()
        return x / size * (self.offset + self.weight)


class Attention(nn.Module):
    """Causal attention, a matrix each for q, k and v."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.wq, self.wk, self.wv, self.wo = (
            nn.Linear(config.n_embd, config.n_embd, bias=False) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Stream to stream: x (B, T, C) -> (B, T, C)."""
        B, T, C = x.shape
        q, k, v = (
            w(x).view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
            for w in (self.wq, self.wk, self.wv)
        )  # (B, nh, T, hs)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.wo(mixed.transpose(1, 2).reshape(B, T, C))
        return out


class PackedAttention(nn.Module):
    """Causal attention by torch's own module, q, k and v in one matrix."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(config.n_embd, config.n_head, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Stream to stream: x (B, T, C) -> (B, T, C)."""
        out: Tensor = self.inner(x, x, x, attn_mask=causal(x), need_weights=False)[0]
        return out


def causal(x: Tensor) -> Tensor:
    """What position may not look at what, True: (T, T) for x (B, T, C)."""
    T = x.shape[1]
    return torch.ones(T, T, dtype=torch.bool, device=x.device).triu(1)


class Mlp(nn.Module):
    """SwiGLU: w1 is the gate, w3 goes up, and w2 writes to the stream."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.w1 = nn.Linear(config.n_embd, config.d_ff, bias=False)
        self.w2 = nn.Linear(config.d_ff, config.n_embd, bias=False)
        self.w3 = nn.Linear(config.n_embd, config.d_ff, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Stream to stream: x (B, T, C) -> (B, T, C)."""
        out: Tensor = self.w2(F.silu(self.w1(x)) * self.w3(x))
        return out


class Block(nn.Module):
    """Attention and MLP, each behind its norm."""

    def __init__(
        self,
        config: DecoderConfig,
        norm: Callable[[int], nn.Module],
        attention: Callable[[DecoderConfig], nn.Module],
    ) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = norm(config.n_embd), norm(config.n_embd)
        self.attn = attention(config)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor) -> Tensor:
        """Stream to stream: x (B, T, C) -> (B, T, C)."""
        x = x + self.attn(self.norm_1(x))
        out: Tensor = x + self.mlp(self.norm_2(x))
        return out


class Decoder(nn.Module):
    """A language model without positions, drawn by a function that it is given."""

    def __init__(
        self,
        config: DecoderConfig,
        draw: Draw,
        *,
        norm: Callable[[int], nn.Module] = RmsNorm,
        attention: Callable[[DecoderConfig], nn.Module] = Attention,
    ) -> None:
        super().__init__()
        self.config, self.draw = config, draw
        self.embed = nn.Embedding(config.vocab_size, config.n_embd, config.padding_idx)
        self.blocks = nn.ModuleList(Block(config, norm, attention) for _ in range(config.n_layer))
        self.norm = norm(config.n_embd)
        self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.tie()
        self.init_weights()

    def tie(self) -> None:
        """Make head and embedding one tensor if the settings say so."""
        if self.config.tie_word_embeddings:
            self.head.weight = self.embed.weight

    @torch.no_grad()
    def init_weights(self) -> None:
        """Draw everything; to_empty has given head and embedding a tensor each."""
        self.tie()
        self.draw(self)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits: ids (B, T) -> (B, T, V)."""
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


def decoder(draw: Draw, config: DecoderConfig | None = None) -> Decoder:
    """The decoder of most cases."""
    return Decoder(config or DecoderConfig(), draw)


def matrices(model: nn.Module) -> Iterator[tuple[str, nn.Linear | nn.Embedding]]:
    """Every linear layer and embedding of a model with its path."""
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            yield path, module


def plain(model: nn.Module, std: float = STD) -> None:
    """N(0, std) for every matrix, zero biases, neutral norms."""
    for _, module in matrices(model):
        nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    for norm in model.modules():
        if isinstance(norm, RmsNorm | nn.LayerNorm):
            norm.reset_parameters()


def depth_factor(model: Decoder) -> float:
    """Of a projection that writes to the stream: 1/sqrt(2 n_layer)."""
    return 1 / math.sqrt(2 * model.config.n_layer)


def scaled(*names: str, std: float = STD) -> Draw:
    """`plain`, then the std of matrices with these names divided by sqrt(2 n_layer)."""

    def draw(model: Decoder) -> None:
        plain(model, std)
        for path, module in matrices(model):
            if path.endswith(names):
                nn.init.normal_(module.weight, std=std * depth_factor(model))

    return draw


right = scaled("wo", "w2")
"""What GPT-2 means: N(0, 0.02), and 0.02/sqrt(2 n_layer) for what writes to the stream."""


def neutral() -> Decoder:
    """The correct twin of whatever was meant to be drawn as GPT-2 is."""
    return decoder(right)


def neutral_plain() -> Decoder:
    """The correct twin of what was meant to be N(0, 0.02) throughout."""
    return decoder(plain)


# litgpt-1150: the init is there, and nothing calls it


class Prepared(Decoder):
    """A constructor that leaves torch's defaults, for a trainer that draws the weights."""

    def __init__(self) -> None:
        super().__init__(DecoderConfig(), lambda _: None)

    def reset_parameters(self) -> None:
        """Draw everything as GPT-2 does."""
        right(self)


def forgets_call() -> Decoder:
    """Goes to training as the constructor left it."""
    return Prepared()


def makes_call() -> Decoder:
    """The correct twin."""
    model = Prepared()
    model.reset_parameters()
    return model


# hf-gpt2-cproj: the special rule asks for a name that no parameter has


def never_matches() -> Decoder:
    """Scales parameters called "w2.weight", while their names begin at the root of the model."""

    def draw(model: Decoder) -> None:
        plain(model)
        for name, parameter in model.named_parameters():
            if name in {"wo.weight", "w2.weight"}:
                nn.init.normal_(parameter, std=STD * depth_factor(model))

    return decoder(draw)


# llama2c-w3: the scaling by depth on an input matrix of the MLP


def scaled_w3() -> Decoder:
    """Takes w3 for the matrix that writes to the stream."""
    return decoder(scaled("wo", "w3"))


# lingua-depth: the scaling by depth on every matrix of a block


def fan_in_cut(*names: str) -> Draw:
    """1/sqrt(fan_in) cut at three sigma; divided by sqrt(2 n_layer) where a name matches."""

    def draw(model: Decoder) -> None:
        plain(model)
        for path, module in matrices(model):
            std = module.weight.shape[1] ** -0.5
            std *= depth_factor(model) if path.endswith(names) else 1.0
            nn.init.trunc_normal_(module.weight, std=std, a=-3 * std, b=3 * std)

    return draw


def scaled_throughout() -> Decoder:
    """Divides q, k, v, w1 and w3 as well."""
    return decoder(fan_in_cut("wq", "wk", "wv", "wo", "w1", "w2", "w3"))


def scaled_outputs() -> Decoder:
    """The correct twin: only wo and w2."""
    return decoder(fan_in_cut("wo", "w2"))


# olmo-ffout: one branch divided once more, after its draw


def divided_again() -> Decoder:
    """Divides w2, and w2 alone, where both projections have their std already."""

    def draw(model: Decoder) -> None:
        plain(model)
        for path, module in matrices(model):
            if path.endswith("w2"):
                module.weight.mul_(depth_factor(model))

    return decoder(draw)


# hf-t5-head, modalities-456: a head, alone or tied, of std 1


def with_head(std: float) -> Draw:
    """`right`, then N(0, std) for the head."""

    def draw(model: Decoder) -> None:
        right(model)
        nn.init.normal_(model.head.weight, std=std)

    return draw


def unit_head() -> Decoder:
    """A head of std 1 on a normalised stream."""
    return decoder(with_head(1.0))


def narrow_head() -> Decoder:
    """The correct twin: 1/sqrt(n_embd)."""
    return decoder(with_head(WIDTH**-0.5))


def unit_tied() -> Decoder:
    """An embedding of std 1 that is the head too."""
    return decoder(with_head(1.0), DecoderConfig(tie_word_embeddings=True))


def narrow_tied() -> Decoder:
    """The correct twin: 1/sqrt(n_embd) for both."""
    return decoder(with_head(WIDTH**-0.5), DecoderConfig(tie_word_embeddings=True))


# nanochat-doc, easylm-114, tinyllama-117, pythia-135: something else than what is claimed


def by_names(stds: dict[str, float], base: float = STD) -> Draw:
    """`plain` of `base`, then N(0, std) for matrices whose path ends in a name."""

    def draw(model: Decoder) -> None:
        plain(model, base)
        for path, module in matrices(model):
            for name, std in stds.items():
                if path.endswith(name):
                    nn.init.normal_(module.weight, std=std)

    return draw


def as_coded() -> Decoder:
    """The embedding at 0.8 and w3 at 0.4/sqrt(n_embd)."""
    return decoder(by_names({"embed": 0.8, "w3": 0.4 * WIDTH**-0.5}))


def as_documented() -> Decoder:
    """The embedding at 1 and w3 at 1/sqrt(n_embd)."""
    return decoder(by_names({"embed": 1.0, "w3": WIDTH**-0.5}))


def ones_for_hundredths() -> Decoder:
    """Std 1 for every matrix."""
    return decoder(lambda model: plain(model, 1.0))


SMALL = math.sqrt(2 / (5 * WIDTH))
"""Std of small init for n_embd inputs."""

WANG = 2 / (DEPTH * math.sqrt(WIDTH))
"""Std of Wang init, for what writes to the stream."""


def half_scaled() -> Decoder:
    """Scales what the MLP writes, not what attention writes."""
    return decoder(scaled("w2"))


def small_by_width() -> Decoder:
    """Small init that counts n_embd inputs for w2, which has d_ff."""
    return decoder(lambda model: plain(model, SMALL))


def small_by_inputs() -> Decoder:
    """The correct twin: each matrix by its own fan_in."""
    return decoder(by_names({"w2": math.sqrt(2 / (5 * HIDDEN))}, SMALL))


def small_and_wang() -> Decoder:
    """Small init, and Wang init for what writes to the stream."""
    return decoder(by_names({"wo": WANG, "w2": WANG}, SMALL))


# torch-mha-packed, torch-clones: what torch's own modules do


def xavier(model: Decoder) -> None:
    """Glorot for every matrix but those of nn.MultiheadAttention, which keep what they have."""
    for path, module in matrices(model):
        if "inner" not in path:
            nn.init.xavier_uniform_(module.weight)


def packed() -> Decoder:
    """The packed q, k and v as nn.MultiheadAttention draws them."""
    return Decoder(DecoderConfig(), xavier, attention=PackedAttention)


def packed_apart() -> Decoder:
    """The correct twin: a draw for each of q, k and v."""

    def draw(model: Decoder) -> None:
        xavier(model)
        for name, parameter in model.named_parameters():
            if name.endswith("in_proj_weight"):
                for part in parameter.chunk(3):
                    nn.init.xavier_uniform_(part)

    return Decoder(DecoderConfig(), draw, attention=PackedAttention)


class TorchStack(nn.Module):
    """A language model whose blocks are torch's own encoder layers."""

    def __init__(self, body: nn.TransformerEncoder) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCAB, WIDTH)
        self.body = body
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)
        nn.init.normal_(self.embed.weight, std=STD)
        nn.init.normal_(self.head.weight, std=STD)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits: ids (B, T) -> (B, T, V)."""
        x = self.embed(ids)
        logits: Tensor = self.head(self.body(x, mask=causal(x)))
        return logits


def encoder() -> nn.TransformerEncoder:
    """Deep copies of one layer of torch's."""
    layer = nn.TransformerEncoderLayer(WIDTH, 4, HIDDEN, 0.0, batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, DEPTH, nn.LayerNorm(WIDTH), enable_nested_tensor=False)


def cloned() -> TorchStack:
    """All layers are copies of the first."""
    return TorchStack(encoder())


def half_cloned() -> TorchStack:
    """nn.Transformer draws its matrices again; its biases stay copies."""
    both = nn.Transformer(WIDTH, 4, DEPTH, 1, HIDDEN, 0.0, batch_first=True)
    return TorchStack(both.encoder)


def redrawn() -> TorchStack:
    """The correct twin: every layer drawn by itself, biases zero."""
    model = TorchStack(encoder())
    plain(model)
    for name, parameter in model.named_parameters():
        if name.endswith("in_proj_weight"):
            nn.init.normal_(parameter, std=STD)
    return model


# hf-gemma-norm, ppb-layernorm: norms that are not neutral


def zero_centred(weight: float) -> Decoder:
    """Norms that multiply by 1 + weight."""

    def draw(model: Decoder) -> None:
        right(model)
        for module in model.modules():
            if isinstance(module, RmsNorm):
                nn.init.constant_(module.weight, weight)

    return Decoder(DecoderConfig(), draw, norm=lambda width: RmsNorm(width, offset=1.0))


def doubled_norm() -> Decoder:
    """Weight 1, so that the gain is 2."""
    return zero_centred(1.0)


def single_norm() -> Decoder:
    """The correct twin: weight 0."""
    return zero_centred(0.0)


def drawn_norm() -> Decoder:
    """Weights and biases of norms from N(0, 0.02), as if they were matrices."""

    def draw(model: Decoder) -> None:
        right(model)
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                nn.init.normal_(module.weight, std=STD)
                nn.init.normal_(module.bias, std=STD)

    return Decoder(DecoderConfig(), draw, norm=nn.LayerNorm)


def layer_norm() -> Decoder:
    """The correct twin: 1 and 0."""
    return Decoder(DecoderConfig(), right, norm=nn.LayerNorm)


# hf-meta-norm, hf-meta-noop, nanochat-uninit, hf-43522: only seen when built on meta


def forgets_norms() -> Decoder:
    """Draws matrices and leaves the norms to their constructor."""

    def draw(model: Decoder) -> None:
        for path, module in matrices(model):
            std = STD * (depth_factor(model) if path.endswith(("wo", "w2")) else 1.0)
            nn.init.normal_(module.weight, std=std)

    return decoder(draw)


def draws_once() -> Decoder:
    """Draws nothing in a model that is marked as drawn, which its constructor does."""
    marked: set[int] = set()

    def draw(model: Decoder) -> None:
        if id(model) not in marked:
            marked.add(id(model))
            right(model)

    return decoder(draw)


class Smeared(Decoder):
    """A decoder with two scalars of its own."""

    def __init__(self, config: DecoderConfig, draw: Draw) -> None:
        super().__init__(config, draw)
        self.smear = nn.Parameter(torch.zeros(1))
        self.backout = nn.Parameter(torch.full((1,), 0.2))

    def forward(self, ids: Tensor) -> Tensor:
        """Logits: ids (B, T) -> (B, T, V)."""
        x = start = self.embed(ids)
        x = x + self.smear * x.roll(1, 1)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x - self.backout * start))
        return logits


def forgets_scalars() -> Decoder:
    """Sets the scalars in the constructor and nowhere else."""
    return Smeared(DecoderConfig(), right)


def sets_scalars() -> Decoder:
    """The correct twin: init_weights sets them too."""

    def draw(model: Decoder) -> None:
        right(model)
        for name, parameter in model.named_parameters():
            if name in {"smear", "backout"}:
                nn.init.constant_(parameter, 0.2 if name == "backout" else 0.0)

    return Smeared(DecoderConfig(), draw)


class LosesTie(Decoder):
    """Ties head and embedding in its constructor only."""

    @torch.no_grad()
    def init_weights(self) -> None:
        """Draw everything, and leave it at that."""
        self.draw(self)


def loses_tie(config: DecoderConfig) -> Decoder:
    """Tied by its constructor, untied when built on meta."""
    return LosesTie(config, right)


def keeps_tie(config: DecoderConfig) -> Decoder:
    """The correct twin."""
    return Decoder(config, right)


# fsdp-cpu-shards, olmocore-307: every rank draws its shard from the same seed


def sharded(seeds: tuple[int, int]) -> Decoder:
    """Two ranks draw half of the rows of every matrix each, one seed a rank."""

    def draw(model: Decoder) -> None:
        plain(model)
        ranks = [torch.Generator().manual_seed(seed) for seed in seeds]
        for _, module in matrices(model):
            for rank, shard in zip(ranks, module.weight.chunk(2), strict=True):
                nn.init.normal_(shard, std=STD, generator=rank)

    return decoder(draw)


def same_shards() -> Decoder:
    """One seed for all ranks."""
    return sharded((0, 0))


def own_shards() -> Decoder:
    """The correct twin: a seed for each rank."""
    return sharded((0, 1))


# torch-trunc-bf16: the inverse of the normal distribution, rounded to eight bits


def bfloat16(draw: Callable[[Tensor], None]) -> Decoder:
    """A decoder in bfloat16, its matrices drawn by `draw`."""

    def every(model: Decoder) -> None:
        model.to(torch.bfloat16)
        for module in model.modules():
            if isinstance(module, RmsNorm):
                module.reset_parameters()
        for _, module in matrices(model):
            draw(module.weight)

    return decoder(every)


def by_inverse(weight: Tensor) -> None:
    """N(0, 0.02) cut at -2 and 2: a uniform through erfinv, scaled and clamped, in place."""
    end = math.erf(2 / STD / math.sqrt(2))  # 1, as nearly as a float tells
    weight.uniform_(-end, end).erfinv_().mul_(STD * math.sqrt(2)).clamp_(-2.0, 2.0)


def rounded_inverse() -> Decoder:
    """Draws in bfloat16, where a uniform is often -1, of which erfinv is -infinity."""
    return bfloat16(by_inverse)


def rounded_after() -> Decoder:
    """The correct twin: draws in float32 and rounds what comes out."""

    def draw(weight: Tensor) -> None:
        wide = torch.empty(weight.shape)
        nn.init.trunc_normal_(wide, std=STD)
        weight.copy_(wide)

    return bfloat16(draw)


# hf-46620: loaded, then drawn again


def load_into(model: Decoder) -> Decoder:
    """Fill a model with saved weights: 0.5 in every matrix, 1 in every norm."""
    saved = {
        name: torch.full(value.shape, 0.5 if value.ndim > 1 else 1.0)
        for name, value in model.state_dict().items()
    }
    model.load_state_dict(saved)
    return model


def loaded_then_drawn() -> Decoder:
    """Draws the matrices once more, past every flag, by `.data`."""
    model = load_into(neutral())
    for _, module in matrices(model):
        module.weight.data.normal_(0.0, STD)
    return model


def loaded_last() -> Decoder:
    """The correct twin: nothing is drawn after loading."""
    return load_into(neutral())


# llm-foundry, gain 0: Xavier's draw by default with a gain that makes it nothing


def xavier_everywhere(gain: float) -> Decoder:
    """Every matrix of the blocks by Xavier's rule, embedding and head N(0, 0.02)."""

    def draw(model: Decoder) -> None:
        plain(model)
        for _, module in matrices(model.blocks):
            nn.init.xavier_uniform_(module.weight, gain=gain)

    return decoder(draw)


def zero_gain() -> Decoder:
    """The gain that nobody set is 0."""
    return xavier_everywhere(0.0)


def unit_gain() -> Decoder:
    """The correct twin."""
    return xavier_everywhere(1.0)


# llm-foundry-1745 again: the memory that nothing wrote reads as zeros, the final norm's too


def zeroed_final_norm() -> Decoder:
    """The final norm has lost its gain."""
    model = neutral()
    nn.init.zeros_(model.norm.get_parameter("weight"))
    return model


# fms-289: bounds in units of the weights where units of the std are meant


def truncated(bound: float) -> Decoder:
    """Every matrix by trunc_normal_ with std 0.02; residual projections with bounds of theirs."""

    def draw(model: Decoder) -> None:
        plain(model)
        for path, module in matrices(model):
            cut = bound if path.endswith(("wo", "w2")) else 3 * STD
            nn.init.trunc_normal_(module.weight, std=STD, a=-cut, b=cut)

    return decoder(draw)


def default_bounds() -> Decoder:
    """Some calls leave the bounds at their defaults, -2 and 2."""
    return truncated(2.0)


def own_bounds() -> Decoder:
    """The correct twin: 3 std in every call."""
    return truncated(3 * STD)


# padding-idx: a draw over the row that stands for nothing


def drawn_padding() -> Decoder:
    """Draws the whole embedding, its padding row too."""
    return decoder(right, DecoderConfig(padding_idx=0))


def zero_padding() -> Decoder:
    """The correct twin: zeros that row again."""

    def draw(model: Decoder) -> None:
        right(model)
        nn.init.zeros_(model.embed.weight[0])

    return decoder(draw, DecoderConfig(padding_idx=0))
