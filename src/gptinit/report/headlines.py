"""What one line says about a whole profile or a whole check: the columns of comparisons."""

from gptinit.gate import CheckReport
from gptinit.profile import Place, Profile

__all__ = ["HEADLINES", "bounds_held", "headline_place"]

HEADLINES: tuple[tuple[str, str], ...] = (
    ("last layer", "resid_var"),
    ("whole", "resid_growth"),
    ("final", "logit_std"),
    ("final", "loss_excess"),
    ("embedding", "grad_growth"),
)
"""Place and statistic of each column of a comparison."""


def headline_place(profile: Profile, place: str) -> Place:
    """The place of a profile that HEADLINES calls `place`."""
    return profile.layers[-1] if place == "last layer" else dict(profile.places())[place]


def bounds_held(report: CheckReport) -> str:
    """How many bounds hold, and what the others are: "3 of 5 bounds hold: 2 violated."."""
    verdicts = [result.verdict for result in report.results]
    others = [f"{verdicts.count(v)} {v}" for v in ("violated", "inconclusive") if v in verdicts]
    held = f"{verdicts.count('ok')} of {len(verdicts)} bounds hold"
    return f"{held}: {', '.join(others)}." if others else f"{held}."
