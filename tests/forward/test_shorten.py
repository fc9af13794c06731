"""Which blocks of a long list are left out of a pass, and that they are back afterwards."""

import pytest
import torch
from torch import nn

from gptinit.forward.shorten import shortened


def stack(*kinds: str) -> nn.Sequential:
    """A list of blocks: of ones, of zeros, wide, or of another class."""

    def made(kind: str) -> nn.Module:
        return nn.Bilinear(1, 2, 2) if kind == "other" else nn.Linear(2, 3 if kind == "wide" else 2)

    blocks = nn.Sequential(*map(made, kinds))
    for kind, block in zip(kinds, blocks, strict=True):
        nn.init.constant_(block.get_parameter("weight"), float(kind != "zero"))
    return blocks


@pytest.mark.parametrize(
    ("kinds", "kept", "twins"),
    [
        (["one"] * 6, "012345", {}),
        (["one"] * 7, "06", dict.fromkeys("12345", ("0", "6"))),
        (
            ["one", "zero"] * 4,
            "0167",
            {"2": ("0", "6"), "3": ("1", "7"), "4": ("0", "6"), "5": ("1", "7")},
        ),
        (["wide", *["one"] * 4, "other", "one"], "0156", dict.fromkeys("234", ("1", "6"))),
    ],
)
def test_the_first_and_the_last_of_each_kind_stay(
    kinds: list[str], kept: str, twins: dict[str, tuple[str, str]]
) -> None:
    module = nn.ModuleDict({"h": stack(*kinds)})
    blocks = dict(module["h"].named_children())

    with shortened(module, lambda p: not torch.any(p)) as left_out:
        assert "".join(n for n, _ in module["h"].named_children()) == kept
        assert left_out == {
            f"h.{n}": (f"h.{first}", f"h.{last}") for n, (first, last) in twins.items()
        }

    assert list(module["h"].named_children()) == list(blocks.items())
