"""What only values show: shards and tensors that repeat, lost ranks, atoms, wrong moments."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from support.programs import gpt2, matrix
from torch import Tensor, nn

from gptinit.auditing.drawn_values import _atoms, _equal_tensors, findings_in_values
from gptinit.facts.distributions import Constant, Copy, Distribution, Normal, Uniform
from gptinit.results.profile import Finding
from gptinit.results.program import ModelProgram

STD = 0.02


def drawn(*shape: int, seed: int = 0, std: float = STD) -> Tensor:
    """Independent normal entries."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * std


def findings(law: Distribution = Normal(0.0, STD), **tensors: Tensor) -> list[Finding]:  # noqa: B008 # frozen
    """What the values of some matrices of one law show."""
    module = nn.ParameterDict({n: nn.Parameter(t, requires_grad=False) for n, t in tensors.items()})
    parameters = tuple(
        matrix(n, "mlp_up", law, t.shape[-1], t.shape[0]) for n, t in sorted(tensors.items())
    )
    program: ModelProgram = replace(gpt2(), parameters=parameters)
    return findings_in_values(module, program)


def rules(found: list[Finding]) -> list[str]:
    """Rules alone."""
    return [f.rule for f in found]


def test_independent_entries_have_no_finding() -> None:
    assert findings(a=drawn(64, 96), b=drawn(64, 96, seed=1), c=drawn(7, 5), d=drawn(16, 300)) == []


@pytest.mark.parametrize("seed", range(20))
def test_the_smallest_matrix_that_is_judged_raises_no_false_alarm(seed: int) -> None:
    # 16 x 16 is where the largest singular value spreads most: Tracy-Widom, about 5 % of its mean.
    assert findings(a=drawn(16, 16, seed=seed)) == []


@pytest.mark.parametrize(
    ("count", "dim", "what"), [(2, 0, "rows"), (4, 0, "rows"), (2, 1, "columns"), (8, 1, "columns")]
)
def test_shards_that_are_drawn_alike_are_named(count: int, dim: int, what: str) -> None:
    shape = [64, 64]
    shape[dim] //= count

    found = findings(a=torch.cat([drawn(*shape)] * count, dim))

    (only,) = found
    assert (only.rule, only.severity, only.where) == ("duplicate-shards", "error", "a")
    assert f"got 2 equal blocks of {what}" in only.message


