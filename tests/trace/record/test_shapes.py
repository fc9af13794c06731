"""Shapes by rule, of operands too large to run, are those of the operator itself."""

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from gptinit.trace.record.shapes import _ones, broadcast_shape, dummy_results, results_like
from gptinit.trace.record.tracing import recording

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


WIDE = torch.ones(2, 300, 250)
"""More entries than an operator is run for."""
LAST = torch.ones(2, 3, 25000)


LARGE: dict[str, tuple[torch._ops.OpOverload, tuple[object, ...]]] = {
    "add": (aten.add.Tensor, (WIDE, torch.ones(300, 1))),
    "equals": (aten.eq.Scalar, (WIDE, 1)),
    "where": (aten.where.self, (WIDE > 0, WIDE, torch.ones(2, 1, 1))),
    "fill": (aten.masked_fill.Scalar, (WIDE, torch.ones(300, 1, dtype=torch.bool), 2.0)),
    "sum": (aten.sum.dim_IntList, (LAST, [1])),
    "sum that keeps": (aten.sum.dim_IntList, (LAST, [-1, 0], True)),
    "mean": (aten.mean.dim, (LAST, [-2], False)),
    "cat": (aten.cat.default, ([LAST, torch.ones(2, 1, 25000)], 1)),
    "cat from the end": (aten.cat.default, ([LAST, torch.ones(2, 3, 4)], -1)),
    "cat of rows": (aten.cat.default, ([LAST, LAST],)),
    "stack from the end": (aten.stack.default, ([LAST, LAST, LAST], -1)),
    "stack": (aten.stack.default, ([LAST, LAST, LAST], 1)),
    "stack of wholes": (aten.stack.default, ([LAST, LAST, LAST],)),
    "repeat": (aten.repeat.default, (LAST, [5, 1, 3, 2])),
    "look up": (
        aten.embedding.default,
        (torch.ones(900, 80), torch.zeros(2, 7, dtype=torch.long)),
    ),
    "copy": (aten._to_copy.default, (WIDE,)),
    "qr of broad ones": (aten.linalg_qr.default, (LAST,)),
    "qr of tall ones": (aten.linalg_qr.default, (LAST.mT, "reduced")),
    # Without a rule: on the meta device.
    "maximum": (aten.max.dim, (LAST, 1)),
}


@pytest.mark.parametrize("name", LARGE)
def test_results_of_large_operands_have_the_shapes_and_dtypes_of_the_operator(name: str) -> None:
    func, args = LARGE[name]

    found, expected = (tree_flatten(r)[0] for r in (results_like(func, args, {}), func(*args)))

    assert [(t.shape, t.dtype) for t in found] == [(t.shape, t.dtype) for t in expected]


@pytest.mark.parametrize("size", [1 << 16, (1 << 16) + 1])
def test_operators_are_run_up_to_a_number_of_entries_and_not_beyond(size: int) -> None:
    found = results_like(aten.neg.default, (torch.ones(size),), {})

    assert found.is_contiguous() == (size <= 1 << 16)  # one entry stands for all of a larger result


@pytest.mark.parametrize("func", [aten.nonzero.default, aten._unique2.default])
def test_a_shape_that_depends_on_values_is_refused(func: torch._ops.OpOverload) -> None:
    with pytest.raises(NotImplementedError, match="depends on values"):
        results_like(func, (torch.ones(3),), {})


def test_an_index_of_real_numbers_has_a_shape() -> None:
    index = [torch.tensor([0, 2])]

    assert results_like(aten.index.Tensor, (torch.ones(3, 4), index), {}).shape == (2, 4)


@pytest.mark.parametrize(
    ("shapes", "common"),
    [
        ([(3,), (2, 1)], (2, 3)),
        ([(2, 1), (3,)], (2, 3)),
        ([(2, 1), (2, 1)], (2, 1)),
        ([(0, 1), (1, 2)], (0, 2)),
        ([(3,), (2,)], None),
    ],
)
def test_shapes_are_broadcast_from_the_last_dimension(
    shapes: list[tuple[int, ...]], common: tuple[int, ...] | None
) -> None:
    assert broadcast_shape(shapes) == common


def test_traced_operands_are_run_as_ones_with_their_strides() -> None:
    with recording():
        drawn = torch.randn(4, 6)
        parts = (drawn[1::2, ::3], drawn.t(), drawn[:0], drawn.expand(3, 4, 6))

    for part in parts:
        made = _ones(part)  # type: ignore[arg-type] # recorded, so traced
        assert (made.shape, made.stride()) == (part.shape, part.stride())
        assert bool((made == 1).all())


def test_without_a_meta_kernel_zeros_of_moderate_size_are_run() -> None:
    error = NotImplementedError("no kernel")
    with recording():
        left, experts, large = (
            torch.randn(5, 4),
            torch.randn(3, 4, 6),
            torch.randn(1 << 13, 1 << 13),
        )

    product = dummy_results(aten.mm.default, (left, torch.ones(4, 2)), {}, error)
    assert torch.equal(product, torch.zeros(5, 2))
    if hasattr(aten, "_grouped_mm"):
        grouped = dummy_results(aten._grouped_mm.default, (left, experts), {}, error)
        assert (grouped.shape, grouped.is_meta) == ((5, 6), True)
    with pytest.raises(NotImplementedError, match="no kernel"):
        dummy_results(aten.exp.default, (large,), {}, error)
