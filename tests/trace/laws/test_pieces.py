"""Parts of a tensor: which blocks of rows show, what they mix to, and whose draws they share."""

import pytest
import torch
from torch import Tensor

from gptinit.facts.algebra import moments_only
from gptinit.facts.distributions import (
    Constant,
    Distribution,
    Fixed,
    Mixture,
    Normal,
    Piecewise,
    Unset,
)
from gptinit.trace.graph import Geometry, Node, Read, Storage, Write
from gptinit.trace.laws import pieces
from gptinit.trace.laws.law import Law
from gptinit.trace.laws.pieces import (
    Part,
    covers,
    joined,
    mixed,
    reshaped,
    seen_blocks,
    without_order,
)

A, B, ZERO = Normal(0.0, 1.0), Normal(1.0, 3.0), Constant(0.0)
HALF = Piecewise(((1, A), (1, ZERO)))
MEASURED = moments_only(0.0, 1.0)


def part(count: int, d: Distribution, basis: str | None = None, scale: float = 1.0) -> Part:
    """A part of no known draw, or of a named one."""
    return Part(count=count, law=Law(d, (basis,) if basis else None, scale))


@pytest.mark.parametrize(
    ("parts", "size", "in_order", "law"),
    [
        ([], (0, 3), True, ZERO),
        ([part(12, A), part(0, B)], (4, 3), True, A),
        ([part(5, A), part(7, A)], (4, 3), True, A),
        ([part(5, A), part(7, A)], (4, 3), False, A),
        ([part(3, A), part(9, ZERO)], (4, 3), True, Piecewise(((1, A), (3, ZERO)))),
        ([part(3, A), part(9, ZERO)], (4, 3), False, Mixture(((3, A), (9, ZERO)))),
        ([part(4, A), part(8, ZERO)], (4, 3), True, Mixture(((4, A), (8, ZERO)))),
        ([part(3, A), part(1, B)], (4,), True, Piecewise(((3, A), (1, B)))),
        (
            [part(6, A), part(6, B), part(12, A)],
            (4, 3, 2),
            True,
            Piecewise(((1, A), (1, B), (2, A))),
        ),
        ([part(3, A), part(3, B), part(6, B)], (4, 3), True, Piecewise(((1, A), (3, B)))),
        ([part(3, MEASURED)] * 2, (2, 3), True, Piecewise(((1, MEASURED), (1, MEASURED)))),
        # A part may have blocks of its own: they stay where their rows are whole.
        ([part(6, HALF), part(6, ZERO)], (4, 3), True, Piecewise(((1, A), (3, ZERO)))),
        ([part(9, HALF), part(3, B)], (4, 3), True, Piecewise(((3, HALF), (1, B)))),
        (
            [part(3, ZERO), part(18, Piecewise(((2, ZERO), (4, A)))), part(6, A)],
            (9, 3),
            True,
            Piecewise(((3, ZERO), (6, A))),
        ),
        ([part(6, HALF), part(6, B)], (4, 3), False, Mixture(((3, A), (3, ZERO), (6, B)))),
        (
            [part(8, Mixture(((1, A), (3, ZERO)))), part(4, A)],
            (12, 1),
            False,
            Mixture(((6, A), (6, ZERO))),
        ),
    ],
)
def test_parts_are_row_blocks_where_rows_are_whole_and_else_a_mixture(
    parts: list[Part], size: tuple[int, ...], in_order: bool, law: Distribution
) -> None:
    assert joined(parts, size, in_order=in_order).distribution == law


