"""Shapes by rule, of operands too large to run, are those of the operator itself."""

import pytest
import torch
from torch import Tensor

from gptinit.trace.record.shapes import results_like


def large(*shape: int) -> Tensor:
    """Ones of this shape, more than the operator is run for."""
    return torch.ones(shape)


aten = torch.ops.aten


@pytest.mark.parametrize(
    ("func", "args"),
    [
        (aten.mm.default, (large(300, 250), large(250, 7))),
        (aten.addmm.default, (large(7), large(300, 250), large(250, 7))),
        (aten.bmm.default, (large(2, 300, 250), large(2, 250, 7))),
        (aten.baddbmm.default, (large(2, 1, 7), large(2, 300, 250), large(2, 250, 7))),
    ],
    ids=["mm", "addmm", "bmm", "baddbmm"],
)
def test_a_product_has_the_rows_of_one_factor_and_the_columns_of_the_other(
    func: torch._ops.OpOverload, args: tuple[Tensor, ...]
) -> None:
    assert results_like(func, args, {}).shape == func(*args).shape
