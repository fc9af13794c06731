"""The rooms of the package, on which floor each stands, and a drawing of what they import.

A room is a package or a file directly under src/gptinit. The drawing is text that no library
makes, so that equal code gives equal bytes.
"""

import ast
import itertools
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TypeAlias

import grimp

from gptinit.tomlfile import load_toml

__all__ = ["drawing", "first_line", "floors", "imports", "rooms"]

ROOT = Path(__file__).resolve().parents[1]


def first_line(dotted: str) -> str:
    """The first sentence of the docstring of a module or class, read without importing it."""
    path, _, name = dotted.replace(".", "/").rpartition("/")
    below = ROOT / "src" / path
    files = (below / name / "__init__.py", below / f"{name}.py", below.with_suffix(".py"))
    found = ast.parse(next(file for file in files if file.is_file()).read_text(encoding="utf-8"))
    classes = {c.name: c for c in found.body if isinstance(c, ast.ClassDef)}
    said = ast.get_docstring(classes.get(name, found)) or ""
    return " ".join(said.partition("\n\n")[0].split())


@cache
def imports() -> Mapping[str, frozenset[str]]:
    """Every room and the rooms that it imports: also within functions and for type checkers.

    A room is a package or a file directly under src/gptinit; `gptinit` is its `__init__.py`, which
    only says where public names live: whoever imports it imports those rooms.
    """
    graph = grimp.build_graph("gptinit", exclude_type_checking_imports=False, cache_dir=None)
    found: dict[str, set[str]] = {}
    for module in sorted(graph.modules):
        room = found.setdefault(_room(module), set())
        room |= {_room(other) for other in graph.find_modules_directly_imported_by(module)}
    for others in found.values():
        if "gptinit" in others:
            others |= found["gptinit"]
    return {room: frozenset(others - {room, "gptinit"}) for room, others in found.items()}


def _room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "gptinit"


@cache
def floors() -> tuple[tuple[str, ...], ...]:
    """The rooms of every floor, top first: the layers of pyproject.toml, and what they leave out.

    The package's own `__init__.py` cannot be a layer: it stands one floor above what it imports.
    """
    contracts = load_toml(ROOT / "pyproject.toml")["tool"]["importlinter"]["contracts"]  # type: ignore[index] # a file of ours
    [layers] = [c["layers"] for c in contracts if c["type"] == "layers"]
    stack = [[room.strip() for room in re.split(r"[|:]", layer)] for layer in layers]
    known = set(itertools.chain.from_iterable(stack))
    for room in sorted(imports().keys() - known):
        highest = min(i for i, floor in enumerate(stack) if imports()[room] & set(floor))
        stack[max(0, highest - 1)].append(room)
    return tuple(tuple(floor) for floor in stack)


@cache
def _light() -> frozenset[str]:
    """The rooms that never load torch, by the contract of pyproject.toml."""
    contracts = load_toml(ROOT / "pyproject.toml")["tool"]["importlinter"]["contracts"]  # type: ignore[index] # a file of ours
    [names] = [c["source_modules"] for c in contracts if c.get("forbidden_modules") == ["torch"]]
    return frozenset(_room(name) for name in names)


def _torch(room: str) -> str:
    lazily = {"gptinit", "__main__", "api", "cli"}  # tests/test_architecture.py keeps them so
    return "lazily" if room in lazily else "no" if room in _light() else "yes"


def rooms() -> str:
    """A line a room, top floor first."""
    rows = ["| floor | room | torch | what it holds | imports |", "|---|---|---|---|---|"]
    for height, floor in zip(range(len(floors()), 0, -1), floors(), strict=True):
        for room in floor:
            module = "gptinit" if room == "gptinit" else f"gptinit.{room}"
            below = [r for f in floors() for r in f if r in imports()[room]]
            kind = "" if room == "gptinit" else "/" if _is_package(room) else ".py"
            says = first_line(module)
            rows.append(
                f"| {height} | `{room}{kind}` | {_torch(room)} | {says} | {', '.join(below)} |"
            )
    arrows = sum(map(len, imports().values()))
    total = f"{len(imports())} rooms on {len(floors())} floors, {arrows} arrows, none upward."
    return "\n".join(rows) + f"\n\n{total}\n"


def _is_package(room: str) -> bool:
    return (ROOT / "src" / "gptinit" / room).is_dir()


_WIDTH, _ROW, _BOX, _HIGH, _TOP = 1000, 92, 104, 34, 46
_At: TypeAlias = Mapping[str, tuple[float, float]]


