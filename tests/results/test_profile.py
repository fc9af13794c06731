"""Findings as sentences: what reports print is made of typed parts."""

from typing import Any

import pytest

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
