"""Results as CSV: one table each, full precision, for spreadsheets and data frames."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence

from gptinit.facts.distributions import Distribution
from gptinit.facts.schemes import Scheme
from gptinit.facts.vocabulary import STATISTICS
from gptinit.gate.judge import CheckReport
from gptinit.report.headlines import HEADLINES, headline_place
from gptinit.report.numbers import counted
from gptinit.results.audit import Audit, AuditedParameter
from gptinit.results.profile import WEIGHT_GRAD_NUMBERS, Comparison, Place, Profile

__all__ = ["audit_csv", "check_csv", "comparison_csv", "profile_csv", "schemes_csv"]

_RESULT = ("model", "stat", "where", "value", "stderr", "min", "max", "verdict", "why")
_PARAMETER = (
    "name",
    "kind",
    "role",
    "layer",
    "shape",
    "dtype",
    "drawn_from",
    "mean",
    "std",
    "expected",
    "expected_mean",
    "expected_std",
    "ratio",
    "hint",
)
_RULE = ("dist", "std", "mean", "cut", "bound", "value")


def profile_csv(profile: Profile) -> str:
    """One row per number: place, stat, value, stderr, predicted; an empty cell where there is none.

    Statistics stand in the order of the vocabulary; gradients of weights follow them as
    weight_grad.ROLE.grad_rms, .weight_rms and .ratio. A value that is not finite is nan or inf.
    """
    rows = [(name, *row) for name, place in profile.places() for row in _place_rows(place)]
    return _csv(("place", "stat", "value", "stderr", "predicted"), rows)


def comparison_csv(comparison: Comparison) -> str:
    """One row per profile, in the order of the comparison: its label, its shape and its headlines.

    resid_var is that of the last layer, resid_growth of the whole, logit_std and loss_excess
    final, grad_growth that of the embedding; each is followed by its standard error.
    """
    columns = [name for _, stat in HEADLINES for name in (stat, f"{stat}_stderr")]
    rows = [
        (label, p.scheme, p.model.n_layer, p.model.n_embd, *_headline_cells(p))
        for label, p in zip(comparison.labels, comparison.profiles, strict=True)
    ]
    return _csv(("label", "scheme", "n_layer", "n_embd", *columns), rows)


def check_csv(report: CheckReport) -> str:
    """One row per bound and place; other findings are only in the other formats."""
    return _csv(_RESULT, [[getattr(result, name) for name in _RESULT] for result in report.results])


def audit_csv(audit: Audit) -> str:
    """One row per parameter and buffer; findings are only in the other formats.

    A shape is written 768x2304; moments of a tensor that was never written are nan.
    """
    return _csv(_PARAMETER, [_parameter_row(audited) for audited in audit.parameters])


def schemes_csv(
    schemes: Iterable[Scheme],
    *,
    values: Mapping[str, Mapping[str, Sequence[Distribution]]] | None = None,
) -> str:
    """One row per scheme and role: its distribution with the formulas of its parameters.

    Args:
        schemes: the schemes.
        values: slug to role to its distributions at some shape; adds the columns at_mean and
            at_std, or two rows where the first and the last layer differ.
    """
    header = ("scheme", "verified", "role", *_RULE)
    rows = [row for scheme in schemes for row in _scheme_rows(scheme, values or {})]
    if values is None:
        return _csv(header, [row[: len(header)] for row in rows])
    return _csv((*header, "at_mean", "at_std"), rows)


def _place_rows(place: Place) -> Iterator[tuple[object, ...]]:
    """Every number of a place: stat, value, stderr, predicted."""
    for stat in STATISTICS:
        if stat in place.values or stat in place.predicted:
            measured = (counted(stat, place.values.get(stat)), place.stderr.get(stat))
            yield (stat, *measured, place.predicted.get(stat))
    for role, grad in place.weight_grad.items():
        for name in WEIGHT_GRAD_NUMBERS:
            if getattr(grad, name) is not None:
                error = grad.stderr.get(name)
                yield (f"weight_grad.{role}.{name}", getattr(grad, name), error, None)


def _parameter_row(audited: AuditedParameter) -> tuple[object, ...]:
    program, expected = audited.program, audited.expected
    drawn = program.distribution
    wanted = (None,) * 3 if expected is None else (expected, expected.mean, expected.std)
    facts = (program.name, program.kind, program.role, program.layer)
    shape = "x".join(map(str, program.shape))
    found = (shape, program.dtype, drawn, drawn.mean, drawn.std)
    return (*facts, *found, *wanted, audited.ratio, audited.hint)


def _headline_cells(profile: Profile) -> Iterator[float | None]:
    for where, stat in HEADLINES:
        place = headline_place(profile, where)
        yield place.values.get(stat)
        yield place.stderr.get(stat)


def _scheme_rows(
    scheme: Scheme, values: Mapping[str, Mapping[str, Sequence[Distribution]]]
) -> Iterator[tuple[object, ...]]:
    """The rules of a scheme, with their moments where they are known."""
    known = values.get(scheme.slug, {})
    for role, rule in scheme.rules.items():
        formulas = (rule.formulas.get(name) for name in _RULE[1:])
        row = (scheme.slug, scheme.verified, role, rule.dist, *formulas)
        for drawn in known.get(role, ()):
            yield (*row, drawn.mean, drawn.std)
        if not known.get(role):
            yield (*row, None, None)


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A header and rows as CSV, lines ending as on Unix; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
