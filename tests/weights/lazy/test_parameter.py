"""Parameters in rectangles, copies that share them, a policy that learns what cannot be lazy."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import kstest, norm, truncnorm
from support.foreign_models import factory
from support.lazy_models import (
    ODD,
    ROUNDING,
    NeedsDrawingError,
    NeedsKeepingError,
    all_entries,
    lazy_parameter,
    lazy_weight,
    owner_of,
    program_of,
    rounding_gap,
    run_lazily,
    some,
    weight_of,
)
from support.subjects import cpu_draws
from torch import Tensor, nn

from gptinit.facts.distributions import (
    Constant,
    Copy,
    Distribution,
    Measured,
    Normal,
    Orthogonal,
    Piecewise,
    Scaled,
    TruncatedNormal,
    Uniform,
)
from gptinit.measure.checkpointing import entering_blocks
from gptinit.measure.traced_subject import traced_subject
from gptinit.results.program import ParameterProgram
from gptinit.weights.draws import Draws
from gptinit.weights.lazy.gaussian import GaussianMatrix
from gptinit.weights.lazy.matrix import DrawnMatrix
from gptinit.weights.lazy.parameter import _Numbers, _third_moment, is_lazy_law
from gptinit.weights.lazy.policy import LazyPolicy
from gptinit.weights.lazy.tiles import Rectangle, rectangle
from gptinit.weights.policy import Installed, Restart
from gptinit.weights.redrawn import Redrawn
from gptinit.weights.tensor import WeightTensor

VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "all": lambda w: w,
    "transpose": lambda w: w.t(),
    "rows": lambda w: w[3:7],
    "columns": lambda w: w[:, 2:9],
    "block": lambda w: w[3:7, 2:9],
    "every other row": lambda w: w[1::2],
    "every third column": lambda w: w[:, 1::3],
    "both with steps": lambda w: w[2::3, 1::2],
    "transposed block": lambda w: w.t()[4:8, 1:20],
    "one row": lambda w: w[5:6],
    "one column": lambda w: w[:, 5:6],
    "one column as a row": lambda w: w[:, 5][None],
    "one entry": lambda w: w[5:6, 7:8],
    "one row as a column": lambda w: w[5][:, None],
    "last": lambda w: w[-1:, -3:],
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_a_rectangle_of_the_matrix(name: str) -> None:
    w = torch.arange(24.0 * 20).view(24, 20)
    view = VIEWS[name](w)

    area = rectangle(view.shape, view.stride(), int(view.storage_offset()), 20)

    assert area is not None
    part = w[list(area.rows)][:, list(area.columns)]
    assert torch.equal(part.T if area.turned else part, view)


@pytest.mark.parametrize(
    "view",
    [
        lambda w: w[3].expand(4, -1),
        lambda w: w.view(12, 40),
        lambda w: w.diagonal()[None].expand(2, -1),
        lambda w: w.as_strided((3, 4), (21, 1)),
        lambda w: w.as_strided((3, 20), (10, 1)),
    ],
    ids=["repeated", "two rows as one", "diagonal", "slanted", "overlapping"],
)
def test_other_views_are_no_rectangles(view: Callable[[Tensor], Tensor]) -> None:
    part = view(torch.zeros(24, 20))

    assert rectangle(part.shape, part.stride(), int(part.storage_offset()), 20) is None


LAWS: dict[str, Distribution] = {
    "normal": Normal(0.1, 0.3),
    "constant": Constant(0.25),
    "uniform": Uniform(-0.5, 0.7),
    "truncated": TruncatedNormal(0.0, 0.3, -0.6, 0.6),
    "orthogonal": Orthogonal(1.3, 24),
    "piecewise": Piecewise(((8, Normal(0.0, 0.1)), (8, Constant(0.5)), (8, Uniform(-1, 1)))),
    "copies": Piecewise(
        (
            (8, Normal(0.0, 0.1)),
            (8, Copy("h.0.w", Normal(0.0, 0.1), block=0)),
            (8, Normal(0.2, 1.0)),
        )
    ),
}


def query_many(weight: Tensor) -> list[Tensor]:
    """Answers to views from both sides, small and large, in one order."""
    told = []
    for i, view in enumerate(VIEWS.values()):
        part = view(weight)
        told.append(F.linear(some(3, part.shape[1], seed=i), part))
        if i % 3 == 0:
            told.append(some(2, part.shape[0], seed=i) @ part)
        if i % 5 == 0:
            told.append(F.linear(some(30, part.shape[1], seed=i), part))
    return told


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("in_block", [False, True], ids=["forward", "for gradients"])
def test_questions_to_any_parts_are_answered_by_one_matrix(law: str, in_block: bool) -> None:
    weight = lazy_weight(24, 20, law=LAWS[law], in_block=in_block)

    told = query_many(weight)
    entries = all_entries(weight)

    for one, other in zip(told, query_many(entries), strict=True):
        assert rounding_gap(one, other) <= ROUNDING


def test_parts_have_the_law_of_their_rows() -> None:
    entries = torch.stack(
        [all_entries(lazy_weight(24, 20, law=LAWS["piecewise"], seed=s)) for s in range(40)]
    )

    assert kstest(entries[:, :8].flatten() / 0.1, norm.cdf).pvalue > 0.01
    assert torch.equal(entries[:, 8:16], torch.full((40, 8, 20), 0.5))
    assert float(entries[:, 16:].abs().max()) <= 1
    # 40 x 160 uniform entries: variance 1/3, that of the sample variance (1/5 - 1/9) / count.
    count = 40 * 8 * 20
    assert abs(float(entries[:, 16:].square().mean()) - 1 / 3) < 4 * (4 / 45 / count) ** 0.5  # k=4


@pytest.mark.parametrize("rows", [3, 30], ids=["few queries", "many"])
def test_copies_in_one_parameter_have_the_same_values(rows: int) -> None:
    weight = lazy_weight(24, 20, law=LAWS["copies"])

    y = F.linear(some(rows, 20), weight)
    entries = all_entries(weight)

    assert rounding_gap(y[:, :8], y[:, 8:16]) <= ROUNDING
    assert rounding_gap(entries[:8], entries[8:16]) <= ROUNDING
    assert rounding_gap(y, F.linear(some(rows, 20), entries)) <= ROUNDING


def test_copies_tell_the_square_sum_of_all_rows() -> None:
    owner = lazy_parameter(24, 20, law=LAWS["copies"])
    weight, x = weight_of(owner), some(3, 20).requires_grad_(True)
    F.linear(x, weight).backward(some(3, 24, seed=2))
    twin = all_entries(weight).requires_grad_(True)

    F.linear(x, twin).backward(some(3, 24, seed=2))
    sums = owner.square_sums("h.0.w")

    assert sums is not None
    assert twin.grad is not None
    assert rounding_gap(sums.gradient, twin.grad.square().sum()) <= 2 * ROUNDING
    assert rounding_gap(sums.weight, twin.square().sum()) <= 2 * ROUNDING


@pytest.mark.parametrize("law", [n for n in LAWS if n not in {"orthogonal", "copies"}])
def test_a_part_that_is_asked_alone_becomes_a_matrix_of_its_own(law: str) -> None:
    weight = lazy_weight(24, 20, law=LAWS[law])

    with torch.no_grad():
        F.linear(some(3, 20), weight[8:16])

    tiles: list[Any] = list(owner_of(weight).tiles)
    areas = [(t.area.rows.start, t.area.rows.stop) for t in tiles]
    assert sorted(areas) == [(0, 8), (8, 16), (16, 24)]
    assert all(t.randomness.name == f"h.0.w lazy {t.area.key}" for t in tiles)


def test_what_runs_again_is_cut_as_in_its_rehearsal() -> None:
    """Whole first, then a part: tiles must not depend on whether a gradient will be told."""
    told = []
    for keeps in (False, True):
        owner = lazy_parameter(24, 20)
        owner.keeps_uses = keeps
        weight, x = weight_of(owner), some(3, 20).requires_grad_(True)
        told.append((F.linear(x, weight), F.linear(x.flip(0) * x, weight[:9])))

    for one, other in zip(*told, strict=True):
        assert torch.equal(one, other)


def test_experts_are_matrices_one_after_the_other() -> None:
    weight = lazy_weight(3, 20, 8)

    y = torch.bmm(some(3, 2, 20), weight)
    z = some(2, 20) @ weight[1]

    entries = all_entries(weight)
    assert entries.shape == (3, 20, 8)
    assert rounding_gap(y, torch.bmm(some(3, 2, 20), entries)) <= ROUNDING
    assert rounding_gap(z, some(2, 20) @ entries[1]) <= ROUNDING


def test_a_view_that_needs_other_rows_draws_the_weight() -> None:
    weight = lazy_weight(3, 20, 8)
    torch.bmm(some(3, 2, 20), weight)

    with pytest.raises(NeedsDrawingError, match=r"aten\.mm"):
        some(2, 160) @ weight.view(3, 160).t()


@pytest.mark.parametrize("law", LAWS)
def test_a_weight_that_is_forgotten_and_asked_the_same_gives_the_same(law: str) -> None:
    owner = lazy_parameter(24, 20, law=LAWS[law])

    told = []
    for _ in range(2):
        told.append(query_many(weight_of(owner)))
        owner.forget()
        owner.is_forgotten = False

    for one, other in zip(*told, strict=True):
        assert torch.equal(one, other)


def test_a_forgotten_weight_that_is_asked_asks_to_be_kept() -> None:
    owner = lazy_parameter(24, 20)
    F.linear(some(3, 20), weight_of(owner))
    owner.forget()

    with pytest.raises(NeedsKeepingError):
        F.linear(some(3, 20), weight_of(owner))


def test_a_question_that_was_written_over_asks_to_be_kept() -> None:
    weight, x = lazy_weight(24, 20, in_block=False), some(3, 20)
    with torch.no_grad():
        F.linear(x, weight)
        x += 1

        with pytest.raises(NeedsKeepingError):
            F.linear(some(3, 20, seed=2), weight)
        with pytest.raises(NeedsKeepingError):
            F.embedding(torch.tensor([3]), weight)
        with pytest.raises(NeedsKeepingError):
            weight.sum()


def test_parameters_of_two_names_share_a_matrix_and_tell_gradients_apart() -> None:
    owner = lazy_parameter(24, 20)
    q, k = weight_of(owner, "q"), weight_of(owner, "k")
    x = some(3, 20).requires_grad_(True)
    (F.linear(x, q) * 2 + F.linear(x.square(), k)).backward(some(3, 24, seed=2))

    entries = all_entries(q)
    twins = [entries.clone().requires_grad_(True) for _ in range(2)]
    (F.linear(x, twins[0]) * 2 + F.linear(x.square(), twins[1])).backward(some(3, 24, seed=2))

    for name, twin in zip("qk", twins, strict=True):
        sums = owner.square_sums(name)
        assert sums is not None
        assert twin.grad is not None
        assert rounding_gap(sums.gradient, twin.grad.square().sum()) <= 2 * ROUNDING


def test_a_product_without_a_backward_pass_leaves_the_gradient_unknown() -> None:
    owner = lazy_parameter(24, 20)
    x = some(3, 20).requires_grad_(True)
    F.linear(x, weight_of(owner)).sum().backward()
    F.linear(some(3, 20), weight_of(owner))  # of a constant: autograd will not ask

    assert owner.square_sums("h.0.w") is None


def test_the_distance_from_normal_is_that_of_berry_and_esseen() -> None:
    owner = lazy_parameter(24, 20, law=Uniform(-1.0, 1.0))
    F.linear(torch.ones(1, 20), weight_of(owner))

    # 0.56 E|w|^3 / std^3 / sqrt(20) with E|w|^3 = 1/4 and std = 3^-1/2.
    assert owner.distance is not None
    assert float(owner.distance) == pytest.approx(0.56 * 0.25 * 3**1.5 / 20**0.5, rel=1e-5)
    F.linear(torch.eye(20)[:1], weight_of(owner))  # one entry alone is not normal at all
    assert float(owner.distance) == pytest.approx(0.56 * 0.25 * 3**1.5, rel=1e-5)
    F.linear(torch.ones(0, 20), weight_of(owner))
    normal = lazy_parameter(24, 20)
    F.linear(torch.ones(1, 20), weight_of(normal))
    assert normal.distance is None


def test_of_pieces_the_one_that_is_farthest_from_normal_counts() -> None:
    narrow, wide = TruncatedNormal(0.0, 0.5, -1.0, 1.0), Uniform(-1.0, 1.0)

    pieces = [Piecewise(((8, Normal(0.0, 1.0)), (8, one), (8, other))) for one, other in (
        (narrow, wide), (wide, narrow), (wide, Constant(0.0)), (Normal(0.0, 1.0), Constant(0.0)),
    )]  # fmt: skip

    alone = [_third_moment(law) for law in (narrow, wide)]
    assert None not in alone
    assert alone[0] != alone[1]
    largest = max(moment for moment in alone if moment is not None)
    assert [_third_moment(law) for law in pieces] == [largest, largest, alone[1], None]


def test_the_sum_of_many_squares_is_drawn_with_the_spread_of_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 400 entries 4 are drawn: their distance from the mean counts sqrt(400 / 4) times."""
    monkeypatch.setattr("gptinit.weights.lazy.parameter._SAMPLE", 4)
    law = Uniform(1.0, 3.0)
    expected = 4 + 4 / 12  # mean^2 + width^2 / 12

    numbers, again = (_Numbers(cpu_draws(), "w", law) for _ in range(2))

    surplus = float(again.entries((1, 4)).square().sum()) - 4 * expected
    assert abs(surplus) > 0.1
    found = float(numbers.square_sum(400))
    assert found == pytest.approx(400 * expected + 10 * surplus, rel=1e-5)
    few = _Numbers(cpu_draws(), "w", law)
    assert float(few.square_sum(4)) == pytest.approx(4 * expected + surplus, rel=1e-5)


