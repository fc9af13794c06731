"""A profile in words: what happens to the stream, the logits, the gradients and the loss."""

import math
from dataclasses import dataclass

from gptinit.gate.engine_agreement import Agreement, engine_agreement
from gptinit.report.numbers import plural, short, span
from gptinit.results.profile import Comparison, Place, Profile

__all__ = ["Sentence", "summarise", "summarise_engines"]

_FEW_SEEDS = 3
"""With fewer seeds Student's limit is so wide that agreement proves little."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a summary.

    Attributes:
        subject: what it is about, such as "Stream".
        text: the rest of the sentence, with its full stop.
    """

    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}"


def summarise(profile: Profile) -> tuple[Sentence, ...]:
    """Sentences about a profile, one per subject; statistics not measured are left out."""
    texts = {
        "Stream": _stream(profile),
        "Branches": _branches(profile),
        "Tokens": _tokens(profile),
        "Attention": _attention(profile),
        "Logits": _logits(profile),
        "Gradients": _gradients(profile),
        "Exponents": _exponents(profile),
        "Precision": _precision(profile),
        "Theory": _theory(profile),
    }
    return tuple(Sentence(subject, text) for subject, text in texts.items() if text)


def summarise_engines(comparison: Comparison) -> tuple[Sentence, ...]:
    """Whether the measuring engines agree with each other, and theory with the first of them."""
    measured = [p for p in comparison.profiles if p.run.engine != "theory"]
    if not measured:
        return ()
    agreements = [_agreement(a, measured[0].run.seeds) for a in engine_agreement(comparison)]
    theory = _theory(measured[0]) if comparison.axis == "engines" else ""
    return (*agreements, *([Sentence("Theory", theory)] if theory else []))


def _agreement(found: Agreement, seeds: int) -> Sentence:
    return Sentence(
        f"{found.engine.capitalize()} against {found.reference}", _comparison(found, seeds)
    )


def _comparison(found: Agreement, seeds: int) -> str:
    """The numbers behind an agreement of engines, and its verdict."""
    if found.missing:
        return f"{plural(found.missing, 'number')} of one are not finite in the other."
    if found.agrees and found.largest is None:
        return f"all {found.numbers} numbers are equal."
    if found.largest is None or found.limit is None:
        return "one seed gives no standard errors to compare with. Use --seeds 3 or more."
    size = (
        f"{short(found.largest)} standard errors"
        if math.isfinite(found.largest)
        else "beyond all noise"
    )
    verdict = "they agree" if found.agrees else "they do not agree"
    if found.agrees and seeds < _FEW_SEEDS:
        verdict = "too few seeds for a strong conclusion"
    return (
        f"{found.numbers} numbers, {found.equal} of them equal; the largest difference is {size} "
        f"({found.stat}, {found.where}); chance explains up to {short(found.limit)} with "
        f"{plural(seeds, 'seed')}: {verdict}."
    )


def _stream(profile: Profile) -> str:
    """How the variance of the residual stream changes with depth."""
    first, last = profile.embedding.values.get("resid_var"), _last(profile).values.get("resid_var")
    if first is None or last is None:
        return ""
    if not first:
        return f"starts at variance 0 and ends at {short(last)}."
    growth = last / first
    if 0.95 <= growth <= 1.05:
        verb = "stays constant"
    else:
        verb = f"grows {short(growth)} times" if growth > 1 else f"shrinks by {_factor(1, growth)}"
    is_kept = growth > 2 and profile.model.norm_placement != "post"  # no norm on the stream itself
    share = f"; the embedding is {short(100 / growth)} % of what the head reads" if is_kept else ""
    return (
        f"variance {verb}, from {short(first)} at the embedding to {short(last)} "
        f"after the last layer{share}."
    )


