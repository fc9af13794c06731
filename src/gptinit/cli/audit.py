"""`gptinit audit`: how every parameter is really drawn, and what is wrong with that."""

from pathlib import Path
from typing import Annotated

import typer

import gptinit
from gptinit.audit_rules import RULES, explain
from gptinit.cli.options import (
    FailOn,
    ForeignOptions,
    ModelArgument,
    OutputOptions,
    ShapeOptions,
    with_option_groups,
)
from gptinit.cli.output import check_output, deliver, exit_code, width
from gptinit.errors import ConfigError
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

_PANEL = "Audit"
_FORMATS = ("table", "json", "markdown", "csv", "sarif", "github")


@with_option_groups
def audit(
    shape: ShapeOptions,
    foreign: ForeignOptions,
    output: OutputOptions,
    model: ModelArgument = DEFAULT_PRESET,
    scheme: Annotated[
        str | None,
        typer.Option(
            "--scheme",
            metavar="CLAIM",
            help="Scheme to hold the model to: a name or a .toml file.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    build: Annotated[
        str,
        typer.Option(
            "--build",
            help="own (its constructor), meta (meta, to_empty, init) or both.",
            rich_help_panel=_PANEL,
        ),
    ] = "own",
    perturb: Annotated[
        bool,
        typer.Option("--perturb", help="Move every init setting too.", rich_help_panel=_PANEL),
    ] = False,
    draw: Annotated[
        bool,
        typer.Option(
            "--draw", help="Build it for real too and look at values.", rich_help_panel=_PANEL
        ),
    ] = False,
    rule: Annotated[
        str | None,
        typer.Option(
            "--explain",
            metavar="RULE",
            help="Say what a rule is, and audit nothing.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Findings that are accepted: its \\[\\[accept]].",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    all_parameters: Annotated[
        bool,
        typer.Option(
            "--all-parameters", help="A row for every parameter.", rich_help_panel="Output"
        ),
    ] = False,
    fail_on: FailOn = "error",
) -> None:
    """Read the distribution of every parameter, and name what is wrong; exit 1 if something is.

    Example: gptinit audit model.py:GPT --scheme nanogpt
    """
    if rule is not None:
        _explain(rule, output)
        return
    check_output(output, _FORMATS, fail_on=fail_on)
    if foreign.sites():
        raise ConfigError(
            "--site must go with inspect, where streams are heard, got it with audit."
        )
    accept: tuple[Acceptance, ...] = load_acceptances(Path(config)) if config else ()
    found = gptinit.audit(
        model,
        scheme=scheme,
        build=build,  # type: ignore[arg-type] # checks itself
        perturb=perturb,
        draw=draw,
        roles=foreign.roles(),
        accept=accept,
        trust_remote_code=foreign.trust_remote_code,
        **shape.fields(model),
    )
    _deliver(found, output, all_parameters=all_parameters)
    raise typer.Exit(exit_code(found.findings, fail_on))


def _deliver(found: Audit, output: OutputOptions, *, all_parameters: bool) -> None:
    """Write an audit in the format asked for."""
    layout = AuditLayout(width=width(), all_parameters=all_parameters, buffers=all_parameters)
    deliver(
        output,
        {
            "table": lambda: audit_view(found, layout),
            "json": lambda: render_json(audit_document(found)),
            "markdown": lambda: audit_markdown(
                found, all_parameters=all_parameters, buffers=all_parameters
            ),
            "csv": lambda: audit_csv(found),
            "sarif": lambda: render_json(audit_sarif(found, RULES)),
            "github": lambda: audit_github(found),
        },
    )


def _explain(name: str, output: OutputOptions) -> None:
    """Write the documentation of a rule."""
    check_output(output, ("table", "json", "markdown"))
    found = explain(name)
    deliver(
        output,
        {
            "table": lambda: rule_view(found),
            "json": lambda: render_json(rule_document(found)),
            "markdown": lambda: rule_markdown(found),
        },
    )
