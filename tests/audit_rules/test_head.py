"""A tensor that is embedding and head: what its std suits, and what a claim says of both."""

import ast
from dataclasses import replace

import pytest
from support.programs import gpt2, redrawn

from gptinit.audit_rules.context import make_context
from gptinit.audit_rules.head import tied_role_std_conflict
from gptinit.audit_rules.matching import expectations
from gptinit.facts.distributions import Normal
from gptinit.facts.schemes import Scheme, get_scheme
from gptinit.results.program import ModelProgram


def told(program: ModelProgram, scheme: Scheme | None) -> list[tuple[str, str]]:
    claim = expectations(scheme, program) if scheme else None
    hits = tied_role_std_conflict(program, make_context(program, claim))
    return [(h.severity, h.parameter.name) for h in hits if h.parameter is not None]


def claiming(head_std: str) -> Scheme:
    """The plain scheme with another std of the head; its embedding has 0.02."""
    scheme = get_scheme("plain")
    tree = ast.parse(head_std, mode="eval").body
    rule = replace(scheme.rules["lm_head"], formulas={"std": head_std}, trees={"std": tree})
    return replace(scheme, rules={**scheme.rules, "lm_head": rule})


@pytest.mark.parametrize(
    ("std", "found"), [("0.02", False), ("0.0201", False), ("0.0203", True), ("0.0197", True)]
)
def test_a_claim_that_draws_the_two_ends_of_a_tie_apart_is_a_warning(std: str, found: bool) -> None:
    made = told(gpt2(), claiming(std))

    assert made == [("warning", "transformer.wte.weight")] * found
    assert told(gpt2(), None) == []


def test_two_tensors_are_no_tie() -> None:
    program = gpt2()
    apart = replace(program, facts=replace(program.facts, tied=False))

    assert told(apart, claiming("0.1")) == []


def test_an_embedding_of_std_one_does_not_suit_the_head() -> None:
    wide = redrawn(gpt2(), "wte.weight", Normal(0.0, 1.0))

    assert told(wide, None) == told(wide, claiming("0.1")) == [("error", "transformer.wte.weight")]
