"""Profiles, comparisons, checks and schemes as Rich renderables for a terminal."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gptinit.config import GPTConfig, ModelFacts
from gptinit.facts.distributions import Distribution
from gptinit.facts.schemes import Scheme
from gptinit.facts.vocabulary import STATISTICS
from gptinit.gate.judge import BoundResult, CheckReport, by_bound_and_verdict, excess
from gptinit.report.fit import Column, first_that_fits, width_of
from gptinit.report.headlines import (
    bounds_held,
    found_value,
    headline_place,
    init_of,
    inits_of,
    shown_headlines,
    sizes_of,
)
from gptinit.report.numbers import cell, large, plural, short, with_error
from gptinit.report.summary import Sentence, summarise, summarise_engines
from gptinit.results.profile import Comparison, Finding, Place, Profile

__all__ = [
    "SEVERITY_STYLE",
    "Layout",
    "check_view",
    "comparison_view",
    "new_table",
    "profile_view",
    "scheme_view",
    "schemes_view",
]

_WIDE = 100
"""From this width on, tables show everything."""

_FOLDED = 13
"""Layers that a profile shows without --all-layers."""

_LAYER_STATS = (
    "presum_var",
    "attn_var",
    "mlp_var",
    "logit_std",
    "attn_score_std",
    "attn_entropy",
    "token_cosine",
    "grad_rms",
)
_EXPENDABLE = (
    "attn_score_std",
    "token_cosine",
    "attn_entropy",
    "attn_var",
    "mlp_var",
    "presum_var",
)
"""Columns that a narrow table leaves out, in this order."""

_BARS = " ▏▎▍▌▋▊▉█"
_LONGEST_BAR = 24
SEVERITY_STYLE: Mapping[str, str] = {"error": "bold red", "warning": "yellow", "note": "dim"}
"""Severity of a finding to its style."""

_VERDICT_STYLE = {"ok": "green", "violated": "bold red", "inconclusive": "yellow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Room for a report."""

    width: int
    all_layers: bool = False

    @property
    def wide(self) -> bool:
        """Whether tables show everything."""
        return self.width >= _WIDE


def profile_view(profile: Profile, layout: Layout) -> RenderableType:
    """A profile: heading, one row per layer, a summary in words, and findings."""
    return Group(
        *_heading(profile),
        "",
        _layer_table(profile, layout),
        "",
        *_bulleted(summarise(profile)),
        "",
        *_verdicts(profile),
    )


def comparison_view(comparison: Comparison, layout: Layout) -> RenderableType:
    """Several profiles in one table, ranked if the comparison is."""
    order = comparison.ranking.order if comparison.ranking else comparison.labels
    table = new_table()
    if comparison.ranking:
        table.add_column("#", justify="right")
    table.add_column(comparison.axis.removesuffix("s"), no_wrap=True)
    shown = shown_headlines(comparison)
    for heading in (*(_heading_of(stat) for _, stat in shown), "bounds\nmissed"):
        table.add_column(heading, justify="right", no_wrap=True)
    cells = _comparison_cells(comparison, shown, layout)
    for rank, label in enumerate(order, 1):
        number = [str(rank)] if comparison.ranking else []
        table.add_row(*number, Text(label), *cells[label])
    return Group(*_shared_heading(comparison), "", table, "", *_legend(comparison))


