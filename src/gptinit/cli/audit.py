"""`gptinit audit`: how every parameter is really drawn, and what is wrong with that."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

import gptinit
from gptinit.audit_rules import RULES, explain
from gptinit.cli import completion
from gptinit.cli.options import (
    OUTPUT,
    FailOn,
    Forward,
    Init,
    ModelArgument,
    OutputOptions,
    Role,
    ShapeOptions,
    Stub,
    TrustRemoteCode,
    format_option,
    option,
    roles,
    scheme_option,
    with_option_groups,
)
from gptinit.cli.output import deliver, exit_code, width
from gptinit.errors import unknown_name
from gptinit.facts.presets import DEFAULT_PRESET
from gptinit.gate.check_config import Acceptance, load_acceptances
from gptinit.report.audit_markdown import audit_markdown, rule_markdown
from gptinit.report.audit_terminal import AuditLayout, audit_view, rule_view
from gptinit.report.csvdoc import audit_csv
from gptinit.report.github import audit_github
from gptinit.report.jsondoc import audit_document, render_json, rule_document
from gptinit.report.sarif import audit_sarif
from gptinit.results.audit import Audit

__all__ = ["audit"]

AUDIT = "Audit"

AuditFormat = Annotated[str, format_option("table", "json", "markdown", "csv", "sarif", "github")]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOptions:
    """What to hold a model to, and how hard to look."""

    scheme: Annotated[
        str | None, scheme_option("--scheme", "Scheme that the model should follow", AUDIT)
    ] = None
    build: Annotated[
        str,
        option(
            "--build",
            "How to build the model: own (call its constructor), meta (on the meta device, then "
            "to_empty and init) or both.",
            AUDIT,
            metavar="NAME",
            autocompletion=completion.known(("own", "meta", "both")),
        ),
    ] = "own"
    perturb: Annotated[
        bool,
        option("--perturb", "Also vary each init setting and report roles that ignore it.", AUDIT),
    ] = False
    draw: Annotated[
        bool, option("--draw", "Also draw real weights and check their values.", AUDIT)
    ] = False
    explain: Annotated[
        str | None,
        option(
            "--explain",
            "Explain a rule and exit.",
            AUDIT,
            metavar="RULE",
            autocompletion=completion.known(RULES),
        ),
    ] = None
    config: Annotated[
        str | None,
        option(
            "--config",
            "Suppress the findings listed under \\[\\[accept]] in FILE.",
            AUDIT,
            metavar="FILE",
        ),
    ] = None

    def accepted(self) -> tuple[Acceptance, ...]:
        """Return the findings that --config accepts."""
        return load_acceptances(Path(self.config)) if self.config else ()


@with_option_groups
def audit(
    *,
    model: ModelArgument = DEFAULT_PRESET,
    role: Role = None,
    init: Init = None,
    forward: Forward = None,
    trust_remote_code: TrustRemoteCode = False,
    stub: Stub = None,
    shape: ShapeOptions,
    how: AuditOptions,
    format: AuditFormat = "table",
    fail_on: FailOn = "error",
    all_parameters: Annotated[
        bool, option("--all-parameters", "Show a row for every parameter.", OUTPUT)
    ] = False,
    output: OutputOptions,
) -> None:
    """Trace how every parameter is drawn and report init bugs; exit 1 if there are any.

    Example: gptinit audit model.py:GPT --scheme nanogpt
    """
    if how.explain is not None:
        _explain(how.explain, format, output)
        return
    found = gptinit.audit(
        model,
        scheme=how.scheme,
        build=how.build,  # type: ignore[arg-type] # it checks the name
        perturb=how.perturb,
        draw=how.draw,
        roles=roles(role),
        forward=forward,
        accept=how.accepted(),
        init=init,
        trust_remote_code=trust_remote_code,
        stubs=stub or (),
        settings=shape.fields(model),
    )
    _deliver(found, format, output, all_parameters=all_parameters)
    raise typer.Exit(exit_code(found.findings, fail_on))


def _deliver(found: Audit, format: str, output: OutputOptions, *, all_parameters: bool) -> None:
    layout = AuditLayout(width=width(), all_parameters=all_parameters, buffers=all_parameters)
    renderers = {
        "table": lambda: audit_view(found, layout),
        "json": lambda: render_json(audit_document(found)),
        "markdown": lambda: audit_markdown(
            found, all_parameters=all_parameters, buffers=all_parameters
        ),
        "csv": lambda: audit_csv(found),
        "sarif": lambda: render_json(audit_sarif(found, RULES)),
        "github": lambda: audit_github(found),
    }
    deliver(format, output, renderers)


def _explain(name: str, format: str, output: OutputOptions) -> None:
    """Write the documentation of a rule.

    Raises:
        ConfigError: if there is no such rule, or it has no such format.
    """
    found = explain(name)
    renderers = {
        "table": lambda: rule_view(found),
        "json": lambda: render_json(rule_document(found)),
        "markdown": lambda: rule_markdown(found),
    }
    if format not in renderers:
        raise unknown_name("--format with --explain", format, renderers)
    deliver(format, output, renderers)
