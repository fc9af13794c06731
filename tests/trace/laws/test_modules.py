"""torch's own modules under the trace: parameters and buffers against real ones."""

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from types import MappingProxyType

import pytest
import torch
from support.traced import SEEDS, assert_agree
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from gptinit.facts.distributions import (
    Constant,
    Distribution,
    Measured,
    Normal,
    Orthogonal,
    Uniform,
    Unset,
)
from gptinit.trace.laws.laws import Laws
from gptinit.trace.record.tensor import TracedTensor
from gptinit.trace.record.tracing import trace


class Angles(nn.Module):
    """Rotary tables, masks and the like, as decoders keep them."""

    def __init__(self) -> None:
        super().__init__()
        inverse = 1.0 / (10000 ** (torch.arange(0, 16, 2).float() / 16))
        angles = torch.outer(torch.arange(32).float(), inverse)
        self.register_buffer("inv_freq", inverse)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("both", torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2))
        self.register_buffer("freqs_cis", torch.polar(torch.ones_like(angles), angles))
        self.register_buffer("mask", torch.tril(torch.ones(32, 32)).view(1, 1, 32, 32))
        self.register_buffer("bias", torch.full((32, 32), float("-inf")).triu(1))
        self.register_buffer("positions", torch.arange(32).expand(1, -1))
        self.register_buffer("slopes", torch.tensor([2.0 ** (-i) for i in range(8)]))
        self.A_log = nn.Parameter(torch.log(torch.arange(1, 17).float().repeat(4, 1)))


