"""Checks as CI systems read them."""

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest
from support.report_profiles import bound_result, small_report

from gptinit.facts.vocabulary import Severity
from gptinit.gate.judge import CheckReport, findings_of
from gptinit.report.junit import check_junit
from gptinit.results.profile import Finding


def test_a_check_is_a_suite_a_model_and_a_case_a_bound() -> None:
    assert check_junit(small_report()) == (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<testsuites name="gptinit" tests="4" failures="2" skipped="1" errors="0">\n'
        '  <testsuite name="gpt2" tests="2" failures="1" skipped="0" errors="0">\n'
        '    <testcase classname="gptinit.gpt2" name="resid_growth at whole" />\n'
        '    <testcase classname="gptinit.gpt2" name="nonfinite at layer 3">\n'
        '      <failure message="nonfinite is 4, bound max 0. It drowns." />\n'
        "    </testcase>\n"
        "  </testsuite>\n"
        '  <testsuite name="wide" tests="2" failures="1" skipped="1" errors="0">\n'
        '    <testcase classname="gptinit.wide" name="resid_growth at whole">\n'
        '      <failure message="resid_growth is not finite, bound min 0.5, max 1000. It drowns."'
        " />\n"
        "    </testcase>\n"
        '    <testcase classname="gptinit.wide" name="loss at final">\n'
        '      <skipped message="loss is 2.50 ± 0.12, bound max 1000. It drowns." />\n'
        "    </testcase>\n"
        "  </testsuite>\n"
        "</testsuites>\n"
    )


def test_findings_that_the_gate_makes_of_bounds_are_not_counted_twice() -> None:
    results = small_report().results
    root = ET.fromstring(check_junit(CheckReport(results=results, findings=findings_of(results))))

    assert [suite.get("name") for suite in root] == ["gpt2", "wide"]


def test_a_finding_on_several_layers_is_not_counted_again() -> None:
    late = [
        bound_result(stat="resid_var", where=f"layer {i}", verdict="violated") for i in (3, 8, 9)
    ]
    noisy = [
        bound_result(stat="logit_std", where=f"layer {i}", verdict="inconclusive") for i in (0, 1)
    ]
    findings = findings_of([*late, *noisy])
    root = ET.fromstring(check_junit(CheckReport(results=(*late, *noisy), findings=findings)))

    assert [f.where for f in findings] == ["layers 3, 8-9", "layers 0-1"]
    assert [suite.get("name") for suite in root] == ["gpt2"]
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("5", "3", "2")


def test_an_error_that_is_no_bound_turns_the_check_red() -> None:
    findings = (
        Finding(rule="nonfinite", severity="error", model="gpt2", where="layer 3", fact="NaN."),
        Finding(rule="odd", severity="warning", model="gpt2", where="wte", fact="Odd."),
        Finding(rule="even", severity="note", model="gpt2", where="wpe", fact="Even."),
    )
    report = CheckReport(results=(bound_result(),), findings=findings)
    root = ET.fromstring(check_junit(report))

    cases = root.findall("testsuite[@name='findings']/testcase")
    assert [case.get("name") for case in cases] == [
        "nonfinite at gpt2: layer 3",
        "odd at gpt2: wte",
        "even at gpt2: wpe",
    ]
    assert [case[0].tag for case in cases] == ["failure", "skipped", "system-out"]
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("4", "1", "1")


def test_a_finding_is_not_explained_by_a_bound_of_another_verdict() -> None:
    report = small_report()
    kept = replace(report, results=tuple(replace(r, verdict="ok") for r in report.results))
    root = ET.fromstring(check_junit(kept))

    assert root.get("failures") == "2"


def test_any_text_makes_well_formed_xml() -> None:
    report = CheckReport(
        results=(bound_result(model='<a & "b">\x00\x1b', verdict="violated", why="]]>\n\ud800"),),
        findings=(),
    )
    root = ET.fromstring(check_junit(report).encode())

    assert root[0].get("name") == '<a & "b">\ufffd\ufffd'
    message = root[0][0][0].get("message", "")
    assert message.endswith("]]>\n\ufffd")


@pytest.mark.parametrize("severity", ["error", "warning", "note"])
def test_any_text_of_a_finding_makes_well_formed_xml(severity: Severity) -> None:
    finding = Finding(rule="odd", severity=severity, where='<a & "b">\x1b', fact="]]>\x00\ud800")

    root = ET.fromstring(check_junit(CheckReport(results=(), findings=(finding,))).encode())

    (case,) = root.findall("testsuite/testcase")
    assert case.get("name") == 'odd at <a & "b">\ufffd'
    assert (case[0].get("message") or case[0].text) == "]]>\ufffd\ufffd"


def test_an_empty_check_is_an_empty_list_of_tests() -> None:
    assert check_junit(CheckReport(results=(), findings=())) == (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<testsuites name="gptinit" tests="0" failures="0" skipped="0" errors="0" />\n'
    )
