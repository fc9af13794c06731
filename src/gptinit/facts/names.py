"""Names of parameters and models as a person reads them: patterns, ranges and settings."""

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise

__all__ = ["layer_pattern", "model_label", "number_pattern", "ranges"]

_LISTS_OF_EQUALS = ("experts",)  # modules whose numbered children play one role


def number_pattern(name: str) -> str:
    """A parameter's name with `*` for every number: equal for one weight of all layers and experts.

    Example:
        >>> number_pattern("model.layers.3.mlp.experts.17.w1.weight")
        'model.layers.*.mlp.experts.*.w1.weight'
    """
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", name)


def layer_pattern(
    name: str, layer: int | None, *, block: str | None = None, experts: bool = False
) -> str:
    """A parameter's name with `*` for its layer, and for its expert with `experts`.

    Other numbers stay, so that two matrices of one nn.Sequential have two patterns.

    Args:
        name: as in the state dict.
        layer: number of its block; None outside the blocks. Where no part of the name is that
            number, as in models that run their blocks in another order, the first number is meant.
        block: path of its block, all of whose numbers are left out; None where it is not known.
        experts: whether the numbers of experts are left out too.

    Example:
        >>> layer_pattern("transformer.h.2.mlp.0.weight", 2)
        'transformer.h.*.mlp.0.weight'
        >>> layer_pattern("model.layers.3.mlp.experts.17.w1.weight", 3, experts=True)
        'model.layers.*.mlp.experts.*.w1.weight'
        >>> layer_pattern("stages.1.blocks.0.mlp.2.weight", 4, block="stages.1.blocks.0")
        'stages.*.blocks.*.mlp.2.weight'
    """
    if block is not None:
        inside = layer_pattern(name.removeprefix(block), None, experts=experts)
        return re.sub(r"(?<=\.)\d+(?=\.|$)|\d+$", "*", block) + inside
    words = name.split(".")
    numbers = [i for i, word in enumerate(words) if word.isdecimal()]
    stars = {i for i in numbers if experts and i and words[i - 1] in _LISTS_OF_EQUALS}
    if layer is not None and numbers:
        stars.add(next((i for i in numbers if words[i] == str(layer)), numbers[0]))
    return ".".join("*" if i in stars else word for i, word in enumerate(words))


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers in order, neighbours as a range.

    Example:
        >>> ranges([3, 40, 41, 42])
        '3, 40-42'
    """
    ordered = sorted(set(numbers))
    starts = ordered[:1] + [b for a, b in pairwise(ordered) if b != a + 1]
    ends = [a for a, b in pairwise(ordered) if b != a + 1] + ordered[-1:]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def model_label(name: str, settings: Mapping[str, object], separator: str = ", ") -> str:
    """A model's name with the settings that differ from its own, truth values as in TOML.

    Example:
        >>> model_label("model.py:GPT", {"n_layer": 48, "bias": False})
        'model.py:GPT, n_layer=48, bias=false'
    """
    shown = (
        f"{key}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in settings.items()
    )
    return separator.join([name, *shown])
