"""Values by position: rules of single operators, on what counts as large and on what does not."""

import math
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from gptinit.facts.distributions import Normal, TruncatedNormal, Uniform
from gptinit.trace.graph import Geometry, Node, Read, Storage, Write, dependencies
from gptinit.trace.record.tensor import TracedTensor
from gptinit.trace.record.tracing import recording
from gptinit.trace.replay.drawing import draw_by_key, drawn_entries
from gptinit.trace.replay.noise import draw_at
from gptinit.trace.replay.partial import Unanswerable
from gptinit.trace.replay.points import SAMPLE, in_region, sample_positions, to_storage
from gptinit.trace.replay.replay import Replay

LARGE = 16384
"""Rows and columns of a matrix that is never replayed whole: 268 million entries."""


def recorded(code: str) -> TracedTensor:
    """What a line of code makes of `w`, a large matrix of normals."""
    with recording():
        torch.manual_seed(0)
        w = torch.randn(LARGE, LARGE)
        made = eval(code, {"torch": torch, "w": w})
    assert isinstance(made, TracedTensor)
    return made


@pytest.mark.parametrize(
    ("code", "index", "value"),
    [
        ("w.t()", (5, 7), "x(7, 5)"),
        ("w[100:, 3:]", (5, 7), "x(105, 10)"),
        ("w[::2]", (5, 7), "x(10, 7)"),
        ("w.flip(0)", (0, 7), "x(16383, 7)"),
        ("w.roll(1, 0)", (5, 7), "x(4, 7)"),
        ("w[torch.arange(1, 16384, 2)]", (5, 7), "x(11, 7)"),
        ("w.index_select(1, torch.tensor([3, 1]))", (5, 1), "x(5, 1)"),
        ("torch.cat([w, -w])", (16384 + 5, 7), "-x(5, 7)"),
        ("torch.stack([w, 2 * w], dim=1)", (5, 1, 7), "2 * x(5, 7)"),
        ("w[:1].repeat(3, 1)", (2, 7), "x(0, 7)"),
        ("w.tril()", (5, 7), "0.0"),
        ("w.triu(-1)", (5, 7), "x(5, 7)"),
        ("w.half()", (5, 7), "x(5, 7)"),
        ("w.masked_fill(w > 9, 0.5)", (5, 7), "x(5, 7)"),
        ("torch.where(w > -9, w, 0.5)", (5, 7), "x(5, 7)"),
        ("w * torch.arange(16384)", (5, 7), "7 * x(5, 7)"),
        ("w.view(-1, 2)", (8192 * 5 + 3, 1), "x(5, 7)"),
        ("w.clone().index_put((torch.tensor([5]),), torch.tensor(2.5))", (5, 7), "2.5"),
        ("w.clone().index_put((torch.tensor([5]),), torch.tensor(2.5))", (6, 7), "x(6, 7)"),
        pytest.param("torch.eye(16384) + w", (5, 5), "1 + x(5, 5)", marks=pytest.mark.slow),
        ("torch.full((16384, 16384), 0.5)", (5, 7), "0.5"),
    ],
)
def test_entries_of_large_tensors_follow_the_operator(
    code: str, index: tuple[int, ...], value: str
) -> None:
    made, base = recorded(code), recorded("w")

    def x(row: int, column: int) -> float:
        return float(Replay().at(base.read(), torch.tensor([row * LARGE + column])))

    strides = [math.prod(made.shape[d + 1 :]) for d in range(made.dim())]
    position = sum(i * s for i, s in zip(index, strides, strict=True))
    found = float(Replay().at(made.read(), torch.tensor([position])))
    assert found == pytest.approx(eval(value, {"x": x}), rel=1e-3 if "half" in code else 1e-6)


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("w.std()", 1.0),
        ("w.norm()", LARGE),
        ("w.square().mean()", 1.0),
        ("(w + 3).mean()", 3.0),
        ("(w + 3).sum()", 3.0 * LARGE**2),
        ("torch.linalg.vector_norm(w, 1)", LARGE**2 * math.sqrt(2 / math.pi)),
        ("w.var(dim=(0, 1))", 1.0),
        ("w.sum(dim=(0, 1)) + (w + 3).sum(dim=(0, 1))", 3.0 * LARGE**2),
        ("(w + 3).amax(dim=(0, 1)).clamp(max=5.0)", 5.0),
        ("torch.var_mean(w, dim=(0, 1))[0]", 1.0),
        ("(w + 3).nansum()", 3.0 * LARGE**2),
    ],
)
def test_reductions_of_large_tensors_come_from_a_sample(code: str, value: float) -> None:
    found = float(Replay().value(recorded(code).read()))

    # Relative standard errors: of a std 1/sqrt(2n), of a mean square sqrt(2/n), of mean(x + 3)
    # 1/(3 sqrt(n)), of a mean of |x| 0.76/sqrt(n): at most 1.5/sqrt(n); k = 5.
    assert found == pytest.approx(value, rel=5 * 1.5 / math.sqrt(SAMPLE / 2))


