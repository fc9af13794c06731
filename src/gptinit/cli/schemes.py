"""`gptinit schemes`: the zoo of init schemes."""

from typing import Annotated

import typer

from gptinit.cli import completion
from gptinit.cli.options import (
    MODEL,
    Format,
    OutputOptions,
    ShapeOptions,
    option,
    with_option_groups,
)
from gptinit.cli.output import deliver
from gptinit.facts.apply_scheme import distributions_at
from gptinit.facts.presets import DEFAULT_PRESET, get_config
from gptinit.facts.schemes import get_scheme, load_schemes
from gptinit.report.csvdoc import schemes_csv
from gptinit.report.jsondoc import render_json, schemes_document
from gptinit.report.markdown import schemes_markdown
from gptinit.report.terminal import scheme_view, schemes_view

__all__ = ["schemes"]


@with_option_groups
def schemes(
    *,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="SCHEME",
            help="Show this scheme: a name or a .toml file. Without it, list all.",
            autocompletion=completion.schemes,
        ),
    ] = None,
    model: Annotated[
        str,
        option(
            "--model",
            "Preset to take the shape from.",
            MODEL,
            metavar="PRESET",
            autocompletion=completion.presets,
        ),
    ] = DEFAULT_PRESET,
    shape: ShapeOptions,
    format: Format = "table",
    output: OutputOptions,
) -> None:
    """List the init schemes, or show one: its formulas, their values at a shape, its source.

    Example: gptinit schemes nanogpt --n-layer 48
    """
    config = get_config(model, **shape.fields(model))
    chosen = [get_scheme(name)] if name else list(load_schemes().values())
    values = {scheme.slug: distributions_at(scheme, config) for scheme in chosen}
    shown = chosen[0]
    renderers = {
        "table": lambda: (
            scheme_view(shown, values[shown.slug], config) if name else schemes_view(chosen)
        ),
        "json": lambda: render_json(schemes_document(chosen, shape=config, values=values)),
        "markdown": lambda: schemes_markdown(chosen, shape=config, values=values),
        "csv": lambda: schemes_csv(chosen, values=values),
    }
    deliver(format, output, renderers)
