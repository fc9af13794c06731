"""The role that the name of a parameter suggests."""

import re
from collections.abc import Container

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
        # Not inside a block, whose output is no head.
        r"^(?!.*\.\d+\.)(.*\.)?(lm_head|embed_out|output|head|unembed|output_layer|proj_out)\.weight$",
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
    ("mlp_gate", r"(^|\.)(gate_proj|w_gate)(\.weight)?$"),
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
_QUERY = {"key": "query", "value": "query", "k": "q", "v": "q"}
_SIDE = re.compile(
    r"(?<![a-z])(key|value|k|v)(?=(_proj|_lin|_proj_weight)?(\.weight)?$)|(?<=\.w)[kv]\b"
)
"""The part of a name that sets keys and values apart from queries."""

_GATED = {"w1": "w3", "wi_0": "wi_1"}
_GATE = re.compile(r"\b(w1|wi_0)(?=(\.weight)?$)")
"""First matrix of an MLP -> the one that it gates, if there is one."""

_NORM = re.compile(r"(norm|layernorm|(^|[._])ln)[\w]*\.(weight|scale|gamma)$")
_NORM_BIAS = re.compile(r"(norm|layernorm|(^|[._])ln)[\w]*\.(bias|beta)$")


def role_by_name(name: str, ndim: int, others: Container[str] | None = None) -> ParameterRole:
    """The role that a parameter's name suggests; "other" where it suggests none.

    Args:
        name: its dotted name.
        ndim: number of its dimensions: vectors are norms and biases, matrices the rest.
        others: names of all parameters: keys and values have queries beside them, and w1 beside
            w3 is a gate. None if they are not known.

    Example:
        >>> role_by_name("model.layers.0.mlp.down_proj.weight", 2)
        'mlp_down'
        >>> role_by_name("model.layers.0.input_layernorm.weight", 1)
        'norm_weight'
        >>> role_by_name("h.0.att.key.weight", 2, {"h.0.att.key.weight"})  # as in RWKV
        'other'
    """
    lowered = name.lower()
    if ndim < 2:
        return _of_vector(lowered)
    role: ParameterRole = next((r for r, pattern in _NAMED if pattern.search(lowered)), "other")
    return role if others is None else _beside(name, role, others)


def _of_vector(lowered: str) -> ParameterRole:
    if _NORM.search(lowered):
        return "norm_weight"
    if _NORM_BIAS.search(lowered):
        return "norm_bias"
    is_special = re.search(r"dt_bias|router|gate\.|conv|forget|e_score|correction", lowered)
    return "linear_bias" if lowered.endswith("bias") and not is_special else "other"


def _beside(name: str, role: ParameterRole, others: Container[str]) -> ParameterRole:
    """The role of a matrix in view of the names beside its own."""
    if role in ("k", "v"):
        return role if _SIDE.sub(lambda m: _QUERY[m.group()], name) in others else "other"
    if role == "mlp_gate":
        return role if re.sub(r"gate(?=(_proj)?(\.weight)?$)", "up", name) in others else "other"
    gated = _GATE.sub(lambda m: _GATED[m.group()], name)
    return "mlp_gate" if role == "mlp_up" and gated != name and gated in others else role
