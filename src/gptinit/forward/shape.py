"""The shape of a model: sizes and kinds of its parts, as its forward pass shows them.

Norm, positions and activation are judged by names of operators, for display, in any model that
runs. `recognise` proves the same by numbers where it can, which is in one class of five.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from gptinit.forward.blocks import Decoder
from gptinit.forward.branches import product_of_tokens
from gptinit.forward.flow import Flow
from gptinit.forward.graph import SOFTMAXES, Graph, Vertex
from gptinit.forward.roles import WeightUse

__all__ = ["Shape", "merged", "observed_shape"]

_ACTIVATIONS = ("gelu", "silu", "relu", "sigmoid", "tanh", "leaky_relu", "elu", "mish", "hardswish")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes and kinds of a model's parts from one source; None where it does not say."""

    n_layer: int | None = None
    n_head: int | None = None
    n_kv_head: int | None = None
    head_dim: int | None = None
    n_embd: int | None = None
    d_ff: int | None = None
    vocab_size: int | None = None
    norm: str | None = None
    norm_placement: str | None = None
    positions: str | None = None
    activation: str | None = None


def merged(*shapes: Shape) -> Shape:
    """Every field from the first shape that has it.

    Example:
        >>> both = merged(Shape(n_head=4), Shape(n_head=2, head_dim=8))
        >>> both.n_head, both.head_dim, both.d_ff
        (4, 8, None)
    """

    def first(name: str) -> object:
        return next((v for v in (getattr(s, name) for s in shapes) if v is not None), None)

    return Shape(**{f.name: first(f.name) for f in fields(Shape)})  # type: ignore[arg-type] # by name


def observed_shape(flow: Flow) -> Shape:
    """The shape that a forward pass shows; n_layer is left to whoever knows all blocks."""
    if flow.seen is None:
        return Shape()
    graph, decoder = flow.seen.graph, flow.decoder
    n_head, n_kv_head, head_dim = _heads(graph, flow.uses)
    return Shape(
        n_head=n_head,
        n_kv_head=n_kv_head,
        head_dim=head_dim,
        n_embd=flow.width,
        d_ff=_width_of(flow.uses, "mlp_up"),
        vocab_size=flow.seen.vocab_size,
        norm=_norm(graph),
        norm_placement=decoder.placement if decoder else None,
        positions=_positions(graph, flow.uses),
        activation=_activation(graph, decoder) if decoder else None,
    )


def _heads(
    graph: Graph, uses: Mapping[str, WeightUse]
) -> tuple[int, int, int] | tuple[None, None, None]:
    first = next(filter(None, (_heads_at(graph, v) for v in graph.vertices)), None)
    if first is None:
        return None, None, None
    n_head, n_kv_head, head_dim = first
    # Keys may be repeated for every head of queries before the two meet: count their matrix.
    width = _width_of(uses, "k")
    is_whole = width is not None and width % head_dim == 0
    return n_head, width // head_dim if width and is_whole else n_kv_head, head_dim


def _heads_at(graph: Graph, v: Vertex) -> tuple[int, int, int] | None:
    """(n_head, n_kv_head, head_dim) if a vertex is attention over (B, nh, T, S)."""
    if "scaled_dot_product" in v.name and len(v.operands) >= 3:
        query, key = v.operands[0].geometry.size, v.operands[1].geometry.size
        return query[1], key[1], query[-1]
    if v.name not in SOFTMAXES or len(v.node.shape) != 4:
        return None
    scores = product_of_tokens(graph, v.index)
    if scores is None:
        return None
    return v.node.shape[1], v.node.shape[1], scores.operands[0].geometry.size[-1]


def _norm(graph: Graph) -> str | None:
    names = {v.name for v in graph.vertices if graph.is_token(v.index)}
    if "native_layer_norm" in names:
        return "layernorm"
    return "rmsnorm" if names & {"rsqrt", "_fused_rms_norm", "rms_norm"} else None


def _positions(graph: Graph, uses: Mapping[str, WeightUse]) -> str | None:
    if any("pos_emb" in use.roles for use in uses.values()):
        return "learned"
    has_angles = any(v.name in {"sin", "cos", "polar"} for v in graph.vertices)
    return "rotary" if has_angles else None


def _activation(graph: Graph, decoder: Decoder) -> str | None:
    last = decoder.chain[-1]
    cone = graph.ancestors[last.branch] & ~graph.ancestors[last.start]
    inside = list(graph.within(cone))
    for v in reversed(inside):
        if v.name in _ACTIVATIONS:
            is_tanh = v.node.kwargs.get("approximate") == "tanh"
            # GELU by hand: x (1 + tanh(c (x + d x^3))) / 2.
            is_by_hand = v.name == "tanh" and any(w.power == 3 for w in inside)
            return "gelu_tanh" if (v.name == "gelu" and is_tanh) or is_by_hand else v.name
    return None


def _width_of(uses: Mapping[str, WeightUse], role: str) -> int | None:
    return next((u.fan_out for u in uses.values() if role in u.roles), None)
