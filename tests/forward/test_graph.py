# ruff: noqa: D102 # small methods are documented by their class
"""The record of a forward pass as a graph: which node reads which, weights apart from tokens."""

from typing import Any

import torch
import torch.nn.functional as F
from support.graphs import graph_of
from torch import Tensor, nn

from gptinit.forward.graph import Graph
from gptinit.trace.record.tensor import TracedTensor
from gptinit.trace.record.tracing import recording


class Small(nn.Module):
    """An embedding, a table of angles, a matrix that is scaled before use, and a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(5, 6)
        self.up = nn.Linear(6, 7)
        self.register_buffer("angles", torch.randn(4, 6))

    def forward(self, ids: Any) -> Any:
        x = self.wte(ids) * self.get_buffer("angles").cos()
        return F.linear(x, self.up.weight * 0.5, self.up.bias)


def by_name(graph: Graph, name: str) -> int:
    """The one vertex of an operator."""
    (index,) = (v.index for v in graph.vertices if v.name == name)
    return index


def test_every_vertex_comes_after_what_it_reads() -> None:
    graph = graph_of(Small)

    for v in graph.vertices:
        assert all(i < v.index for o in v.operands for i in o.nodes)
    assert graph.last == len(graph.vertices) - 1


def test_parameters_are_named_and_never_vertices() -> None:
    graph = graph_of(Small)
    named = {o.weight for v in graph.vertices for o in v.operands if o.weight}

    assert named == {"wte.weight", "up.weight", "up.bias"}


def test_only_what_comes_from_a_lookup_depends_on_tokens() -> None:
    graph = graph_of(Small)

    assert graph.is_token(by_name(graph, "embedding"))
    assert not graph.is_token(by_name(graph, "cos"))
    assert graph.last is not None
    assert graph.is_token(graph.last)


def test_a_weight_that_was_changed_before_use_is_still_that_weight() -> None:
    graph = graph_of(Small)
    assert graph.last is not None

    named = {name for v in graph.vertices for _, name in graph.weight_operands(v.index)}

    assert named >= {"wte.weight", "up.weight", "up.bias"}
    scaled = next(v for v in graph.vertices if v.name == "mul" and not graph.is_token(v.index))
    assert graph.weights_of(scaled.index) == ("up.weight",)
    products = [
        v.name
        for v in graph.vertices
        if graph.is_token(v.index)
        and ("up.weight" in dict(graph.weight_operands(v.index)).values())
    ]
    assert products in (["addmm"], ["mm"], ["linear"])


def test_ancestors_are_all_that_a_vertex_depends_on() -> None:
    graph = graph_of(Small)
    embedding, cos = by_name(graph, "embedding"), by_name(graph, "cos")

    assert graph.last is not None
    assert graph.ancestors[graph.last] >> embedding & 1
    assert graph.ancestors[graph.last] >> cos & 1
    assert not graph.ancestors[embedding] >> cos & 1
    assert not graph.ancestors[graph.last] >> graph.last & 1


def test_token_parents_leave_weights_and_tables_out() -> None:
    graph = graph_of(Small)
    times = next(v for v in graph.vertices if v.name == "mul" and graph.is_token(v.index))

    assert graph.token_parents(times.index) == [by_name(graph, "embedding")]


def test_a_read_outside_the_graph_has_no_vertex() -> None:
    graph = graph_of(Small)
    with recording():
        other = torch.randn(3)

    assert isinstance(other, TracedTensor)
    assert graph.at(other.read()) is None


def test_an_addition_in_place_is_one_vertex_that_reads_what_was_there() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte = nn.Embedding(5, 6)
            self.up = nn.Linear(6, 6, bias=False)

        def forward(self, ids: Any) -> Tensor:
            x: Tensor = self.wte(ids)
            x += self.up(x)
            return x

    graph = graph_of(InPlace)
    last = graph.vertices[-1]

    assert last.name == "add"
    assert len(graph.token_parents(last.index)) == 2


def test_a_lookup_in_a_mixture_of_a_table_and_a_weight_is_one_of_tokens() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte, self.more = nn.Embedding(5, 6), nn.Parameter(torch.randn(2, 6))

        def forward(self, ids: Any) -> Tensor:
            table = torch.zeros(7, 6)
            table[:2] = torch.ones(2, 6) * 2
            table[2:] = self.wte.weight * 2
            return F.embedding(ids, table)

    graph = graph_of(Mixed)

    assert graph.is_token(by_name(graph, "embedding"))
