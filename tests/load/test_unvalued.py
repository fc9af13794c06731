"""An argument that nothing gives is inert, and every use of it is noted or refused."""

from pathlib import Path

import pytest

from gptinit.errors import SubjectError
from gptinit.load.argument import find_factory
from gptinit.load.factory import Factory

INIT = """
from torch import nn
class Handle:
    pass
def draw(model, fabric):
    isinstance(fabric.strategy, Handle)
    {line}
    nn.init.zeros_(model.weight)
"""


def built(folder: Path, line: str) -> Factory:
    """A model drawn by an init with such a line."""
    (folder / "train.py").write_text(INIT.format(line=line), encoding="utf-8")
    (folder / "model.py").write_text("from torch import nn\ndef make(): return nn.Linear(2, 2)\n")
    factory = find_factory(f"{folder}/model.py:make", init=f"{folder}/train.py:draw")
    assert not dict(factory.build().named_parameters())["weight"].any()
    return factory


@pytest.mark.parametrize(
    ("line", "used"),
    [
        ("if fabric.rank == 0: nn.init.ones_(model.bias)", "fabric.rank"),
        ("if not fabric.rank != 0: nn.init.ones_(model.bias)", "fabric.rank"),
        ("fabric.rank > 0", "fabric.rank"),
        ("bool(fabric.is_global_zero)", "fabric.is_global_zero"),
        ("fabric.print('drawn')", "fabric.print()"),
        ("with fabric.init_module(): pass", "fabric.init_module()"),
    ],
)
def test_a_comparison_a_truth_or_a_call_of_an_argument_without_a_value_is_noted(
    tmp_path: Path, line: str, used: str
) -> None:
    (note,) = built(tmp_path, line).notes()

    assert (note.kind, note.where) == ("approximate", "init")
    assert note.message.startswith(
        f"Nothing gives the init a value for fabric: it used {used}, where calls did nothing and "
        "comparisons were false. Write a function"
    )


def test_an_argument_that_is_merely_asked_for_its_kind_needs_no_note(tmp_path: Path) -> None:
    assert built(tmp_path, "fabric.strategy.name").notes() == ()


@pytest.mark.parametrize("line", ["model.weight * fabric", "range(fabric.world_size)"])
def test_the_value_of_an_argument_without_one_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(SubjectError, match=r"must have a value here, got the stand-in of an arg"):
        built(tmp_path, line)
