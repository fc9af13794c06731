"""What gets no gradient, and logits that do not depend on the tokens: every hit with its text."""

from dataclasses import replace

import pytest
from support.programs import facts, gpt2, matrix, plain

from gptinit.audit_rules.context import make_context
from gptinit.audit_rules.gradients import logits_constant, parameters_without_gradient
from gptinit.audit_rules.grouping import Hit
from gptinit.facts.distributions import Constant
from gptinit.results.program import FirstGradient, ModelProgram

LEARNS = FirstGradient(step=0)


def program(
    gradients: dict[str, FirstGradient | None],
    *,
    constant: tuple[str, ...] | None = None,
    value: float = 0.0,
) -> ModelProgram:
    """A model of one matrix a name, with its first gradient; the role is the name's first word.

    Those of `constant` hold one value, and make the logits constant.
    """
    found = tuple(
        replace(
            matrix(
                name,
                name.split(".")[0],
                Constant(value) if name in (constant or ()) else plain("", 0),
                4,
                4,
            ),
            gradient=gradient,
        )
        for name, gradient in gradients.items()
    )
    return replace(gpt2(), facts=facts(), parameters=found, constant_logits=constant)


def hits(made: ModelProgram) -> list[Hit]:
    return list(parameters_without_gradient(made, make_context(made)))


def places(found: list[Hit]) -> list[tuple[str, str]]:
    return [(h.parameter.name, h.severity) for h in found if h.parameter is not None]


def test_what_waits_for_a_zero_is_counted_with_the_last_step() -> None:
    found = hits(
        program(
            {
                "q.a": FirstGradient(step=1, waits_for=("k.c",)),
                "q.b": FirstGradient(step=3, waits_for=("k.c",)),
                "k.c": LEARNS,
                "k.d": None,
            }
        )
    )

    assert places(found) == [("k.c", "note")]
    assert found[0].message == (
        "2 of 4 parameters (q.a, q.b) get no gradient in the first step: k.c starts as zeros. All "
        "have one by step 4, so it may be meant."
    )


def test_zeros_that_block_each_other_are_one_cause_and_the_zeros_come_first() -> None:
    found = hits(
        program(
            {
                "q.a": FirstGradient(step=None, waits_for=("v.b", "v.c")),
                "v.b": FirstGradient(step=None, waits_for=("v.c",)),
                "v.c": FirstGradient(step=None, waits_for=("v.b",)),
                "k.alone": FirstGradient(step=None),
                "k.learns": LEARNS,
            }
        )
    )

    assert places(found) == [(n, "error") for n in ("v.b", "v.c", "q.a", "k.alone")]
    assert [h.cause for h in found] == [frozenset({"q.a", "v.b", "v.c"})] * 3 + [
        frozenset({"k.alone"})
    ]
    start = "A parameter must get a gradient, got exactly 0 in every step"
    assert {h.message for h in found[:3]} == {
        f"{start}: v.b, v.c start as zeros and nothing changes that."
    }
    assert found[3].message == f"{start}: the code multiplies it by 0."


def test_what_a_detach_cuts_off_is_a_warning_with_its_matrices_first() -> None:
    cut = FirstGradient(step=None, is_cut=True)
    made = program({"norm_weight.a": cut, "mlp_up.b": cut, "q.c": LEARNS})
    vector = replace(made.parameters[0], shape=(4,))

    found = hits(replace(made, parameters=(vector, *made.parameters[1:])))

    assert places(found) == [("mlp_up.b", "warning"), ("norm_weight.a", "warning")]
    assert (
        "behind detach(), torch.no_grad() or an operator without a derivative" in found[0].message
    )


def test_what_the_logits_do_not_depend_on_is_a_note_but_for_a_part_of_what_is_used() -> None:
    unused = FirstGradient(step=None, is_used=False)

    found = hits(program({"q.a": unused, "q.experts.0.w": LEARNS, "q.experts.1.w": unused}))

    assert places(found) == [("q.a", "note")]
    assert found[0].message.startswith("A parameter must be used, got logits that do not depend")


@pytest.mark.parametrize(
    ("gradients", "zeros", "told"),
    [
        ({"lm_head.w": LEARNS}, ("lm_head.w",), [("lm_head.w", "note")]),
        ({"lm_head.w": FirstGradient(step=1)}, ("lm_head.w",), [("lm_head.w", "error")]),
        ({"lm_head.w": None}, ("lm_head.w",), [("lm_head.w", "error")]),
        ({"norm_weight.w": LEARNS}, ("norm_weight.w",), [("norm_weight.w", "error")]),
        # Told by parameters-without-gradient, and by zeros.
        ({"lm_head.w": FirstGradient(step=None)}, ("lm_head.w",), []),
        ({"tok_emb.w": LEARNS}, ("tok_emb.w",), []),
        ({"lm_head.w": LEARNS, "tok_emb.w": LEARNS}, ("lm_head.w", "tok_emb.w"), []),
        ({"lm_head.w": LEARNS}, None, []),
        ({"lm_head.w": LEARNS, "q.w": LEARNS}, (), []),
    ],
)
def test_constant_logits_are_meant_where_a_head_of_zeros_learns_at_once(
    gradients: dict[str, FirstGradient | None],
    zeros: tuple[str, ...] | None,
    told: list[tuple[str, str]],
) -> None:
    made = program(gradients, constant=zeros)

    found = list(logits_constant(made, make_context(made)))

    assert places(found) == told
    for hit in found:
        meant = "Schemes with a head of zeros mean it" in hit.message
        assert meant is (hit.severity == "note")


def test_equal_embeddings_make_the_logits_constant_and_the_value_is_told() -> None:
    made = program({"tok_emb.w": LEARNS}, constant=("tok_emb.w",), value=0.5)

    (hit,) = logits_constant(made, make_context(made))

    assert hit.severity == "error"
    assert hit.message.endswith("got the same for all of them: every entry starts as 0.5.")


def test_the_shift_of_a_norm_is_not_what_waits() -> None:
    waits = FirstGradient(step=1, waits_for=("norm_weight.a", "norm_bias.a"))
    made = program({"q.b": waits, "norm_weight.a": LEARNS, "norm_bias.a": LEARNS})

    assert places(hits(made)) == [("norm_weight.a", "note")]
