"""A whole profile, check or model in a few numbers: the columns of comparisons."""

from gptinit.config import InitCall, ModelFacts
from gptinit.gate.judge import BoundResult, CheckReport
from gptinit.report.numbers import cell, plural
from gptinit.results.profile import Comparison, Place, Profile

__all__ = [
    "HEADLINES",
    "bounds_held",
    "found_value",
    "headline_place",
    "init_of",
    "init_words",
    "inits_of",
    "shown_headlines",
    "sizes_of",
]

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


def shown_headlines(comparison: Comparison) -> list[tuple[str, str]]:
    """The columns of a comparison: what was measured in at least one of its profiles."""
    return [
        (place, stat)
        for place, stat in HEADLINES
        if any(stat in headline_place(p, place).values for p in comparison.profiles)
    ]


def found_value(result: BoundResult) -> str:
    """The value that a bound was judged by, with its standard error."""
    if result.value is None:
        return "not finite"
    return cell(result.stat, result.value, result.stderr)


def bounds_held(report: CheckReport) -> str:
    """How many bounds hold, and the verdicts of the others: "3 of 5 bounds hold: 2 violated."."""
    verdicts = [result.verdict for result in report.results]
    others = [f"{verdicts.count(v)} {v}" for v in ("violated", "inconclusive") if v in verdicts]
    held = f"{verdicts.count('ok')} of {len(verdicts)} bounds hold"
    return f"{held}: {', '.join(others)}." if others else f"{held}."


def init_of(profile: Profile) -> str:
    """What draws the weights: "scheme nanogpt", "its own init", "its own init, init_weights()"."""
    if profile.scheme:
        return f"scheme {profile.scheme}"
    after = profile.model.init
    return f"its own init, {after.call}" if after else "its own init"


def init_words(init: InitCall) -> str:
    """The init that ran after the constructor: "init_weights() (gpt.py:204)"."""
    chosen = "" if init.chosen_by == "found" else f", by {init.chosen_by}"
    return f"{init.call} ({init.file}:{init.line}{chosen})"


def inits_of(report: CheckReport) -> list[str]:
    """A line for each model that an init drew once its constructor was done."""
    return [f"{name}: its constructor, then {init_words(i)}" for name, i in report.inits.items()]


def sizes_of(model: ModelFacts) -> list[str]:
    """The known sizes of a model other than its depth: "768 wide", "12 heads of 64" ..."""
    width = "" if model.head_dim is None else f" of {model.head_dim}"
    known = {"d_ff": model.d_ff, "vocabulary": model.vocab_size}
    return [
        f"{model.n_embd} wide",
        *([] if model.n_head is None else [f"{plural(model.n_head, 'head')}{width}"]),
        *(f"{name} {size}" for name, size in known.items() if size is not None),
    ]