@pytest.mark.parametrize(("low", "high"), [(-2.0, 2.0), (0.0, 40.0), (-1.0, 3.0)])
def test_the_distance_of_truncated_entries_is_that_of_their_third_moment(
    low: float, high: float
) -> None:
    law = truncnorm(low, high, scale=0.5)
    owner = lazy_parameter(24, 20, law=TruncatedNormal(0.0, 0.5, low / 2, high / 2))
    F.linear(torch.ones(1, 20), weight_of(owner))

    third = law.expect(lambda w: abs(w - law.mean()) ** 3) / law.std() ** 3
    assert owner.distance is not None
    # 1e-3: a sum over 4096 points is exact to a share of 1 / 4096 at a cut.
    assert float(owner.distance) == pytest.approx(0.56 * third / 20**0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("law", "lazy"),
    [
        (Normal(0, 1), True),
        (Constant(1), True),
        (Uniform(0, 1), True),
        (TruncatedNormal(0, 1, -2, 2), True),
        (Orthogonal(1, 4), True),
        (Piecewise(((2, Normal(0, 1)), (2, Constant(0)))), True),
        (Piecewise(((2, Normal(0, 1)), (2, Orthogonal(1, 4)))), False),
        (Scaled(Normal(0, 1), 2.0), False),
        (
            Measured(
                mean=0, std=1, mean_stderr=0.1, std_stderr=0.1, low=-3, high=3, kurtosis=3, count=9
            ),
            False,
        ),
    ],
    ids=lambda value: str(value),
)
def test_laws_that_can_be_lazy(law: Distribution, lazy: bool) -> None:
    assert is_lazy_law(law) is lazy


