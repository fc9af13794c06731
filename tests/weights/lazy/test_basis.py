"""Directions are orthonormal, rebuild the rows that they were made of, and are added but once."""

from collections.abc import Callable

import pytest
import torch
from support.lazy_models import ROUNDING, rounding_gap, some
from torch import Tensor

from gptinit.weights.lazy.basis import Basis, StaleQueryError
from gptinit.weights.lazy.factor import Rows, forget_last_rows, last_rows

CPU = torch.device("cpu")


def basis(size: int, *, defers: bool = False) -> Basis:
    return Basis(size, CPU, defers=defers)


def all_directions(made: Basis) -> Tensor:
    """Unit vectors first, as in coordinates; (rank, n)."""
    units = torch.zeros(len(made.units), made.size)
    units[torch.arange(len(made.units)), made.units] = 1
    return torch.cat((units, made.rows))


def check(made: Basis, asked: list[tuple[Tensor, Tensor]]) -> None:
    """Directions are orthonormal and every response's coordinates give its rows."""
    directions = all_directions(made)
    assert len(directions) == made.rank <= made.size
    assert rounding_gap(directions @ directions.T, torch.eye(made.rank)) <= ROUNDING
    for x, coordinates in asked:
        rebuilt = coordinates @ directions[: coordinates.shape[1]]
        # Directions below 1e-5 of their rows are dropped.
        for row, made_of in zip(x.double(), rebuilt.double(), strict=True):
            assert (made_of - row).abs().max() <= (ROUNDING + 1e-5) * row.norm()


