"""`gptinit compare`: several schemes, depths, widths, models or engines side by side."""

from typing import Annotated

import typer

import gptinit
from gptinit.cli import completion
from gptinit.cli.options import (
    MODEL,
    MODEL_FORMS,
    FailOn,
    Format,
    Forward,
    Grad,
    Init,
    OutputOptions,
    RunOptions,
    ShapeOptions,
    Stub,
    Timing,
    TrustRemoteCode,
    option,
    with_option_groups,
)
from gptinit.cli.output import deliver, exit_code, progress_on_stderr, show_notes, width
from gptinit.errors import ConfigError, unknown_name
from gptinit.facts.model_argument import Code, read_model_argument
from gptinit.facts.presets import DEFAULT_PRESET, PRESETS
from gptinit.facts.schemes import scheme_names
from gptinit.facts.vocabulary import AXES
from gptinit.report.csvdoc import comparison_csv
from gptinit.report.jsondoc import comparison_document, render_json
from gptinit.report.markdown import comparison_markdown
from gptinit.report.terminal import Layout, comparison_view
from gptinit.results.profile import Comparison, Cost, Note

__all__ = ["compare"]

_NUMERIC = {"depths": "6,12,24", "widths": "256,768,1536"}
"""Axes whose values are integers, each with an example."""

Axis = Annotated[
    str | None,
    typer.Argument(
        metavar="AXIS",
        help=f"What to vary: {', '.join(AXES[:-1])} or {AXES[-1]}.",
        autocompletion=completion.known(AXES),
    ),
]
Values = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="VALUES",
        help="What to compare: names, models or numbers.",
        autocompletion=completion.compared_values,
    ),
]
ComparedModel = Annotated[
    str | None,
    option(
        "--model",
        MODEL_FORMS,
        MODEL,
        metavar="MODEL",
        autocompletion=completion.presets,
        show_default=DEFAULT_PRESET,
    ),
]


@with_option_groups
def compare(
    *,
    ctx: typer.Context,
    axis: Axis = None,
    values: Values = None,
    model: ComparedModel = None,
    init: Init = None,
    forward: Forward = None,
    trust_remote_code: TrustRemoteCode = False,
    stub: Stub = None,
    shape: ShapeOptions,
    run: RunOptions,
    grad: Grad = True,
    format: Format = "table",
    fail_on: FailOn = "never",
    timing: Timing = False,
    output: OutputOptions,
) -> None:
    """Compare init schemes, depths, widths, models or engines side by side.

    schemes: init schemes, ranked; all of them if you name none.
    Example: gptinit compare schemes plain nanogpt --n-layer 48

    depths: numbers of layers, with one scheme.
    Example: gptinit compare depths 6,12,24 --scheme plain

    widths: widths of the residual stream, with one scheme.
    Example: gptinit compare widths 256,768,1536

    models: models, each with its own init.
    Example: gptinit compare models gpt2 model.py:GPT

    engines: ways to measure one model, and what theory predicts for it.
    Example: gptinit compare engines lazy theory --n-layer 48
    """
    if axis is None:
        typer.echo(ctx.get_help())
        raise typer.Exit(2)
    _refuse_ignored(axis, model=model, scheme=run.scheme)
    compared: list[str] | list[int] = values or []
    if axis in _NUMERIC:
        compared = _numbers(axis, values or [], example=_NUMERIC[axis])
    shaped = str(compared[0]) if axis == "models" and compared else model or DEFAULT_PRESET
    with progress_on_stderr(output) as progress:
        comparison = gptinit.compare(
            axis,  # type: ignore[arg-type] # refused above if it is no axis
            compared,
            model=shaped,
            scheme=run.scheme,
            run=run.config(grad=grad),
            timing=timing,
            progress=progress,
            init=init,
            forward=forward,
            trust_remote_code=trust_remote_code,
            stubs=stub or (),
            settings=shape.fields(shaped),
        )
    show_notes(format, output, _notes(comparison), _total(comparison))
    _deliver(comparison, format, output)
    found = [finding for profile in comparison.profiles for finding in profile.findings]
    raise typer.Exit(exit_code(found, fail_on))


def _deliver(comparison: Comparison, format: str, output: OutputOptions) -> None:
    renderers = {
        "table": lambda: comparison_view(comparison, Layout(width=width())),
        "json": lambda: render_json(comparison_document(comparison)),
        "markdown": lambda: comparison_markdown(comparison),
        "csv": lambda: comparison_csv(comparison),
    }
    deliver(format, output, renderers)


def _refuse_ignored(axis: str, *, model: str | None, scheme: str | None) -> None:
    """Refuse an axis that does not exist, and an option that the axis would ignore.

    Raises:
        ConfigError: if there is one.
    """
    if axis not in AXES:
        remedy = "See gptinit compare --help."
        if axis in PRESETS or isinstance(read_model_argument(axis), Code):
            remedy = f"To compare schemes on a model: gptinit compare schemes --model {axis}."
        elif axis in scheme_names():
            remedy = f"To compare schemes: gptinit compare schemes {axis}."
        raise unknown_name("AXIS", axis, AXES, remedy=remedy)
    if axis == "models" and model is not None:
        raise ConfigError(f"--model cannot be used with models: write compare models {model}.")
    if axis in {"models", "schemes"} and scheme is not None:
        remedy = "name schemes as VALUES" if axis == "schemes" else "each has its own init"
        raise ConfigError(f"--scheme cannot be used with {axis}: {remedy}.")


def _numbers(axis: str, values: list[str], *, example: str) -> list[int]:
    """Return the integers of "6,12,24", of "6 12 24" or of a mixture.

    Raises:
        ConfigError: if there is anything else.
    """
    text = " ".join(values)
    # An empty chunk stays, as of "6,,12": int("") then refuses it.
    chunks = [part for chunk in text.split(",") for part in chunk.split() or [chunk]]
    try:
        return [int(chunk) for chunk in chunks]
    except ValueError as error:
        got = repr(text) if values else "none"
        raise ConfigError(
            f"{axis} must be integers, got {got}. Example: gptinit compare {axis} {example}."
        ) from error


def _notes(comparison: Comparison) -> list[Note]:
    """Return every note once; of engines one each, and none where they are what is compared."""
    found: dict[object, Note] = {}
    for profile in comparison.profiles:
        for note in profile.notes:
            if note.kind != "engine":
                found.setdefault(note, note)
            elif comparison.axis != "engines":
                found.setdefault(note.where, note)
    return list(found.values())


def _total(comparison: Comparison) -> Cost | None:
    """Return the seconds of all profiles together and the largest memory; None if not timed."""
    costs = [profile.cost for profile in comparison.profiles if profile.cost]
    if not costs:
        return None
    return Cost(
        seconds=sum(cost.seconds for cost in costs),
        peak_bytes=max(cost.peak_bytes for cost in costs),
    )