def test_a_matrix_that_is_asked_as_much_as_it_holds_is_drawn() -> None:
    weight = lazy_weight(24, 20)
    F.linear(some(20, 20), weight)

    (tile,) = owner_of(weight).tiles
    assert isinstance(tile.matrix, DrawnMatrix)


# --- the policy


class Blocks(nn.Module):
    """Two blocks with a matrix each; what a block does is given."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.h = nn.ModuleList(nn.Module() for _ in range(2))
        for block in self.h:
            block.w = nn.Parameter(torch.empty(24, 20, device="meta"), requires_grad=False)
        self.call = forward

    def forward(self, x: Tensor) -> Tensor:
        """What was given."""
        return self.call(self.h, x)


PROGRAM = tuple(program_of((24, 20), Normal(0.0, 0.3), name=f"h.{i}.w", layer=i) for i in range(2))


def in_block(weights: Installed, path: str, call: Callable[[], Tensor]) -> Tensor:
    """A block's call, announced as in a forward pass alone."""
    weights.enter(path, rehearsal=False)
    made = call()
    weights.leave(path)
    return made


def test_a_block_is_forgotten_when_it_has_run() -> None:
    def run(module: Any, weights: Installed) -> Tensor:
        with torch.no_grad():
            y = in_block(weights, "h.0", lambda: F.linear(some(3, 20), module.h[0].w))
            in_block(weights, "h.1", lambda: F.linear(some(3, 20), module.h[1].w))
        return y

    module = Blocks(lambda h, x: x)
    made = run_lazily(module, PROGRAM, run, blocks=("h.0", "h.1"))

    assert made.restarts == 0
    assert not any(owner_of(p).is_touched for p in module.parameters())