@pytest.mark.parametrize(
    ("parts", "in_order", "basis"),
    [
        ([part(6, A, "a"), part(6, A, "b", 2.0)], True, ((6, ("a",), 1.0), (6, ("b",), 2.0))),
        ([part(6, A, "a"), part(6, B, "b")], True, ((6, ("a",), 1.0), (6, ("b",), 1.0))),
        ([part(4, A, "a"), part(8, B, "b")], True, ((4, ("a",), 1.0), (8, ("b",), 1.0))),
        ([part(6, A, "a"), part(6, ZERO)], True, ((6, ("a",), 1.0), (6, None, 1.0))),
        (
            [part(6, A, "a"), part(6, Fixed(0.0, 1.0, -1.0, 1.0))],
            True,
            ((6, ("a",), 1.0), (6, None, 1.0)),
        ),
        ([part(6, A, "a"), part(6, Unset())], True, ((6, ("a",), 1.0), (6, None, 1.0))),
        ([part(6, A, "a"), part(6, A)], True, None),
        ([part(6, A), part(6, A, "b")], True, None),
        ([part(6, ZERO), part(6, Constant(1.0))], True, None),
        ([part(6, A, "a"), part(6, A, "b")], False, None),
        ([part(6, A, "a"), part(6, B, "b")], False, None),
    ],
    ids=[
        "two draws", "row blocks", "a mixture in order", "zeros", "a table", "nothing written",
        "an unknown draw", "an unknown draw first", "no draw", "in no order",
        "a mixture in no order",
    ],
)  # fmt: skip
def test_a_joined_tensor_is_named_by_its_parts_if_all_that_varies_is(
    parts: list[Part], in_order: bool, basis: object
) -> None:
    assert joined(parts, (4, 3), in_order=in_order).basis == basis


def test_a_single_part_keeps_all_that_is_known_of_it() -> None:
    one = part(12, A, "a", 2.0)

    assert joined([part(0, B), one], (4, 3), in_order=True) == one.law
    assert joined([one], (4, 3), in_order=False) == one.law


@pytest.mark.parametrize(
    ("keys", "sources", "independent"),
    [
        (((1,), (2,), (3,)), (None, None, None), (True, True, True)),
        (((1,), (1,), (2,)), (None, None, None), (True, False, True)),
        (((1,), (1,), (1,)), (7, 7, 7), (True, True, True)),
        (((1,), (1,), (1,)), (7, 8, 8), (True, False, True)),
        (((1,), (1,), (1,)), (7, None, None), (True, False, False)),
        (((1, 2), (3,), (3, 2)), (7, 8, 8), (True, True, False)),
        (((), (1,), ()), (7, 7, None), (True, True, True)),
    ],
    ids=[
        "draws of their own", "one draw twice", "around a later write", "of two nodes",
        "of no known node", "in part", "no draws",
    ],
)  # fmt: skip
def test_parts_that_share_a_draw_keep_their_moments_only_unless_they_are_of_one_node(
    keys: tuple[tuple[int, ...], ...], sources: tuple[int | None, ...], independent: tuple[bool]
) -> None:
    laws = (A, B, Normal(2.0, 0.5))
    parts = [
        Part(count=3, law=Law(d), keys=frozenset(k), source=s)
        for d, k, s in zip(laws, keys, sources, strict=True)
    ]

    found = joined(parts, (3, 3), in_order=True).distribution

    expected = [
        (1, d if is_kept else moments_only(d.mean, d.std))
        for d, is_kept in zip(laws, independent, strict=True)
    ]
    assert found == Piecewise(tuple(expected))


def test_what_does_not_vary_may_share_a_draw() -> None:
    keys = frozenset({1})
    parts = [Part(count=3, law=Law(d), keys=keys) for d in (A, ZERO, Fixed(0.0, 1.0, -1.0, 1.0))]

    found = joined(parts, (3, 3), in_order=True).distribution

    assert found == Piecewise(((1, A), (1, ZERO), (1, Fixed(0.0, 1.0, -1.0, 1.0))))


@pytest.mark.parametrize(
    ("count", "inside", "outside", "law"),
    [
        (5, A, ZERO, Mixture(((5, A), (7, ZERO)))),
        (0, A, ZERO, ZERO),
        (12, A, ZERO, A),
        (5, A, A, A),
        (4, A, HALF, Mixture(((8, A), (4, ZERO)))),
    ],
)
def test_a_mixture_counts_the_entries_of_both(
    count: int, inside: Distribution, outside: Distribution, law: Distribution
) -> None:
    assert mixed(12, count, inside, outside) == Law(law)