class Cloned(nn.Module):
    """Layers copied from one, which therefore start alike."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.Linear(24, 24)
        self.shared = nn.ModuleList([layer] * 3)
        self.copies = nn.ModuleList([deepcopy(layer) for _ in range(2)])


MODULES: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        "Linear": lambda: nn.Linear(40, 48),
        "Bilinear": lambda: nn.Bilinear(8, 9, 10),
        "Embedding": lambda: nn.Embedding(50, 16, padding_idx=3),
        "EmbeddingBag": lambda: nn.EmbeddingBag(50, 16),
        "Conv1d": lambda: nn.Conv1d(8, 16, 3),
        "ConvTranspose2d": lambda: nn.ConvTranspose2d(8, 16, 3),
        "LayerNorm": lambda: nn.LayerNorm(32),
        "RMSNorm": lambda: nn.RMSNorm(32),
        "BatchNorm1d": lambda: nn.BatchNorm1d(32),
        "PReLU": lambda: nn.PReLU(8),
        "LSTM": lambda: nn.LSTM(16, 24, num_layers=2),
        "GRU": lambda: nn.GRU(16, 24),
        "MultiheadAttention": lambda: nn.MultiheadAttention(32, 4),
        "MultiheadAttention, kdim": lambda: nn.MultiheadAttention(32, 4, kdim=24, vdim=40),
        "TransformerEncoder": lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(32, 4, 64), 2, enable_nested_tensor=False
        ),
        "Transformer": lambda: nn.Transformer(32, 4, 1, 1, 64, batch_first=True),
        "weight_norm": lambda: parametrizations.weight_norm(nn.Linear(24, 32)),
        "old weight_norm": lambda: _old_weight_norm(),
        "orthogonal": lambda: parametrizations.orthogonal(nn.Linear(24, 24)),
        "spectral_norm": lambda: parametrizations.spectral_norm(nn.Linear(24, 32)),
        "tables": Angles,
        "cloned": Cloned,
        "half": lambda: nn.Linear(40, 48).half(),
        "bfloat16": lambda: nn.Linear(40, 48, dtype=torch.bfloat16),
        "to(dtype)": lambda: nn.Sequential(nn.Linear(40, 48), nn.LayerNorm(48)).to(torch.float64),
    }
)


def _old_weight_norm() -> nn.Module:
    made: nn.Module = nn.utils.weight_norm(nn.Linear(24, 32))
    return made


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def real(make: Callable[[], nn.Module]) -> list[dict[str, Tensor]]:
    found = []
    for seed in range(SEEDS):
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            found.append({n: t.detach().clone() for n, t in tensors_of(make()).items()})
    return found


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", MODULES)
def test_parameters_and_buffers_have_the_laws_of_real_ones(name: str) -> None:
    module, draws = trace(MODULES[name]), real(MODULES[name])
    laws = Laws()

    found = tensors_of(module)
    assert found.keys() == draws[0].keys()
    for key, tensor in found.items():
        values = [draw[key] for draw in draws]
        assert (tensor.shape, tensor.dtype) == (values[0].shape, values[0].dtype), key
        if not isinstance(tensor, TracedTensor):
            assert torch.equal(tensor, values[0]), key
            continue
        if values[0].is_complex() or not bool(torch.isfinite(values[0]).all()):
            continue
        law = laws.of(tensor.read()).distribution
        assert not isinstance(law, Unset), key
        assert_agree(law, [v.double() for v in values])


EXACT: Mapping[str, Mapping[str, Distribution]] = {
    "Linear": {"weight": Uniform(-1 / math.sqrt(40), 1 / math.sqrt(40))},
    "Bilinear": {"weight": Uniform(-1 / math.sqrt(8), 1 / math.sqrt(8))},
    "EmbeddingBag": {"weight": Normal(0.0, 1.0)},
    "LayerNorm": {"weight": Constant(1.0), "bias": Constant(0.0)},
    "BatchNorm1d": {"running_var": Constant(1.0), "running_mean": Constant(0.0)},
    "LSTM": {"weight_hh_l1": Uniform(-1 / math.sqrt(24), 1 / math.sqrt(24))},
    # torch draws the packed projection as one (96, 32) matrix: sqrt(6 / 128).
    "MultiheadAttention": {"in_proj_weight": Uniform(-math.sqrt(6 / 128), math.sqrt(6 / 128))},
}


@pytest.mark.parametrize("name", EXACT)
def test_modules_of_torch_trace_to_what_their_documentation_says(name: str) -> None:
    found = tensors_of(trace(MODULES[name]))

    for key, law in EXACT[name].items():
        tensor = found[key]
        assert isinstance(tensor, TracedTensor)
        traced = Laws().of(tensor.read()).distribution
        assert traced.kind == law.kind
        assert traced.mean == pytest.approx(law.mean, abs=1e-9)
        assert traced.std == pytest.approx(law.std, rel=1e-6)


def law_of(laws: Laws, tensor: Tensor) -> object:
    assert isinstance(tensor, TracedTensor)
    return laws.of(tensor.read())


def test_deep_copied_layers_are_seen_as_copies() -> None:
    layers = trace(MODULES["TransformerEncoder"]).get_submodule("layers")
    laws = Laws()
    first, second = (
        laws.of(layer.get_parameter("linear1.weight").read())  # type: ignore[attr-defined] # traced
        for layer in layers.children()
    )

    assert first.basis is not None
    assert first.basis == second.basis


def test_a_layer_in_a_list_twice_is_one_tensor_and_its_deep_copy_another() -> None:
    module = trace(Cloned)
    shared, copies = (module.get_submodule(n) for n in ("shared", "copies"))
    one, two = (shared.get_parameter(f"{i}.weight") for i in (0, 1))
    copy = copies.get_parameter("0.weight")

    assert one is two
    assert copy is not one
    assert law_of(Laws(), copy) == law_of(Laws(), one)


def test_layers_drawn_one_after_the_other_are_no_copies() -> None:
    module = trace(lambda: nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)))
    laws = Laws()
    bases = {
        laws.of(p.read()).basis  # type: ignore[attr-defined] # traced
        for p in module.parameters()
    }

    assert len(bases) == 4


@pytest.mark.parametrize("sizes", [(8, 8), (8, 16)])
def test_layers_drawn_after_the_same_seed_are_copies_where_their_sizes_agree(
    sizes: tuple[int, int],
) -> None:
    """After draws of different sizes the generator is in different states."""

    def make() -> nn.Module:
        layers = []
        for size in sizes:
            torch.manual_seed(3)
            nn.Linear(size, 8)
            layers.append(nn.Linear(5, 5))
        return nn.Sequential(*layers)

    module, laws = trace(make), Laws()
    one, two = (
        laws.of(module.get_parameter(f"{i}.weight").read())  # type: ignore[attr-defined] # traced
        for i in (0, 1)
    )
    real = make()

    are_equal = torch.equal(real.get_parameter("0.weight"), real.get_parameter("1.weight"))
    assert (one.basis == two.basis) == are_equal == (sizes == (8, 8))


def test_a_layer_drawn_orthogonal_says_so() -> None:
    def make() -> nn.Module:
        layer = nn.Linear(24, 24)
        nn.init.orthogonal_(layer.weight, gain=3.0)
        return layer

    law = law_of(Laws(), trace(make).get_parameter("weight"))
    assert law.distribution == Orthogonal(3.0, 24)  # type: ignore[attr-defined] # a law


def test_nothing_that_a_rule_covers_is_measured() -> None:
    for name in ("Linear", "Embedding", "LSTM", "Transformer", "half", "cloned"):
        for key, tensor in tensors_of(trace(MODULES[name])).items():
            law = law_of(Laws(), tensor)
            assert not isinstance(law.distribution, Measured), key  # type: ignore[attr-defined] # a law