def drawing() -> str:
    """The rooms by floor as SVG, with the arrows that do not follow from others."""
    at = _centres()
    arrows = [(room, below) for room in at for below in sorted(_needed(room), key=lambda r: at[r])]
    lines = [_arrow(at, arrow, arrows) for arrow in arrows]
    boxes = [_box(room, *centre) for room, centre in at.items()]
    height = _TOP + _ROW * len(floors())
    return "\n".join([_HEAD.format(width=_WIDTH, height=height), *lines, *boxes, "</svg>", ""])


def _centres() -> _At:
    """The middle of every room's box, each floor in the order of the rooms that need it."""
    at: dict[str, tuple[float, float]] = {}
    for i, floor in enumerate(floors()):
        above = {room: [at[r][0] for r in at if room in _needed(r)] for room in floor}
        ordered = sorted(floor, key=lambda room: sum(above[room]) / max(1, len(above[room])))
        for j, room in enumerate(ordered):
            at[room] = (_WIDTH * (j + 0.5) / len(floor), _TOP + _ROW * i + _HIGH / 2)
    return at


_HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" \
font-family="sans-serif" font-size="14">
<title>The rooms of gptinit by floor, and their imports</title>
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" \
orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#667"/></marker></defs>
<rect width="{width}" height="{height}" fill="#fff"/>
<g fill="#333" font-size="13"><rect x="12" y="10" width="16" height="12" fill="#ffe2c4" \
stroke="#c60"/><text x="34" y="21">imports torch</text><rect x="142" y="10" width="16" height="12" \
fill="#e3edf9" stroke="#357"/><text x="164" y="21">never loads torch</text><rect x="296" y="10" \
width="16" height="12" fill="#eee" stroke="#777"/><text x="318" y="21">loads it when something is \
measured</text></g>"""

_PAINT = {"yes": ("#ffe2c4", "#c60"), "no": ("#e3edf9", "#357"), "lazily": ("#eee", "#777")}


def _needed(room: str) -> frozenset[str]:
    """What a room imports and reaches in no other way: the rest of its arrows say nothing new."""
    direct = imports()[room]
    return direct - frozenset().union(*(_reached(other) for other in direct))


@cache
def _reached(room: str) -> frozenset[str]:
    """All that a room imports, directly or not."""
    return imports()[room].union(*(_reached(other) for other in imports()[room]))


def _arrow(at: _At, arrow: tuple[str, str], arrows: list[tuple[str, str]]) -> str:
    """One arrow, past the floors between in the gap between two rooms that is nearest."""
    above, below = arrow
    leaving = sorted((at[b], b) for a, b in arrows if a == above)
    coming = sorted((at[a], a) for a, b in arrows if b == below)
    x, y = _point(at[above], [name for _, name in leaving].index(below), len(leaving), _HIGH / 2)
    end = _point(at[below], [name for _, name in coming].index(above), len(coming), -_HIGH / 2)
    path = [f"M{x:.0f},{y:.0f}"]
    between = [f for f in floors() if at[above][1] < at[f[0]][1] < at[below][1]]
    for floor in between:
        row = at[floor[0]][1]
        straight = x + (end[0] - x) * (row - y) / (end[1] - y)
        gaps = [_WIDTH * j / len(floor) for j in range(1, len(floor))] or [_WIDTH * 0.4]
        gap = min((*gaps, 12, _WIDTH - 12), key=lambda g: abs(g - straight))
        path.append(_bend(x, y, gap, row - _HIGH / 2) + f" V{row + _HIGH / 2:.0f}")
        x, y = gap, row + _HIGH / 2
    path.append(_bend(x, y, *end))
    return f'<path d="{" ".join(path)}" fill="none" stroke="#889" marker-end="url(#tip)"/>'


def _bend(x: float, y: float, to_x: float, to_y: float) -> str:
    """A curve that starts and ends vertically."""
    bend = (to_y - y) * 0.45
    return f"C{x:.0f},{y + bend:.0f} {to_x:.0f},{to_y - bend:.0f} {to_x:.0f},{to_y:.0f}"


def _point(centre: tuple[float, float], index: int, count: int, down: float) -> tuple[float, float]:
    """The `index`th of `count` points on the edge of a box."""
    x, y = centre
    return x + (_BOX - 16) * ((index + 0.5) / count - 0.5), y + down


def _box(room: str, x: float, y: float) -> str:
    fill, line = _PAINT[_torch(room)]
    corner = f'x="{x - _BOX / 2:.0f}" y="{y - _HIGH / 2:.0f}"'
    return (
        f'<rect {corner} width="{_BOX}" height="{_HIGH}" rx="5" fill="{fill}" stroke="{line}"/>'
        f'<text x="{x:.0f}" y="{y + 5:.0f}" text-anchor="middle">{room}</text>'
    )
