"""Checks as GitHub shows them."""

from typing import Any

import pytest
from support.report_profiles import bound_result, small_report

from gptinit.gate.judge import CheckReport
from gptinit.report.github import check_github
from gptinit.results.profile import Finding


def _annotated(**changes: Any) -> str:
    """The annotation of one finding."""
    fields: dict[str, Any] = {
        "rule": "r",
        "severity": "error",
        "where": "w",
        "fact": "m",
        **changes,
    }
    report = CheckReport(results=(bound_result(),), findings=(Finding(**fields),))
    line, last, end = check_github(report).split("\n")
    assert (last, end) == ("1 of 1 bounds hold.", "")
    return line


def test_a_check_is_an_annotation_a_finding_and_a_summary() -> None:
    assert check_github(small_report()) == (
        "::error title=out-of-bounds%3A gpt2%3A layer 3"
        "::nonfinite must be at most 0, got 4. It drowns.\n"
        "::error title=out-of-bounds%3A wide%3A whole"
        "::resid_growth must be between 0.5 and 1000, got a value not finite.\n"
        "::warning title=inconclusive%3A wide%3A final"
        "::loss must be at most 1000, got 2.5. It drowns.\n"
        "1 of 4 bounds hold: 2 violated, 1 inconclusive.\n"
    )


@pytest.mark.parametrize(
    ("severity", "command"), [("error", "error"), ("warning", "warning"), ("note", "notice")]
)
def test_severities_have_their_commands(severity: str, command: str) -> None:
    assert _annotated(severity=severity) == f"::{command} title=r%3A w::m"


def test_a_message_cannot_end_its_line_or_start_another_command() -> None:
    line = _annotated(fact="5 %: a, b\r\n::error::x %0A")

    assert line == "::error title=r%3A w::5 %25: a, b%0D%0A::error::x %250A"


def test_a_title_cannot_end_its_property() -> None:
    line = _annotated(where="a,file=b::c%\nd")

    assert line == "::error title=r%3A a%2Cfile=b%3A%3Ac%25%0Ad::m"


def test_a_check_that_holds_says_so_and_nothing_else() -> None:
    report = CheckReport(results=(bound_result(), bound_result(where="layer 0")), findings=())

    assert check_github(report) == "2 of 2 bounds hold.\n"
