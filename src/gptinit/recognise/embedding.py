"""The stream before the first block: token embeddings, and positions that are added to them."""

from torch import Tensor

from gptinit.forward.graph import Vertex
from gptinit.forward.values import LOOKUPS
from gptinit.recognise.blocks import ForwardPass
from gptinit.recognise.evaluate import weights_between
from gptinit.recognise.products import read_of
from gptinit.theory.parameters import NoFormula

__all__ = ["read_embedding"]


def read_embedding(view: ForwardPass, stream: int) -> tuple[float, str]:
    """(factor on token embeddings, "learned" or "none" for added positions).

    Raises:
        NoFormula: if the stream is more than the sum of the two.
    """
    read = read_of(view.graph, stream)
    token, lookups = _lookups(view)
    tables: dict[str, int] = {}  # position embeddings that are added without a lookup
    for name in weights_between(view.graph, read, dict.fromkeys(lookups)):
        p = view.parameters.get(name)
        if p is None or p.role != "pos_emb" or p.numel > 1 << 26:
            raise NoFormula(name, "this parameter has an effect that no formula covers.")
        tables[name] = p.numel
    if len(lookups) - 1 + len(tables) > 1:
        raise NoFormula("embedding", "it has several position embeddings.")
    return view.pieces.embedding(read, token, lookups, tables)


def _lookups(view: ForwardPass) -> tuple[int, list[int]]:
    token: int | None = None
    lookups: list[int] = []
    for v in view.graph.vertices:
        if v.name not in LOOKUPS or not view.graph.is_token(v.index):
            continue
        role = _lookup_role(view, v)
        if role == "tok_emb" and token is None:
            token = v.index
        elif role != "pos_emb":
            raise NoFormula("embedding", "it embeds more than tokens and positions.")
        lookups.append(v.index)
    if token is None:
        raise NoFormula("embedding", "how tokens are embedded is not known.")
    return token, lookups


def _lookup_role(view: ForwardPass, v: Vertex) -> str:
    """Role of the table of a lookup, if it is indexed as that role is: by ids, or by positions."""
    name = next((o.weight for o in v.operands if o.weight), None)
    index = next((a for a in v.node.args if isinstance(a, Tensor)), None)
    if name is None or index is None or name not in view.parameters:
        return "other"
    ids, flat, role = view.seen.ids.flatten(), index.flatten(), view.parameters[name].role
    is_whole = flat.shape == ids.shape
    if is_whole and role == "tok_emb" and bool((flat == ids).all()):
        return role
    return role if is_whole and role == "pos_emb" and bool((flat.diff() == 1).all()) else "other"
