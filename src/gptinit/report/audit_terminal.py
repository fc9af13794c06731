"""An audit, and the documentation of its rules, as Rich renderables for a terminal."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gptinit.report.audit_rows import Row, rows_of
from gptinit.report.audit_words import (
    closest_words,
    expected_words,
    explain_hint,
    how_read,
    shape_words,
    verdict_of,
)
from gptinit.report.fit import Column, width_of
from gptinit.report.origins import origin_of
from gptinit.report.terminal import SEVERITY_STYLE, new_table
from gptinit.results.audit import Audit
from gptinit.results.changes import init_changes
from gptinit.results.profile import worst_first
from gptinit.results.rule import Rule

__all__ = ["AuditLayout", "audit_view", "rule_view"]

_MARKS = {"error": "✗", "warning": "!", "note": "·", "": ""}
_NUMBERS = ("count", "std", "ratio")
_TITLES = {"count": "tensors", "names": "parameter", "drawn": "drawn from", "severity": ""}
_EXPENDABLE = ("count", "std")
"""Columns that a narrow table leaves out, in this order."""

_SHORT, _SHORTEST = 14, 12
"""Widths that a name keeps in a narrow table, and in the narrowest, which has no layers."""

_WRAPPED = ("drawn", "expected")
_WRAP, _NARROW, _NARROWEST = 28, 14, 10
"""Widths at which these columns wrap: before others are left out, before layers are, at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLayout:
    """Room for a report, and what it should show.

    Attributes:
        width: columns of the terminal.
        all_parameters: whether to give every parameter its own row.
        buffers: whether to show buffers without findings too.
    """

    width: int
    all_parameters: bool = False
    buffers: bool = False


def audit_view(audit: Audit, layout: AuditLayout) -> RenderableType:
    """An audit: verdict, closest scheme, one row per role and distribution, findings."""
    rows = rows_of(audit, each=layout.all_parameters, buffers=layout.buffers)
    table: list[RenderableType] = [_table(rows, layout, audit), ""] if rows else []
    below = (*_hints(rows, audit), *_changes(audit), *_findings(audit), *_closing(audit))
    return Group(*_heading(audit), "", *table, *below)


def rule_view(rule: Rule) -> RenderableType:
    """The documentation of a rule."""
    title = Text(rule.name, style="bold")
    title.append(f" ({rule.severity})", style=SEVERITY_STYLE.get(rule.severity, ""))
    title.append(f": {rule.title}", style="default")
    parts: list[RenderableType] = [title]
    for heading, text in rule.chapters():
        parts += ["", Text(heading, style="bold"), _indented(Text(text.strip()))]
    return Group(*parts)


def _heading(audit: Audit) -> list[Text]:
    title = Text(audit.model.name, style="bold")
    title.append(f" · {shape_words(audit)}", style="default")
    source = [Text(audit.model.source, style="dim")] if audit.model.source else []
    lines = [title, *source, Text(how_read(audit), style="dim"), Text(), _verdict(audit)]
    if audit.claim is not None:
        lines.append(Text.assemble(("claimed scheme: ", "bold"), audit.claim))
    lines.append(Text.assemble(("closest known scheme: ", "bold"), closest_words(audit.closest)))
    said = " ".join(finding.message for finding in audit.findings)
    notes = (note.message for note in audit.notes if note.message not in said)
    return [*lines, *(Text(note, style="dim") for note in notes)]


def _verdict(audit: Audit) -> Text:
    """The number of findings, in the style of the worst of them."""
    worst = next((f.severity for f in worst_first(audit.findings) if f.severity != "note"), None)
    style = SEVERITY_STYLE[worst] if worst else "green"
    return Text.assemble(("verdict: ", "bold"), (verdict_of(audit), style))


def _table(rows: Sequence[Row], layout: AuditLayout, audit: Audit) -> Table:
    """The rows in as many columns as there is room for."""
    cells = {name: [_cell(row, name) for row in rows] for name in _columns(rows)}
    wrap = _fit(cells, layout.width)
    table = new_table()
    for name in cells:
        table.add_column(
            _TITLES.get(name, name),
            justify="right" if name in _NUMBERS else "left",
            no_wrap=name not in _WRAPPED,
            max_width=wrap if name in _WRAPPED else None,
            overflow="fold",
        )
    for row, line in zip(rows, zip(*cells.values(), strict=True), strict=True):
        table.add_row(*(Text(cell) for cell in line), style=SEVERITY_STYLE.get(row.severity))
    table.caption, table.caption_justify = _caption(cells, layout, audit), "left"
    return table


