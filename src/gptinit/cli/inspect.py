"""`gptinit inspect`: the profile of one model."""

from pathlib import Path
from typing import Annotated

import typer

import gptinit
from gptinit.cli.options import (
    RUN,
    AllLayers,
    FailOn,
    ForeignOptions,
    ModelArgument,
    OutputOptions,
    RunOptions,
    SchemeOption,
    ShapeOptions,
    Timing,
    with_option_groups,
)
from gptinit.cli.output import (
    check_output,
    deliver,
    exit_code,
    progress_on_stderr,
    show_notes,
    width,
)
from gptinit.errors import ConfigError
from gptinit.facts.presets import DEFAULT_PRESET
from gptinit.report.csvdoc import profile_csv
from gptinit.report.jsondoc import profile_document, render_json
from gptinit.report.markdown import profile_markdown
from gptinit.report.plots import check_plot_path, save_profile_plot
from gptinit.report.terminal import Layout, profile_view

__all__ = ["inspect"]


@with_option_groups
def inspect(
    shape: ShapeOptions,
    run: RunOptions,
    output: OutputOptions,
    foreign: ForeignOptions,
    model: ModelArgument = DEFAULT_PRESET,
    scheme: SchemeOption = None,
    reinit: Annotated[
        str | None,
        typer.Option(
            "--reinit",
            metavar="SCHEME",
            help="Draw a foreign model anew by this scheme.",
            rich_help_panel=RUN,
        ),
    ] = None,
    grad: Annotated[
        bool, typer.Option("--grad", help="Run the backward pass too.", rich_help_panel=RUN)
    ] = False,
    plot: Annotated[
        str | None, typer.Option("--plot", metavar="FILE", help="Draw it: .png, .svg or .pdf.")
    ] = None,
    all_layers: AllLayers = False,
    fail_on: FailOn = "never",
    timing: Timing = False,
) -> None:
    """Measure how a model starts: the stream, attention, logits and gradients of every layer.

    Example: gptinit inspect --n-layer 48 --scheme plain --grad
    """
    check_output(output, ("table", "json", "markdown", "csv"), fail_on=fail_on)
    if plot:
        check_plot_path(plot)
        if output.output and Path(plot).resolve() == Path(output.output).resolve():
            raise ConfigError(f"--plot and --output must be two files, got {plot!r} for both.")
    with progress_on_stderr(output) as progress:
        profile = gptinit.inspect(
            model,
            scheme=scheme,
            reinit=reinit,
            run=run.config(grad=grad),
            roles=foreign.roles(),
            sites=foreign.sites(),
            trust_remote_code=foreign.trust_remote_code,
            timing=timing,
            progress=progress,
            **shape.fields(model),
        )
    show_notes(profile.notes, profile.cost, output)
    deliver(
        output,
        {
            "table": lambda: profile_view(profile, Layout(width=width(), all_layers=all_layers)),
            "json": lambda: render_json(profile_document(profile)),
            "markdown": lambda: profile_markdown(profile),
            "csv": lambda: profile_csv(profile),
        },
    )
    if plot:
        save_profile_plot(profile, plot)
    raise typer.Exit(exit_code(profile.findings, fail_on))
