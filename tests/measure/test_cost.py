"""Estimated seconds of the engines: what each draws and multiplies, and how that grows."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from support.subjects import tiny_subject

from gptinit.facts.presets import get_config
from gptinit.facts.schemes import get_scheme
from gptinit.measure import cost
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


# The tiny shape: 3 layers, 32 wide, d_ff 128, 101 tokens in a tied table, 48 positions looked up.
PRODUCTS = [*[(96, 32), (32, 32), (128, 32), (32, 128)] * 3, (101, 32)]
"""Outputs and inputs of every matrix that activations are multiplied by."""
OUTPUTS, INPUTS = (sum(sides) for sides in zip(*PRODUCTS, strict=True))
ENTRIES = sum(outputs * inputs for outputs, inputs in PRODUCTS)
FORWARD = {"normal": 16 * OUTPUTS, "gram": 16**2 * INPUTS, "flop": 2 * 16**2 * OUTPUTS, "call": 13}
"""Of lazy weights with 16 tokens: a response each, products of queries, a combination of those."""
BACKWARD = {
    "normal": 16 * INPUTS,
    "gram": 16**2 * OUTPUTS,
    "flop": 2 * 16**2 * INPUTS + 2 * 16**2 * (3 * INPUTS + 2 * OUTPUTS),  # with squares and sums
    "call": 13,
}


def count(operation: str, engine: str, monkeypatch: pytest.MonkeyPatch, **work: Any) -> float:
    """How often an engine does an operation for the tiny model, one seed of two."""
    unit = dict.fromkeys(("normal", "flop", "gram", "call"), 0.0) | {operation: 1.0}
    monkeypatch.setattr(cost, "_COSTS", {"cpu": cost._Costs(**unit)})
    what = Workload(**{"tokens": 16, "dtype": torch.float32, "grad": False, **work})
    return estimated_seconds(tiny_subject(), what, engine, "cpu", seeds=2)


GRAD, AGAIN = {"grad": True}, {"grad": True, "recompute": True}


@pytest.mark.parametrize("engine", ["dense", "stream", "lazy"])
@pytest.mark.parametrize(
    ("work", "passes", "drawn_anew"), [({}, 1, 0), (GRAD, 3, 1), (AGAIN, 4, 2)], ids=str
)
def test_weights_are_drawn_and_multiplied_once_a_pass(
    engine: str,
    work: dict[str, Any],
    passes: int,
    drawn_anew: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As many tokens as the narrowest matrix has inputs: lazy weights are materialised.
    work = {"tokens": 32, **work}

    assert count("flop", engine, monkeypatch, **work) == 2 * 32 * ENTRIES * passes
    gradients = 0.5 if work.get("grad") else 0  # memory for them is as good as half a draw
    drawn = 1 + gradients + (drawn_anew if engine != "dense" else 0)
    assert count("normal", engine, monkeypatch, **work) == drawn * ENTRIES
    assert count("call", engine, monkeypatch, **work) == (13 if engine == "lazy" else 0)
    assert count("gram", engine, monkeypatch, **work) == 0


@pytest.mark.parametrize("operation", FORWARD)
def test_lazy_weights_do_what_queries_and_responses_take(
    operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, backward = FORWARD[operation], BACKWARD[operation]

    assert count(operation, "lazy", monkeypatch) == forward
    factor = cost._GRADIENT_FACTOR
    assert count(operation, "lazy", monkeypatch, **GRAD) == pytest.approx(
        factor * (forward + backward)
    )
    assert count(operation, "lazy", monkeypatch, **AGAIN) == pytest.approx(
        factor * (2 * forward + backward)
    )


def test_a_first_seed_touches_all_memory_and_a_table_that_is_only_looked_up_is_no_product() -> None:
    subject, what = tiny_subject(), Workload(tokens=16, dtype=torch.float32, grad=False)
    untied = replace(subject, facts=replace(subject.facts, tied=False))

    one, later, looked_up = (
        estimated_seconds(model, what, "dense", "cpu", seeds)
        for model, seeds in ((subject, 1), (subject, 2), (untied, 2))
    )

    costs = cost._COSTS["cpu"]
    assert one - later == pytest.approx(subject.facts.n_params / 2 * costs.normal)
    assert later / looked_up == pytest.approx(ENTRIES / (ENTRIES - 101 * 32))