ROWS = {
    "independent": (some(5, 20), 5),
    "one": (some(1, 20), 1),
    "equal": (some(1, 20).expand(5, -1), 1),
    "some equal": (some(3, 20)[[0, 1, 0, 2, 2]], 3),
    "nearly equal": (some(1, 20) + 1e-7 * some(5, 20, seed=2), 1),
    "within a hundredth": (some(1, 20) + 1e-3 * some(5, 20, seed=2), 5),
    "multiples": (some(1, 20) * torch.tensor([[1.0], [-2.0], [0.5]]), 1),
    "zeros": (torch.zeros(5, 20), 0),
    "a zero among others": (torch.cat((some(3, 20), torch.zeros(1, 20))), 3),
    "collapsed onto two": (some(7, 2) @ some(2, 20, seed=2), 2),
    "of unequal lengths": (some(4, 20) * torch.tensor([[1e-3], [1.0], [1e3], [10.0]]), 4),
    "a negligible one": (some(2, 20) * torch.tensor([[1.0], [1e-7]]), 2),  # a Cholesky keeps it
    "tiny": (some(4, 20) * 1e-30, 4),
    "huge": (some(4, 20) * 1e25, 4),
    # Each has a twelfth of its square outside those before it, but all others nearly span any.
    "dependent all together": (
        (torch.eye(12) - torch.ones(12, 12).tril(-1)) @ torch.linalg.qr(some(20, 20))[0][:12],
        12,
    ),
    "of lengths down to a millionth of a hundredth, one zero": (
        torch.cat((some(8, 20) * torch.logspace(0, -8, 8)[:, None], torch.zeros(1, 20))),
        8,
    ),
    "the same and one twice another": (
        torch.cat((some(8, 20) * torch.logspace(0, -8, 8)[:, None], 2 * some(8, 20)[:1])),
        8,
    ),
    "equal and zero": (some(3, 20)[[0, 1, 0, 2, 2]] * torch.tensor([[1.0], [1], [1], [0], [0]]), 2),
    "whose sum is too large for float32": ((1.8 + 0.2 * some(3, 20).abs()) * 1e37, 3),
    "as many as columns": (some(20, 20), 20),
    "more than columns": (some(50, 20), 20),
    "none": (torch.zeros(0, 20), 0),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("defers", [False, True], ids=["at once", "deferred"])
def test_rank_and_coordinates_of_rows(name: str, defers: bool) -> None:
    x, rank = ROWS[name]
    made = basis(20, defers=defers)

    coordinates, added = made.extend(x)

    assert added == made.rank == rank
    check(made, [(x, coordinates)])


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_are_known_add_no_direction(name: str) -> None:
    x, rank = ROWS[name]
    made = basis(20)
    first, _ = made.extend(x)

    second, added = made.extend(x.flip(0) * 3)

    assert added == 0
    assert made.rank == rank
    check(made, [(x, first), (x.flip(0) * 3, second)])


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_come_later_add_what_is_new(name: str) -> None:
    x, _ = ROWS[name]
    made, earlier = basis(20), some(3, 20, seed=7)
    first, _ = made.extend(earlier)

    second, added = made.extend(x)

    assert made.rank == 3 + added
    check(made, [(earlier, first), (x, second)])


def test_a_row_that_is_nearly_known_gives_a_direction_at_right_angles() -> None:
    made, x = basis(400), some(30, 400)
    asked = [(x, made.extend(x)[0])]

    for i, gap in enumerate((1e-1, 1e-2, 1e-3, 1e-4)):
        near = x + gap * some(30, 400, seed=10 + i)
        asked.append((near, made.extend(near)[0]))

    check(made, asked)


@pytest.mark.parametrize("apart", [0.05, 0.12, 0.2, 0.22, 0.25, 1.0])
@pytest.mark.parametrize("length", [1e-19, 1e-13, 1.0, 1e17])
def test_wide_rows_that_share_most_of_their_direction(apart: float, length: float) -> None:
    """On either side of where float32 products give way to float64 ones."""
    x = length * (some(1, 20_000) + apart * some(40, 20_000, seed=2))
    made = basis(20_000, defers=True)

    coordinates, added = made.extend(x)

    assert added == 40
    check(made, [(x, coordinates)])


@pytest.mark.parametrize(
    ("backend", "value"),
    [
        ("cuda.matmul", "tf32"),
        ("mkldnn.matmul", "bf16"),
        ("mkldnn.matmul", "tf32"),
        ("mkldnn", "bf16"),
        ("", "tf32"),
    ],
)
def test_directions_are_exact_whatever_precision_products_are_told_to_have(
    backend: str, value: str, request: pytest.FixtureRequest
) -> None:
    owner = torch.backends
    for name in filter(None, backend.split(".")):
        owner = getattr(owner, name)
    if not hasattr(owner, "fp32_precision"):
        pytest.skip("this torch has no such setting")
    before = owner.fp32_precision
    request.addfinalizer(lambda: setattr(owner, "fp32_precision", before))
    owner.fp32_precision = value
    x = some(40, 2000)

    made = basis(2000, defers=True)
    made.extend(x)

    assert rounding_gap(made.rows.double() @ made.rows.double().T, torch.eye(40)) <= ROUNDING


def test_rows_asked_about_by_several_matrices_are_taken_apart_once() -> None:
    forget_last_rows()
    x = torch.cat((some(5, 20), 2 * some(1, 20)))

    first, second = last_rows(x).split, last_rows(x).split

    assert all(a is b for a, b in zip(first, second, strict=True))
    forget_last_rows()


def test_questions_add_up_to_the_whole_space_and_no_further() -> None:
    made, asked = basis(20), []
    for i in range(9):
        x = some(4, 20, seed=i)
        asked.append((x, made.extend(x)[0]))

    assert made.rank == 20
    check(made, asked)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("defers", [False, True], ids=["at once", "deferred"])
def test_rows_with_nan_have_no_direction_and_spoil_no_other(bad: float, defers: bool) -> None:
    x = some(4, 20)
    x[2, 5] = bad
    made = basis(20, defers=defers)

    coordinates, added = made.extend(x)

    kept = [0, 1, 3]
    assert added == 3
    assert coordinates[2].isnan().all()
    check(made, [(x[kept], coordinates[kept])])


def test_unit_vectors_come_first_and_rows_are_zero_there() -> None:
    made = basis(20)
    made.add_units(torch.tensor([7, 2]))
    x = some(4, 20)

    coordinates, added = made.extend(x)
    known, none = made.extend(torch.eye(20)[[2, 7]])

    assert added == 4
    assert none == 0
    assert torch.equal(coordinates[:, :2], x[:, [7, 2]])
    assert not made.rows[:, [2, 7]].any()
    check(made, [(x, coordinates), (torch.eye(20)[[2, 7]], known)])


def test_rows_are_made_only_when_they_are_asked_for() -> None:
    made, x = basis(20, defers=True), some(4, 20)

    coordinates, _ = made.extend(x)

    assert made._deferred is not None
    assert made.count == 4
    check(made, [(x, coordinates)])
    assert made._deferred is None


@pytest.mark.parametrize(
    "ask",
    [lambda b: b.rows, lambda b: b.extend(some(1, 20, seed=5))],
    ids=["for rows", "for more"],
)
def test_rows_that_were_written_over_cannot_be_made_later(ask: Callable[[Basis], object]) -> None:
    made, x = basis(20, defers=True), some(4, 20)
    made.extend(x)

    x += 1

    with pytest.raises(StaleQueryError):
        ask(made)


def test_what_was_written_over_before_it_was_asked_again_counts_as_new() -> None:
    x = some(4, 20)
    first, second = basis(20, defers=True), basis(20, defers=True)
    one, _ = first.extend(x)
    x *= 2

    other, _ = second.extend(x)

    assert rounding_gap(other, 2 * one) <= ROUNDING  # no factor of the earlier rows is used
    check(second, [(x, other)])


def test_an_inference_tensor_is_not_kept_by_reference() -> None:
    with torch.inference_mode():
        x = some(4, 20)
        made = basis(20, defers=True)
        coordinates, _ = made.extend(x)
        before = x.clone()
        x.zero_()

        check(made, [(before, coordinates)])


def test_a_copy_is_extended_on_its_own() -> None:
    made, x = basis(20), some(4, 20)
    coordinates, _ = made.extend(x)
    twin = made.copy()

    twin.extend(some(3, 20, seed=2))

    assert (made.rank, twin.rank) == (4, 7)
    check(made, [(x, coordinates)])
    check(twin, [(x, coordinates)])


@pytest.mark.parametrize("rows", [3, 20, 45])
def test_orthonormal_rows_rebuild_what_they_are_made_of(rows: int) -> None:
    x = some(rows, 20)

    coordinates, made = Rows(x).split

    assert len(made) == min(rows, 20)
    assert rounding_gap(made @ made.T, torch.eye(len(made))) <= ROUNDING
    assert rounding_gap(coordinates @ made, x) <= ROUNDING


def test_rows_of_which_nothing_but_rounding_is_left_are_dropped() -> None:
    rows = torch.diag(torch.tensor([1.0, 0.5, 1e-3]))

    coordinates, made = Rows(rows, torch.tensor([1.0, 1.0, 1e3])).split

    assert made.shape == (2, 3)
    assert coordinates.shape == (3, 2)
