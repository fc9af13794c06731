"""`gptinit inspect`: the profile of one model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

import gptinit
from gptinit.cli.options import (
    MODEL,
    OUTPUT,
    RUN,
    FailOn,
    Format,
    Forward,
    Grad,
    Init,
    ModelArgument,
    OutputOptions,
    Role,
    RunOptions,
    ShapeOptions,
    Stub,
    Timing,
    TrustRemoteCode,
    option,
    roles,
    scheme_option,
    sites,
    with_option_groups,
)
from gptinit.cli.output import deliver, exit_code, progress_on_stderr, show_notes, width
from gptinit.errors import ConfigError
from gptinit.facts.presets import DEFAULT_PRESET
from gptinit.report.csvdoc import profile_csv
from gptinit.report.jsondoc import profile_document, render_json
from gptinit.report.markdown import profile_markdown
from gptinit.report.plots import check_plot_path, save_profile_plot
from gptinit.report.terminal import Layout, profile_view
from gptinit.results.profile import Profile

__all__ = ["inspect"]

Site = Annotated[
    list[str] | None,
    option(
        "--site",
        "Module path of the blocks, or of attn/mlp within a block, e.g. blocks=layers.",
        MODEL,
        metavar="WHAT=PATH",
    ),
]

Reinit = Annotated[
    str | None, scheme_option("--reinit", "Re-initialise your model with this scheme", RUN)
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureOptions:
    """What only the output of `inspect` has."""

    all_layers: Annotated[
        bool, option("--all-layers", "Show every layer of a deep model.", OUTPUT)
    ] = False
    plot: Annotated[
        str | None, option("--plot", "Save a plot (.png, .svg or .pdf).", OUTPUT, metavar="FILE")
    ] = None

    def check(self, output: OutputOptions) -> None:
        """Refuse a plot that could not be saved.

        Raises:
            ConfigError: if its format is unknown, or its file is that of the result.
        """
        if not self.plot:
            return
        check_plot_path(self.plot)
        if output.output and Path(self.plot).resolve() == Path(output.output).resolve():
            raise ConfigError(f"--plot and --output name the same file, {self.plot!r}.")


@with_option_groups
def inspect(
    *,
    model: ModelArgument = DEFAULT_PRESET,
    role: Role = None,
    init: Init = None,
    forward: Forward = None,
    trust_remote_code: TrustRemoteCode = False,
    stub: Stub = None,
    site: Site = None,
    shape: ShapeOptions,
    run: RunOptions,
    grad: Grad = False,
    reinit: Reinit = None,
    format: Format = "table",
    fail_on: FailOn = "never",
    timing: Timing = False,
    picture: PictureOptions,
    output: OutputOptions,
) -> None:
    """Measure a model at initialisation: activations, attention, logits and gradients by layer.

    Example: gptinit inspect --n-layer 48 --scheme plain --grad
    """
    picture.check(output)
    with progress_on_stderr(output) as progress:
        profile = gptinit.inspect(
            model,
            scheme=run.scheme,
            reinit=reinit,
            run=run.config(grad=grad),
            roles=roles(role),
            sites=sites(site),
            init=init,
            forward=forward,
            trust_remote_code=trust_remote_code,
            stubs=stub or (),
            timing=timing,
            progress=progress,
            settings=shape.fields(model),
        )
    show_notes(format, output, profile.notes, profile.cost)
    _deliver(profile, format, output, all_layers=picture.all_layers)
    if picture.plot:
        save_profile_plot(profile, picture.plot)
    raise typer.Exit(exit_code(profile.findings, fail_on))


def _deliver(profile: Profile, format: str, output: OutputOptions, *, all_layers: bool) -> None:
    layout = Layout(width=width(), all_layers=all_layers)
    renderers = {
        "table": lambda: profile_view(profile, layout),
        "json": lambda: render_json(profile_document(profile)),
        "markdown": lambda: profile_markdown(profile),
        "csv": lambda: profile_csv(profile),
    }
    deliver(format, output, renderers)
