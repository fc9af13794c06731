"""Results as GitHub Markdown: for issues, pull requests and notes."""

from collections.abc import Iterable, Mapping, Sequence

from gptinit.config import GPTConfig
from gptinit.facts.distributions import Distribution
from gptinit.facts.schemes import Scheme
from gptinit.facts.vocabulary import STATISTICS
from gptinit.gate.judge import BoundResult, CheckReport
from gptinit.report.headlines import (
    bounds_held,
    found_value,
    headline_place,
    init_words,
    inits_of,
    shown_headlines,
    sizes_of,
)
from gptinit.report.mdtext import bullets, code, document, section, table, text
from gptinit.report.numbers import ROUNDING, cell, plural, short
from gptinit.report.summary import summarise_engines
from gptinit.results.profile import Comparison, Cost, Finding, Place, Profile

__all__ = ["check_markdown", "comparison_markdown", "profile_markdown", "schemes_markdown"]

Values = Mapping[str, Mapping[str, Sequence[Distribution]]]
"""Slug to role to its distributions at some shape."""


def profile_markdown(profile: Profile) -> str:
    """A profile: one row per layer, one per number of the whole, findings and notes."""
    notes = [f"{note.kind} at {text(note.where)}: {text(note.message)}" for note in profile.notes]
    return document(
        f"# {text(profile.model.name)}",
        bullets([*_facts(profile), *_cost(profile.cost)]),
        _how_to_read((profile,)),
        _layer_table(profile),
        _single_table(profile),
        _weight_grad_table(profile),
        section("Findings", [_finding(finding) for finding in profile.findings]),
        section("Notes", notes),
    )


def comparison_markdown(comparison: Comparison) -> str:
    """A comparison: one row per profile, best first if there is a ranking."""
    profiles = dict(zip(comparison.labels, comparison.profiles, strict=True))
    ranking = comparison.ranking
    columns = shown_headlines(comparison)
    header = [text(comparison.axis.removesuffix("s"))]
    header += [f"{STATISTICS[stat].title}, {where}" for where, stat in columns]
    rows = []
    for label in ranking.order if ranking else comparison.labels:
        profile = profiles[label]
        cells = [_cell(headline_place(profile, where), stat) for where, stat in columns]
        rows.append([text(label), *cells, str(len(profile.findings))])
    first, *others = map(_facts, comparison.profiles)
    findings = [(label, found) for label, p in profiles.items() for found in p.findings]
    return document(
        f"# Comparison of {text(comparison.axis)}",
        bullets(line for line in first if all(line in facts for facts in others)),
        _how_to_read(comparison.profiles),
        table([*header, "findings"], rows),
        f"Ranked by {text(ranking.by)}." if ranking else "",
        bullets(text(str(sentence)) for sentence in summarise_engines(comparison)),
        section("Findings", [f"{text(label)}: {_finding(found)}" for label, found in findings]),
    )


def check_markdown(report: CheckReport) -> str:
    """A check: how many bounds hold, one row per bound and place, findings."""
    header = ["model", "statistic", "where", "value", "min", "max", "verdict"]
    rows = [_result_row(result) for result in report.results]
    return document(
        f"# {bounds_held(report)}",
        bullets(map(text, inits_of(report))),
        ROUNDING,
        table(header, rows, words=("model", "statistic", "where", "verdict")),
        section("Findings", [_finding(finding) for finding in report.findings]),
    )


def schemes_markdown(
    schemes: Iterable[Scheme], *, shape: GPTConfig | None = None, values: Values | None = None
) -> str:
    """Schemes: a table of all if there are several, then the rules and the source of each.

    Arguments are those of `jsondoc.schemes_document`.
    """
    schemes = tuple(schemes)
    rows = [[code(s.slug), text(s.title), text(s.verified)] for s in schemes]
    header = ["scheme", "what it does", "verified"]
    return document(
        "# Init schemes",
        table(header, rows, words=header) if len(rows) > 1 else "",
        f"Values are those of {_shape_words(shape)}, to 4 significant digits." if shape else "",
        *(part for s in schemes for part in _scheme(s, (values or {}).get(s.slug))),
    )


