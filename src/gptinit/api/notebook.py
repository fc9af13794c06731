"""How a notebook shows results: registered here, since results know no reports."""

from typing import Any

from gptinit.report.audit_markdown import audit_markdown
from gptinit.report.markdown import comparison_markdown, profile_markdown
from gptinit.results.audit import Audit
from gptinit.results.profile import Comparison, Profile

__all__ = ["register_results"]


def register_results(shell: Any) -> None:
    """Have an IPython shell show profiles, comparisons and audits as Markdown tables.

    Args:
        shell: what `IPython.get_ipython()` returns; None outside of IPython changes nothing.
    """
    if shell is None:
        return
    markdown = shell.display_formatter.formatters["text/markdown"]
    markdown.for_type(Profile, profile_markdown)
    markdown.for_type(Comparison, comparison_markdown)
    markdown.for_type(Audit, audit_markdown)
