"""Render what the pages repeat from the code: `python docs/render.py` rewrites all that is stale.

A page is written by hand, except between `<!-- begin NAME -->` and `<!-- end NAME -->`: there
stands what the function called NAME in `PARTS` returns for the words behind its name. The drawing
of the rooms is a file of its own.
"""

import contextlib
import io
import itertools
import os
import re
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from real_code import real_code_commands, real_code_counts, real_code_table
from rooms import drawing, first_line, rooms

from gptinit.audit_rules import RULES
from gptinit.cli import main as gptinit
from gptinit.facts.bounds import DEFAULT_BOUNDS, Bound
from gptinit.facts.presets import PRESETS
from gptinit.facts.schemes import Scheme, load_schemes
from gptinit.facts.vocabulary import ROLES, STATISTICS

__all__ = ["DRAWING", "PARTS", "commands", "help_of", "pages", "rendered"]

FOLDER = Path(__file__).resolve().parent
DRAWING = FOLDER / "rooms.svg"

TYPES = (
    "gptinit.load.factory.Factory",
    "gptinit.read.reading.Reading",
    "gptinit.results.program.ModelProgram",
    "gptinit.measure.subject.Subject",
    "gptinit.results.profile.Profile",
    "gptinit.gate.judge.CheckReport",
)
"""What the flow hands on, in its order."""

_TERMINAL = {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
_COLOUR = ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
_FENCE = "```"
_PART = re.compile(r"<!-- begin (.+?) -->\n(.*?)<!-- end \1 -->", re.DOTALL)


# The command line.


def help_of(command: str) -> str:
    """The help of one command as 80 columns without colour show it."""
    saved = dict(os.environ)
    os.environ.update(_TERMINAL)
    for name in _COLOUR:
        os.environ.pop(name, None)
    try:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            gptinit([*command.split(), "--help"])
    finally:
        os.environ.clear()
        os.environ.update(saved)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines()).strip("\n") + "\n"


@cache
def commands(parent: str = "") -> tuple[str, ...]:
    """Every command, found in the help of the one above it; the program itself is ""."""
    panels = re.findall(r"^╭─ Commands ─+╮\n(.*?)^╰", help_of(parent), re.DOTALL | re.MULTILINE)
    names = [name for panel in panels for name in re.findall(r"^│ (\S+)", panel, re.MULTILINE)]
    below = (commands(f"{parent} {name}".strip()) for name in names)
    return (parent, *itertools.chain.from_iterable(below))


def all_help() -> str:
    """A section for every command."""
    sections = []
    for command in commands():
        name = f"gptinit {command}".strip()
        sections.append(f"## {name}\n\n{_FENCE}text\n{help_of(command)}{_FENCE}\n")
    return "\n".join(sections)


# Facts.


def statistic(name: str) -> str:
    """What the code knows of one statistic, and the default bounds on it."""
    known = STATISTICS[name]
    grad = ", with `--grad`" if known.needs_grad else ""
    mean = "geometric" if known.log else "arithmetic"
    lines = [
        f"{known.definition[0].upper()}{known.definition[1:]}.",
        "",
        f"At: {', '.join(known.places)}{grad}. Unit: {known.unit}. Column: {known.title}. "
        f"Mean over seeds: {mean}.",
    ]
    for bound in DEFAULT_BOUNDS:
        if bound.stat == name:
            lines += ["", f"Default bound ({bound.where}): {_range(bound)}. {bound.why}"]
    return "\n".join(lines) + "\n"


