# ruff: noqa: D102 # small methods are documented by their class
"""Norms are known by what they do to a vector, not by their weight."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gptinit.facts.distributions import Constant, Distribution
from gptinit.forward.flow import Flow
from gptinit.read.norm_gains import _bias_of, norm_gains
from gptinit.trace.laws.laws import Laws
from gptinit.trace.record.tensor import TracedTensor, traced
from gptinit.trace.record.tracing import trace


class ZeroCentred(nn.Module):
    """RMSNorm that multiplies by 1 + w."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((32,), value))

    def forward(self, x: Any) -> Any:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * (1 + self.weight)


class NeedsMore(nn.Module):
    """A norm whose forward wants a residual too."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(32))

    def forward(self, x: Any, residual: Any) -> Any:
        return x + residual


class Halves(NeedsMore):
    """A norm that returns another shape."""

    def forward(self, x: Any, residual: Any = None) -> Any:
        return x[..., :16]


def gains(**norms: Any) -> dict[str, float]:
    """Gains of modules by name, traced as a whole."""
    module = trace(lambda: nn.ModuleDict({k: make() for k, make in norms.items()}))

    def law(tensor: Tensor) -> Distribution:
        read = tensor if isinstance(tensor, TracedTensor) else traced(tensor)
        return Laws().of(read.read()).distribution

    names = [name for name, _ in module.named_parameters() if name.endswith("weight")]
    return norm_gains(module, names, Flow(), law)


def test_the_gain_of_a_layer_norm_is_one_and_grows_with_its_weight() -> None:
    def doubled() -> nn.LayerNorm:
        norm = nn.LayerNorm(32)
        nn.init.constant_(norm.weight, 2.0)
        return norm

    found = gains(ln_1=lambda: nn.LayerNorm(32), ln_2=doubled)

    # eps = 1e-5 beside a variance of 1 takes 5e-6 off.
    assert found == {
        "ln_1.weight": pytest.approx(1.0, abs=1e-5),
        "ln_2.weight": pytest.approx(2.0, abs=2e-5),
    }


def test_a_weight_of_zero_is_right_where_the_class_adds_one() -> None:
    found = gains(norm_a=lambda: ZeroCentred(0.0), norm_b=lambda: ZeroCentred(1.0))

    assert found["norm_a.weight"] == pytest.approx(1.0, abs=1e-5)
    assert found["norm_b.weight"] == pytest.approx(2.0, abs=1e-5)


def test_a_bias_adds_to_the_gain() -> None:
    def shifted() -> nn.LayerNorm:
        norm = nn.LayerNorm(32)
        nn.init.constant_(norm.bias, 3.0)
        return norm

    # Mean square 1 + 9, whose root is 3.1623.
    assert gains(norm=shifted)["norm.weight"] == pytest.approx(10**0.5, abs=1e-4)


@pytest.mark.parametrize("norm", [NeedsMore, Halves])
def test_a_norm_that_cannot_be_run_alone_has_no_gain(norm: Any) -> None:
    assert gains(norm=norm) == {}


def test_what_is_no_norm_has_no_gain() -> None:
    assert gains(up=lambda: nn.Linear(4, 4), emb=lambda: nn.Embedding(4, 4)) == {}


def test_equal_norms_are_run_once() -> None:
    calls: list[int] = []

    class Counted(ZeroCentred):
        def forward(self, x: Any) -> Any:
            calls.append(1)
            return super().forward(x)

    module = nn.ModuleDict({"norms": nn.ModuleList(Counted(0.0) for _ in range(4))})
    names = [name for name, _ in module.named_parameters()]
    found = norm_gains(module, names, Flow(), lambda _: Constant(0.0))

    assert len(found) == 4
    assert len(calls) == 1


def test_a_module_that_only_multiplies_has_its_weight_as_gain() -> None:
    class Scale(NeedsMore):
        def forward(self, x: Any, residual: Any = None) -> Any:
            return -3.0 * x * self.weight

    assert gains(only=Scale) == {"only.weight": pytest.approx(3.0, rel=1e-6)}


@pytest.mark.parametrize(
    ("name", "weight", "bias", "found"),
    [
        ("h.5.ln.weight", "h.0.ln.weight", "h.0.ln.bias", "h.5.ln.bias"),
        ("h.5.ln.weight", "h.0.ln.weight", "shared.bias", "shared.bias"),
        ("h.5.ln.weight", "h.0.ln.weight", None, ""),
        ("weight", "weight", "shift", "shift"),
        ("weight", "weight", "h.0.shift", "h.0.shift"),
    ],
)
def test_the_bias_of_a_norm_stands_beside_its_weight_or_where_it_is(
    name: str, weight: str, bias: str | None, found: str
) -> None:
    norm: Any = SimpleNamespace(weight=weight, bias=bias)

    assert _bias_of(name, norm) == found
