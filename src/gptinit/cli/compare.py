"""`gptinit compare`: several schemes, depths, widths, models or engines side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

import gptinit
from gptinit.cli.options import (
    RUN,
    FailOn,
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
from gptinit.report.csvdoc import comparison_csv
from gptinit.report.jsondoc import comparison_document, render_json
from gptinit.report.markdown import comparison_markdown
from gptinit.report.terminal import Layout, comparison_view
from gptinit.results.profile import Comparison, Cost, Note

__all__ = ["compare"]

compare = typer.Typer(
    help="Compare schemes, depths, widths, models or engines in one table.\n\n"
    "Example: gptinit compare schemes --n-layer 48",
    no_args_is_help=True,
)

Model = Annotated[
    str, typer.Option("--model", help="A preset, path/model.py:NAME or a config.json.")
]
Grad = Annotated[
    bool,
    typer.Option("--grad/--no-grad", help="Run the backward pass too.", rich_help_panel=RUN),
]


@compare.command()
@with_option_groups
def schemes(
    shape: ShapeOptions,
    run: RunOptions,
    output: OutputOptions,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Schemes or .toml files; else all built in."),
    ] = None,
    model: Model = DEFAULT_PRESET,
    grad: Grad = True,
    fail_on: FailOn = "never",
    timing: Timing = False,
) -> None:
    """Compare init schemes on one shape, ranked.

    Example: gptinit compare schemes plain nanogpt --n-layer 48
    """
    how = _How(shape=shape, run=run, output=output, grad=grad, fail_on=fail_on, timing=timing)
    _compare("schemes", names or (), how, model=model)


@compare.command()
@with_option_groups
def depths(
    shape: ShapeOptions,
    run: RunOptions,
    output: OutputOptions,
    values: Annotated[str, typer.Argument(metavar="N,N,...", help="Numbers of layers.")],
    model: Model = DEFAULT_PRESET,
    scheme: SchemeOption = None,
    grad: Grad = True,
    fail_on: FailOn = "never",
    timing: Timing = False,
) -> None:
    """Compare numbers of layers under one scheme.

    Example: gptinit compare depths 6,12,24,48 --scheme plain
    """
    how = _How(shape=shape, run=run, output=output, grad=grad, fail_on=fail_on, timing=timing)
    _compare("depths", _numbers("depths", values), how, model=model, scheme=scheme)


@compare.command()
@with_option_groups
def widths(
    shape: ShapeOptions,
    run: RunOptions,
    output: OutputOptions,
    values: Annotated[str, typer.Argument(metavar="N,N,...", help="Widths of the stream.")],
    model: Model = DEFAULT_PRESET,
    scheme: SchemeOption = None,
    grad: Grad = True,
    fail_on: FailOn = "never",
    timing: Timing = False,
) -> None:
    """Compare widths of the stream under one scheme.

    Example: gptinit compare widths 256,768,1600
    """
    how = _How(shape=shape, run=run, output=output, grad=grad, fail_on=fail_on, timing=timing)
    _compare("widths", _numbers("widths", values), how, model=model, scheme=scheme)


@compare.command()
@with_option_groups
def models(
    shape: ShapeOptions,
    run: RunOptions,
    output: OutputOptions,
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Presets, path/model.py:NAME, package.module:NAME or config.json files.",
        ),
    ],
    grad: Grad = True,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code beside a config.json.")
    ] = False,
    fail_on: FailOn = "never",
    timing: Timing = False,
) -> None:
    """Compare models, each with the init that it has.

    Example: gptinit compare models gpt2 model.py:GPT
    """
    how = _How(shape=shape, run=run, output=output, grad=grad, fail_on=fail_on, timing=timing)
    _compare("models", names, how, model=names[0], trust=trust_remote_code)


@compare.command()
@with_option_groups
def engines(
    shape: ShapeOptions,
    run: RunOptions,
    output: OutputOptions,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ENGINE]...", help="dense, stream, lazy, theory; else all."),
    ] = None,
    model: Model = DEFAULT_PRESET,
    scheme: SchemeOption = None,
    grad: Grad = True,
    fail_on: FailOn = "never",
    timing: Timing = False,
) -> None:
    """Compare what engines measure on one model, and what theory expects.

    Example: gptinit compare engines lazy theory --n-layer 48
    """
    how = _How(shape=shape, run=run, output=output, grad=grad, fail_on=fail_on, timing=timing)
    _compare("engines", names or (), how, model=model, scheme=scheme)


@dataclass(frozen=True, slots=True, kw_only=True)
class _How:
    """The options that the commands share."""

    shape: ShapeOptions
    run: RunOptions
    output: OutputOptions
    grad: bool
    fail_on: str
    timing: bool


def _compare(
    axis: str,
    values: Sequence[str | int],
    how: _How,
    *,
    model: str,
    scheme: str | None = None,
    trust: bool = False,
) -> None:
    """What the commands have in common."""
    output = how.output
    check_output(output, ("table", "json", "markdown", "csv"), fail_on=how.fail_on)
    with progress_on_stderr(output) as progress:
        comparison = gptinit.compare(
            axis,  # type: ignore[arg-type] # checks itself
            values,
            model=model,
            scheme=scheme,
            run=how.run.config(grad=how.grad),
            timing=how.timing,
            progress=progress,
            trust_remote_code=trust,
            **how.shape.fields(model),
        )
    show_notes(_notes(comparison), _total(comparison), output)
    deliver(
        output,
        {
            "table": lambda: comparison_view(comparison, Layout(width=width())),
            "json": lambda: render_json(comparison_document(comparison)),
            "markdown": lambda: comparison_markdown(comparison),
            "csv": lambda: comparison_csv(comparison),
        },
    )
    found = [finding for profile in comparison.profiles for finding in profile.findings]
    raise typer.Exit(exit_code(found, how.fail_on))


def _notes(comparison: Comparison) -> list[Note]:
    """Every note once; of engines one each, and none where they are what is compared."""
    found: dict[object, Note] = {}
    for profile in comparison.profiles:
        for note in profile.notes:
            if note.kind != "engine":
                found.setdefault(note, note)
            elif comparison.axis != "engines":
                found.setdefault(note.where, note)
    return list(found.values())


def _total(comparison: Comparison) -> Cost | None:
    """Seconds of all profiles together and the largest memory; None where nothing was timed."""
    costs = [profile.cost for profile in comparison.profiles if profile.cost]
    if not costs:
        return None
    return Cost(
        seconds=sum(cost.seconds for cost in costs),
        peak_bytes=max(cost.peak_bytes for cost in costs),
    )


def _numbers(what: str, text: str) -> list[int]:
    """The integers of a comma-separated list.

    Raises:
        ConfigError: if it is anything else.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"{what} must be integers separated by commas, got {text!r}. Example: 6,12,24."
        ) from error