def bounds() -> str:
    """The default bounds as a table."""
    rows = [
        f"| [`{b.stat}`](statistics.md#{b.stat}) | {b.where} | {_range(b)} | {b.why} | {b.source} |"
        for b in DEFAULT_BOUNDS
    ]
    head = [
        "| statistic | where | bound | what is wrong outside | source |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *rows]) + "\n"


def _range(bound: Bound) -> str:
    limits = (("at least", bound.min), ("at most", bound.max))
    return " and ".join(f"{word} {limit:g}" for word, limit in limits if limit is not None)


def rules() -> str:
    """Every rule of the audit: an index, then what `gptinit audit --explain` says of each."""
    index = ["| rule | severity | what it finds |", "|---|---|---|"]
    index += [f"| [`{r.name}`](#{r.name}) | {r.severity} | {r.title} |" for r in RULES.values()]
    sections = []
    for rule in RULES.values():
        chapters = "\n\n".join(f"**{heading}.** {text}" for heading, text in rule.chapters())
        sections.append(f"### {rule.name}\n\n*{rule.severity}* · {rule.title}.\n\n{chapters}\n")
    return "\n".join(["\n".join(index) + "\n", *sections])


def schemes() -> str:
    """Every built-in scheme: an index, then formulas, notes and sources of each."""
    index = ["| scheme | what it does | verified |", "|---|---|---|"]
    index += [
        f"| [`{s.slug}`](#{_anchor(s.slug)}) | {s.title} | {s.verified} |"
        for s in load_schemes().values()
    ]
    return "\n".join(["\n".join(index) + "\n", *map(_scheme, load_schemes().values())])


def _scheme(scheme: Scheme) -> str:
    """The section of one scheme; roles that are drawn alike share a row."""
    aliases = ", ".join(f"`{alias}`" for alias in scheme.aliases)
    facts = [f"also called {aliases}"] if aliases else []
    facts += [str(scheme.year)] if scheme.year else []
    facts.append(f"verified: {scheme.verified}")
    drawn: dict[str, list[str]] = {}
    for role in (role for role in ROLES if role in scheme.rules):
        drawn.setdefault(str(scheme.rules[role]), []).append(f"`{role}`")
    rows = [f"| {' '.join(roles)} | `{formula}` |" for formula, roles in drawn.items()]
    sources = [f"- {source}" for source in scheme.source]
    head = f"### {scheme.slug}\n\n{scheme.title} ({'; '.join(facts)}).\n\n{scheme.notes}\n"
    table = ["| roles | drawn from |", "|---|---|", *rows]
    return "\n".join([head, *table, "\nSource:\n", *sources, ""])


def presets() -> str:
    """The named shapes."""
    rows = ["| preset | shape | source |", "|---|---|---|"]
    for name, preset in PRESETS.items():
        shape = ", ".join(f"{key} {value}" for key, value in preset.shape.items())
        rows.append(f"| `{name}` | {shape} | {preset.source} |")
    return "\n".join(rows) + "\n"


def _anchor(heading: str) -> str:
    """The link that GitHub makes of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def types() -> str:
    """A line a type, in the order of the flow."""
    rows = ["| type | in | what it is |", "|---|---|---|"]
    for dotted in TYPES:
        module, _, name = dotted.removeprefix("gptinit.").rpartition(".")
        path = module.replace(".", "/")
        rows.append(f"| `{name}` | `{path}.py` | {first_line(dotted)} |")
    return "\n".join(rows) + "\n"


# Pages.

PARTS: Mapping[str, Callable[..., str]] = MappingProxyType(
    {
        "bounds": bounds,
        "help": all_help,
        "presets": presets,
        "real-code-commands": real_code_commands,
        "real-code-counts": real_code_counts,
        "real-code-table": real_code_table,
        "rooms": rooms,
        "rules": rules,
        "schemes": schemes,
        "statistic": statistic,
        "types": types,
    }
)
"""What can stand between two marks of a page."""


def pages() -> tuple[Path, ...]:
    """Every page of this folder."""
    return tuple(sorted(FOLDER.glob("*.md")))


def rendered(path: Path, text: str) -> str:
    """What a page or the drawing should hold, given the text that it has."""
    return drawing() if path == DRAWING else _PART.sub(_fresh, text)


def _fresh(found: re.Match[str]) -> str:
    """A part between its marks: the name of a function in `PARTS`, and words for it."""
    name, *words = found[1].split()
    return f"<!-- begin {found[1]} -->\n{PARTS[name](*words)}<!-- end {found[1]} -->"


def main() -> int:
    """Rewrite what is stale, and name it."""
    for path in (DRAWING, *pages()):
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        fresh = rendered(path, text)
        if fresh != text:
            path.write_text(fresh, encoding="utf-8", newline="\n")
            print(path.relative_to(FOLDER.parent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