def test_a_weight_that_another_block_uses_is_kept_after_one_restart() -> None:
    x = some(3, 20)

    def run(module: Any, weights: Installed) -> tuple[Tensor, Tensor, Tensor]:
        with torch.no_grad():
            w = module.h[0].w
            y = in_block(weights, "h.0", lambda: F.linear(x, w))
            z = in_block(weights, "h.1", lambda: F.linear(x * x, w) + F.linear(x, w))
            return y, z, all_entries(w)

    made = run_lazily(Blocks(lambda h, x: x), PROGRAM, run, blocks=("h.0", "h.1"))

    y, z, entries = made.result
    assert made.restarts == 1
    assert rounding_gap(y, F.linear(x, entries)) <= ROUNDING
    assert rounding_gap(z, F.linear(x * x + x, entries)) <= ROUNDING
    assert made.notes == ()


def test_a_block_that_runs_twice_is_not_forgotten() -> None:
    x = some(3, 20)

    def run(module: Any, weights: Installed) -> Tensor:
        with torch.no_grad():
            w = module.h[0].w
            first = in_block(weights, "h.0", lambda: F.linear(x, w))
            return first - in_block(weights, "h.0", lambda: F.linear(x, w))

    made = run_lazily(Blocks(lambda h, x: x), PROGRAM[:1], run, blocks=("h.0", "h.0"))

    assert made.restarts == 0
    assert float(made.result.abs().max()) <= ROUNDING


