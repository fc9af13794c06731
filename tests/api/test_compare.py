"""How compared profiles are ranked, without measuring any."""

import math
from dataclasses import replace

import pytest
from support.profiles import make_profile, with_value

from gptinit.api.compare import _ranking
from gptinit.facts.vocabulary import Severity
from gptinit.results.profile import Finding, Profile


def profile(
    *severities: Severity, gradient: float | None = None, growth: float | None = 1.0
) -> Profile:
    """A profile with these findings, a growth of the gradient and one of the stream."""
    made = with_value(make_profile(n_layer=1), "embedding", "grad_growth", gradient)
    made = with_value(made, "whole", "resid_growth", growth)
    found = (Finding(rule="x", severity=s, where="whole", fact="Odd.") for s in severities)
    return replace(made, findings=tuple(found))


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        # Growth by a factor is as bad as decay by it, and 0 is worse than all.
        (profile(gradient=1.1), profile(gradient=1.2)),
        (profile(gradient=0.9), profile(gradient=0.8)),
        (profile(gradient=0.6), profile(gradient=1.8)),
        (profile(gradient=1.8), profile(gradient=0.5)),
        (profile(gradient=1e9), profile(gradient=0.0)),
        (profile(gradient=9.0), profile("warning", gradient=1.0)),
        (profile("warning", gradient=9.0), profile("warning", "warning", gradient=1.0)),
        (profile("warning", "warning", gradient=9.0), profile("error", gradient=1.0)),
        # The gradient decides, whatever the stream does.
        (profile(gradient=1.1, growth=9.0), profile(gradient=1.2, growth=1.0)),
    ],
)
def test_a_scheme_with_fewer_findings_and_a_flatter_gradient_is_first(
    better: Profile, worse: Profile
) -> None:
    for labels, profiles in ((("b", "w"), (better, worse)), (("w", "b"), (worse, better))):
        ranking = _ranking(labels, profiles)

        assert ranking.order == ("b", "w")
        assert "|ln grad_growth|" in ranking.by


def test_without_the_gradient_of_all_the_stream_decides() -> None:
    steep, none = profile(growth=4.0, gradient=1.0), profile(growth=None)
    flat = profile(growth=1.5, gradient=math.e)

    ranking = _ranking(("none", "steep", "flat"), (none, steep, flat))

    assert ranking.order == ("flat", "steep", "none")
    assert "|ln resid_growth|" in ranking.by