BLOCKS = Law(Piecewise(((2, A), (1, ZERO), (1, A))), ("a",), 2.0)
"""Of four rows, or of eight."""


def test_reordered_rows_are_a_mixture_of_their_entries() -> None:
    law = without_order(BLOCKS, 24)

    assert law == Law(Mixture(((18, A), (6, ZERO))), ("a",), 2.0)
    assert without_order(Law(A, ("a",)), 24) == Law(A, ("a",))


@pytest.mark.parametrize(
    ("size", "law"),
    [
        ((4, 6), Piecewise(((2, A), (1, ZERO), (1, A)))),
        ((8, 3), Piecewise(((4, A), (2, ZERO), (2, A)))),
        ((24,), Piecewise(((12, A), (6, ZERO), (6, A)))),
        ((2, 12), Mixture(((18, A), (6, ZERO)))),  # the second row is half zeros
        ((3, 8), Mixture(((18, A), (6, ZERO)))),
        ((), BLOCKS.distribution),
    ],
)
def test_row_blocks_of_another_shape_are_as_many_of_its_rows(
    size: tuple[int, ...], law: Distribution
) -> None:
    assert reshaped(BLOCKS, size, 24) == Law(law, ("a",), 2.0)
    assert reshaped(Law(A, ("a",)), size, 24) == Law(A, ("a",))