def test_one_layer_that_needs_drawing_has_all_layers_drawn() -> None:
    made = run_lazily(
        Blocks(lambda h, x: F.linear(x, -h[1].w) + F.linear(x, h[0].w)),
        PROGRAM,
        lambda module, _: module(some(3, 20)),
        blocks=("h.0", "h.1"),
    )

    first, second = (cpu_draws().new(p) for p in PROGRAM)
    assert made.restarts == 1
    assert [n.where for n in made.notes] == ["h.*.w"]
    assert rounding_gap(made.result, F.linear(some(3, 20), first - second)) <= ROUNDING


def test_a_policy_remembers_over_seeds_what_needs_drawing() -> None:
    policy, module = LazyPolicy(["h.0"]), Blocks(lambda h, x: x)
    owner = owner_of(_installed(policy, module, seed=0))
    with pytest.raises(Restart):
        owner.give_up(owner, "aten.neg")

    weight = _installed(policy, module, seed=1)

    assert isinstance(weight, WeightTensor)
    assert isinstance(weight.owner, Redrawn)


def _installed(policy: LazyPolicy, module: nn.Module, *, seed: int) -> Tensor:
    policy(module, PROGRAM, cpu_draws(seed))
    return module.get_parameter("h.0.w")


def test_seeds_and_names_decide_what_a_lazy_weight_tells() -> None:
    def told(seed: int) -> tuple[Tensor, ...]:
        module = Blocks(lambda h, x: x)
        LazyPolicy(["h.0", "h.1"])(module, PROGRAM, cpu_draws(seed))
        return tuple(F.linear(some(3, 20), p) for p in module.parameters())

    first, again, other = told(0), told(0), told(1)

    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_have_the_dtype_of_the_run(dtype: torch.dtype) -> None:
    module = Blocks(lambda h, x: x)
    LazyPolicy(["h.0"])(module, PROGRAM, cpu_draws(0, dtype))
    weight = module.get_parameter("h.0.w")

    y = F.linear(some(3, 20).to(dtype), weight)

    assert y.dtype == weight.dtype == dtype
    # bfloat16 rounds the input, of which the entries know nothing, and the output.
    exact = F.linear(some(3, 20).to(dtype).float(), all_entries(weight))
    assert rounding_gap(y.float(), exact) <= (ROUNDING if dtype == torch.float32 else 2.0**-8)


