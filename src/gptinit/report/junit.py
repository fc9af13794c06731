"""A check as JUnit XML, which every CI system shows as a list of tests."""

import re
from xml.etree import ElementTree as ET

from gptinit.gate.judge import BoundResult, CheckReport
from gptinit.report.headlines import found_value
from gptinit.results.profile import Finding

__all__ = ["check_junit"]

_FORBIDDEN = re.compile(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even escaped."""

_VERDICT = {"error": "violated", "warning": "inconclusive"}
"""Severity of a finding on a bound to the verdict that it comes from."""


def check_junit(report: CheckReport) -> str:
    """One test suite per model, one test case per bound and place.

    A violated bound is a failure, an inconclusive one is skipped. Findings that no test case shows
    are in a suite "findings", so that a check that fails is red.
    """
    root = ET.Element("testsuites", name="gptinit")
    for model in dict.fromkeys(result.model for result in report.results):
        suite = ET.SubElement(root, "testsuite", name=_clean(model))
        for result in report.results:
            if result.model == model:
                _add_result(suite, result)
    # Layers that violate the same bound share one finding, so its place is not compared.
    shown = {(result.model, result.stat, result.verdict) for result in report.results}
    others = [
        f for f in report.findings if (f.model, f.stat, _VERDICT.get(f.severity)) not in shown
    ]
    if others:
        suite = ET.SubElement(root, "testsuite", name="findings")
        for finding in others:
            _add_finding(suite, finding)
    for element in (*root, root):
        _add_totals(element)
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _add_result(suite: ET.Element, result: BoundResult) -> None:
    name = f"{result.stat} at {result.where}"
    case = ET.SubElement(
        suite, "testcase", classname=_clean(f"gptinit.{result.model}"), name=_clean(name)
    )
    tag = {"violated": "failure", "inconclusive": "skipped"}.get(result.verdict)
    if tag:
        ET.SubElement(case, tag, message=_clean(_message(result)))


def _add_finding(suite: ET.Element, finding: Finding) -> None:
    """A finding without a bound as a test case: an error fails, a warning is skipped."""
    name = f"{finding.rule} at {finding.location}"
    case = ET.SubElement(suite, "testcase", classname="gptinit.findings", name=_clean(name))
    tag = {"error": "failure", "warning": "skipped"}.get(finding.severity)
    if tag:
        ET.SubElement(case, tag, message=_clean(finding.message))
    else:
        ET.SubElement(case, "system-out").text = _clean(finding.message)


def _message(result: BoundResult) -> str:
    limits = [f"{n} {x!r}" for n, x in (("min", result.min), ("max", result.max)) if x is not None]
    return (
        f"{result.stat} is {found_value(result)}, bound {', '.join(limits)}. {result.why}".strip()
    )


def _add_totals(element: ET.Element) -> None:
    """Counts of test cases, which readers of JUnit want as attributes."""
    totals = {"tests": "testcase", "failures": "failure", "skipped": "skipped"}
    for name, tag in totals.items():
        element.set(name, str(len(list(element.iter(tag)))))
    element.set("errors", "0")


def _clean(text: str) -> str:
    """`text` without the characters that XML cannot hold."""
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
