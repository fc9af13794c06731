"""Shapes by rule, of operands too large to run, are those of the operator itself."""

import pytest
import torch
from torch import Tensor

from gptinit.trace.record.shapes import results_like

aten = torch.ops.aten
LEFT, RIGHT = torch.ones(2, 300, 250), torch.ones(2, 250, 7)
"""Even one pair of these matrices has more entries than an operator is run for."""


@pytest.mark.parametrize(
    ("func", "args"),
    [
        (aten.mm.default, (LEFT[0], RIGHT[0])),
        (aten.addmm.default, (torch.ones(7), LEFT[0], RIGHT[0])),
        (aten.bmm.default, (LEFT, RIGHT)),
        (aten.baddbmm.default, (torch.ones(2, 1, 7), LEFT, RIGHT)),
    ],
    ids=["mm", "addmm", "bmm", "baddbmm"],
)
def test_a_product_has_the_rows_of_one_factor_and_the_columns_of_the_other(
    func: torch._ops.OpOverload, args: tuple[Tensor, ...]
) -> None:
    assert results_like(func, args, {}).shape == func(*args).shape