@pytest.mark.parametrize(
    ("code", "reduced"),
    [
        ("w.norm(dim=1)", torch.linalg.vector_norm),
        ("torch.norm(w, 2, 1)", torch.linalg.vector_norm),
        ("w.sum(1)", torch.sum),
        ("w.sum(dim=-1, keepdim=True)", torch.sum),
        ("w.mean(1)", torch.mean),
        ("w.std(1)", torch.std),
        ("w.amax(1)", torch.amax),
        ("w.median(1).values", torch.median),
        ("w.max(dim=1).values", torch.amax),
        ("w.all(1)", torch.all),
        ("w.view(16384, 128, 128).all(dim=(1, 2))", torch.all),
        ("w.view(16384, 128, 128).amax((-1, 1), True)", torch.amax),
        ("w.view(128, 128, 16384).flatten(0, 1).min(-1).values", torch.amin),
    ],
)
def test_a_reduction_of_rows_takes_the_whole_row(
    code: str, reduced: Callable[[Tensor], Tensor]
) -> None:
    made, base = recorded(code), recorded("w")
    rows = [
        Replay().at(base.read(), torch.arange(i * LARGE, (i + 1) * LARGE)).double() for i in (3, 5)
    ]

    found = Replay().at(made.read(), torch.tensor([3, 5]))

    assert found.tolist() == pytest.approx([float(reduced(row)) for row in rows], rel=1e-4)


def test_what_cannot_be_had_in_part_is_refused_by_name() -> None:
    made = recorded("torch.linalg.qr(w)[0]")

    with pytest.raises(Unanswerable, match="linalg_qr on 268435456 drawn entries"):
        Replay().at(made.read(), torch.tensor([0]))