@pytest.mark.parametrize(
    ("rows", "size", "law"),
    # Entries of each block over those of a row: whole rows, or no blocks at all.
    [
        ((1, 1), 4, Piecewise(((2, A), (2, ZERO)))),
        ((2, 2), 2, Piecewise(((1, A), (1, ZERO)))),
        ((1, 3), 2, Mixture(((6, A), (18, ZERO)))),
        ((3, 1), 8, Piecewise(((6, A), (2, ZERO)))),
        ((2, 4), 3, Piecewise(((1, A), (2, ZERO)))),
        ((2, 1), 2, Mixture(((16, A), (8, ZERO)))),
        ((1, 2), 24, Piecewise(((8, A), (16, ZERO)))),
        ((4, 2), 12, Piecewise(((8, A), (4, ZERO)))),
    ],
)
def test_blocks_stay_apart_where_they_are_whole_rows_of_the_new_shape(
    rows: tuple[int, int], size: int, law: Distribution
) -> None:
    before = Law(Piecewise(((rows[0], A), (rows[1], ZERO))))

    assert reshaped(before, (size, 24 // size), 24).distribution == law


def test_rows_without_entries_keep_their_law() -> None:
    assert reshaped(BLOCKS, (0, 6), 0) == BLOCKS


ROWS = Geometry((4, 6), (6, 1), 12)
"""Rows 2 to 5 of rows of six: entries 12 to 35."""


@pytest.mark.parametrize(
    ("region", "view", "is_covered"),
    [
        (ROWS, ROWS, True),
        (ROWS, Geometry((6, 4), (1, 6), 12), True),
        (ROWS, Geometry((24,), (1,), 12), True),
        (ROWS, Geometry((1, 6), (6, 1), 30), True),
        (ROWS, Geometry((2, 6), (6, 1), 30), False),
        (ROWS, Geometry((2, 6), (6, 1), 6), False),
        (ROWS, Geometry((4, 2), (6, 1), 16), True),
        (ROWS, Geometry((4, 2), (6, 1), 17), False),  # its last entry is 36
        (ROWS, Geometry((4, 2), (6, 1), 11), False),
        (ROWS, Geometry((), (), 35), True),
        (ROWS, Geometry((), (), 36), False),
        (ROWS, Geometry((5, 6), (0, 1), 12), True),
        (Geometry((4, 2), (6, 1), 0), Geometry((1, 2), (6, 1), 0), False),  # no one block
        (Geometry((6, 4), (1, 6), 12), ROWS, True),
    ],
)
def test_a_block_of_memory_covers_the_views_that_lie_in_it(
    region: Geometry, view: Geometry, is_covered: bool
) -> None:
    assert covers(region, view) is is_covered


REGIONS = {
    "whole": Geometry((6, 4), (4, 1)),
    "rows 1 to 3": Geometry((3, 4), (4, 1), 4),
    "rows 3 and 4": Geometry((2, 4), (4, 1), 12),
    "last row": Geometry((1, 4), (4, 1), 20),
    "columns": Geometry((6, 2), (4, 1), 1),
    "every other row": Geometry((3, 4), (8, 1), 4),
    "transposed": Geometry((4, 6), (1, 4)),
    "flat": Geometry((24,), (1,)),
    "entries 5 to 18": Geometry((14,), (1,), 5),
}
"""Views of a matrix of six rows of four."""

WRITES = [
    (),
    ("whole",),
    ("whole", "rows 1 to 3"),
    ("whole", "rows 1 to 3", "rows 3 and 4"),
    ("whole", "rows 3 and 4", "rows 1 to 3", "last row"),
    ("rows 1 to 3", "last row"),
    ("entries 5 to 18", "rows 3 and 4"),
    ("whole", "columns"),
    ("columns", "last row", "every other row"),
    ("whole", "every other row"),
    ("transposed", "rows 1 to 3"),
    ("rows 1 to 3", "whole", "last row"),
]


@pytest.mark.parametrize("limit", [24, 23], ids=["whole", "as if large"])
@pytest.mark.parametrize("writes", WRITES, ids=", ".join)
def test_blocks_are_the_last_writes_to_every_entry(
    writes: tuple[str, ...], limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "LIMIT", limit)
    for view in REGIONS.values():
        read = _written(writes, view)

        blocks, in_order = seen_blocks(read)

        painted = _painted(read)
        counted = torch.cat([torch.full((count,), label) for count, label in blocks])
        if not in_order:
            counted, painted = counted.sort().values, painted.sort().values
        assert torch.equal(counted, painted), view
        assert in_order or not _is_of_rows(_painted(read), view), view


@pytest.mark.parametrize(
    ("columns", "blocks", "in_order"),
    [(256, [(2**17, 0), (2**16, 1), (2**16, 0)], True), (128, [(3 * 2**15, 0), (2**15, 1)], False)],
    ids=["in order", "by a sample"],
)
def test_blocks_of_a_large_view_add_up_to_its_entries(
    columns: int, blocks: list[tuple[int, int]], in_order: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "LIMIT", 1000)
    storage = Storage(numel=2**18, dtype=torch.float32)
    for region in (Geometry((1024, 256), (256, 1)), Geometry((256, 256), (256, 1), 2**17)):
        node = Node(shape=region.size, dtype=torch.float32, law=A, key=1)
        storage.writes.append(Write(region, node))

    found = seen_blocks(Read(storage, 2, Geometry((1024, columns), (256, 1))))

    assert found == (blocks, in_order)


def _written(names: tuple[str, ...], view: Geometry) -> Read:
    storage = Storage(numel=24, dtype=torch.float32)
    for name in names:
        node = Node(shape=REGIONS[name].size, dtype=torch.float32, law=A, key=1)
        storage.writes.append(Write(REGIONS[name], node))
    return Read(storage, storage.version, view)


def _painted(read: Read) -> Tensor:
    """The index of the last of the visible writes to every entry of a view, -1 for none."""
    labels = torch.full((24,), -1)
    for i, write in enumerate(read.storage.visible(read.version)):
        labels.as_strided(write.region.size, write.region.stride, write.region.offset).fill_(i)
    view = read.geometry
    return labels.as_strided(view.size, view.stride, view.offset).flatten()


def _is_of_rows(labels: Tensor, view: Geometry) -> bool:
    """Whether labels of the entries of a view change at the ends of rows only."""
    rows = labels.view(view.size[0], -1)
    return bool((rows == rows[:, :1]).all())
