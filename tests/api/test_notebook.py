"""A notebook shows results as Markdown."""

from types import SimpleNamespace
from typing import Any

from support.audit_reports import small_audit
from support.profiles import make_profile

from gptinit.api.notebook import register_results
from gptinit.report.audit_markdown import audit_markdown
from gptinit.report.markdown import comparison_markdown, profile_markdown
from gptinit.results.audit import Audit
from gptinit.results.profile import Comparison, Profile


def test_every_result_is_shown_by_its_markdown_renderer() -> None:
    shown: dict[type, Any] = {}
    formatter = SimpleNamespace(for_type=shown.__setitem__)
    shell = SimpleNamespace(
        display_formatter=SimpleNamespace(formatters={"text/markdown": formatter})
    )

    register_results(shell)

    profile = make_profile()
    comparison = Comparison(axis="schemes", labels=("plain",), profiles=(profile,))
    assert shown[Profile](profile) == profile_markdown(profile)
    assert shown[Comparison](comparison) == comparison_markdown(comparison)
    assert shown[Audit](small_audit()) == audit_markdown(small_audit())


def test_outside_of_a_notebook_nothing_is_registered() -> None:
    register_results(None)