def _facts(profile: Profile) -> list[str]:
    model, run = profile.model, profile.run
    seeds = f"{plural(run.seeds, 'seed')} from {run.seed}"
    how = f"{run.engine} weights, {run.dtype} on {text(run.device)}"
    if run.engine == "theory":
        how = "predicted by theory, no model was run"
    return [
        f"scheme: {code(profile.scheme) if profile.scheme else 'its own'}",
        *([f"init: {text(init_words(model.init))}"] if model.init else []),
        f"model: {model.n_layer} layers, {', '.join(sizes_of(model))}, {model.n_params} parameters",
        f"run: {seeds}, {run.batch_size} x {run.seq_len} tokens of {text(run.data)}, {how}",
    ]


def _cost(cost: Cost | None) -> list[str]:
    return [f"took: {short(cost.seconds)} s, peak memory {cost.peak_bytes} bytes"] if cost else []


def _how_to_read(profiles: Iterable[Profile]) -> str:
    places = [place for profile in profiles for _, place in profile.places()]
    has_theory = any(place.predicted for place in places)
    return f"{ROUNDING} In parentheses: the prediction of theory." if has_theory else ROUNDING


def _layer_table(profile: Profile) -> str:
    """One row for the embedding and one per layer; a column for every statistic of any of them."""
    places = [("emb", profile.embedding), *((str(i), p) for i, p in enumerate(profile.layers))]
    stats = [s for s in STATISTICS if any(s in p.values or s in p.predicted for _, p in places)]
    rows = [[name, *(_cell(place, stat) for stat in stats)] for name, place in places]
    return table(["layer", *(STATISTICS[stat].title for stat in stats)], rows)


def _single_table(profile: Profile) -> str:
    """One row per number of the final logits and of the whole."""
    header = ["statistic", "where", "value", "unit"]
    rows = [
        [stat, where, _cell(place, stat), STATISTICS[stat].unit]
        for where, place in (("final", profile.final), ("whole", profile.whole))
        for stat in STATISTICS
        if stat in place.values or stat in place.predicted
    ]
    return table(header, rows, words=("statistic", "where", "unit"))


def _weight_grad_table(profile: Profile) -> str:
    """One row per layer and role, where gradients of weights were measured."""
    rows = [
        [str(i), role, short(grad.grad_rms), short(grad.weight_rms), short(grad.ratio)]
        for i, place in enumerate(profile.layers)
        for role, grad in place.weight_grad.items()
    ]
    return table(["layer", "role", "grad rms", "weight rms", "ratio"], rows, words=("role",))


def _cell(place: Place, stat: str) -> str:
    """A statistic of a place with its prediction; empty where there is neither."""
    value = cell(stat, place.values.get(stat), place.stderr.get(stat))
    if stat not in place.predicted:
        return value
    return f"{value} ({cell(stat, place.predicted[stat])})".lstrip()


def _result_row(result: BoundResult) -> list[str]:
    limits = ["" if limit is None else f"{limit:g}" for limit in (result.min, result.max)]
    verdict = result.verdict if result.verdict == "ok" else f"**{result.verdict}**"
    return [text(result.model), result.stat, result.where, found_value(result), *limits, verdict]


def _scheme(scheme: Scheme, values: Mapping[str, Sequence[Distribution]] | None) -> list[str]:
    header = ["role", "rule", *(["value"] if values else [])]
    rows = [[role, code(str(rule))] for role, rule in scheme.rules.items()]
    if values:
        rows = [[*row, " to ".join(text(str(d)) for d in values.get(row[0], ()))] for row in rows]
    aliases = f" (also {', '.join(code(alias) for alias in scheme.aliases)})"
    return [
        f"## {code(scheme.slug)}{aliases if scheme.aliases else ''}: {text(scheme.title)}",
        text(scheme.notes),
        table(header, rows, words=header),
        f"Source (verified: {text(scheme.verified)}):",
        bullets([text(source) for source in scheme.source]),
    ]


def _shape_words(shape: GPTConfig) -> str:
    names = ("n_layer", "n_head", "n_embd", "head_dim", "d_ff", "vocab_size")
    return ", ".join(f"{name} {getattr(shape, name)}" for name in names)


def _finding(finding: Finding) -> str:
    where = f"{code(finding.rule)} at {text(finding.location)}"
    return f"**{text(finding.severity)}** {where}: {text(finding.message)}"
