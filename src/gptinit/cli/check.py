"""`gptinit check`: a gate for continuous integration."""

from pathlib import Path
from typing import Annotated

import typer

import gptinit
from gptinit.api.check import make_baseline
from gptinit.cli.options import FailOn, OutputOptions, with_option_groups
from gptinit.cli.output import (
    check_output,
    deliver,
    exit_code,
    progress_on_stderr,
    say,
    width,
    write_whole,
)
from gptinit.errors import ConfigError
from gptinit.gate.check_config import starter_config
from gptinit.report.csvdoc import check_csv
from gptinit.report.github import check_github
from gptinit.report.jsondoc import check_document, render_json
from gptinit.report.junit import check_junit
from gptinit.report.markdown import check_markdown
from gptinit.report.terminal import Layout, check_view

__all__ = ["check"]

_STARTER = Path("gptinit.toml")


@with_option_groups
def check(
    output: OutputOptions,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Configuration; else gptinit.toml, else \\[tool.gptinit] of pyproject.toml.",
        ),
    ] = None,
    init: Annotated[bool, typer.Option("--init", help="Write a first gptinit.toml.")] = False,
    update_baseline: Annotated[
        bool, typer.Option("--update-baseline", help="Measure and write the baseline file.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option("--seed", help="First seed in place of the file's.")
    ] = None,
    fail_on: FailOn = "error",
) -> None:
    """Hold models to bounds on their init; exit 1 if one is missed.

    Example: gptinit check --config gptinit.toml --format github
    """
    check_output(output, ("table", "json", "markdown", "csv", "junit", "github"), fail_on=fail_on)
    if output.output and (init or update_baseline):
        other = "--init" if init else "--update-baseline"
        raise ConfigError(f"--output must go with a report, got it with {other}.")
    if init:
        _write_starter(output)
        return
    with progress_on_stderr(output) as progress:
        if update_baseline:
            path, text = make_baseline(config, seed=seed, progress=progress)
            write_whole(path, text)
            say(f"wrote {path}", output)
            return
        report = gptinit.check(config, seed=seed, progress=progress)
    deliver(
        output,
        {
            "table": lambda: check_view(report, Layout(width=width())),
            "json": lambda: render_json(check_document(report)),
            "markdown": lambda: check_markdown(report),
            "csv": lambda: check_csv(report),
            "junit": lambda: check_junit(report),
            "github": lambda: check_github(report),
        },
    )
    raise typer.Exit(exit_code(report.findings, fail_on))


def _write_starter(output: OutputOptions) -> None:
    """Write a first configuration, unless there is one.

    Raises:
        ConfigError: if there is one.
    """
    if _STARTER.exists():
        raise ConfigError(f"--init must not overwrite anything, got an existing {_STARTER}.")
    write_whole(_STARTER, starter_config())
    say(f"wrote {_STARTER}: edit it, then run gptinit check", output)
