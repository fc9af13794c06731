"""Parameters that share draws: copies are named, other shares are entangled."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import pytest
import torch
from torch import Tensor, nn

from gptinit.facts.distributions import Constant, Copy, Distribution, Normal, Piecewise
from gptinit.forward.flow import Flow
from gptinit.forward.roles import WeightUse
from gptinit.read.parameters import (
    ParameterReader,
    _fans,
    is_float,
    read_of,
    with_copies,
    with_entanglement,
)
from gptinit.results.program import ParameterProgram, Program
from gptinit.trace.laws.laws import Laws
from gptinit.trace.record.tracing import trace

SIZE = (8, 6)

Second = Callable[[Tensor], Tensor]
"""Makes another tensor of the first."""


class Weights(nn.Module):
    """Parameters `a`, and others made of it; buffers made of `a` or of one of the others."""

    def __init__(self, others: Mapping[str, Second], buffers: Mapping[str, Second]) -> None:
        super().__init__()
        made = {"a": torch.randn(SIZE)}
        made |= {name: other(made["a"]) for name, other in others.items()}
        for name, value in made.items():
            self.register_parameter(name, nn.Parameter(value))
        for name, buffer in buffers.items():
            self.register_buffer(f"of_{name}", buffer(made[name]))


def read(
    others: Mapping[str, Second], buffers: Mapping[str, Second] = MappingProxyType({})
) -> Program:
    """Such parameters, with copies and entanglement marked."""
    module, laws = trace(lambda: Weights(others, buffers)), Laws()
    tensors = (*module.named_parameters(), *module.named_buffers())
    reads = {name: read_of(tensor) for name, tensor in tensors if is_float(tensor)}
    of = {name: laws.of(read) for name, read in reads.items()}
    drawn = tuple(
        ParameterProgram(
            name=name, shape=tuple(tensor.shape), role="other", layer=None,
            distribution=of[name].distribution,
        )
        for name, tensor in module.named_parameters()
    )  # fmt: skip
    names = [name for name, _ in module.named_buffers() if name in reads]
    return with_entanglement(with_copies(drawn, of), reads, names)


def copies(program: Program) -> dict[str, str]:
    """Every parameter that is a copy, and of which."""
    return {p.name: p.distribution.of for p in program if isinstance(p.distribution, Copy)}


def entangled(program: Program) -> set[str]:
    return {p.name for p in program if p.is_entangled}


def another(_: Tensor) -> Tensor:
    return torch.randn(SIZE)


def clone(a: Tensor) -> Tensor:
    return a.clone()


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a + 1,
        lambda a: a - 1,
        lambda a: 1 - a,
        lambda a: 2 * a + 1,
        lambda a: a.t().contiguous(),
        lambda a: a.flip(0),
        lambda a: a[:4].clone(),
        lambda a: a + torch.randn(SIZE),
    ],
    ids=["a + 1", "a - 1", "1 - a", "2 a + 1", "transposed", "flipped", "rows", "a + noise"],
)
def test_what_is_made_of_another_without_its_very_values_is_entangled_and_no_copy(
    change: Second,
) -> None:
    program = read({"b": change, "c": another})

    assert copies(program) == {}
    assert entangled(program) == {"a", "b"}


def test_equal_values_are_a_copy_of_the_first_that_has_them_and_not_entangled() -> None:
    program = read({"b": another, "c": clone, "d": clone})

    assert copies(program) == {"c": "a", "d": "a"}
    assert program[2].distribution == Copy("a", Normal(0.0, 1.0))
    assert entangled(program) == set()


@pytest.mark.parametrize(("factor", "std"), [(3.0, 3.0), (-1.0, 1.0), (0.5, 0.5)])
def test_a_multiple_is_a_copy_with_the_std_of_its_own(factor: float, std: float) -> None:
    program = read({"b": lambda a: factor * a, "c": another})

    assert program[1].distribution == Copy("a", Normal(0.0, std))
    assert entangled(program) == set()


def test_equal_values_that_are_no_copies_of_the_first_are_copies_of_each_other() -> None:
    program = read({"b": lambda a: a + 1, "c": lambda a: a + 1, "d": lambda a: a + 2})

    assert copies(program) == {"c": "b"}
    assert entangled(program) == {"a", "b", "c", "d"}


def test_tensors_that_mix_draws_or_have_none_are_no_copies_of_each_other() -> None:
    def noisy(a: Tensor) -> Tensor:
        return a + torch.randn(SIZE)

    program = read({"b": noisy, "c": noisy, "d": torch.ones_like, "e": torch.ones_like})

    assert copies(program) == {}
    assert entangled(program) == {"a", "b", "c"}


def test_the_reduced_and_the_complete_factor_of_one_draw_are_no_copies() -> None:
    program = read(
        {"b": lambda a: torch.linalg.qr(a)[0], "c": lambda a: torch.linalg.qr(a, "complete")[0]}
    )

    assert [p.shape for p in program] == [(8, 6), (8, 6), (8, 8)]
    assert copies(program) == {}


def test_one_that_is_no_copy_entangles_the_copies_too() -> None:
    program = read({"b": clone, "c": lambda a: a.t().contiguous(), "d": another})

    assert copies(program) == {"b": "a"}
    assert entangled(program) == {"a", "b", "c"}


@pytest.mark.parametrize(
    "buffer",
    [clone, lambda a: a.mean(), lambda a: a.norm(dim=1), lambda a: a[0], lambda a: a.t() + 1],
    ids=["clone", "mean", "norms", "row", "shifted"],
)
@pytest.mark.parametrize(
    ("of", "marked"), [("a", {"a", "copy"}), ("copy", {"a", "copy"}), ("apart", {"apart"})]
)
def test_a_parameter_that_a_buffer_is_computed_from_is_entangled_and_so_are_its_copies(
    buffer: Second, of: str, marked: set[str]
) -> None:
    program = read({"copy": clone, "apart": another}, {of: buffer})

    assert entangled(program) == marked
    assert copies(program) == {"copy": "a"}


@pytest.mark.parametrize(
    "buffer",
    [another, lambda a: torch.ones_like(a), lambda a: torch.arange(a.shape[0])],
    ids=["own draw", "ones", "positions"],
)
def test_a_buffer_of_its_own_entangles_nothing(buffer: Second) -> None:
    assert entangled(read({"b": another}, {"a": buffer, "b": buffer})) == set()


A, B = Normal(0.0, 1.0), Normal(0.0, 0.5)
"""Of the first draw and of the second."""

ZEROS = torch.zeros(4, 6)


def again(d: Distribution, block: int) -> Copy:
    return Copy("a", d, block=block)


def law_of(make: Callable[[Tensor, Tensor], Tensor]) -> Distribution:
    """The distribution that is read of a parameter made of two draws of four rows."""

    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(make(torch.randn(4, 6), torch.randn(4, 6) * 0.5))

    module = trace(One)
    reader = ParameterReader(module, Laws(), Flow(), {})
    a = module.get_parameter("a")
    return reader.parameter("a", a, read_of(a)).distribution


@pytest.mark.parametrize(
    ("make", "pieces"),
    [
        (lambda a, b: torch.cat([a, a]), ((4, A), (4, again(A, 0)))),
        (lambda a, b: torch.stack([a, a, a]), ((1, A), (1, again(A, 0)), (1, again(A, 0)))),
        (lambda a, b: torch.cat([a, a]).view(16, 3), ((8, A), (8, again(A, 0)))),
        (lambda a, b: torch.cat([a, b, a]), ((4, A), (4, B), (4, again(A, 0)))),
        (lambda a, b: torch.cat([b, a, a]), ((4, B), (4, A), (4, again(A, 1)))),
        (
            lambda a, b: torch.cat([a, b, b, a]),
            ((4, A), (4, B), (4, again(B, 1)), (4, again(A, 0))),
        ),
        (lambda a, b: torch.cat([a, 2 * b, a]), ((4, A), (4, A), (4, again(A, 0)))),
        (
            lambda a, b: torch.cat([ZEROS[:2], a, ZEROS, a]),
            ((2, Constant(0.0)), (4, A), (4, Constant(0.0)), (4, again(A, 1))),
        ),
        (lambda a, b: torch.cat([a[:1], a[:1]]), ((1, A), (1, again(A, 0)))),
    ],
    ids=[
        "twice", "stacked", "in another shape", "around another", "after another", "two of two",
        "around one of its law", "with zeros", "a row",
    ],
)  # fmt: skip
def test_rows_that_repeat_others_are_their_copies_and_all_others_keep_their_law(
    make: Callable[[Tensor, Tensor], Tensor], pieces: tuple[tuple[int, Distribution], ...]
) -> None:
    assert law_of(make) == Piecewise(pieces)


@pytest.mark.parametrize(
    ("make", "law"),
    [
        (lambda a, b: torch.cat([a, 2 * b]), A),
        (lambda a, b: torch.cat([ZEROS, a, ZEROS]), None),
        (lambda a, b: torch.cat([a, 2 * a]), None),
        (lambda a, b: torch.cat([a, a.flip(0)]), None),
        (lambda a, b: torch.cat([a[:2], a[1:3]]), None),
        (lambda a, b: torch.cat([a, a], 1), None),
        (lambda a, b: torch.cat([torch.cat([a, b])] * 2), None),
    ],
    ids=[
        "of one law", "zeros twice", "a multiple", "flipped", "in part", "columns", "of two laws",
    ],
)  # fmt: skip
def test_rows_that_repeat_no_others_are_no_copies(
    make: Callable[[Tensor, Tensor], Tensor], law: Distribution | None
) -> None:
    found = law_of(make)

    assert law is None or found == law
    assert not any(isinstance(d, Copy) for _, d in getattr(found, "pieces", ()))


class Conv1D(nn.Module):
    """A matrix stored as (in, out), as transformers' module of this name does."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(3, 5)), nn.Parameter(torch.ones(5))


@pytest.mark.parametrize(
    ("name", "use", "fans"),
    [
        ("linear.weight", None, (3, 5)),
        ("linear.bias", None, (3, 5)),
        ("conv.weight", None, (3, 5)),
        ("conv.bias", None, (3, 5)),
        ("experts", None, (7, 4)),
        ("norm.weight", None, (None, None)),
        ("norm.bias", None, (None, None)),
        ("scale", None, (None, None)),
        ("linear.weight", WeightUse(roles=("other",), fan_in=30, fan_out=50), (30, 50)),
        ("linear.weight", WeightUse(roles=("other",)), (3, 5)),
    ],
)
def test_fans_are_those_of_the_use_or_of_the_module_that_stores_a_matrix(
    name: str, use: WeightUse | None, fans: tuple[int | None, int | None]
) -> None:
    module = nn.Module()
    module.linear, module.conv, module.norm = nn.Linear(3, 5), Conv1D(), nn.LayerNorm(5)
    module.experts = nn.Parameter(torch.ones(2, 4, 7))
    module.scale = nn.Parameter(torch.ones(5))

    assert _fans(module, name, module.get_parameter(name), use) == fans
