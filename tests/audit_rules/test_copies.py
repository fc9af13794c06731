"""What is equal decides the rule: layers, experts, blocks of one matrix, or two other tensors."""

import pytest
from support.programs import facts

from gptinit.auditing.program import findings_of
from gptinit.facts.distributions import Constant, Copy, Distribution, Mixture, Normal, Piecewise
from gptinit.results.program import ModelProgram, ParameterProgram

DRAWN = Normal(0.0, 0.02)


def parameter(
    name: str, drawn: Distribution = DRAWN, shape: tuple[int, ...] = (8, 4)
) -> ParameterProgram:
    """A parameter whose layer is the first number in its name."""
    numbers = [int(word) for word in name.split(".") if word.isdecimal()]
    return ParameterProgram(
        name=name, shape=shape, role="other", layer=(*numbers, None)[0], distribution=drawn
    )


def duplicates(*parameters: ParameterProgram) -> list[tuple[str, str]]:
    """(rule, severity) of what is said about equal values."""
    found = findings_of(ModelProgram(facts=facts(n_layer=2), parameters=parameters))
    return [(f.rule, f.severity) for f in found if f.rule.startswith("duplicate")]


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((8,), ("duplicate-shards", "warning")),
        ((8, 4), ("duplicate-shards", "error")),
        ((2, 4, 4), ("duplicate-experts", "error")),
        ((2, 4, 2, 2), ("duplicate-experts", "error")),
    ],
)
@pytest.mark.parametrize("is_ordered", [True, False])
def test_equal_blocks_are_shards_of_a_matrix_and_experts_of_anything_with_more_dimensions(
    shape: tuple[int, ...], said: tuple[str, str], is_ordered: bool
) -> None:
    parts = ((shape[0] // 2, DRAWN), (shape[0] // 2, Copy("h.0.w", DRAWN, block=0)))
    law = Piecewise(parts) if is_ordered else Mixture(parts)

    assert duplicates(parameter("h.0.w", law, shape)) == [said]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("h.0.up.weight", "h.1.up.weight", ("duplicate-layers", "error")),
        ("h.0.mlp.1.weight", "h.1.mlp.1.weight", ("duplicate-layers", "error")),
        ("h.0.mlp.0.weight", "h.1.mlp.0.weight", ("duplicate-layers", "error")),
        ("h.0.mlp.0.weight", "h.0.mlp.1.weight", ("duplicate-tensors", "warning")),
        ("h.0.mlp.0.weight", "h.1.mlp.1.weight", ("duplicate-tensors", "warning")),
        ("h.0.experts.0.up", "h.1.experts.0.up", ("duplicate-layers", "error")),
        ("h.0.experts.0.up", "h.1.experts.1.up", ("duplicate-layers", "error")),
        ("h.1.experts.0.up", "h.1.experts.1.up", ("duplicate-experts", "error")),
        ("h.0.up.weight", "h.0.gate.weight", ("duplicate-tensors", "warning")),
        ("h.0.up.weight", "h.1.gate.weight", ("duplicate-tensors", "warning")),
        ("wte.weight", "h.0.up.weight", ("duplicate-tensors", "warning")),
        ("wte.weight", "lm_head.weight", ("duplicate-tensors", "warning")),
    ],
)
def test_two_parameters_are_equal_layers_experts_or_tensors_by_their_names(
    first: str, second: str, said: tuple[str, str]
) -> None:
    assert duplicates(parameter(first), parameter(second, Copy(first, DRAWN))) == [said]


def test_a_matrix_of_many_equal_blocks_is_named_once() -> None:
    blocks = [Copy("h.0.w", DRAWN, block=0) for _ in range(3)]
    law = Piecewise(((2, DRAWN), *((2, block) for block in blocks)))

    assert duplicates(parameter("h.0.w", law)) == [("duplicate-shards", "error")]


def test_equal_vectors_are_a_warning() -> None:
    first, second = parameter("h.0.b", shape=(8,)), parameter("h.1.b", Copy("h.0.b", DRAWN), (8,))

    assert duplicates(first, second) == [("duplicate-layers", "warning")]


def test_equal_constants_are_no_duplicates() -> None:
    ones = Constant(1.0)

    assert duplicates(parameter("h.0.w", ones), parameter("h.1.w", Copy("h.0.w", ones))) == []


def test_equal_values_are_told_by_what_they_were_copied_from() -> None:
    def told(*parameters: ParameterProgram) -> str:
        (found,) = findings_of(ModelProgram(facts=facts(n_layer=2), parameters=parameters))
        return found.fact

    copy = Copy("h.0.w", DRAWN)
    halves = Piecewise(((4, DRAWN), (4, Copy("h.0.w", DRAWN, block=0))))

    assert told(parameter("h.0.w", halves)).startswith("Blocks of a matrix must be drawn apart")
    assert told(parameter("h.0.w"), parameter("h.1.w", copy)).startswith(
        f"Each tensor must be drawn by itself, got the very values of {copy.origin} (N(0, 0.02))"
    )