def test_a_few_entries_of_memory_written_in_parts_take_no_memory() -> None:
    rows = 1 << 20
    with recording():
        w = torch.empty(rows, rows)  # 4 TiB
        w[: rows // 2].normal_()
        w[rows // 2 :].fill_(3.0)
        filled, drawn = w[rows // 2, :4], w[5, :4]
    assert isinstance(filled, TracedTensor)
    assert isinstance(drawn, TracedTensor)
    replay = Replay()

    assert replay.value(filled.read()).tolist() == [3.0] * 4
    assert replay.value(drawn.read()).std() > 0
    assert replay.held <= SAMPLE


def test_later_writes_do_not_change_what_was_read_before() -> None:
    with recording():
        w = torch.zeros(4)
        assert isinstance(w, TracedTensor)
        before = w.read()
        w.fill_(2.0)

    replay = Replay()
    assert replay.value(w.read()).tolist() == [2.0] * 4
    assert replay.value(before).tolist() == [0.0] * 4


def test_memory_that_nothing_wrote_is_not_a_number() -> None:
    with recording():
        w = torch.empty(4)
        assert isinstance(w, TracedTensor)
        w[1:3] = 1.0

    assert Replay().value(w.read()).isnan().tolist() == [True, False, False, True]
    assert Replay().at(w.read(), torch.arange(4)).isnan().tolist() == [True, False, False, True]


def test_a_chain_longer_than_the_recursion_limit_is_not_too_long() -> None:
    with recording():
        w = torch.zeros(2)
        for _ in range(2 * sys.getrecursionlimit()):
            w = w + 1
    assert isinstance(w, TracedTensor)

    assert Replay().value(w.read()).tolist() == [2.0 * sys.getrecursionlimit()] * 2


def test_what_is_held_is_counted() -> None:
    with recording():
        w = torch.randn(100) * 2
    assert isinstance(w, TracedTensor)
    replay = Replay()

    replay.value(w.read())

    assert replay.held == 200


@pytest.mark.parametrize("law", [Normal(1, 2), Uniform(-3, 1), TruncatedNormal(0, 1, -0.5, 2)])
def test_a_draw_is_a_function_of_key_and_position(law: Normal | Uniform | TruncatedNormal) -> None:
    positions = torch.randperm(200_000, generator=torch.Generator().manual_seed(0))
    values = draw_at(law, 77, positions)

    assert torch.equal(draw_at(law, 77, torch.arange(200_000))[positions], values)
    assert not bool((draw_at(law, 79, positions) == values).any())
    standard_error = law.std / math.sqrt(200_000)
    assert float(values.mean()) == pytest.approx(law.mean, abs=5 * standard_error)
    # The std of a std is at most std sqrt((3 - 1) / 4n) for kurtosis up to 3.
    assert float(values.std()) == pytest.approx(law.std, abs=5 * standard_error / math.sqrt(2))


def test_a_draw_without_a_law_is_the_same_in_part_and_whole() -> None:
    node = Node(
        op=torch.ops.aten.exponential_.default, args=(2.0,), shape=(10_000,),
        dtype=torch.float32, key=5,
    )  # fmt: skip
    positions = torch.tensor([9_999, 0, 4_095, 4_096])

    assert torch.equal(draw_by_key(node)[positions], drawn_entries(node, positions))


@pytest.mark.parametrize("shape", [(), (5,), (300, 300), (LARGE, LARGE), (1, 10**9), (10**6, 3)])
def test_a_sample_is_small_and_within_the_tensor(shape: tuple[int, ...]) -> None:
    positions = sample_positions(shape)

    assert 0 < positions.numel() <= max(SAMPLE, 1)
    assert positions.unique().numel() == positions.numel()
    assert 0 <= int(positions.min()) <= int(positions.max()) < math.prod(shape)


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        ((100, 10_000), 100, 655),  # 2^16 of 10^6 entries: as large a share of each row
        ((3, 100_000), 3, 21_845),
        ((100_000, 3), 21_845, 3),
        ((10_000, 10_000), 256, 256),
        ((70_000,), 1, 65_536),
        ((256, 256), 256, 256),
    ],
)
def test_a_sample_is_of_some_columns_of_some_rows(
    shape: tuple[int, ...], rows: int, columns: int
) -> None:
    positions = sample_positions(shape)

    assert (positions // shape[-1]).unique().numel() == rows
    assert (positions % shape[-1]).unique().numel() == columns
    assert positions.numel() == rows * columns


@pytest.mark.parametrize("index", [(slice(None), slice(1, 5, 2)), (slice(2, 3), 4), (Ellipsis, 0)])
def test_positions_in_a_view_and_in_its_storage_are_inverse(index: tuple[object, ...]) -> None:
    base = torch.arange(60).view(6, 10)
    for view in (base[index], base.t()[index]):  # type: ignore[index] # any index will do
        geometry = Geometry(tuple(view.shape), view.stride(), int(view.storage_offset()))
        flat = to_storage(geometry, torch.arange(view.numel()))
        inside, position = in_region(geometry, torch.arange(60))

        assert torch.equal(flat, view.flatten())
        assert torch.equal(torch.arange(60)[inside].sort()[0], flat.sort()[0])
        assert torch.equal(to_storage(geometry, position[inside]), torch.arange(60)[inside])


def test_dependencies_come_before_what_reads_them() -> None:
    def node(*reads: Read) -> Node:
        return Node(op="op", args=reads, shape=(2,), dtype=torch.float32)

    def stored(value: Node) -> Read:
        storage = Storage(2, torch.float32, [Write(Geometry((2,), (1,)), value)])
        return Read(storage, 1, Geometry((2,), (1,)))

    first = node()
    left, right = node(stored(first)), node(stored(first))
    last = node(stored(left), stored(right))

    order = dependencies(stored(last))
    assert set(map(id, order)) == set(map(id, (first, left, right, last)))
    assert (order[0], order[-1]) == (first, last)


def test_a_draw_of_ones_own_is_used_in_place_of_the_key() -> None:
    with recording():
        w = torch.randn(3) * 2
    assert isinstance(w, TracedTensor)

    def ones(node: Node) -> Tensor:
        return torch.ones(node.shape)

    assert Replay(ones).value(w.read()).tolist() == [2.0, 2.0, 2.0]
