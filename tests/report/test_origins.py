"""The place that a finding points to: the newest step whose file and line are known."""

from dataclasses import replace

import pytest
from support.audit_reports import MISSING, scaled, small_audit

from gptinit.facts.distributions import Constant, Normal
from gptinit.facts.step import Step
from gptinit.report.origins import origin_of, place_of
from gptinit.results.audit import AuditedParameter
from gptinit.results.program import Draw

OLD = Step("normal_", (0, 0.02), "model.py", 30)
MIDDLE = Step("mul_", (0.5,), "block.py", 20)
NEW = Step("div_", (2,), "model.py", 10)
NO_LINE = Step("fill_", (0,), "model.py")
NO_FILE = Step("fill_", (0,), "", 7)


def drawn(i: int, steps: list[Step], history: list[Step | None]) -> AuditedParameter:
    """The residual projection of layer i with such steps behind it, oldest first."""
    draws = tuple(Draw(distribution=Normal(0.0, 0.02), step=step) for step in history)
    one = scaled(i)
    return replace(one, program=replace(one.program, provenance=tuple(steps), history=draws))


@pytest.mark.parametrize(
    ("steps", "history", "place"),
    [
        ([OLD, NEW], [], NEW),
        ([NEW, OLD], [], OLD),
        ([OLD, MIDDLE, NEW], [], NEW),
        ([OLD, NEW, NO_LINE], [], NEW),
        ([OLD, NEW, NO_FILE, NO_LINE], [], NEW),
        ([NO_LINE, OLD, NO_FILE], [], OLD),
        ([], [OLD, NEW], NEW),
        ([], [NEW, OLD], OLD),
        ([], [OLD, NEW, None], NEW),
        ([], [OLD, NO_LINE], OLD),
        ([OLD], [MIDDLE, NEW], OLD),
        ([NO_LINE], [OLD, MIDDLE], MIDDLE),
        ([NO_FILE], [None, NO_LINE], None),
        ([], [], None),
    ],
)
def test_the_newest_known_step_is_the_place_and_draws_of_the_history_come_after_it(
    steps: list[Step], history: list[Step | None], place: Step | None
) -> None:
    audit = small_audit(parameters=(drawn(0, steps, history),))

    assert place_of(MISSING, audit) == place


def test_the_first_parameter_with_a_place_decides() -> None:
    unknown, first, second = drawn(0, [NO_LINE], []), drawn(1, [OLD], []), drawn(2, [NEW], [])

    assert place_of(MISSING, small_audit(parameters=(unknown, first, second))) == OLD
    assert place_of(MISSING, small_audit(parameters=(unknown, second, first))) == NEW


def test_what_a_finding_names_first_is_what_its_origin_tells() -> None:
    # Zeros in layer 1 keep the parameter of layer 0 from learning.
    effect, cause = drawn(0, [OLD], []), drawn(1, [Step("zero_", (), "model.py", 17)], [])
    cause = replace(cause, program=replace(cause.program, distribution=Constant(0.0)))
    audit = small_audit(parameters=(effect, cause))
    finding = replace(MISSING, where=cause.program.name, also=(effect.program.name,))

    assert origin_of(finding, audit) == "set by zero_() at model.py:17"
    assert place_of(finding, audit) == Step("zero_", (), "model.py", 17)
    assert origin_of(replace(finding, where=effect.program.name, also=()), audit) == (
        "drawn by normal_(0, 0.02) at model.py:30"
    )


def test_an_origin_that_the_message_tells_is_not_told_again() -> None:
    audit = small_audit(parameters=(drawn(0, [OLD], []),))

    assert origin_of(replace(MISSING, fact=f"Loaded, then {OLD}."), audit) == ""