def _fit(cells: dict[str, list[str]], width: int) -> int:
    """Drop and shorten cells until they fit; return the width at which distributions wrap."""

    def excess(wrap: int = _WRAP) -> int:
        columns = (
            Column(
                heading=_TITLES.get(name, name), cells=column,
                most=wrap if name in _WRAPPED else None,
            )
            for name, column in cells.items()
        )  # fmt: skip
        return max(0, width_of(columns) - width)

    for name in _EXPENDABLE:
        if excess():
            cells.pop(name, None)
    if excess():
        cells["names"] = [_first(names) for names in cells["names"]]
    _shorten(cells["names"], by=excess(), to=_SHORT)
    if excess(_NARROW):
        cells.pop("layers", None)
    _shorten(cells["names"], by=excess(_NARROWEST), to=_SHORTEST)
    longest = max((len(cell) for name in _WRAPPED for cell in cells.get(name, ())), default=0)
    widths = range(max(longest, _WRAP), _NARROWEST, -1)
    return next((wrap for wrap in widths if not excess(wrap)), _NARROWEST)


def _shorten(names: list[str], *, by: int, to: int) -> None:
    """Take the beginning of long names away; at least `to` columns stay."""
    longest = max(to, max(map(len, names)) - by)
    names[:] = [_tail(name, longest) for name in names]


def _columns(rows: Sequence[Row]) -> list[str]:
    """The columns that are not empty in every row."""
    order = ("severity", "role", "count", "layers", "names", "drawn", "std", "expected", "ratio")
    return [name for name in order if name == "names" or any(getattr(row, name) for row in rows)]


def _cell(row: Row, column: str) -> str:
    return _MARKS[row.severity] if column == "severity" else str(getattr(row, column))


def _first(names: str) -> str:
    """The first of several patterns, and how many more there are."""
    first, *others = names.split(", ")
    return f"{first} +{len(others)}" if others else first


def _tail(name: str, longest: int) -> str:
    """The end of a name, which tells parameters apart, where the whole is too long."""
    return name if len(name) <= longest else f"…{name[len(name) - longest + 1 :]}"


def _caption(cells: dict[str, list[str]], layout: AuditLayout, audit: Audit) -> str:
    scheme = expected_words(audit)
    expected = f"expected: under {scheme}; " if scheme else ""
    ratio = f"{expected}ratio: actual RMS / expected RMS." if "ratio" in cells else ""
    more = "" if layout.all_parameters else "--all-parameters shows each."
    return " ".join(part for part in (ratio, more) if part)


def _hints(rows: Sequence[Row], audit: Audit) -> list[RenderableType]:
    """The likely causes of known ratios that no finding tells, and the roles that have them."""
    said = " ".join(finding.message for finding in audit.findings)
    roles: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        is_said = bool(row.severity) and row.hint.partition(":")[0] in said
        if row.hint and not is_said:
            roles.setdefault((row.ratio, row.hint), {})[row.role] = None
    lines: list[RenderableType] = []
    for (ratio, hint), those in roles.items():
        lines.append(Text.assemble((f"{', '.join(those)} ", "bold"), f"ratio {ratio}: {hint}"))
    return [*lines, ""] if lines else []


def _changes(audit: Audit) -> list[RenderableType]:
    """What the init that ran after the constructor changed, role by role."""
    init = audit.model.init
    changes = init_changes(tuple(audited.program for audited in audit.parameters))
    if init is None or not changes:
        return []
    table = new_table()
    table.add_column("role", no_wrap=True)
    table.add_column("tensors", justify="right", no_wrap=True)
    for heading in ("as constructed", f"after {init.call}"):
        table.add_column(heading, overflow="fold")
    for change in changes:
        table.add_row(change.role, str(change.count), Text(change.before), Text(change.after))
    return [table, ""]


def _findings(audit: Audit) -> Iterator[RenderableType]:
    """Rule, parameters and message of every finding, and how the parameters were drawn."""
    for finding in worst_first(audit.findings):
        title = Text(f"{finding.severity}: ", style=SEVERITY_STYLE[finding.severity])
        title.append(f"{finding.rule}", style="bold default")
        yield title
        yield _indented(Text(finding.where, style="cyan"))
        yield _indented(Text(finding.message))
        if origin := origin_of(finding, audit):
            yield _indented(Text(origin, style="dim"))
        yield ""


def _closing(audit: Audit) -> list[Text]:
    """The command that explains the findings, or that there are none."""
    hint = explain_hint(worst_first(audit.findings))
    return [Text(hint, style="dim")] if hint else [Text("No findings.", style="green")]


def _indented(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 2))
