"""Names tell a role where the forward pass tells none."""

import pytest

from gptinit.facts.vocabulary import ROLES
from gptinit.read.role_names import role_by_name

NAMES: dict[str, tuple[str, ...]] = {
    "tok_emb": (
        "transformer.wte.weight", "model.embed_tokens.weight", "tok_embeddings.weight",
        "gpt_neox.embed_in.weight", "shared.weight", "bert.embeddings.word_embeddings.weight",
        "token_embedding_table.weight",
    ),
    "pos_emb": (
        "transformer.wpe.weight", "model.decoder.embed_positions.weight", "pos_emb",
        "position_embeddings.weight", "position_embedding_table.weight",
    ),
    "lm_head": ("lm_head.weight", "embed_out.weight", "output.weight", "model.head.weight"),
    "qkv": (
        "transformer.h.0.attn.c_attn.weight", "layers.0.attention.query_key_value.weight",
        "layers.3.self_attn.qkv_proj.weight", "layers.0.self_attn.in_proj_weight",
    ),
    "q": ("model.layers.0.self_attn.q_proj.weight", "layers.0.attention.wq.weight"),
    "k": ("model.layers.0.self_attn.k_proj.weight", "layers.0.attention.wk.weight"),
    "v": ("model.layers.0.self_attn.v_proj.weight", "layers.0.attention.self.value.weight"),
    "attn_out": (
        "transformer.h.0.attn.c_proj.weight", "model.layers.0.self_attn.o_proj.weight",
        "layers.0.attention.dense.weight", "layers.0.attention.wo.weight",
    ),
    "mlp_gate": ("model.layers.0.mlp.gate_proj.weight",),
    "mlp_up": (
        "transformer.h.0.mlp.c_fc.weight", "model.layers.0.mlp.up_proj.weight",
        "decoder.layers.0.fc1.weight", "layers.0.mlp.dense_h_to_4h.weight",
    ),
    "mlp_down": (
        "transformer.h.0.mlp.c_proj.weight", "model.layers.0.mlp.down_proj.weight",
        "decoder.layers.0.fc2.weight", "layers.0.mlp.dense_4h_to_h.weight",
        "layers.0.feed_forward.w2.weight",
    ),
    "other": ("model.layers.0.mlp.router.weight", "conv.weight", "A_log"),
}  # fmt: skip


@pytest.mark.parametrize(("role", "name"), [(r, n) for r, ns in NAMES.items() for n in ns])
def test_usual_names_of_matrices_tell_their_roles(role: str, name: str) -> None:
    assert role_by_name(name, 2) == role
    assert role in (*ROLES, "other")


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("transformer.h.0.ln_1.weight", "norm_weight"),
        ("model.layers.0.input_layernorm.weight", "norm_weight"),
        ("model.norm.weight", "norm_weight"),
        ("norm.scale", "norm_weight"),
        ("transformer.ln_f.bias", "norm_bias"),
        ("bert.LayerNorm.beta", "norm_bias"),
        ("transformer.h.0.attn.c_attn.bias", "linear_bias"),
        ("layers.0.mixer.dt_bias", "other"),
        ("layers.0.mlp.router.bias", "other"),
        ("layers.0.mlp.gate.e_score_correction_bias", "other"),
        ("A_log", "other"),
    ],
)
def test_vectors_are_norms_biases_or_something_else(name: str, role: str) -> None:
    assert role_by_name(name, 1) == role


@pytest.mark.parametrize(
    ("name", "beside", "role"),
    [
        ("layers.0.feed_forward.w1.weight", "layers.0.feed_forward.w3.weight", "mlp_gate"),
        ("layers.0.feed_forward.w3.weight", "layers.0.feed_forward.w1.weight", "mlp_up"),
        ("layers.0.feed_forward.w1.weight", "layers.0.feed_forward.w2.weight", "mlp_up"),
        ("layer.1.DenseReluDense.wi_0.weight", "layer.1.DenseReluDense.wi_1.weight", "mlp_gate"),
        ("layers.0.mlp.gate_proj.weight", "layers.0.mlp.up_proj.weight", "mlp_gate"),
        ("layers.0.self_attn.gate_proj.weight", "layers.0.mlp.up_proj.weight", "other"),
        ("layers.0.self_attn.k_proj.weight", "layers.0.self_attn.q_proj.weight", "k"),
        ("layers.0.attn.v_proj_weight", "layers.0.attn.q_proj_weight", "v"),
        ("layers.0.attention.wk.weight", "layers.0.attention.wq.weight", "k"),
        ("layers.0.indexer.wk.weight", "layers.0.indexer.wq_b.weight", "other"),
        ("blocks.0.att.key.weight", "blocks.0.att.receptance.weight", "other"),
        ("blocks.0.ffn.value.weight", "blocks.0.ffn.key.weight", "other"),
        ("blocks.0.attention.output.weight", "blocks.0.attention.key.weight", "other"),
    ],
)
def test_defect_13_a_name_means_what_the_names_beside_it_say(
    name: str, beside: str, role: str
) -> None:
    assert role_by_name(name, 2, {name, beside}) == role


def test_a_vector_is_never_taken_for_a_matrix() -> None:
    assert role_by_name("lm_head.weight", 1) == "other"
