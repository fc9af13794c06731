"""Parts of a pass are computed from what is given, and refused where that is too little."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from support.foreign_models import C, reading
from support.graphs import Layer, graph_of

from gptinit.forward.norms import find_norms
from gptinit.forward.values import Uncomputable, Values, in_double


def test_a_number_stands_for_as_many_entries_of_a_weight() -> None:
    seen = reading("llama").seen
    assert seen is not None
    norm = find_norms(seen.graph)[0]
    x = torch.ones(seen.graph.vertices[norm.source].node.shape, dtype=torch.float64)

    one, all_entries = (
        Values(seen.graph, {norm.source: x}, {norm.weight: weight}).vertex(norm.vertex)
        for weight in (3.0, torch.full((C,), 3.0, dtype=torch.float64))
    )

    assert torch.equal(one, all_entries)


@pytest.mark.parametrize("weights", [{}, {"norm": 1.0}, {"input": torch.ones(C + 1)}])
def test_what_is_not_given_is_named(weights: dict[str, torch.Tensor | float]) -> None:
    seen = reading("llama").seen
    assert seen is not None
    norm = find_norms(seen.graph)[0]
    x = torch.ones(seen.graph.vertices[norm.source].node.shape, dtype=torch.float64)
    given = {norm.weight if n == "input" else n: w for n, w in weights.items()}

    with pytest.raises(Uncomputable) as caught:
        Values(seen.graph, {norm.source: x}, given).vertex(norm.vertex)

    assert caught.value.where == norm.weight


X = torch.linspace(-1.0, 1.0, 24, dtype=torch.float64).view(1, 4, 6)
"""The looked-up tokens of a layer."""


def value_of(use: Any, weights: dict[str, torch.Tensor | float] | None = None) -> torch.Tensor:
    """What a layer makes of X."""
    graph = graph_of(lambda: Layer(use))
    lookup = next(v.index for v in graph.vertices if v.name == "embedding")
    assert graph.last is not None
    return Values(graph, {lookup: X}, weights).vertex(graph.last)


def halves(x: Any) -> Any:
    """Numbers written in two steps."""
    out = torch.empty_like(x)
    out[..., :2], out[..., 2:] = x[..., :2].sin(), x[..., 2:].cos()
    return out * 2


@pytest.mark.parametrize(
    ("use", "known"),
    [
        (lambda x, *_: F.scaled_dot_product_attention(x, x, x, is_causal=True), None),
        (lambda x, *_: F.scaled_dot_product_attention(x[None], x[None], x[None])[0], None),
        (lambda x, *_: halves(x), None),
        (lambda x, *_: torch.view_as_real(torch.polar(x.exp(), x)).sum(-1), None),
        (lambda x, *_: x.half().to(torch.float32) * torch.ones(6), lambda: X),
        (lambda x, *_: x.gather(-1, torch.zeros(1, 4, 1, dtype=torch.long)), None),
        (lambda x, w, b: x * b, lambda: X * 3.0),
        (lambda x, w, b: x * (w[0] + b), lambda: X * 5.0),
    ],
    ids=["fused", "fused batch", "halves", "polar", "casts", "gather", "weight", "two weights"],
)
def test_values_are_those_of_the_operators_in_double(use: Any, known: Any) -> None:
    expected = use(X, torch.zeros(6, 6), torch.zeros(6)) if known is None else known()

    found = value_of(use, {"up.weight": 2.0, "up.bias": 3.0})

    assert found.dtype == torch.float64
    assert torch.allclose(found, expected.double(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("use", "where", "why"),
    [
        (lambda x, *_: x * torch.rand(6), "", "draws random numbers"),
        (lambda x, *_: F.dropout(x), "", "draws random numbers"),
        (
            lambda x, *_: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5),
            "",
            "draws random numbers",
        ),
        (lambda x, w, _: x @ w, "up.weight", "what this parameter does has no formula"),
        (lambda x, w, _: w @ x.mT, "up.weight", "what this parameter does has no formula"),
        (lambda x, w, b: x * w[0], "up.weight", "no formula covers"),
    ],
    ids=["rand", "dropout", "dropout of attention", "product", "product from the left", "weight"],
)
def test_random_numbers_and_products_with_parameters_are_not_computed(
    use: Any, where: str, why: str
) -> None:
    with pytest.raises(Uncomputable, match=why) as caught:
        value_of(use)

    assert caught.value.where.startswith(where)


def test_floats_are_doubled_and_other_numbers_kept() -> None:
    kinds = (torch.float16, torch.float32, torch.complex64, torch.int32, torch.bool)

    assert [in_double(torch.ones(1, dtype=kind)).dtype for kind in kinds] == [
        torch.float64, torch.float64, torch.complex128, torch.int32, torch.bool,
    ]  # fmt: skip