def odd_program(name: str) -> tuple[Any, tuple[ParameterProgram, ...], Draws]:
    """A model of ODD: its module, its program, and the draws of a seed."""
    subject = traced_subject(factory(ODD[name]))
    draws = Draws(seed=0, device=torch.device("cpu"), dtype=torch.float32, recipes=subject.recipes)
    return subject.build(), subject.program, draws


def test_a_copy_of_another_parameter_shares_its_owner() -> None:
    module, program, draws = odd_program("a copy of another weight")
    LazyPolicy(["h.0"])(module, program, draws)

    q, k = (module.get_parameter(f"h.0.attn.w{n}.weight") for n in "qk")

    assert owner_of(q) is owner_of(k)
    x = some(3, 16)
    assert rounding_gap(F.linear(x, q), F.linear(x, k)) <= ROUNDING


def test_a_multiple_of_another_parameter_has_both_drawn() -> None:
    module, program, draws = odd_program("a multiple of another weight")
    LazyPolicy(["h.0"])(module, program, draws)

    q, k, v = (module.get_parameter(f"h.0.attn.w{n}.weight") for n in "qkv")

    assert rounding_gap(k + 0, 2 * (q + 0)) <= ROUNDING
    assert owner_of(v).engine == "lazy"


def test_norms_and_biases_are_drawn_and_large_matrices_are_not() -> None:
    module, program, draws = odd_program("one of many experts")
    LazyPolicy(["h.0", "h.1", "h.2"])(module, program, draws)

    for parameter in program:
        tensor = module.get_parameter(parameter.name)
        assert isinstance(tensor, WeightTensor) == (len(parameter.shape) > 1), parameter.name


def test_the_gradient_of_a_borrowed_weight_counts_every_block() -> None:
    """Blocks run again one at a time: a use in another block than its own must be noted there."""

    class Block(nn.Module):
        def __init__(self, lender: Any = None) -> None:
            super().__init__()
            self._lender = (lender,)
            if lender is None:
                self.w = nn.Parameter(torch.empty(20, 20, device="meta"), requires_grad=False)

        def forward(self, x: Any) -> Any:
            w = self.w if self._lender[0] is None else self._lender[0].w
            return x + F.linear(x, w).tanh()

    first = Block()
    module = nn.ModuleDict({"h": nn.ModuleList([first, Block(first)])})
    program = program_of((20, 20), Normal(0.0, 0.3))
    x = some(3, 20)

    def forward(w: Tensor) -> Tensor:
        y = x + F.linear(x, w).tanh()
        return y + F.linear(y, w).tanh()

    def run(module: Any, weights: Installed) -> Tensor:
        with entering_blocks(module, ["h.0", "h.1"], weights, recompute=True):
            y = x.clone().requires_grad_(True)
            for block in module.h:
                y = block(y)
            y.backward(some(3, 20, seed=2))
        return y.detach()

    made = run_lazily(module, [program], run, blocks=("h.0", "h.1"))
    entries = all_entries(first.w).requires_grad_(True)
    forward(entries).backward(some(3, 20, seed=2))

    assert entries.grad is not None
    assert rounding_gap(made.result, forward(entries)) <= ROUNDING
    ((_, sums),) = made.weights.square_sums()
    assert rounding_gap(sums.gradient, entries.grad.square().sum()) <= 2 * ROUNDING
    assert made.restarts == 1