@pytest.mark.parametrize(("size", "found"), [(2, False), (4, True), (5, False), (6, True)])
def test_equal_halves_are_blocks_from_two_rows_or_columns_on(size: int, found: bool) -> None:
    half = drawn(size // 2, 3)
    rows = torch.cat([half, half, drawn(size % 2, 3)])

    for tensor in (rows, rows.T, rows[:, 0]):
        assert ("duplicate-shards" in rules(findings(a=tensor))) is found


def spectral(change: Callable[[Tensor], Tensor], *shape: int) -> Tensor:
    """Independent entries with their singular values changed, the largest first."""
    left, values, right = torch.linalg.svd(drawn(*shape), full_matrices=False)
    changed: Tensor = left @ torch.diag(change(values)) @ right
    return changed


@pytest.mark.parametrize(("share", "found"), [(1.14, False), (1.16, True)])
def test_a_direction_that_all_rows_share_is_seen_where_no_rank_is_lost(
    share: float, found: bool
) -> None:
    # Of 64 x 36 independent entries the largest singular value is about STD (8 + 6) = 0.28.
    shared = torch.tensor([share * 0.28])
    tensor = spectral(lambda values: torch.cat([shared, values[1:]]), 64, 36)

    told = findings(a=tensor)

    assert [(f.rule, f.severity) for f in told] == [("duplicate-shards", "warning")] * found
    assert all("got largest singular value 0.3248 where 0.28 is exp" in f.message for f in told)
    assert all("rank 36 of 36" in f.message for f in told)


@pytest.mark.parametrize(("lost", "found"), [(1, False), (2, True)])
def test_a_rank_may_be_one_short(lost: int, found: bool) -> None:
    told = findings(a=spectral(lambda v: v * (torch.arange(len(v)) < len(v) - lost), 64, 36))

    assert [f"rank {36 - lost} of 36" in f.message for f in told] == [True] * found


@pytest.mark.parametrize(
    ("law", "shape", "found"),
    [
        (Normal(0.0, STD), (16, 16), True),
        (Normal(0.0, STD), (15, 300), False),
        (Normal(0.0, STD), (4, 16, 16), False),
        # A mean is a direction that all rows share.
        (Normal(0.5, STD), (16, 16), False),
    ],
)
def test_ranks_are_judged_of_centred_matrices_from_16_rows_on(
    law: Distribution, shape: tuple[int, ...], found: bool
) -> None:
    half = law.mean + drawn(*shape)[..., : shape[-1] // 2]
    mixed = torch.cat([half, half.flip(-1)], -1)  # every column twice, in no block

    assert rules(findings(law, a=mixed)) == ["duplicate-shards"] * found


def test_a_lost_rank_is_seen_where_no_blocks_are_equal() -> None:
    half = drawn(32, 64)
    mixed = torch.cat([half, half.flip(0)])  # every row twice, in no block

    (found,) = findings(a=mixed)

    assert (found.rule, found.severity) == ("duplicate-shards", "warning")
    assert "rank 32 of 64" in found.message


def test_values_that_have_not_the_std_that_was_read_are_named() -> None:
    (found,) = findings(a=drawn(64, 64, std=0.03))

    assert (found.rule, found.severity) == ("wrong-distribution", "error")
    assert found.message.startswith("Values must have the std that the code sets, 0.02, got 0.0")


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_a_right_draw_of_few_values_is_not_called_wrong(count: int) -> None:
    # Chance of a false alarm in all five cases: below 5 x 60 x 2 x 5.7e-7 = 0.0004.
    for seed in range(60):
        values = torch.rand(count, generator=torch.Generator().manual_seed(seed)) * 0.2 - 0.1

        assert findings(Uniform(-0.1, 0.1), a=values) == [], seed
        assert findings(a=drawn(count, seed=seed)) == [], seed


@pytest.mark.parametrize(
    ("count", "low", "high"),
    # sqrt(r), where (n - 1) (r - 1 - ln r) / 2 = 15.065: minus the log of a normal's 5-sigma tail.
    [(2, 1.739e-07, 5.889), (9, 0.09266, 2.581), (1025, 0.8813, 1.124)],
)
def test_the_std_of_fewer_values_may_be_further_off(count: int, low: float, high: float) -> None:
    values = drawn(count)
    values = (values - values.mean()).double() / values.std()

    for share, found in ((low * 0.99, 1), (low * 1.01, 0), (high * 0.99, 0), (high * 1.01, 1)):
        told = findings(a=share * STD * values)
        assert rules(told) == ["wrong-distribution"] * found, share


def test_five_standard_errors_are_no_finding_where_the_difference_is_tiny() -> None:
    # 0.5 % off in a million entries is 7 standard errors, and less than bfloat16 rounds.
    assert findings(a=drawn(1024, 1024, std=STD * 1.005)) == []


def test_values_that_pile_up_at_an_end_are_named() -> None:
    values = drawn(64, 64).to(torch.bfloat16)
    values[:2] = -0.1  # 3 % of all, 5 sigma out

    (found,) = findings(a=values)

    assert (found.rule, found.severity) == ("dtype-rounding", "error")
    assert "got 3.12% of them at -0.1" in found.message


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_itself_is_no_finding(dtype: torch.dtype) -> None:
    bound = 3**0.5 * STD
    uniform = (torch.rand(64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1) * bound

    assert findings(a=drawn(64, 64).to(dtype)) == []
    assert findings(Uniform(-bound, bound), a=uniform.to(dtype)) == []
    assert findings(Normal(0.5, STD), a=(0.5 + drawn(64, 64)).to(dtype)) == []


def test_two_tensors_with_the_same_values_are_named() -> None:
    (found,) = findings(a=drawn(64, 64), b=drawn(64, 64))

    assert (found.rule, found.where) == ("duplicate-tensors", "b")
    assert found.message == "Drawn tensors must differ, got the values of a."


def test_copies_and_constants_are_not_drawn_twice() -> None:
    law = Copy("a", Normal(0.0, STD))

    assert "duplicate-tensors" not in rules(findings(law, a=drawn(64, 64), b=drawn(64, 64)))
    assert findings(Constant(0.0), a=torch.zeros(8, 8), b=torch.zeros(8, 8)) == []


def test_parameters_that_the_module_has_not_are_passed_over() -> None:
    program = replace(gpt2(), parameters=(matrix("gone", "mlp_up", Normal(0.0, STD), 4, 4),))

    assert findings_in_values(nn.Linear(2, 2), program) == []


@pytest.mark.parametrize(
    ("end", "count", "piled", "found"),
    [
        (2.5, 1000, 2, True),
        (2.0, 1000, 2, False),  # not far enough
        (2.5, 4000, 3, False),  # less than one in a thousand
        (2.5, 999, 2, False),  # too few values
        (10.5, 999, 1, True),  # no draw comes there
        (9.5, 999, 1, False),
    ],
)
def test_a_pile_is_of_many_values_or_where_none_can_be(
    end: float, count: int, piled: int, found: bool
) -> None:
    values = torch.linspace(-1.9, 1.9, count, dtype=torch.bfloat16)
    values[:piled] = end

    told = _atoms(matrix("a", "q", Normal(0.0, 1.0), count, 1), values)

    assert (told is not None) is found


@pytest.mark.parametrize(("count", "found"), [(1, False), (2, True)])
def test_two_numbers_are_enough_to_be_the_same(count: int, found: bool) -> None:
    values = {name: torch.arange(float(count)) for name in "ab"}
    law = Normal(0.0, 1.0)
    program = replace(gpt2(), parameters=tuple(matrix(n, "q", law, count, 1) for n in values))

    assert bool(list(_equal_tensors(program, values))) is found
