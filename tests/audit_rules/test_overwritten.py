"""Values set on purpose and drawn over: every condition, on matrices made by hand."""

from dataclasses import replace

import pytest
from support.programs import ZERO, facts, gpt2, matrix

from gptinit.audit_rules.context import make_context
from gptinit.audit_rules.overwritten import pretrained_overwritten, special_init_overwritten
from gptinit.facts.distributions import Constant, Fixed, Measured, Normal
from gptinit.facts.step import Step
from gptinit.results.program import Draw, ModelProgram

CARE = Draw(distribution=Normal(0.0, 0.01), step=Step("normal_", (0, 0.01), "model.py", 5))
LAST = Draw(distribution=Normal(0.0, 0.02), step=Step("normal_", (0, 0.02), "model.py", 9))
MADE = Draw(distribution=ZERO, step=Step("zeros", (4, 4), "model.py", 3))


def program(*histories: tuple[Draw, ...], role: str = "mlp_up") -> ModelProgram:
    """Matrices with these histories; one without any has the law of LAST."""
    parameters = (
        replace(
            matrix(f"m{i}", role, (history or (LAST,))[-1].distribution, 4, 4, layer=0),
            history=history,
        )
        for i, history in enumerate(histories)
    )
    return replace(gpt2(), facts=facts(), parameters=tuple(parameters))


def found(made: ModelProgram) -> list[tuple[str, str]]:
    hits = special_init_overwritten(made, make_context(made))
    return [(h.parameter.name, h.severity) for h in hits if h.parameter is not None]


def placed(draw: Draw, file: str, line: int) -> Draw:
    assert draw.step is not None
    return replace(draw, step=replace(draw.step, file=file, line=line))


@pytest.mark.parametrize(
    ("histories", "names"),
    [
        ([(CARE, LAST), (LAST,), (LAST,)], ["m0"]),
        ([(CARE, LAST), (), ()], ["m0"]),
        ([(MADE, CARE, LAST), (LAST,), (LAST,)], ["m0"]),
        # Too few are drawn as it is now.
        ([(CARE, LAST), (LAST,)], []),
        # All of them were drawn so before: two general rules.
        ([(CARE, LAST), (CARE, LAST), (CARE, LAST)], []),
        ([(CARE, LAST), (CARE, LAST), (LAST,)], ["m0", "m1"]),
        # The later line is the special one, or as special.
        ([(CARE, LAST), (LAST,), (LAST,), (CARE,), (CARE,), (CARE,)], []),
        ([(CARE, LAST), (LAST,), (LAST,), (CARE,), (CARE,)], []),
        ([(CARE, LAST), (LAST,), (LAST,), (CARE,)], ["m0"]),
        # Of the same line it is one rule, such as that of a loop.
        ([(placed(CARE, "model.py", 9), LAST), (LAST,), (LAST,)], []),
        ([(placed(CARE, "init.py", 9), LAST), (LAST,), (LAST,)], ["m0"]),
        # Lines that are not known: the steps themselves.
        (
            [(placed(CARE, "", 0), placed(LAST, "", 0)), (placed(LAST, "", 0),), (LAST,)],
            ["m0"],
        ),
        # Nobody's intention: torch's default, room that is made, values from before.
        ([(replace(CARE, by_default=True), LAST), (LAST,), (LAST,)], []),
        ([(replace(CARE, step=None), LAST), (LAST,), (LAST,)], []),
        ([(MADE, LAST), (LAST,), (LAST,)], []),
        ([(CARE, replace(LAST, by_default=True)), (LAST,), (LAST,)], []),
        ([(LAST,), (LAST,), (LAST,)], []),
    ],
    ids=range(17),
)
def test_what_is_set_with_care_and_drawn_over_is_found(
    histories: list[tuple[Draw, ...]], names: list[str]
) -> None:
    assert found(program(*histories)) == [(name, "warning") for name in names]


def test_it_is_an_error_in_a_residual_projection_that_was_scaled() -> None:
    assert found(program((CARE, LAST), (), (), role="mlp_down")) == [("m0", "error")]
    zeroed = replace(CARE, distribution=ZERO)
    assert found(program((zeroed, LAST), (), (), role="mlp_down")) == [("m0", "warning")]


@pytest.mark.parametrize(
    ("law", "op", "last", "is_found"),
    [
        (Fixed(0.0, 1.0, -2.0, 2.0), "copy_", LAST, True),
        (Constant(0.5), "copy_", LAST, True),
        (Normal(0.0, 1.0), "copy_", LAST, False),  # a copy of a draw
        (Constant(0.5), "fill_", LAST, False),
        (Constant(0.5), "copy_", replace(LAST, distribution=ZERO), False),
    ],
)
def test_loaded_values_are_those_copied_in(
    law: Fixed | Constant | Normal | Measured, op: str, last: Draw, is_found: bool
) -> None:
    loaded = Draw(distribution=law, step=Step(op, None, "model.py", 2))
    made = program((loaded, last))
    default = program((replace(loaded, by_default=True), last))

    assert len(list(pretrained_overwritten(made, make_context(made)))) == is_found
    assert not list(pretrained_overwritten(default, make_context(default)))