UP, DOWN = (30, 20), (20, 30)


def mlp(x: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """A weight whole after a part of it: it must be cut in the rehearsal as it is afterwards."""
    part = F.linear(x, up[:20])
    return x + F.linear(F.linear(x * part, up).tanh(), down)


class MLPBlock(nn.Module):
    """A block with two matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = (
            nn.Parameter(torch.empty(shape, device="meta"), requires_grad=False)
            for shape in (UP, DOWN)
        )

    def forward(self, x: Any) -> Any:
        """The stream and what the MLP adds."""
        return mlp(x, self.up, self.down)


class Watched:
    """Weights of a run whose entries are looked at before what is known of them is dropped."""

    def __init__(self, weights: Any) -> None:
        self._weights = weights
        self.entries: dict[str, Tensor] = {}

    def enter(self, block: str, *, rehearsal: bool) -> None:
        """Look, where a block is done with its backward pass."""
        if torch._C._current_autograd_node() is not None:
            self.look()
        self._weights.enter(block, rehearsal=rehearsal)

    def look(self) -> None:
        """Realise every weight of which something is known."""
        for name, owner in self._weights.owners.items():
            if owner.is_touched and name not in self.entries:
                with torch.no_grad():
                    self.entries[name] = all_entries(weight_of(owner))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._weights, name)


def test_blocks_that_run_again_give_the_gradients_of_their_dense_twins() -> None:
    module = nn.ModuleDict({"h": nn.ModuleList([MLPBlock(), MLPBlock()])})
    program = [
        program_of(shape, Normal(0.0, 0.2), name=f"h.{i}.{name}", layer=i)
        for i in range(2)
        for name, shape in (("up", UP), ("down", DOWN))
    ]
    x, g = some(3, 20), some(3, 20, seed=2)

    def run(module: Any, weights: Installed) -> tuple[Tensor, Tensor | None, Watched, Any]:
        watched: Any = Watched(weights)
        with entering_blocks(module, ["h.0", "h.1"], watched, recompute=True):
            given = x.clone().requires_grad_(True)
            y = module.h[1](module.h[0](given))
            y.backward(g)
        sums = {p.name: s for p, s in weights.square_sums()}
        watched.look()
        return y.detach(), given.grad, watched, sums

    made = run_lazily(module, program, run, blocks=("h.0", "h.1"))
    output, x_grad, watched, sums = made.result
    twins = {n: e.clone().requires_grad_(True) for n, e in watched.entries.items()}
    given = x.clone().requires_grad_(True)
    y = given
    for i in range(2):
        y = mlp(y, twins[f"h.{i}.up"], twins[f"h.{i}.down"])
    y.backward(g)

    assert made.restarts == 0
    assert given.grad is not None
    assert rounding_gap(output, y) <= ROUNDING
    assert rounding_gap(x_grad, given.grad) <= ROUNDING
    for name, twin in twins.items():
        assert twin.grad is not None
        assert rounding_gap(sums[name].gradient, twin.grad.square().sum()) <= 2 * ROUNDING


def test_a_whole_area_is_one_rectangle() -> None:
    weight = lazy_weight(24, 20)
    F.linear(some(3, 20), weight)

    (tile,) = owner_of(weight).tiles

    assert tile.area == Rectangle(range(24), range(20))
    assert isinstance(tile.matrix, GaussianMatrix)
