"""The shape of a model as its forward pass shows it, where its settings are silent."""

from collections.abc import Mapping

from gptinit.forward.blocks import Decoder
from gptinit.forward.graph import SOFTMAXES, Graph, Vertex
from gptinit.forward.roles import WeightUse, product_of_tokens

__all__ = [
    "observed_activation",
    "observed_heads",
    "observed_norm",
    "observed_positions",
    "width_of",
]

_ACTIVATIONS = ("gelu", "silu", "relu", "sigmoid", "tanh", "leaky_relu", "elu", "mish", "hardswish")


def observed_heads(graph: Graph, uses: Mapping[str, WeightUse]) -> tuple[int, int, int] | None:
    """(n_head, n_kv_head, head_dim) of the first attention; None without one.

    Keys that are repeated before they meet queries are counted as their matrix makes them.
    """
    found = next(filter(None, (_heads(graph, v) for v in graph.vertices)), None)
    if found is None:
        return None
    n_head, n_kv_head, head_dim = found
    made = width_of(uses, "k")
    is_whole = made is not None and made % head_dim == 0
    return n_head, made // head_dim if made and is_whole else n_kv_head, head_dim


def _heads(graph: Graph, v: Vertex) -> tuple[int, int, int] | None:
    """(n_head, n_kv_head, head_dim) where a vertex is attention over (B, nh, T, S)."""
    if "scaled_dot_product" in v.name and len(v.operands) >= 3:
        query, key = v.operands[0].geometry.size, v.operands[1].geometry.size
        return query[1], key[1], query[-1]
    if v.name not in SOFTMAXES or len(v.node.shape) != 4:
        return None
    scores = product_of_tokens(graph, v.index)
    if scores is None:
        return None
    return v.node.shape[1], v.node.shape[1], scores.operands[0].geometry.size[-1]


def observed_norm(graph: Graph) -> str | None:
    """Name of the norm, layernorm or rmsnorm, by the operators that normalise."""
    names = {v.name for v in graph.vertices if graph.is_token(v.index)}
    if "native_layer_norm" in names:
        return "layernorm"
    return "rmsnorm" if names & {"rsqrt", "_fused_rms_norm", "rms_norm"} else None


def observed_positions(graph: Graph, uses: Mapping[str, WeightUse]) -> str | None:
    """Kind of positions: learned where a table of them is read, rotary where angles are."""
    if any("pos_emb" in use.roles for use in uses.values()):
        return "learned"
    has_angles = any(v.name in {"sin", "cos", "polar"} for v in graph.vertices)
    return "rotary" if has_angles else None


def observed_activation(graph: Graph, decoder: Decoder) -> str | None:
    """Name of the activation of the last block's MLP."""
    last = decoder.chain[-1]
    cone = graph.ancestors[last.branch] & ~graph.ancestors[last.stream]
    for v in reversed(graph.vertices):
        if cone >> v.index & 1 and v.name in _ACTIVATIONS:
            is_tanh = v.node.kwargs.get("approximate") == "tanh"
            # GELU by hand: x (1 + tanh(c (x + d x^3))) / 2.
            is_by_hand = v.name == "tanh" and _has_cube(graph, cone)
            return "gelu_tanh" if (v.name == "gelu" and is_tanh) or is_by_hand else v.name
    return None


def _has_cube(graph: Graph, cone: int) -> bool:
    """Whether a third power is taken in a set of nodes."""
    return any(
        cone >> v.index & 1 and v.name == "pow" and 3 in (v.node.args[1:2] or ())
        for v in graph.vertices
    )


def width_of(uses: Mapping[str, WeightUse], role: str) -> int | None:
    """fan_out of the first weight of a role."""
    return next((u.fan_out for u in uses.values() if role in u.roles), None)
