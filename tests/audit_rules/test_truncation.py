"""Truncations that cut nothing: the limits of "nothing", and of "as its siblings"."""

from dataclasses import replace

import pytest
from support.programs import facts, gpt2, matrix

from gptinit.audit_rules.context import make_context
from gptinit.audit_rules.truncation import truncation_without_effect
from gptinit.facts.distributions import Distribution, Mixture, Normal, TruncatedNormal
from gptinit.results.program import ModelProgram

_NARROW = TruncatedNormal(0.0, 0.125, -0.5, 0.5)  # at 4 std: 6.3e-5 of the draws
_DEFAULT = TruncatedNormal(0.0, 0.02, -2.0, 2.0)


def program(*laws: Distribution) -> ModelProgram:
    """A model of matrices with these laws."""
    found = tuple(matrix(f"m{i}.weight", "mlp_up", law, 4, 4) for i, law in enumerate(laws))
    return replace(gpt2(), facts=facts(), parameters=found)


def told(*laws: Distribution) -> list[tuple[str, str, str]]:
    """Name, severity and reason of every hit."""
    made = program(*laws)
    return [
        (h.parameter.name[:2], h.severity, h.message.split(", ", 1)[1].split("mean, ")[-1])
        for h in truncation_without_effect(made, make_context(made))
        if h.parameter is not None
    ]


_IDLE = (
    "where not one entry in a hundred million is. The bounds of trunc_normal_ are absolute, not "
    "in units of the std."
)


@pytest.mark.parametrize(
    ("law", "found"),
    [
        (TruncatedNormal(0.0, 0.25, -1.5, 1.5), False),  # 6 std, which is not beyond 6
        (TruncatedNormal(0.0, 0.25, -1.75, 1.75), True),
        (TruncatedNormal(0.0, 0.25, -1.5, 9.0), False),  # the nearer bound decides
        (TruncatedNormal(0.0, 0.25, -9.0, 1.5), False),
        (TruncatedNormal(3.0, 0.25, 1.5, 4.5), False),
        (TruncatedNormal(3.0, 0.25, 1.0, 5.0), True),
        (TruncatedNormal(3.0, 0.25, 1.5, 9.0), False),
        (TruncatedNormal(0.0, 0.25, -1.75, float("inf")), False),  # no bounds to speak of
        (TruncatedNormal(0.0, 0.0, -1.75, 1.75), False),
        (Mixture(((1, Normal(0.0, 0.1)), (1, TruncatedNormal(0.0, 0.25, -1.75, 1.75)))), True),
        (Normal(0.0, 0.25), False),
    ],
)
def test_bounds_beyond_six_std_cut_nothing(law: Distribution, found: bool) -> None:
    assert [where for where, _, _ in told(law)] == ["m0"] * found


def test_bounds_that_cut_a_tenth_of_what_they_cut_of_a_sibling_suit_another_std() -> None:
    # Beyond 4 std are 6.33e-5 of a normal; 4.504 leaves a tenth of that, one bound alone a half.
    why = (
        "while others of std 0.125 have them at 4. The bounds of trunc_normal_ are absolute, not "
        "in units of the std."
    )
    far, near = (TruncatedNormal(0.0, 0.5 / z, -0.5, 0.5) for z in (4.52, 4.49))

    assert told(far, near, _NARROW) == [("m0", "warning", why)]
    assert told(_NARROW, near, far) == [("m2", "warning", why)]
    assert told(far, near) == []
    assert told(far, replace(_NARROW, low=-0.6)) == []  # other bounds


def test_a_bound_on_one_side_cuts_half_of_what_two_cut() -> None:
    # One side alone at 2 std cuts 2.3 %, and both sides at 2.85 std cut 0.44 %: more than a tenth.
    one_sided = TruncatedNormal(0.0, 0.25, -0.5, 100.0)

    assert told(one_sided, TruncatedNormal(0.0, 0.5 / 2.78, -0.5, 100.0)) == []
    assert len(told(one_sided, TruncatedNormal(0.0, 0.5 / 2.88, -0.5, 100.0))) == 1


@pytest.mark.parametrize(
    ("idle", "cutting", "severity"),
    [(1, 0, "note"), (1, 1, "note"), (1, 2, "warning"), (2, 1, "note"), (2, 2, "note")],
)
def test_default_bounds_are_a_note_unless_most_truncations_cut(
    idle: int, cutting: int, severity: str
) -> None:
    found = told(*[_DEFAULT] * idle, *[_NARROW] * cutting)

    assert found == [(f"m{i}", severity, _IDLE) for i in range(idle)]


def test_bounds_that_somebody_chose_are_a_warning() -> None:
    assert told(TruncatedNormal(0.0, 0.02, -3.0, 3.0)) == [("m0", "warning", _IDLE)]
