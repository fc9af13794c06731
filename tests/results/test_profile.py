"""Findings as sentences: what reports print is made of typed parts."""

import math
from typing import Any

import pytest
from support.profiles import make_profile, with_value

from gptinit.results.profile import Finding


def finding(**changes: Any) -> Finding:
    fields: dict[str, Any] = {"rule": "r", "severity": "error", "where": "h.*.w", "fact": "It is."}
    return Finding(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "It is."),
        ({"why": "It hurts."}, "It is. It hurts."),
        ({"build": "meta"}, "Built on meta: It is."),
        ({"build": "own"}, "It is."),
        ({"accepted": "known"}, "It is. Accepted: known"),
        (
            {"build": "meta", "why": "It hurts.", "accepted": "known"},
            "Built on meta: It is. It hurts. Accepted: known",
        ),
    ],
)
def test_a_message_is_build_fact_reason_and_acceptance(
    changes: dict[str, str], message: str
) -> None:
    assert finding(**changes).message == message


def test_a_location_starts_with_the_model_of_a_check() -> None:
    assert (finding().location, finding(model="small").location) == ("h.*.w", "small: h.*.w")


@pytest.mark.parametrize(
    ("peaks", "headroom"),
    [
        # 100 over the largest peak, in the embedding or in a layer, below 1 or above.
        ((0.25, 0.125), 400.0),
        ((0.125, 0.25), 400.0),
        ((2.0, 8.0), 12.5),
        ((0.5, math.inf), 200.0),
        ((math.nan, 0.5), 200.0),
        ((0.0, 0.0), None),
        ((math.inf, math.inf), None),
        ((None, None), None),
    ],
)
def test_headroom_is_over_the_largest_finite_activation(
    peaks: tuple[float | None, float | None], headroom: float | None
) -> None:
    profile = make_profile(n_layer=1)
    for where, peak in zip(("embedding", "layer 0"), peaks, strict=True):
        profile = with_value(profile, where, "max_abs", peak)

    assert profile.headroom(100.0) == headroom
