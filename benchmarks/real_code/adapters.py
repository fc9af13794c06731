"""What a user of a code base would write where its class alone does not say how to build or run it.

Factories build a model that its own code builds from nested configurations; forward functions call
a model that wants more than token ids. Each imports the code base that it is for, and no other.
"""

# mypy: ignore-errors


def x_transformers(dim: int = 64, depth: int = 3, heads: int = 4, num_tokens: int = 256):
    """The decoder of lucidrains, as the README of x-transformers builds it."""
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(dim=dim, depth=depth, heads=heads, attn_dim_head=dim // heads)
    return TransformerWrapper(num_tokens=num_tokens, max_seq_len=128, attn_layers=layers)


def x_transformers_rotary(dim: int = 64, depth: int = 3, heads: int = 4, num_tokens: int = 256):
    """The same with rotary positions, RMSNorm and SwiGLU."""
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(
        dim=dim, depth=depth, heads=heads, attn_dim_head=dim // heads,
        rotary_pos_emb=True, use_rmsnorm=True, ff_swish=True, ff_glu=True,
    )  # fmt: skip
    return TransformerWrapper(
        num_tokens=num_tokens, max_seq_len=128, attn_layers=layers, use_abs_pos_emb=False
    )


def torchtitan_llama3(dim: int = 64, n_layers: int = 3, n_heads: int = 4, vocab_size: int = 256):
    """The Llama 3 of torchtitan, built from its configurations as its trainer does."""
    from torchtitan.models import llama3

    known = llama3.ComplexRoPE.Config.__dataclass_fields__  # release and repository differ
    length = next(n for n in ("max_seq_len", "max_context_length") if n in known)
    return llama3.Llama3Model.Config(
        dim=dim,
        vocab_size=vocab_size,
        tok_embeddings=llama3.Embedding.Config(
            num_embeddings=vocab_size, embedding_dim=dim, param_init=llama3._EMBEDDING_INIT
        ),
        norm=llama3.RMSNorm.Config(normalized_shape=dim, param_init=llama3._NORM_INIT),
        lm_head=llama3.Linear.Config(
            in_features=dim, out_features=vocab_size, param_init=llama3._output_linear_init(dim)
        ),
        layers=llama3._build_llama3_layers(
            fuse_qkv=False,
            n_layers=n_layers,
            dim=dim,
            n_heads=n_heads,
            hidden_dim=2 * dim,
            rope=llama3.ComplexRoPE.Config(
                dim=dim // n_heads, theta=500000, scaling="none", **{length: 128}
            ),
            attn_backend="flex",
        ),
    ).build()


def olmo_core(d_model: int = 64, n_layers: int = 3, n_heads: int = 4, vocab_size: int = 256):
    """The Llama of OLMo-core; its trainer calls init_weights afterwards."""
    from olmo_core.nn.transformer import TransformerConfig

    config = TransformerConfig.llama_like(
        d_model=d_model, n_layers=n_layers, n_heads=n_heads, vocab_size=vocab_size
    )
    return config.build(init_device="cpu")


def olmo_core_olmo2(d_model: int = 64, n_layers: int = 3, n_heads: int = 4, vocab_size: int = 256):
    """OLMo 2: norms after the branches, and of queries and keys."""
    from olmo_core.nn.transformer import TransformerBlockType, TransformerConfig

    config = TransformerConfig.llama_like(
        d_model=d_model, n_layers=n_layers, n_heads=n_heads, vocab_size=vocab_size,
        block_name=TransformerBlockType.reordered_norm, qk_norm=True,
    )  # fmt: skip
    return config.build(init_device="cpu")


def retnet(embed_dim: int = 64, n_layers: int = 3, heads: int = 4, vocab_size: int = 256):
    """The RetNet of torchscale as a language model, with the embedding that users give it."""
    import torch
    from torchscale.architecture.config import RetNetConfig
    from torchscale.architecture.retnet import RetNetDecoder

    config = RetNetConfig(
        decoder_embed_dim=embed_dim, decoder_value_embed_dim=2 * embed_dim, vocab_size=vocab_size,
        decoder_retention_heads=heads, decoder_ffn_embed_dim=2 * embed_dim, decoder_layers=n_layers,
    )  # fmt: skip
    embedding = torch.nn.Embedding(vocab_size, embed_dim)
    torch.nn.init.normal_(embedding.weight, std=embed_dim**-0.5)
    return RetNetDecoder(config, embed_tokens=embedding)


def torchscale_decoder(
    embed_dim: int = 64, n_layers: int = 3, heads: int = 4, vocab_size: int = 256
):
    """The decoder of torchscale with its default sub-LayerNorm."""
    import torch
    from torchscale.architecture.config import DecoderConfig
    from torchscale.architecture.decoder import Decoder

    config = DecoderConfig(
        decoder_embed_dim=embed_dim, decoder_attention_heads=heads, decoder_layers=n_layers,
        decoder_ffn_embed_dim=4 * embed_dim, vocab_size=vocab_size,
    )  # fmt: skip
    embedding = torch.nn.Embedding(vocab_size, embed_dim)
    torch.nn.init.normal_(embedding.weight, std=embed_dim**-0.5)
    return Decoder(config, embed_tokens=embedding)


def xlstm(embedding_dim: int = 64, num_blocks: int = 3, vocab_size: int = 256):
    """The mLSTM language model of xlstm."""
    from xlstm.blocks.mlstm.block import mLSTMBlockConfig
    from xlstm.blocks.mlstm.layer import mLSTMLayerConfig
    from xlstm.xlstm_lm_model import xLSTMLMModel, xLSTMLMModelConfig

    config = xLSTMLMModelConfig(
        mlstm_block=mLSTMBlockConfig(mlstm=mLSTMLayerConfig(num_heads=4)),
        vocab_size=vocab_size,
        embedding_dim=embedding_dim,
        num_blocks=num_blocks,
        context_length=64,
    )
    return xLSTMLMModel(config)


def griffin(width: int = 64, vocab_size: int = 256):
    """Griffin of recurrentgemma: two recurrent blocks and one of attention."""
    import torch
    from recurrentgemma.common import GriffinConfig, TemporalBlockType
    from recurrentgemma.torch.griffin import Griffin

    kinds = (TemporalBlockType.RECURRENT, TemporalBlockType.RECURRENT, TemporalBlockType.ATTENTION)
    config = GriffinConfig(
        vocab_size=vocab_size, width=width, mlp_expanded_width=3 * width, num_heads=4,
        block_types=kinds, embeddings_scale_by_sqrt_dim=True, attention_window_size=64,
        logits_soft_cap=30.0, lru_width=width,
    )  # fmt: skip
    return Griffin(config, gradient_checkpointing=False, dtype=torch.float32)


def litgpt_init(model):
    """What pretrain.py of litgpt runs; its own function wants a Fabric beside the model."""
    import math

    from litgpt.model import CausalSelfAttention, LLaMAMLP
    from torch import nn

    n_embd, n_layer = model.config.n_embd, model.config.n_layer
    last = [m.proj for m in model.modules() if isinstance(m, (LLaMAMLP, CausalSelfAttention))]
    for module in model.modules():
        if isinstance(module, (nn.Embedding, nn.Linear)):
            is_last = any(module is proj for proj in last)
            std = 1 / math.sqrt(n_embd) / n_layer if is_last else math.sqrt(2 / 5 / n_embd)
            nn.init.normal_(module.weight, std=std)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)


# Forward functions: how to call a model on ids of shape (B, T).


def from_position_0(model, ids):
    """A model that takes the position where the sequence begins."""
    return model(ids, 0)


def without_batch(model, ids):
    """A model that takes one sequence."""
    return model(ids[0])


def gpt_fast(model, ids):
    """gpt-fast: caches first, then positions beside the ids."""
    import torch

    model.setup_caches(len(ids), model.config.block_size)
    return model(ids, torch.arange(ids.shape[1]))


def clip_text(model, ids):
    """The text tower of CLIP."""
    return model.encode_text(ids)


def griffin_forward(model, ids):
    """Griffin takes the position of every token."""
    import torch

    return model(ids, torch.arange(ids.shape[1])[None])[0]


def torchtitan(model, ids):
    """torchtitan: positions, and the masks that it makes of them."""
    import torch

    positions = torch.arange(ids.shape[1])[None].expand_as(ids)
    return model(ids, positions, model.get_attention_masks(positions))
