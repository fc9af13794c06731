"""Matrices that are not there: whatever is asked, in any order, is told of one matrix of the law.

Consistency: asked for its product with the identity at last, a matrix reproduces every earlier
response to float32 rounding. Law: joint moments of responses over thousands of seeds are those of
responses of a drawn matrix, within computed standard errors.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import sqrt

import numpy as np
import pytest
import torch
from scipy.stats import chi2, kstest, norm
from support.lazy_models import ROUNDING, rounding_gap, some
from torch import Tensor

from gptinit.weights.lazy.gaussian import GaussianMatrix
from gptinit.weights.lazy.haar import HaarMatrix
from gptinit.weights.lazy.matrix import DrawnMatrix, LazyMatrix

CPU = torch.device("cpu")


@dataclass
class Numbers:
    """Random numbers of a matrix in a test: one stream."""

    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))
    mean: float = 0.0
    std: float = 1.0

    def normals(self, shape: tuple[int, int]) -> Tensor:
        """As many normal numbers."""
        return torch.randn(shape, generator=self.generator)

    def times(self, x: Tensor, width: int) -> tuple[Tensor, Callable[[], Tensor]]:
        """A product with normal numbers, and those."""
        drawn = self.normals((x.shape[1], width))
        return x @ drawn, lambda: drawn

    def entries(self, shape: tuple[int, int]) -> Tensor:
        """Entries of the matrix."""
        return self.mean + self.std * self.normals(shape)

    def chi_square(self, degrees: int) -> Tensor:
        """A chi-square number."""
        half = torch.full((), degrees / 2, dtype=torch.float64)
        return 2 * torch._standard_gamma(half, generator=self.generator).float()


def numbers(seed: int, *, mean: float = 0.0, std: float = 1.0) -> Numbers:
    return Numbers(torch.Generator().manual_seed(seed), mean, std)


def gaussian(
    m: int, n: int, *, seed: int = 0, mean: float = 0.3, std: float = 0.5, defers: bool = False
) -> GaussianMatrix:
    return GaussianMatrix(
        (m, n),
        mean=mean,
        std=std,
        randomness=numbers(seed, mean=mean, std=std),
        device=CPU,
        defers=defers,
    )


def haar(m: int, n: int, *, seed: int = 0, gain: float = 1.5) -> HaarMatrix:
    return HaarMatrix((m, n), gain=gain, randomness=numbers(seed), device=CPU)


def rows_that_fade(shortest: float = 1e-5) -> Tensor:
    """Rows whose directions get shorter and shorter, down to a length; (20, 200)."""
    lengths = torch.logspace(0, -4, 19).tolist()
    outer, inner = (torch.linalg.qr(some(n, 20, seed=3))[0] for n in (20, 200))
    rows: Tensor = outer @ torch.diag(torch.tensor([*lengths, shortest])) @ inner.T
    return rows


def averages() -> Tensor:
    """What near-uniform attention makes of rows: later ones hardly differ; (300, 400)."""
    sums: Tensor = some(300, 400).cumsum(0)
    return sums / torch.arange(1, 301)[:, None]


def rows_of_few_tokens() -> Tensor:
    """Rows that occur several times; (60, 100)."""
    return some(9, 100)[torch.randint(9, (60,), generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize("rows", [rows_that_fade, averages, rows_of_few_tokens])
@pytest.mark.parametrize("defers", [False, True], ids=["at once", "deferred"])
def test_rounding_of_a_question_hardly_moves_its_answer(
    rows: Callable[[], Tensor], defers: bool
) -> None:
    """The law alone leaves the response free to be any other draw: no seed would mean anything."""
    x = rows()
    rounded = x * (1 + 1e-7 * some(*x.shape, seed=9))

    response = gaussian(50, x.shape[1], mean=0.0, defers=defers).right(x)[0]
    other = gaussian(50, x.shape[1], mean=0.0, defers=defers).right(rounded)[0]

    longest = x.norm(dim=1).amax()
    assert (response - other).abs().amax() <= 1e-3 * 0.5 * longest


def test_a_direction_that_is_just_left_out_moves_no_other() -> None:
    """Directions under 1e-5 of the longest are: rounding decides of those at the limit."""
    kept, dropped = (
        gaussian(50, 200, mean=0.0).right(rows_that_fade(shortest)) for shortest in (1.1e-5, 9e-6)
    )

    assert [kept[1].shape[1], dropped[1].shape[1]] == [20, 19]
    # Answers are near 0.1. The direction's own is 1e-5; its neighbour of 1e-4 turns a little.
    assert (kept[0] - dropped[0]).abs().amax() <= 1e-3


MATRICES: dict[str, Callable[[], LazyMatrix]] = {
    "normal": lambda: gaussian(24, 20),
    "normal, wide": lambda: gaussian(14, 30),
    "normal, deferred": lambda: gaussian(24, 20, defers=True),
    "normal, mean 0": lambda: gaussian(24, 20, mean=0.0),
    "constant": lambda: gaussian(24, 20, mean=2.0, std=0.0),
    "orthogonal": lambda: haar(24, 20),
    "orthogonal, wide": lambda: haar(14, 30),
    "orthogonal, square": lambda: haar(16, 16),
    "drawn": lambda: DrawnMatrix(some(24, 20)),
}

ORDERS = [
    "r",
    "l",
    "w",
    "rr",
    "rl",
    "lr",
    "wr",
    "rw",
    "wl",
    "lw",
    "rlrl",
    "lrlr",
    "wrlw",
    "rwlwr",
    "rzl",
    "zrz",
    "Rl",
    "Lr",
    "wRL",
    "ererl",
    "rcl",
    "cwlc",
]
"""Queries: r right, l left, w rows, z zeros, R and L as many rows as there are, e equal rows,
c collapsed onto two directions and nearly equal ones."""


def query_of(matrix: LazyMatrix, kind: str, seed: int) -> tuple[str, Tensor]:
    """A side and a query from there."""
    m, n = matrix.shape
    shuffled = torch.randperm(m, generator=torch.Generator().manual_seed(seed))
    flat = some(6, 2, seed=seed) @ some(2, n, seed=seed + 1)
    return {
        "r": ("right", some(3, n, seed=seed)),
        "l": ("left", some(3, m, seed=seed)),
        "w": ("row", shuffled[:4]),
        "z": ("right", torch.zeros(2, n)),
        "R": ("right", some(n + 2, n, seed=seed)),
        "L": ("left", some(m + 2, m, seed=seed)),
        "e": ("right", some(1, n, seed=seed).expand(4, -1)),
        "c": ("right", torch.cat((flat, flat * (1 + 1e-6)))),
    }[kind]


def respond(matrix: LazyMatrix, side: str, x: Tensor) -> Tensor:
    """The response to a query."""
    if side == "row":
        return matrix.row(x)
    return (matrix.right(x) if side == "right" else matrix.left(x))[0].clone()


def dense_response(entries: Tensor, side: str, x: Tensor) -> Tensor:
    """The response of a matrix with these entries."""
    if side == "row":
        return entries[x]
    return x @ entries.T if side == "right" else x @ entries


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", MATRICES)
def test_all_responses_are_of_one_matrix(name: str, order: str) -> None:
    matrix = MATRICES[name]()
    told = []
    for i, kind in enumerate(order):
        side, x = query_of(matrix, kind, seed=10 * i)
        told.append((side, x, respond(matrix, side, x)))

    entries = matrix.right(torch.eye(matrix.shape[1]))[0].T

    for side, x, response in told:
        # Directions below 1e-5 of the longest row are dropped: twice that of the largest response.
        assert rounding_gap(response, dense_response(entries, side, x)) <= ROUNDING + 2e-5
    other = matrix.left(torch.eye(matrix.shape[0]))[0]
    assert rounding_gap(other, entries) <= ROUNDING
    assert rounding_gap(matrix.square_sum(), entries.square().sum()) <= 2 * ROUNDING


@pytest.mark.parametrize("shape", [(24, 20), (14, 30), (16, 16)])
@pytest.mark.parametrize("order", ORDERS)
def test_an_orthogonal_matrix_is_orthogonal(shape: tuple[int, int], order: str) -> None:
    matrix = haar(*shape)
    for i, kind in enumerate(order):
        respond(matrix, *query_of(matrix, kind, seed=10 * i))

    entries = matrix.right(torch.eye(shape[1]))[0].T / 1.5

    small = entries.T @ entries if shape[0] >= shape[1] else entries @ entries.T
    assert float((small - torch.eye(min(shape))).abs().max()) <= ROUNDING


@pytest.mark.parametrize("seed", range(40))
def test_an_orthogonal_matrix_that_is_asked_whole_loses_no_direction(seed: int) -> None:
    matrix = haar(200, 200, seed=seed, gain=1.0)

    entries = matrix.right(torch.eye(200))[0].T

    assert float((entries.T @ entries - torch.eye(200)).abs().max()) <= ROUNDING


SEEDS = 2000
"""Of the full test; the sentinel in the default suite has FEW."""

FEW = 300

PROBES: Sequence[tuple[str, Tensor]] = (
    ("right", some(2, 4, seed=1)),
    ("left", some(2, 5, seed=2)),
    ("row", torch.tensor([3, 0])),
    ("right", some(1, 4, seed=3)),
    ("left", some(1, 5, seed=4)),
)
"""Questions to matrices of 5 outputs and 4 inputs; some come to more than there are directions."""


def responses(matrix: LazyMatrix, order: Sequence[int]) -> Tensor:
    """All responses in the order of PROBES, asked in another."""
    told = {i: respond(matrix, *PROBES[i]).flatten() for i in order}
    return torch.cat([told[i] for i in range(len(PROBES)) if i in told])


def moment_probabilities(lazy: Tensor, dense: Tensor) -> list[float]:
    """Chances of every first and second moment: two samples of vectors, (seeds, responses) each."""
    found = []
    for power in (1, 2):
        pairs = []
        for sample in (lazy.double(), dense.double()):
            if power == 2:
                rows, columns = torch.triu_indices(sample.shape[1], sample.shape[1])
                pairs.append(sample[:, rows] * sample[:, columns])
            else:
                pairs.append(sample)
        one, other = pairs
        error = ((one.var(0) + other.var(0)) / len(one)).sqrt()
        z = (one.mean(0) - other.mean(0)) / error
        found += (2 * norm.sf(z.abs().numpy())).tolist()
    return found


def drawn_orthogonal(m: int, n: int, seed: int) -> DrawnMatrix:
    """As torch.nn.init.orthogonal_ does it: the Q of a QR, signs by the diagonal of R."""
    drawn = torch.randn(max(m, n), min(m, n), generator=torch.Generator().manual_seed(seed))
    q, r = torch.linalg.qr(drawn)
    q = q * r.diagonal().sign()
    return DrawnMatrix(1.5 * (q if m >= n else q.T))


@pytest.mark.parametrize(
    ("order", "seeds"),
    [
        pytest.param((1, 0, 3, 2, 4), FEW, id="products first, few seeds"),
        pytest.param((1, 0, 3, 2, 4), SEEDS, id="products first", marks=pytest.mark.laws),
        pytest.param((2, 4, 3, 1, 0), SEEDS, id="rows first", marks=pytest.mark.laws),
        pytest.param((0, 1, 2, 3, 4), SEEDS, id="in order", marks=pytest.mark.laws),
        pytest.param((3, 2, 0, 4, 1), SEEDS, id="from the end", marks=pytest.mark.laws),
    ],
)
@pytest.mark.parametrize("kind", ["normal", "orthogonal"])
def test_answers_have_the_joint_moments_of_a_drawn_matrix(
    kind: str, order: Sequence[int], seeds: int
) -> None:
    lazy, dense = [], []
    for seed in range(seeds):
        if kind == "normal":
            lazy.append(responses(gaussian(5, 4, seed=seed), order))
            dense.append(responses(DrawnMatrix(0.3 + 0.5 * some(5, 4, seed=SEEDS + seed)), order))
        else:
            lazy.append(responses(haar(5, 4, seed=seed), order))
            dense.append(responses(drawn_orthogonal(5, 4, SEEDS + seed), order))

    found = moment_probabilities(torch.stack(lazy), torch.stack(dense))

    assert min(found) * len(found) > 0.01  # Bonferroni, as Holm for the smallest


@pytest.mark.laws
def test_answers_of_a_wide_orthogonal_matrix_have_the_moments_of_a_drawn_one() -> None:
    x, g = some(2, 5, seed=1), some(1, 4, seed=2)
    lazy: list[Tensor] = []
    dense: list[Tensor] = []
    for seed in range(SEEDS):
        for sample, matrix in (
            (lazy, haar(4, 5, seed=seed)),
            (dense, drawn_orthogonal(4, 5, SEEDS + seed)),
        ):
            told = [respond(matrix, "left", g), respond(matrix, "right", x)]
            sample.append(torch.cat([t.flatten() for t in told]))

    found = moment_probabilities(torch.stack(lazy), torch.stack(dense))

    assert min(found) * len(found) > 0.01


@pytest.mark.parametrize("seeds", [100, pytest.param(500, marks=pytest.mark.laws)])
def test_the_entries_of_a_normal_matrix_are_independent_and_normal(seeds: int) -> None:
    assert min(chances_of_entries(seeds, std=2.0)) > 0.01


def test_a_std_that_is_a_tenth_too_large_is_seen_in_the_entries() -> None:
    # The sums' mean is 21 % off, eight standard errors of 100; that of 3000 entries is no more.
    of_sums, of_entries = chances_of_entries(100, std=2.2)

    assert of_sums < 1e-6
    assert of_entries < 0.01


def chances_of_entries(seeds: int, *, std: float) -> tuple[float, float]:
    """That sums of squares are chi-square and entries normal, where the std is taken for 2.

    After queries from both sides.
    """
    sums, entries = [], []
    for seed in range(seeds):
        matrix = gaussian(6, 5, seed=seed, mean=0.0, std=std)
        respond(matrix, "right", some(2, 5))
        respond(matrix, "left", some(2, 6))
        whole = matrix.right(torch.eye(5))[0] / 2.0
        sums.append(float(whole.square().sum()))
        entries.append(whole.flatten())
    law_of_sums, law_of_entries = chi2(30).cdf, norm.cdf
    return (
        float(kstest(sums, law_of_sums).pvalue),
        float(kstest(torch.cat(entries).numpy(), law_of_entries).pvalue),
    )


@pytest.mark.parametrize("order", ["", "r", "l", "w", "rl", "wrl"])
@pytest.mark.parametrize("mean", [0.0, 0.7])
@pytest.mark.parametrize("seeds", [100, pytest.param(400, marks=pytest.mark.laws)])
def test_a_square_sum_has_the_law_of_that_of_a_drawn_matrix(
    order: str, mean: float, seeds: int
) -> None:
    # sum of (mean + std z)^2 over m n entries: std^2 times a noncentral chi-square.
    lazy, dense = [], []
    for seed in range(seeds):
        matrix = gaussian(8, 7, seed=seed, mean=mean)
        for i, kind in enumerate(order):
            respond(matrix, *query_of(matrix, kind, seed=i))
        lazy.append(float(matrix.square_sum()))
        dense.append(float((mean + 0.5 * some(8, 7, seed=10_000 + seed)).square().sum()))

    one, other = np.array(lazy), np.array(dense)
    law = chi2(56).cdf if not mean else None
    if law is not None:
        assert kstest(one / 0.25, law).pvalue > 0.01 / 12  # Bonferroni over the 12 cases
    error = sqrt((one.var() + other.var()) / len(one))
    assert abs(one.mean() - other.mean()) < 4 * error  # k = 4
    # The variance of a sample variance of nearly normal numbers: 2 var^2 / seeds; k = 4.
    ratio = one.var() / other.var()
    assert abs(ratio - 1) < 4 * sqrt(2 * 2 / len(one))


@pytest.mark.parametrize("asked", ["", "l", "w", "wl"])
def test_a_matrix_is_split_between_columns(asked: str) -> None:
    matrix = gaussian(24, 20)
    told = [(*q, respond(matrix, *q)) for q in (query_of(matrix, k, 3) for k in asked)]

    halves = matrix.split(8, 1, (numbers(1, mean=0.3, std=0.5), numbers(2, mean=0.3, std=0.5)))

    assert halves is not None
    assert [h.shape for h in halves] == [(24, 8), (24, 12)]
    for half in halves:  # new queries in both
        respond(half, "right", some(3, half.shape[1], seed=4))
    entries = torch.cat([h.right(torch.eye(h.shape[1]))[0].T for h in halves], 1)
    for side, x, response in told:
        assert rounding_gap(response, dense_response(entries, side, x)) <= ROUNDING


@pytest.mark.parametrize("asked", ["", "r", "w", "R", "wr"])
def test_a_matrix_is_split_between_rows(asked: str) -> None:
    matrix = gaussian(24, 20)
    told = [(*q, respond(matrix, *q)) for q in (query_of(matrix, k, 3) for k in asked)]

    halves = matrix.split(9, 0, (numbers(1, mean=0.3, std=0.5), numbers(2, mean=0.3, std=0.5)))

    assert halves is not None
    assert [h.shape for h in halves] == [(9, 20), (15, 20)]
    for half in halves:
        respond(half, "left", some(3, half.shape[0], seed=4))
    entries = torch.cat([h.right(torch.eye(20))[0].T for h in halves])
    for side, x, response in told:
        assert rounding_gap(response, dense_response(entries, side, x)) <= ROUNDING


@pytest.mark.parametrize(("asked", "axis"), [("r", 1), ("rl", 1), ("l", 0), ("rl", 0)])
def test_a_matrix_is_not_split_across_a_question(asked: str, axis: int) -> None:
    matrix = gaussian(24, 20)
    for kind in asked:
        respond(matrix, *query_of(matrix, kind, 3))

    assert matrix.split(8, axis, (numbers(1), numbers(2))) is None


def test_rows_come_from_the_true_distribution_while_no_product_is_known() -> None:
    matrix = gaussian(6, 4, mean=0.0)
    matrix._random = _Ones()

    assert torch.equal(matrix.row(torch.tensor([4, 1])), torch.ones(2, 4))


class _Ones(Numbers):
    """Entries that are all 1."""

    def entries(self, shape: tuple[int, int]) -> Tensor:
        """Entries of the matrix."""
        return torch.ones(shape)


@pytest.mark.parametrize("name", MATRICES)
def test_nan_in_a_question_spoils_its_own_row_only(name: str) -> None:
    matrix = MATRICES[name]()
    x = some(3, matrix.shape[1])
    x[1, 2] = torch.nan

    response = respond(matrix, "right", x)
    entries = matrix.right(torch.eye(matrix.shape[1]))[0].T

    assert response[1].isnan().any()
    assert rounding_gap(response[[0, 2]], x[[0, 2]] @ entries.T) <= ROUNDING


@pytest.mark.parametrize("name", MATRICES)
def test_a_question_of_no_rows_has_an_answer_of_none(name: str) -> None:
    matrix = MATRICES[name]()
    m, n = matrix.shape

    assert respond(matrix, "right", torch.zeros(0, n)).shape == (0, m)
    assert respond(matrix, "left", torch.zeros(0, m)).shape == (0, n)
    assert respond(matrix, "row", torch.zeros(0, dtype=torch.int64)).shape == (0, n)


def test_what_a_deferred_answer_leaves_to_be_made_is_what_it_was_made_of() -> None:
    at_once, later = gaussian(24, 20), gaussian(24, 20, defers=True)
    x, g = some(3, 20), some(2, 24)

    pairs = [(respond(m, "right", x), respond(m, "left", g)) for m in (at_once, later)]

    assert rounding_gap(pairs[0][0], pairs[1][0]) <= ROUNDING
    assert rounding_gap(pairs[0][1], pairs[1][1]) <= ROUNDING
