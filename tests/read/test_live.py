"""Live parameters are measured through tensors that share their memory."""

import math

import torch
from torch import nn

from gptinit.facts.distributions import Constant, Measured
from gptinit.read.live import LiveLaws, stand_ins


def test_moments_of_a_live_tensor_have_their_standard_errors() -> None:
    module = nn.Linear(300, 200, bias=False)
    nn.init.normal_(module.weight, std=0.5, generator=torch.Generator().manual_seed(0))

    law = LiveLaws().of(stand_ins(module)["weight"].read()).distribution

    assert isinstance(law, Measured)
    n = 300 * 200
    assert law.count == n
    # Normal entries: std / sqrt(n) and std / sqrt(2n); the kurtosis, 3, is itself known to 0.02.
    assert math.isclose(law.mean_stderr, 0.5 / math.sqrt(n), rel_tol=0.02)
    assert math.isclose(law.std_stderr, 0.5 / math.sqrt(2 * n), rel_tol=0.03)
    assert abs(law.std - 0.5) < 4 * law.std_stderr
    assert abs(law.mean) < 4 * law.mean_stderr


def test_equal_entries_are_a_constant() -> None:
    found = stand_ins(nn.LayerNorm(8))

    assert LiveLaws().of(found["weight"].read()).distribution == Constant(1.0)
    assert LiveLaws().of(found["bias"].read()).distribution == Constant(0.0)


def test_equal_values_have_equal_bases_and_others_have_not() -> None:
    module = nn.ModuleList(nn.Linear(4, 4, bias=False) for _ in range(3))
    module[1].load_state_dict(module[0].state_dict())
    laws, found = LiveLaws(), stand_ins(module)

    first, second, third = (laws.of(found[f"{i}.weight"].read()) for i in range(3))

    assert first.basis is not None
    assert first.basis == second.basis
    assert first.basis != third.basis


def test_stand_ins_share_memory_and_ties() -> None:
    module = nn.ModuleDict({"wte": nn.Embedding(3, 2), "head": nn.Linear(2, 3, bias=False)})
    module["head"].weight = module["wte"].weight
    module.register_buffer("places", torch.arange(3))
    module.register_buffer("scale", torch.ones(2))

    found = stand_ins(module)

    assert set(found) == {"wte.weight", "head.weight", "scale"}
    assert found["wte.weight"] is found["head.weight"]
    node = found["wte.weight"].read().whole_node()
    assert node is not None
    assert node.constant is not None
    assert node.constant.data_ptr() == module.get_parameter("wte.weight").data_ptr()


def test_bfloat16_is_measured_too() -> None:
    module = nn.Linear(64, 64, bias=False).bfloat16()

    law = LiveLaws().of(stand_ins(module)["weight"].read())

    assert isinstance(law.distribution, Measured)
    # The default is uniform with std 1 / sqrt(3 fan_in); rounding to 8 bits adds 1e-5 of variance.
    assert abs(law.distribution.std - 1 / math.sqrt(3 * 64)) < 5 * law.distribution.std_stderr


def test_parameters_on_meta_have_no_stand_in() -> None:
    assert stand_ins(nn.Linear(2, 2, device="meta")) == {}
