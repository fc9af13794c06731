"""What the pages repeat from the code is what the code says: --regen rewrites it."""

import re
import shlex
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import pytest
from render import DRAWING, PARTS, commands, help_of, pages, rendered
from rooms import floors, imports
from support.pages import ROOT, rewrite

from gptinit.cli import main
from gptinit.facts.vocabulary import AXES


def pinned(package: str) -> set[str]:
    """The versions of a package in constraints.txt: those that the pages are made with."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.partition(";")[0].split("==") for line in lines if line.startswith(f"{package}==")]
    return {found.strip() for _, found in pins}


@pytest.mark.parametrize("path", [DRAWING, *pages()], ids=lambda path: path.name)
def test_a_page_is_fresh(path: Path, request: pytest.FixtureRequest) -> None:
    if path.name == "cli.md" and version("typer") not in pinned("typer"):
        pytest.skip("the frames of help are those of another Typer")
    if request.config.getoption("--regen"):
        rewrite(path, lambda text: rendered(path, text))

    text = path.read_text(encoding="utf-8")
    assert rendered(path, text) == text, "stale: run python docs/render.py"


def test_every_part_stands_on_a_page() -> None:
    marks = [m for p in pages() for m in re.findall(r"<!-- begin (\S+)", p.read_text("utf-8"))]

    assert set(marks) == set(PARTS)


# The house.


def test_the_house_has_few_rooms_on_few_floors() -> None:
    assert len(imports()) <= 26
    assert len(floors()) <= 10
    assert sorted(room for floor in floors() for room in floor) == sorted(imports())


def test_no_arrow_points_upward() -> None:
    depth = {room: i for i, floor in enumerate(floors()) for room in floor}

    upward = [(a, b) for a, below in imports().items() for b in below if depth[b] <= depth[a]]

    assert upward == []


def test_the_drawing_knows_imports_within_functions() -> None:
    # What api and cli load inside functions, and the package's face for type checkers only.
    assert {"measure", "auditing"} <= imports()["api"]
    assert "api" in imports()["gptinit"]


def test_the_drawing_is_a_picture_of_every_room() -> None:
    picture = ElementTree.parse(DRAWING)

    assert picture.getroot().tag.endswith("svg")
    assert set(imports()) <= {text.text for text in picture.iter() if text.tag.endswith("text")}


# Help.


@pytest.mark.parametrize("command", commands())
def test_help_fits_80_columns(command: str) -> None:
    lines = help_of(command).splitlines()

    assert [line for line in lines if len(line) > 80] == []
    assert "…" not in help_of(command)


@pytest.mark.parametrize("command", commands())
def test_help_has_one_runnable_example_and_compare_one_of_every_axis(command: str) -> None:
    lines = [line for line in help_of(command).splitlines() if "Example: " in line]
    examples = [shlex.split(line.partition("Example: ")[2]) for line in lines]

    assert len(examples) == (len(AXES) if command == "compare" else 1)
    if command == "compare":
        assert [example[2] for example in examples] == list(AXES)
    for program, *arguments in examples:
        assert program == "gptinit"
        assert main([*arguments, "--help"]) == 0


def test_every_command_is_found() -> None:
    assert {"", "inspect", "audit", "check", "schemes", "compare"} <= set(commands())
