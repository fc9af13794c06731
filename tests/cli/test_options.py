"""One word, one meaning: options that commands share, as their helps show them."""

import re
from itertools import combinations

import pytest

from gptinit.cli import main

COMMANDS = ("inspect", "compare", "audit", "check", "schemes")

# Where a word has to mean something else, or to list something else.
OF_ITS_OWN = {
    ("check", "--init"): "writes a starter file; the init of a model is in that file",
    ("audit", "--scheme"): "a claim, not the init of a preset",
    ("audit", "--config"): "only its accepted findings",
    ("schemes", "--model"): "presets only",
}
FORMATS = {"audit": ", sarif or github.", "check": ", junit or github."}
DEFAULTS = {
    "--grad": {"inspect": "no-grad", "compare": "grad"},
    "--fail-on": {"inspect": "never", "compare": "never", "audit": "error", "check": "error"},
}


@pytest.fixture
def helps(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The help of every command, each option on one line."""
    monkeypatch.setenv("COLUMNS", "400")
    found = {}
    for command in COMMANDS:
        assert main([command, "--help"]) == 0
        found[command] = capsys.readouterr().out
    return found


def options(page: str) -> dict[str, str]:
    """Option to its text, in order."""
    lines = re.findall(r"^│ (--\S+) (.*)│$", page, re.MULTILINE)
    return {flag: re.split(r"  +", rest.strip())[-1] for flag, rest in lines}


def without_default(text: str) -> str:
    return text.partition(" [default: ")[0]


def test_an_option_has_one_help_text_everywhere(helps: dict[str, str]) -> None:
    texts: dict[str, dict[str, str]] = {}
    for command, page in helps.items():
        for flag, text in options(page).items():
            if (command, flag) not in OF_ITS_OWN and flag != "--format":
                texts.setdefault(flag, {})[command] = without_default(text)

    assert {flag: by for flag, by in texts.items() if len(set(by.values())) > 1} == {}
    assert sum(len(by) > 1 for by in texts.values()) > 20


def test_shared_options_have_one_order_everywhere(helps: dict[str, str]) -> None:
    orders = [
        [flag for flag in options(page) if (command, flag) not in OF_ITS_OWN]
        for command, page in helps.items()
    ]

    for first, second in combinations(orders, 2):
        assert [x for x in first if x in second] == [x for x in second if x in first]


def test_panels_have_one_order_everywhere(helps: dict[str, str]) -> None:
    for page in helps.values():
        panels = re.findall(r"^╭─ (\w+) ", page, re.MULTILINE)
        order = ["Arguments", "Model", "Shape", "Audit", "Check", "Run", "Output"]
        assert panels == [name for name in order if name in panels]


@pytest.mark.parametrize("flag", DEFAULTS)
def test_a_default_that_differs_is_shown(flag: str, helps: dict[str, str]) -> None:
    shown = {
        command: options(page)[flag].partition("[default: ")[2].rstrip("]")
        for command, page in helps.items()
        if flag in options(page)
    }

    assert shown == DEFAULTS[flag]


def test_format_lists_what_the_command_can_write(helps: dict[str, str]) -> None:
    for command, page in helps.items():
        text = without_default(options(page)["--format"])
        assert text.startswith("table, json, markdown")
        assert text.endswith(FORMATS.get(command, ", markdown or csv."))


def test_no_type_is_shown_beside_a_switch(helps: dict[str, str]) -> None:
    assert "bool" not in "".join(helps.values())


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_nothing_in_a_help_is_cut_off(
    width: int,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))

    main([*command.split(), "--help"])

    assert "…" not in capsys.readouterr().out
