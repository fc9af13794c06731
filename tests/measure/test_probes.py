"""What hooks record: factors of branches, attention of the stream's length, squares of weights."""

import pytest
import torch
from torch import Tensor, nn

from gptinit.forward.sites import Site
from gptinit.measure.probes import _EMBEDDING, Probes, _WeightSquares
from gptinit.measure.statistics import Attention, variance
from gptinit.weights.policy import SquareSums


def probes() -> Probes:
    return Probes(nn.Module(), (), lens=None, rows=torch.arange(4), step=lambda: None)


def normals(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("factor", [1.0, 0.5, -3.0])
def test_the_variance_of_a_branch_is_that_of_what_it_adds(factor: float) -> None:
    recorder, output = probes(), normals(2, 4, 8)

    recorder._on_branch(1, "mlp_var", Site(path="h.1.mlp", factor=factor), output)

    found = recorder._values[1, "mlp_var"]
    assert float(found) == pytest.approx(float(variance(output * factor)), rel=1e-6)


@pytest.mark.parametrize(("length", "is_heard"), [(4, True), (3, False), (8, False)])
@pytest.mark.parametrize("by_hand", [False, True])
def test_only_attention_between_all_positions_is_recorded(
    length: int, is_heard: bool, by_hand: bool
) -> None:
    recorder = probes()
    recorder._on_stream(_EMBEDDING, normals(2, 4, 8))
    query, scores = normals(2, 1, length, 8), normals(2, 1, length, length)

    recorder._on_attention(
        Attention(scores=scores) if by_hand else Attention(query=query, key=query, causal=True)
    )

    # No block has begun yet: it is that of no layer.
    assert ((_EMBEDDING, "attn_entropy") in recorder._values) == is_heard
    assert (0, "attn_entropy") not in recorder._values
    recorder._on_attention(Attention())  # nothing to be read


def test_squares_of_all_weights_of_a_role_are_summed() -> None:
    pool, weight = _WeightSquares(), nn.Parameter(torch.tensor([3.0, 4.0]))
    weight.grad = torch.tensor([1.0, 2.0])

    pool.add(weight)
    pool.add_sums(SquareSums(gradient=torch.tensor(7.0), weight=torch.tensor(9.0)), 5)

    assert weight.grad is None
    assert pool.count == 7
    assert [float(s) for s in pool.squares()] == [5 + 7, 25 + 9]
