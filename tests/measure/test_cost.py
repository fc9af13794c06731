"""Estimated seconds of the engines grow as their work does."""

import pytest
import torch

from gptinit.facts.presets import get_config
from gptinit.facts.schemes import get_scheme
from gptinit.measure.builtin_subject import builtin_subject
from gptinit.measure.cost import estimated_seconds
from gptinit.measure.memory import Workload
from gptinit.measure.subject import Subject


def subject_of(width: int) -> Subject:
    config = get_config("gpt2", n_layer=12, n_embd=width)
    return builtin_subject(config, get_scheme("nanogpt"), name="gpt2", source="tests")


@pytest.mark.parametrize("grad", [False, True])
def test_lazy_is_linear_in_width_and_dense_quadratic(grad: bool) -> None:
    what = Workload(tokens=64, dtype=torch.float32, grad=grad)
    seconds = {
        engine: [
            estimated_seconds(subject_of(width), what, engine, "cpu") for width in (6144, 12288)
        ]
        for engine in ("dense", "lazy")
    }

    # What does not grow (a call, the vocabulary's share) makes both ratios a little smaller.
    assert 1.8 < seconds["lazy"][1] / seconds["lazy"][0] < 2.05
    assert 3.8 < seconds["dense"][1] / seconds["dense"][0] < 4.05
