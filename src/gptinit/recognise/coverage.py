"""Refusals: nothing that a model computes may be left out of the formulas that predict it."""

from collections.abc import Sequence

from gptinit.recognise.blocks import Block, ForwardPass, Norm
from gptinit.recognise.products import Product
from gptinit.theory.parameters import NoFormula

__all__ = ["require_all_known"]


def require_all_known(view: ForwardPass, blocks: Sequence[Block], head: Product) -> None:
    """Refuse products, biases and norms other than those of the blocks and the head.

    Raises:
        NoFormula: if there is one.
    """
    known = {p.vertex: p for b in blocks for p in b.products.values()} | {head.vertex: head}
    for product in view.products.values():
        if product.vertex not in known:
            raise NoFormula(product.name, "what this parameter does has no formula.")
    for product in known.values():
        _require_own_bias(view, product)
    for block in blocks:
        _require_norms_in_order(view, block)


def _require_own_bias(view: ForwardPass, product: Product) -> None:
    """Refuse a bias other than the one that theory finds in the program, by the matrix' name."""
    bias = view.parameters.get(product.name.rpartition(".")[0] + ".bias")
    expected = bias.name if bias and bias.role == "linear_bias" else None
    if product.bias == expected:
        return
    if product.bias is None:
        why = f"its product is not added to {expected} in one step."
    else:
        why = f"no formula covers {product.bias}, which is added to its product."
    raise NoFormula(product.name, why)


def _require_norms_in_order(view: ForwardPass, block: Block) -> None:
    """Refuse norms in another order than their parameters, by which theory tells them apart."""
    order = list(view.parameters)
    first, second = (n.weight for n in block.norms)
    if (first is None) != (second is None):
        raise NoFormula("norms", "only one of a block's norms has a weight.")
    if first is None or second is None or first == second:
        return
    are_equal = _laws_of(view, block.norms[0]) == _laws_of(view, block.norms[1])
    if not are_equal and (order.index(first) > order.index(second) or block.is_parallel):
        raise NoFormula(first, "the order of its norms is not that of their parameters.")


def _laws_of(view: ForwardPass, norm: Norm) -> object:
    parameters = [view.parameters[n] for n in (norm.weight, norm.bias) if n]
    return [(p.role, p.distribution, p.gain) for p in parameters]
