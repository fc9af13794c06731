"""Graphs of small modules by themselves."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gptinit.forward.graph import Graph
from gptinit.trace.record.recorder import Recorder
from gptinit.trace.record.tensor import TracedTensor
from gptinit.trace.record.tracing import recording, trace


def graph_of(build: Callable[[], nn.Module], ids: tuple[int, ...] = (3, 1, 4, 0)) -> Graph:
    """The graph of one pass over some tokens."""
    module = trace(build)
    with torch.no_grad(), recording(Recorder(dummy=True)):
        out = module(torch.tensor([ids]))
    assert isinstance(out, TracedTensor)
    named = module.named_parameters()
    return Graph(out, {id(p._store): n for n, p in named if isinstance(p, TracedTensor)})


class Layer(nn.Module):
    """An embedding of five tokens in six numbers, a square matrix with a bias, and a use of both.

    `use` takes tokens (B, T, 6), the matrix and the bias.
    """

    def __init__(self, use: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.wte, self.up, self.use = nn.Embedding(5, 6), nn.Linear(6, 6), use

    def forward(self, ids: Tensor) -> Tensor:
        """What is made of the tokens."""
        return self.use(self.wte(ids), self.up.weight, self.up.bias)
