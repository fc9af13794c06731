"""What is read of a block's norms and branches agrees with what theory takes of them."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from support.programs import vector

from gptinit.facts.distributions import Constant, Distribution, Normal
from gptinit.recognise.blocks import Norm, _require_gain, read_blocks, shared
from gptinit.theory.parameters import NoFormula


@pytest.mark.parametrize(
    ("law", "gain", "is_plus_one", "is_known"),
    [
        # w x has the gain of its moments: sqrt(1 + 0.75^2) = 1.25.
        (Normal(1.0, 0.75), None, False, True),
        (Normal(1.0, 0.75), 1.2512, False, True),
        (Normal(1.0, 0.75), 1.2515, False, False),
        (Normal(1.0, 0.75), 1.2488, False, True),
        (Normal(1.0, 0.75), 1.2485, False, False),
        # (1 + w) x has that of one and its weight, which may not be drawn.
        (Constant(0.0), 1.0, True, True),
        (Constant(0.0), None, True, False),
        (Constant(-3.0), 2.0, True, True),
        (Constant(-3.0), None, True, False),
        (Constant(-0.5), None, True, True),
        (Normal(0.0, 0.01), 1.0, True, False),
    ],
)
def test_the_gain_of_a_norm_is_that_of_its_effect_or_it_is_refused(
    law: Distribution, gain: float | None, is_plus_one: bool, is_known: bool
) -> None:
    weight = replace(vector("ln.weight", "norm_weight", law), gain=gain)
    view: Any = SimpleNamespace(parameters={"ln.weight": weight})
    norm = Norm("rmsnorm", 1e-5, 1.0, is_plus_one, "ln.weight", None)

    if is_known:
        _require_gain(view, norm)
    else:
        with pytest.raises(NoFormula, match="effect of this norm weight is not known"):
            _require_gain(view, norm)


def test_a_value_that_blocks_share_is_one() -> None:
    assert shared({3.0}, "width") == 3.0
    for values in (set[float](), {1.0, 2.0}):
        with pytest.raises(NoFormula, match="its blocks differ in width"):
            shared(values, "width")


@pytest.mark.parametrize(("n_layer", "n_runs"), [(0, 0), (None, 2), (3, 1), (3, 6)])
def test_blocks_each_run_once(n_layer: int | None, n_runs: int) -> None:
    view: Any = SimpleNamespace(facts=SimpleNamespace(n_layer=n_layer), n_runs=n_runs)

    with pytest.raises(NoFormula, match="its blocks do not each run once"):
        read_blocks(view)
