"""Products of tokens with a matrix are known where it is used whole, once, and as it is."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from support.graphs import Layer, graph_of
from torch import Tensor

from gptinit.forward.graph import Graph
from gptinit.recognise.products import find_products, read_of
from gptinit.theory.parameters import NoFormula
from gptinit.trace.graph import Geometry

Use = Callable[[Tensor, Tensor, Tensor], Tensor]


def of(use: Use) -> Graph:
    """The graph of a layer."""
    return graph_of(lambda: Layer(use))


@pytest.mark.parametrize(
    ("use", "bias"),
    [
        (F.linear, "up.bias"),
        (lambda x, w, _: F.linear(x, w), None),
        (lambda x, w, _: x @ w, None),
        (lambda x, w, b: torch.addmm(b, x[0], w), "up.bias"),
        (lambda x, w, b: x @ w + b, None),  # added by another operator
    ],
    ids=["linear", "no bias", "mm", "addmm", "added later"],
)
def test_a_product_has_its_matrix_and_the_bias_that_it_adds_itself(
    use: Use, bias: str | None
) -> None:
    products = find_products(of(use))

    assert [(n, p.name, p.bias) for n, p in products.items()] == [("up.weight", "up.weight", bias)]


@pytest.mark.parametrize(
    "use",
    [
        lambda x, w, _: F.linear(F.linear(x, w), w),
        lambda x, w, _: F.linear(x[..., :4], w[:, :4]),
        lambda x, w, _: F.linear(x, w[:4]),
        lambda x, w, b: torch.addmm(b, x[0], w, alpha=0.5),
        lambda x, w, b: torch.addmm(b, x[0], w, beta=0.5),
        lambda x, w, _: torch.addmm(x[0], x[0], w),  # what is added is no weight
        lambda x, w, _: torch.bmm(x, w.view(1, 6, 6)),
        lambda x, w, _: F.linear(x, w * w.sum()),
    ],
    ids=["twice", "columns", "rows", "alpha", "beta", "plus tokens", "batch", "changed"],
)
def test_a_matrix_that_is_used_otherwise_is_named(use: Use) -> None:
    with pytest.raises(NoFormula) as caught:
        find_products(of(use))

    assert caught.value.where == "up.weight"


def test_a_value_is_read_where_it_was_written_last() -> None:
    def use(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        out = torch.empty_like(x)
        out[..., :2], out[..., 2:] = x.cos()[..., :2], x.sin()[..., 2:]
        return out.exp()

    graph = of(use)
    index = {v.name: v.index for v in graph.vertices}

    assert read_of(graph, index["embedding"]).geometry == Geometry((1, 4, 6), (24, 6, 1), 0)
    with pytest.raises(NoFormula, match="no other part of the model reads it"):
        read_of(graph, index["exp"])
    whole = graph.vertices[-1].node.args[0]
    first, last = (i for _, i in graph.writes(whole))
    assert read_of(graph, last) is whole
    with pytest.raises(NoFormula):
        read_of(graph, first)
