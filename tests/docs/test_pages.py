"""Pages written by hand leave nothing out, and point at what is there."""

import re
from pathlib import Path
from typing import Any

import pytest
from render import help_of
from support.pages import PAGES, ROOT, name_of

from gptinit.facts.vocabulary import STATISTICS
from gptinit.gate.check_config import load_check
from gptinit.tomlfile import Table

DOCS = ROOT / "docs"
FULL = """
baseline = "b.json"
[run]
seeds = 6
[[models]]
model = "gpt2"
[[bounds]]
stat = "loss"
where = "final"
max = 20
why = "A test."
[[accept]]
rule = "drift"
reason = "A test."
"""

TABLES = {
    "": "of the file",
    "run": "of `[run]`",
    "models": "of `[[models]]`",
    "bounds": "of `[[bounds]]`",
    "accept": "of `[[accept]]`",
}
"""The tables of the configuration, and how ci.md calls them."""


def text_of(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, heading = target.partition("#")
        found = page.parent / path if path else page
        assert found.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", found.read_text(encoding="utf-8"), re.MULTILINE)
            links = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert heading in links, target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_a_page_names_exist(page: Path) -> None:
    text = re.sub(  # what is rendered names files of other repositories too
        r"<!-- begin (.+?) -->.*?<!-- end \1 -->", "", page.read_text("utf-8"), flags=re.DOTALL
    )
    named = re.findall(r"\b(?:tests|src|docs|examples|benchmarks)/[\w./-]+\.\w+", text)

    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_index_has_every_page() -> None:
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", text_of("README.md")))

    assert linked == {page.name for page in DOCS.glob("*.md")} - {"README.md"}


@pytest.mark.parametrize("name", STATISTICS)
def test_every_statistic_has_a_formula_a_reading_and_a_remedy(name: str) -> None:
    _, found, section = text_of("statistics.md").partition(f"\n### {name}\n")
    section = re.split(r"\n##+ ", section)[0]

    assert found
    assert f"<!-- begin statistic {name} -->" in section
    for heading in ("Formula", "How to read it", "If it is off"):
        _, found, said = section.partition(f"\n**{heading}.** ")
        assert found, heading
        assert len(said.partition("\n\n")[0]) > 10


def test_every_key_of_the_configuration_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables: dict[str, set[str]] = {}

    class Recorded(Table):
        """A table that records which keys it may have."""

        def __init__(self, value: object, where: str, **more: Any) -> None:
            table = re.fullmatch(r".*\.toml(?: \[+(\w+)\]+(?: \d+)?)?", where)
            if table and more.get("known"):
                tables[table[1] or ""] = set(more["known"])
            super().__init__(value, where, **more)

    monkeypatch.setattr("gptinit.gate.check_config.Table", Recorded)
    config = tmp_path / "gptinit.toml"
    config.write_text(FULL, encoding="utf-8")
    load_check(config, folder=tmp_path)

    assert tables == {table: keys_explained(title) for table, title in TABLES.items()}


def keys_explained(title: str) -> set[str]:
    """The keys in the first column of a table of ci.md."""
    rows = text_of("ci.md").partition(f"| key {title} |")[2].partition("\n\n")[0].splitlines()
    return {key for row in rows[2:] for key in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_the_options_of_an_audit_are_explained() -> None:
    panel = help_of("audit").partition("─ Audit ─")[2].partition("╰")[0]
    options = re.findall(r"^│ (--[\w-]+)", panel, re.MULTILINE)

    page = text_of("audit.md")
    assert len(options) > 4
    assert [o for o in options if not re.search(rf"^\| `{o}[ `]", page, re.MULTILINE)] == []
