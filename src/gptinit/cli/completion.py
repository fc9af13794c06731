"""What Tab completes in a shell: names that the program knows, found without torch."""

from collections.abc import Callable, Iterable

import typer

from gptinit.config import ENGINES
from gptinit.facts.presets import PRESETS
from gptinit.facts.schemes import load_schemes

__all__ = ["compared_values", "known", "presets", "schemes"]

Completions = list[str] | list[tuple[str, str]]
"""Names, or names with the line that zsh and fish show with them."""


def known(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a completion of a fixed list of names."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


def presets(incomplete: str) -> list[str]:
    """Return the presets that begin so; where there are none, the shell offers files."""
    return known(PRESETS)(incomplete)


def schemes(incomplete: str) -> list[tuple[str, str]]:
    """Return the built-in schemes that begin so, with their titles."""
    found = load_schemes().items()
    return [(slug, scheme.title) for slug, scheme in found if slug.startswith(incomplete)]


def compared_values(ctx: typer.Context, incomplete: str) -> Completions:
    """Return what the axis of `compare` can take: nothing where it takes numbers."""
    axis = ctx.params.get("axis")
    if axis == "schemes":
        return schemes(incomplete)
    by_axis = {"models": presets, "engines": known(ENGINES[1:])}
    return by_axis[axis](incomplete) if axis in by_axis else []