def _branches(profile: Profile) -> str:
    """Which branches add the variance, and whether early or late layers do."""
    if not all({"attn_var", "mlp_var"} <= p.values.keys() for p in profile.layers):
        return ""
    attn = [p.values["attn_var"] for p in profile.layers]
    mlp = [p.values["mlp_var"] for p in profile.layers]
    total = sum(attn) + sum(mlp)
    if not total:
        return "add nothing to the stream."
    half = len(attn) // 2
    text = f"MLPs add {_percent(sum(mlp) / total)} of the variance, attention the rest"
    if half:
        early = sum(attn[:half]) + sum(mlp[:half])
        first = f"first {half} layers add" if half > 1 else "first layer adds"
        text += f"; the {first} {_percent(early / total)}"
    return text + "."


def _tokens(profile: Profile) -> str:
    """Whether positions become similar."""
    first = profile.embedding.values.get("token_cosine")
    last = _last(profile).values.get("token_cosine")
    if first is None or last is None:
        return ""
    end = ": positions are nearly alike" if last > 0.9 else ""
    return f"mean cosine of two positions goes from {first:.2f} to {last:.2f}{end}."


def _attention(profile: Profile) -> str:
    """How far attention is from uniform."""
    entropies = [p.values["attn_entropy"] for p in profile.layers if "attn_entropy" in p.values]
    stds = [p.values["attn_score_std"] for p in profile.layers if "attn_score_std" in p.values]
    if not entropies or not stds:
        return ""
    manner = (
        "near uniform" if min(entropies) > 0.9 else "uneven" if min(entropies) > 0.6 else "peaked"
    )
    return f"{manner}; scores have std {span(stds)}, entropy is {span(entropies)} of its maximum."


def _logits(profile: Profile) -> str:
    """How large the logits are and what the first loss is."""
    final = profile.final.values
    if "logit_std" not in final or "loss" not in final:
        return ""
    said = f"std {short(final['logit_std'])}; the first loss is {final['loss']:.2f} nats"
    excess = final.get("loss_excess")
    if excess is None or profile.model.vocab_size is None:
        return f"{said}."
    sign = "-" if round(excess, 2) < 0 else "+"
    return f"{said} = ln({profile.model.vocab_size}) {sign} {abs(excess):.2f}."


def _gradients(profile: Profile) -> str:
    """How the gradient grows from the last layer to the embedding."""
    growth = profile.embedding.values.get("grad_growth")
    if growth is None:
        return ""
    if growth >= 1:
        return f"{short(growth)} times as large at the embedding as after the last layer."
    return f"smaller at the embedding than after the last layer by {_factor(1, growth)}."


def _exponents(profile: Profile) -> str:
    """How fast tokens collapse and gradients grow with depth."""
    found = [profile.whole.values.get(stat) for stat in ("angle_exponent", "gradient_exponent")]
    if found[0] is None or found[1] is None:
        return ""
    angle, gradient = (f"{value:+.3f}" for value in found if value is not None)
    return (
        f"ln(1 - cosine) changes by {angle} per layer, ln of the squared gradient by "
        f"{gradient} per layer backwards, fitted to the second half of the layers."
    )


def _precision(profile: Profile) -> str:
    """How close the stream comes to the largest number of its dtype."""
    largest = {"float16": 65504.0}.get(profile.run.dtype)
    headroom = profile.headroom(largest) if largest else None
    if headroom is None:
        return ""
    return f"the largest activation is {short(headroom)} times below float16's maximum."


def _theory(profile: Profile) -> str:
    """How far the predicted variance and loss are from the measured ones."""
    gaps = [
        place.values["resid_var"] / place.predicted["resid_var"] - 1
        for place in profile.layers
        if place.predicted.get("resid_var")
        and math.isfinite(place.values.get("resid_var", math.nan))
    ]
    if not gaps:
        return ""
    worst = max(gaps, key=abs)
    text = (
        f"the variance is within {100 * abs(worst):.1f} % of the prediction at every "
        f"layer, {100 * gaps[-1]:+.1f} % at the last"
    )
    loss = profile.final.predicted.get("loss")
    return f"{text}; the predicted loss is {loss:.2f}." if loss is not None else f"{text}."


def _factor(large: float, small: float) -> str:
    """How many times larger one is than the other, in words."""
    return f"a factor of {short(large / small)}" if small else "all of it"


def _last(profile: Profile) -> Place:
    return profile.layers[-1]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