def check_view(report: CheckReport, layout: Layout) -> RenderableType:
    """A check: one row per bound with value, standard error and verdict, then the findings."""
    table = new_table()
    table.add_column("model", overflow="fold")
    table.add_column("statistic", no_wrap=True)
    table.add_column("where", overflow="fold")
    for heading in ("value", "bound"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in _check_rows(report):
        table.add_row(*row)
    closing = Text(bounds_held(report), style="bold")
    inits = [Text(line, style="dim") for line in inits_of(report)]
    return Group(*inits, table, "", *_findings(report.findings), closing)


def schemes_view(schemes: Iterable[Scheme]) -> RenderableType:
    """All schemes, one row each."""
    table = new_table()
    table.add_column("scheme", no_wrap=True, style="bold")
    table.add_column("what it does", overflow="fold")
    table.add_column("verified", no_wrap=True)
    for scheme in schemes:
        names = "\n".join([scheme.slug, *(f"  ({alias})" for alias in scheme.aliases)])
        table.add_row(Text(names), Text(scheme.title), Text(scheme.verified))
    hint = Text("gptinit schemes NAME shows the formulas, the values and the source.", style="dim")
    return Group(table, hint)


def scheme_view(
    scheme: Scheme, values: Mapping[str, Sequence[Distribution]], config: GPTConfig
) -> RenderableType:
    """One scheme: its formulas, their values at a shape, its source."""
    names = ", ".join([scheme.slug, *(f"also {alias}" for alias in scheme.aliases)])
    table = new_table()
    table.add_column("role", no_wrap=True)
    table.add_column("rule", overflow="fold")
    table.add_column(f"{config.n_layer} layers, {config.n_embd} wide", overflow="fold")
    for role, rule in scheme.rules.items():
        drawn = " to ".join(str(d) for d in values[role]) or "-"
        table.add_row(role, Text(str(rule)), Text(drawn))
    sources = [Padding(Text(source), (0, 0, 0, 2)) for source in scheme.source]
    return Group(
        Text.assemble((names, "bold"), f": {scheme.title}"),
        Text(scheme.notes),
        "",
        table,
        "",
        Text(f"Source (verified: {scheme.verified})", style="bold"),
        *sources,
    )


def _heading(profile: Profile) -> list[Text]:
    model = profile.model
    title = Text(model.name, style="bold")
    title.append(f" · {init_of(profile)} · {large(model.n_params)} parameters")
    shape = Text(_shape_of(model), style="dim")
    return [title, shape, _run_line(profile)]


def _shape_of(model: ModelFacts) -> str:
    activation = [model.activation] if model.activation else []
    bias = "biases" if model.bias else "no biases"
    head = "tied" if model.tied else "untied"
    layers = plural(model.n_layer, "layer")
    return ", ".join([layers, *sizes_of(model), *activation, bias, f"{head} head"])


def _shared_heading(comparison: Comparison) -> list[Text]:
    first = comparison.profiles[0]
    engines = list(dict.fromkeys(p.run.engine for p in comparison.profiles))
    line = _run_line(first, engines)
    if comparison.axis == "models":
        return [line]
    own = {"depths": "n_layer=", "widths": "n_embd="}.get(comparison.axis)
    name = ", ".join(p for p in first.model.name.split(", ") if not (own and p.startswith(own)))
    title = Text(name, style="bold")
    if comparison.axis != "schemes":
        title.append(f" · {init_of(first)}")
    return [title, line]


def _run_line(profile: Profile, engines: Sequence[str] = ()) -> Text:
    """Seeds, tokens, weights, dtype and device."""
    run = profile.run
    used = [engine for engine in engines or [run.engine] if engine != "theory"]
    how = f"{' and '.join(used)} weights, {run.dtype} on {run.device}"
    if not used:
        how = "predicted by theory, no model was run"
    return Text(
        f"{plural(run.seeds, 'seed')} from {run.seed} · "
        f"{run.batch_size} x {run.seq_len} tokens of {run.data} · {how}",
        style="dim",
    )


def _layer_table(profile: Profile, layout: Layout) -> Table:
    shown = _shown_layers(len(profile.layers), all_layers=layout.all_layers)
    places = [("emb", profile.embedding), *((str(i), profile.layers[i]) for i in shown)]

    def columns(plan: _Plan) -> list[Column]:
        return list(_layer_columns(profile, places, plan))

    plan = first_that_fits(_plans(profile, layout), layout.width, columns)
    if plan.bar:
        spare = max(0, layout.width - width_of(columns(plan)))
        plan = replace(plan, bar=min(_LONGEST_BAR, plan.bar + spare))
    made = columns(plan)
    table = new_table()
    for column in made:
        justify: Literal["left", "right"] = "right" if column.heading else "left"
        table.add_column(column.heading, justify=justify, no_wrap=True, style=column.style)
    *rows, final = zip(*(column.cells for column in made), strict=True)
    for row in rows:
        table.add_row(*row)
    table.add_row(*final, style="bold")
    table.caption, table.caption_justify = _caption(profile, plan, len(shown)), "left"
    return table


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """The contents of a table of layers.

    Attributes:
        stderr: whether the variance has its standard error.
        bar: columns of the terminal that the bar takes; 0 for no bar.
        stats: the statistics after the variance.
    """

    stderr: bool = False
    bar: int = 0
    stats: tuple[str, ...]


def _plans(profile: Profile, layout: Layout) -> list[_Plan]:
    """From the richest table to the barest: standard errors go, then the bar, then columns."""
    stats = tuple(s for s in _LAYER_STATS if any(s in p.values for p in profile.layers))
    kept = [
        tuple(s for s in stats if s not in _EXPENDABLE[:n]) for n in range(len(_EXPENDABLE) + 1)
    ]
    plans = [_Plan(stderr=True, bar=8, stats=stats)] if layout.wide else []
    plans.append(_Plan(bar=4, stats=stats))
    if _has_theory(profile):
        plans.append(_Plan(bar=4, stats=kept[1]))
    return [*plans, *(_Plan(stats=some) for some in kept)]


def _layer_columns(
    profile: Profile, places: Sequence[tuple[str, Place]], plan: _Plan
) -> Iterator[Column]:
    """The columns of a table of layers; its last row is the logits."""
    shown = [place for _, place in places]
    yield Column(heading="layer", cells=[*(label for label, _ in places), "final"])
    variances = [_variance(place, with_stderr=plan.stderr) for place in shown]
    yield Column(heading="stream\nvar", cells=[*variances, ""])
    if _has_theory(profile):
        predicted = [cell("resid_var", place.predicted.get("resid_var")) for place in shown]
        yield Column(heading="theory\nvar", cells=[*predicted, ""])
    if plan.bar:
        sizes = [_finite(place.values.get("resid_var")) for place in shown]
        bars = [_bar(size, max(sizes), plan.bar) for size in sizes]
        yield Column(heading="", cells=[*bars, ""], style="cyan")
    for stat in plan.stats:
        final = _value(profile.final, stat) if stat == "logit_std" else ""
        yield Column(heading=_heading_of(stat), cells=[*(_value(p, stat) for p in shown), final])


def _has_theory(profile: Profile) -> bool:
    return any("resid_var" in place.predicted for place in profile.layers)


def _variance(place: Place, *, with_stderr: bool) -> str:
    """The variance of the stream, or that it is not finite."""
    if "resid_var" not in place.values and place.values.get("nonfinite"):
        return "not finite"
    return _value(place, "resid_var", with_stderr=with_stderr)


def _heading_of(stat: str) -> str:
    return STATISTICS[stat].title.replace(" ", "\n", 1)


def _caption(profile: Profile, plan: _Plan, shown: int) -> str:
    parts = []
    if plan.stderr and profile.run.seeds > 1:
        parts.append("± standard error over seeds.")
    if plan.bar:
        parts.append("Bar: stream variance, linear.")
    if shown < len(profile.layers):
        parts.append(f"{shown} of {len(profile.layers)} layers; --all-layers shows the rest.")
    return " ".join(parts)


def _comparison_cells(
    comparison: Comparison, shown: Sequence[tuple[str, str]], layout: Layout
) -> dict[str, list[str]]:
    """Label to its numbers and number of findings, with standard errors where they fit."""

    def cells(profile: Profile, *, with_stderr: bool) -> list[str]:
        numbers = [
            _value(headline_place(profile, place), stat, with_stderr=with_stderr)
            for place, stat in shown
        ]
        return [*numbers, str(len(profile.findings) or "-")]

    def rows(*, with_stderr: bool) -> dict[str, list[str]]:
        pairs = zip(comparison.labels, comparison.profiles, strict=True)
        return {label: cells(profile, with_stderr=with_stderr) for label, profile in pairs}

    full = rows(with_stderr=True)
    ranks = Column(heading="#", cells=[])
    labels = Column(heading="scheme", cells=comparison.labels)
    numbers = [Column(heading="excess", cells=c) for c in zip(*full.values(), strict=True)]
    fits = width_of([ranks, labels, *numbers]) <= layout.width
    return full if layout.wide and fits else rows(with_stderr=False)


def _legend(comparison: Comparison) -> list[Text]:
    """How to read a comparison, and which bounds are violated."""
    words = "stream var: after the last layer; growth: variance relative to the embedding; "
    if ("embedding", "grad_growth") in shown_headlines(comparison):
        words += "grad growth: gradient RMS at the embedding relative to the last layer; "
    legend = [Text(f"{words}loss excess: nats above ln(vocab_size).", style="dim")]
    if comparison.ranking:
        legend.append(Text(f"Ranked by {comparison.ranking.by}.", style="dim"))
    agreement = _bulleted(summarise_engines(comparison))
    return [*legend, *([Text()] if agreement else []), *agreement, *_missed(comparison)]


def _missed(comparison: Comparison) -> list[Text]:
    """The findings of each profile, then every reason once."""
    lines, reasons = [], dict[str, None]()
    for label, profile in zip(comparison.labels, comparison.profiles, strict=True):
        for finding in profile.findings:
            text = Text(f"{label}: ", style="bold")
            text.append(finding.fact, style=SEVERITY_STYLE[finding.severity])
            lines.append(text)
            reasons[finding.why] = None
    return [*lines, *(Text(reason, style="dim") for reason in reasons if reason)]


def _verdicts(profile: Profile) -> list[RenderableType]:
    """The findings of a profile, or that all bounds hold."""
    if profile.findings:
        return _findings(profile.findings)
    which = " of what theory predicts" if profile.run.engine == "theory" else ""
    return [Text(f"Bounds: all default bounds{which} hold.", style="green")]


def _findings(findings: Iterable[Finding]) -> list[RenderableType]:
    lines = []
    for finding in findings:
        text = Text(f"{finding.severity}: ", style=SEVERITY_STYLE[finding.severity])
        text.append(f"{finding.location}: {finding.message}", style="default")
        lines.append(Padding(text, (0, 0, 0, 0)))
    return list(lines)


def _check_rows(report: CheckReport) -> list[tuple[str | Text, ...]]:
    """One row for every bound, place and verdict; layers share a row."""
    rows: list[tuple[str | Text, ...]] = []
    for group in by_bound_and_verdict(report.results):
        worst = max(group, key=excess)
        where = worst.where if len(group) == 1 else f"{len(group)} layers, {worst.where}"
        verdict = Text(worst.verdict, style=_VERDICT_STYLE[worst.verdict])
        limits = _range(worst)
        rows.append((Text(worst.model), worst.stat, where, found_value(worst), limits, verdict))
    return rows


def _range(result: BoundResult) -> str:
    """The allowed values, with the limits as the user wrote them."""
    if result.min is None:
        return f"<= {result.max:g}"
    if result.max is None:
        return f">= {result.min:g}"
    return f"{result.min:g} to {result.max:g}"


def new_table() -> Table:
    """An empty table in the style of all reports."""
    return Table(box=None, padding=(0, 1), pad_edge=False, header_style="bold")


def _bulleted(sentences: Sequence[Sentence]) -> list[Text]:
    return [Text.assemble((f"{s.subject}:", "bold"), f" {s.text}") for s in sentences]


def _value(place: Place, stat: str, *, with_stderr: bool = False) -> str:
    """A statistic of a place for a table; empty where it was not measured."""
    if stat not in place.values:
        return ""
    value = place.values[stat]
    return with_error(value, place.stderr.get(stat)) if with_stderr else short(value)


def _shown_layers(count: int, *, all_layers: bool) -> list[int]:
    """The layers that a table shows: all, or some evenly spaced with the first and the last."""
    if all_layers or count <= _FOLDED + 3:
        return list(range(count))
    return sorted({round(i * (count - 1) / (_FOLDED - 1)) for i in range(_FOLDED)})


def _bar(value: float, largest: float, width: int) -> str:
    """A bar of `width` columns for `value` out of `largest`, in eighths of a column."""
    eighths = round(8 * width * value / largest) if largest else 0
    full, rest = divmod(eighths, 8)
    return "█" * full + (_BARS[rest] if rest else "")


def _finite(value: float | None) -> float:
    """`value`, or 0 where there is none."""
    return value if value is not None and math.isfinite(value) else 0.0
