"""Parts of a pass are computed from what is given, and refused where that is too little."""

import pytest
import torch
from support.foreign_models import C, reading

from gptinit.forward.norms import find_norms
from gptinit.forward.values import Uncomputable, Values


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
