"""Steps: what an operator did and where, and how that is written."""

import math

import pytest

from gptinit.facts.step import Step


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Step("normal_", (0.0, 0.02), "model.py", 151), "normal_(0, 0.02) at model.py:151"),
        (Step("zero_", (), "my models/a b.py", 7), "zero_() at my models/a b.py:7"),
        (Step("copy_", None, "/x/m.py", 7), "copy_ at /x/m.py:7"),  # of another tensor
        (Step("full", (math.inf,)), "full(inf)"),
        (Step("mul", (1 / math.sqrt(12),)), "mul(0.288675)"),
    ],
    ids=lambda value: str(value),
)
def test_a_step_is_written_as_the_call_and_its_line(step: Step, text: str) -> None:
    assert str(step) == text


def test_a_trailing_underscore_says_that_the_tensor_was_there_before() -> None:
    assert Step("zeros_").is_in_place
    assert not Step("zeros", (4, 4)).is_in_place
