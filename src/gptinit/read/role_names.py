"""The role that the name of a parameter suggests."""

import re

from gptinit.facts.vocabulary import ParameterRole, Role

__all__ = ["role_by_name"]

_PATTERNS: tuple[tuple[Role, str], ...] = (
    (
        "tok_emb",
        r"(^|\.)(wte|embed_tokens|tok_embeddings|word_embeddings|tok_emb|embed_in|shared"
        r"|token_embeddings?|token_embedding_table|embeddings?|emb|embed)\.weight$",
    ),
    (
        "pos_emb",
        r"(^|\.)(wpe|embed_positions|position_embeddings?|pos_emb|pos_embedding"
        r"|position_embedding_table|positional_embedding)(\.weight)?$",
    ),
    (
        "lm_head",
        r"^(.*\.)?(lm_head|embed_out|output|head|unembed|output_layer|proj_out)\.weight$",
    ),
    ("qkv", r"(c_attn|qkv|query_key_value|wqkv|qkv_proj|in_proj|in_proj_weight)(\.weight)?$"),
    ("q", r"(^|\.)(q_proj|query|wq|q|to_q|q_lin|q_proj_weight)(\.weight)?$"),
    ("k", r"(^|\.)(k_proj|key|wk|k|to_k|k_lin|k_proj_weight)(\.weight)?$"),
    ("v", r"(^|\.)(v_proj|value|wv|v|to_v|v_lin|v_proj_weight)(\.weight)?$"),
    (
        "attn_out",
        r"(attn|attention|selfattention)\w*\.(.*\.)?(c_proj|o_proj|out_proj|dense|wo|o|proj"
        r"|out|out_lin|to_out)\.weight$",
    ),
    ("mlp_gate", r"(gate_proj|w_gate)(\.weight)?$"),
    (
        "mlp_up",
        r"(c_fc|up_proj|fc1|fc_in|dense_h_to_4h|wi|wi_0|wi_1|w3|w1|linear1|lin1|gate_up_proj"
        r"|intermediate\.dense)(\.weight)?$",
    ),
    (
        "mlp_down",
        r"(mlp\.c_proj|down_proj|fc2|fc_out|dense_4h_to_h|w2|linear2|lin2"
        r"|(densereludense|ffn?|mlp)\.(wo|proj|out)|output\.dense)(\.weight)?$",
    ),
)
_NAMED = tuple((role, re.compile(pattern)) for role, pattern in _PATTERNS)
_NORM = re.compile(r"(norm|layernorm|(^|[._])ln)[\w]*\.(weight|scale|gamma)$")
_NORM_BIAS = re.compile(r"(norm|layernorm|(^|[._])ln)[\w]*\.(bias|beta)$")


def role_by_name(name: str, ndim: int) -> ParameterRole:
    """The role that a parameter's name suggests; "other" where it suggests none.

    Args:
        name: its dotted name.
        ndim: number of its dimensions: vectors are norms and biases, matrices the rest.

    Example:
        >>> role_by_name("model.layers.0.mlp.down_proj.weight", 2)
        'mlp_down'
        >>> role_by_name("model.layers.0.input_layernorm.weight", 1)
        'norm_weight'
    """
    lowered = name.lower()
    if ndim < 2:
        if _NORM.search(lowered):
            return "norm_weight"
        if _NORM_BIAS.search(lowered):
            return "norm_bias"
        is_special = re.search(r"dt_bias|router|gate\.|conv|forget|e_score|correction", lowered)
        return "linear_bias" if lowered.endswith("bias") and not is_special else "other"
    return next((role for role, pattern in _NAMED if pattern.search(lowered)), "other")
