"""What only values show: shards and tensors that repeat, lost ranks, atoms, wrong moments."""

from dataclasses import replace

import pytest
import torch
from support.programs import gpt2, matrix
from torch import Tensor, nn

from gptinit.auditing.drawn_values import findings_in_values
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
