"""Which weights are materialised because of their distribution, and what is said of it."""

from dataclasses import replace

from support.lazy_models import program_of

from gptinit.facts.distributions import Copy, Mixture, Normal, Uniform
from gptinit.weights.lazy.policy import LazyPolicy


def test_a_matrix_is_noted_with_its_reason_and_a_vector_is_not() -> None:
    policy, law = LazyPolicy(["h.0"]), Normal(0.0, 0.02)
    mixed = Mixture(((1, law), (1, Uniform(-1.0, 1.0))))
    policy._drawn["h.*.drawn"] = "aten.cat.default"

    for parameter in (
        program_of((4, 4), mixed, name="h.0.mixed"),
        program_of((4, 4), Copy("h.0.w", law), name="h.0.copied"),
        replace(program_of((2, 4, 4), law, name="h.1.entangled"), is_entangled=True),
        program_of((4,), mixed, name="h.0.vector"),
        program_of((4, 4), mixed, name="h.3.drawn"),  # said with its operator
    ):
        policy._say_why(parameter)

    assert policy._unlike == {
        "h.*.mixed": f"{mixed} has no lazy form",
        "h.*.copied": "another parameter is made of the same draws",
        "h.*.entangled": "another parameter is made of the same draws",
    }
