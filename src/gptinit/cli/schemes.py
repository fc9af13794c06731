"""`gptinit schemes`: the zoo of init schemes."""

from typing import Annotated

import typer

from gptinit.cli.options import OutputOptions, ShapeOptions, with_option_groups
from gptinit.cli.output import check_output, deliver
from gptinit.facts.presets import DEFAULT_PRESET, get_config
from gptinit.facts.schemes import distributions_at, get_scheme, load_schemes
from gptinit.report.csvdoc import schemes_csv
from gptinit.report.jsondoc import render_json, schemes_document
from gptinit.report.markdown import schemes_markdown
from gptinit.report.terminal import scheme_view, schemes_view

__all__ = ["schemes"]


@with_option_groups
def schemes(
    shape: ShapeOptions,
    output: OutputOptions,
    name: Annotated[
        str | None, typer.Argument(help="A scheme or .toml file; else all are listed.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", help="The preset of the shape.")
    ] = DEFAULT_PRESET,
) -> None:
    """List the init schemes, or show one: formulas, values at a shape, source.

    Example: gptinit schemes nanogpt --n-layer 48
    """
    check_output(output, ("table", "json", "markdown", "csv"))
    config = get_config(model, **shape.fields(model))
    chosen = [get_scheme(name)] if name else list(load_schemes().values())
    values = {scheme.slug: distributions_at(scheme, config) for scheme in chosen}
    deliver(
        output,
        {
            "table": lambda: (
                scheme_view(chosen[0], values[chosen[0].slug], config)
                if name
                else schemes_view(chosen)
            ),
            "json": lambda: render_json(schemes_document(chosen, shape=config, values=values)),
            "markdown": lambda: schemes_markdown(chosen, shape=config, values=values),
            "csv": lambda: schemes_csv(chosen, values=values),
        },
    )
