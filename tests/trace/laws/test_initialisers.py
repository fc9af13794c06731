"""Every public function of torch.nn.init, by name and by captured reference, against real draws.

A function that torch adds and this table does not have fails the first test.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest
import torch
from support.traced import assert_agree, real, traced
from torch import Tensor, nn

from gptinit.facts.distributions import Constant, Measured, Normal, Unset
from gptinit.trace.laws.laws import Laws
from gptinit.trace.replay.replay import Replay

MATRIX, SQUARE = (48, 40), (40, 40)

CASES: Mapping[str, tuple[tuple[tuple[int, ...], dict[str, Any]], ...]] = MappingProxyType(
    {
        "constant_": ((MATRIX, {"val": 0.25}),),
        "dirac_": (((16, 16, 3), {}), ((16, 8, 3, 3), {"groups": 2})),
        "eye_": ((SQUARE, {}),),
        "kaiming_normal_": (
            (MATRIX, {}),
            (MATRIX, {"mode": "fan_out", "nonlinearity": "relu"}),
            (MATRIX, {"a": math.sqrt(5), "nonlinearity": "leaky_relu"}),
            ((24, 8, 3, 3), {"nonlinearity": "selu"}),
        ),
        "kaiming_uniform_": (
            (MATRIX, {"a": math.sqrt(5)}),
            (MATRIX, {"mode": "fan_out", "nonlinearity": "tanh"}),
            ((24, 8, 5), {"nonlinearity": "linear"}),
        ),
        "normal_": ((MATRIX, {"mean": 0.1, "std": 0.02}), ((7,), {})),
        "ones_": ((MATRIX, {}),),
        "orthogonal_": (
            (MATRIX, {}),
            (MATRIX[::-1], {"gain": 2.0}),
            (SQUARE, {"gain": 0.5}),
            ((24, 4, 3, 3), {}),
        ),
        "sparse_": ((MATRIX, {"sparsity": 0.25}), (MATRIX, {"sparsity": 0.5, "std": 0.1})),
        "trunc_normal_": (
            (MATRIX, {}),
            (MATRIX, {"std": 0.02, "a": -0.04, "b": 0.04}),
            (MATRIX, {"mean": 0.5, "std": 1.0, "a": 0.0, "b": 4.0}),
            (MATRIX, {"std": 0.02}),
        ),
        "uniform_": ((MATRIX, {"a": -0.2, "b": 0.6}), (MATRIX, {})),
        "xavier_normal_": ((MATRIX, {}), ((24, 8, 3), {"gain": 1.5})),
        "xavier_uniform_": ((MATRIX, {}), ((24, 8, 3), {"gain": 1.5})),
        "zeros_": ((MATRIX, {}),),
    }
)

BY_NAME = [(name, shape, more) for name, cases in CASES.items() for shape, more in cases]
CAPTURED = {name: getattr(nn.init, name) for name in CASES}
"""As `from torch.nn.init import NAME` binds them, before any trace."""

TAKES_GENERATOR = [
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "orthogonal_",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
]


def test_the_table_has_every_public_initialiser() -> None:
    public = {
        name
        for name, value in vars(nn.init).items()
        if name.endswith("_") and not name.startswith("_") and callable(value)
    }

    assert public == set(CASES)


def style(call: Callable[..., Tensor], shape: tuple[int, ...], more: dict[str, Any]) -> Tensor:
    return call(nn.Parameter(torch.empty(shape)), **more)


@pytest.mark.parametrize("is_captured", [False, True], ids=["by name", "captured"])
@pytest.mark.parametrize(("name", "shape", "more"), BY_NAME)
def test_initialiser_traces_to_the_law_of_a_real_draw(
    name: str, shape: tuple[int, ...], more: dict[str, Any], is_captured: bool
) -> None:
    def make() -> Tensor:
        return style(CAPTURED[name] if is_captured else getattr(nn.init, name), shape, more)

    tensor = traced(make)
    law = Laws().of(tensor.read()).distribution
    draws = real(make)

    assert not isinstance(law, Measured | Unset)
    assert_agree(law, draws)
    values = Replay().value(tensor.read()).double()
    if isinstance(law, Constant):
        assert bool((values == law.value).all())
    else:
        assert abs(float(values.std(correction=0)) / law.std - 1) < 5 / math.sqrt(values.numel())


@pytest.mark.parametrize("name", TAKES_GENERATOR)
def test_a_generator_gives_the_same_draw_again(name: str) -> None:
    shape, more = CASES[name][0]

    def twice() -> Tensor:
        made = []
        for _ in range(2):
            generator = torch.Generator().manual_seed(5)
            made.append(style(getattr(nn.init, name), shape, {**more, "generator": generator}))
        assert torch.equal(*made)
        return made[0]

    if name != "sparse_":  # draws the pattern without the generator it is given
        traced(twice)


def test_the_old_values_of_a_truncated_normal_are_not_read() -> None:
    def make() -> Tensor:
        w = nn.init.normal_(nn.Parameter(torch.empty(MATRIX)), 0.0, 5.0)
        return nn.init.trunc_normal_(w, std=0.02, a=-0.06, b=0.06)

    law = Laws().of(traced(make).read()).distribution

    assert law.kind == "truncated_normal"
    # Variance of a normal cut at 3 sigma: 1 - 6 pdf(3) / (2 Phi(3) - 1) = 0.973327.
    assert law.std == pytest.approx(0.02 * math.sqrt(0.9733369), rel=1e-4)


def test_torch_looks_its_truncated_normal_up_again_after_a_trace() -> None:
    before = vars(nn.init)["_no_grad_trunc_normal_"]

    traced(lambda: nn.init.trunc_normal_(torch.empty(4, 4)))

    assert vars(nn.init)["_no_grad_trunc_normal_"] is before


@pytest.mark.parametrize(("sigmas", "is_cut"), [(1, True), (3, True), (5, True), (6.01, False)])
def test_a_clamp_is_a_cut_unless_nothing_lies_beyond(sigmas: float, is_cut: bool) -> None:
    weight = traced(lambda: torch.randn(MATRIX).mul_(0.02).clamp_(-0.02 * sigmas, 0.02 * sigmas))

    law = Laws().of(weight.read()).distribution

    assert isinstance(law, Measured) == is_cut
    assert isinstance(law, Normal) != is_cut
