"""`gptinit check`: a gate for continuous integration."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

import gptinit
from gptinit.api.check import make_baseline
from gptinit.cli.options import (
    RUN,
    FailOn,
    OutputOptions,
    Stub,
    format_option,
    option,
    with_option_groups,
)
from gptinit.cli.output import deliver, exit_code, progress_on_stderr, say, width, write_whole
from gptinit.errors import ConfigError
from gptinit.gate.check_config import starter_config
from gptinit.report.csvdoc import check_csv
from gptinit.report.github import check_github
from gptinit.report.jsondoc import check_document, render_json
from gptinit.report.junit import check_junit
from gptinit.report.markdown import check_markdown
from gptinit.report.terminal import Layout, check_view

__all__ = ["check"]

CHECK = "Check"

_STARTER = Path("gptinit.toml")


CheckFormat = Annotated[str, format_option("table", "json", "markdown", "csv", "junit", "github")]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """What to check, or which file to write in place of a report."""

    config: Annotated[
        str | None,
        option(
            "--config",
            "Configuration file.",
            CHECK,
            metavar="FILE",
            show_default="gptinit.toml, or [tool.gptinit] in pyproject.toml",
        ),
    ] = None
    init: Annotated[bool, option("--init", "Write a starter gptinit.toml and exit.", CHECK)] = False
    update_baseline: Annotated[
        bool, option("--update-baseline", "Measure, write the baseline file and exit.", CHECK)
    ] = False
    seed: Annotated[
        int | None, option("--seed", "First seed.", RUN, show_default="the configuration's")
    ] = None


@with_option_groups
def check(
    *,
    stub: Stub = None,
    what: CheckOptions,
    format: CheckFormat = "table",
    fail_on: FailOn = "error",
    output: OutputOptions,
) -> None:
    """Check models against init bounds; exit 1 on a violation.

    Example: gptinit check --config gptinit.toml --format github
    """
    if what.init or what.update_baseline:
        _write(what, stub or (), output)
        return
    with progress_on_stderr(output) as progress:
        report = gptinit.check(what.config, seed=what.seed, stubs=stub or (), progress=progress)
    renderers = {
        "table": lambda: check_view(report, Layout(width=width())),
        "json": lambda: render_json(check_document(report)),
        "markdown": lambda: check_markdown(report),
        "csv": lambda: check_csv(report),
        "junit": lambda: check_junit(report),
        "github": lambda: check_github(report),
    }
    deliver(format, output, renderers)
    raise typer.Exit(exit_code(report.findings, fail_on))


def _write(what: CheckOptions, stubs: Sequence[str], output: OutputOptions) -> None:
    """Write the starter configuration, or the baseline.

    Raises:
        ConfigError: if there is a configuration already, or a report is requested as well.
    """
    if output.output:
        other = "--init" if what.init else "--update-baseline"
        raise ConfigError(f"--output cannot be used with {other}, which writes no report.")
    if what.init:
        if _STARTER.exists():
            raise ConfigError(f"{_STARTER} already exists: --init does not overwrite it.")
        write_whole(_STARTER, starter_config())
        say(f"wrote {_STARTER}: edit it, then run gptinit check", output)
        return
    with progress_on_stderr(output) as progress:
        path, text = make_baseline(what.config, seed=what.seed, stubs=stubs, progress=progress)
    write_whole(path, text)
    say(f"wrote {path}", output)
