"""The user's way to call a model is a function, or where one is."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gptinit.errors import ConfigError, GptInitError, SubjectError
from gptinit.load.argument import find_factory
from gptinit.load.forward_function import forward_function


def written(folder: Path, text: str) -> str:
    """The path of a file with some code."""
    path = folder / "how.py"
    path.write_text(text)
    return str(path)


def at_hand(model: Any, ids: Any) -> Any:
    """A function of the caller's."""
    return model(ids)


def test_a_function_of_a_file_finds_its_neighbours_and_leaves_the_imports_alone(
    tmp_path: Path,
) -> None:
    (tmp_path / "beside_how.py").write_text("STATE = 3\n")
    path = written(
        tmp_path, "from beside_how import STATE\ndef run(model, ids): return ids + STATE\n"
    )

    assert forward_function(f"{path}:run")(None, 4) == 7  # type: ignore[arg-type] # adds
    with pytest.raises(ImportError):
        __import__("how")


def test_a_function_of_a_module_or_at_hand_is_taken_as_it_is() -> None:
    assert forward_function("operator:add")(1, 2) == 3  # type: ignore[arg-type] # adds
    assert forward_function(at_hand) is at_hand


@pytest.mark.parametrize(
    ("named", "error", "message"),
    [
        ("how.py", ConfigError, r"^forward must be path\.py:FUNC or package\.module:FUNC, got "),
        ("none.py:run", ConfigError, r"^forward must be a file that exists, got 'none\.py'"),
        ("HERE:stop", ConfigError, r"^forward must name a function of .*how\.py, got 'stop'\."),
        ("HERE:number", ConfigError, r"^forward must name a function of .*, got 'number'\."),
        ("no.such:run", ConfigError, r"^forward must be a module that can be imported, got 'no\."),
        (7, ConfigError, r"^forward must be a function .* got an object of type int\.$"),
    ],
)
def test_what_is_no_function_is_named(
    tmp_path: Path, named: Any, error: type[GptInitError], message: str
) -> None:
    here = written(tmp_path, "number = 3\n")
    named = named.replace("HERE", here) if isinstance(named, str) else named

    with pytest.raises(error, match=message):
        forward_function(named)


def test_a_file_with_a_way_to_call_sees_the_classes_and_the_stand_ins_of_the_model(
    tmp_path: Path,
) -> None:
    (tmp_path / "model.py").write_text(
        "import nowhere\nfrom torch import nn\nclass Model(nn.Linear):\n    pass\n"
    )
    path = written(
        tmp_path,
        "import nowhere\nfrom model import Model\n"
        "def run(model, ids): return isinstance(model, Model)\n",
    )

    factory = find_factory(
        f"{tmp_path}/model.py:Model",
        {"in_features": 2, "out_features": 2},
        forward=f"{path}:run",
        stubs=["nowhere"],
    )

    assert factory.forward is not None
    assert factory.forward(factory.build(), torch.ones(1))


def test_a_file_beside_the_model_that_lacks_a_module_says_so(tmp_path: Path) -> None:
    # The half of it that had run was found again at the second look, without its functions.
    (tmp_path / "model.py").write_text("from torch import nn\ndef make(): return nn.Linear(2, 2)\n")
    path = written(tmp_path, "import nowhere\ndef run(model, ids): return model(ids)\n")

    with pytest.raises(SubjectError, match=r"^how\.py must import .* add --stub nowhere for"):
        find_factory(f"{tmp_path}/model.py:make", forward=f"{path}:run")


def test_a_file_that_is_no_python_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "how.txt"
    file.write_text("def run(model, ids): ...\n")

    with pytest.raises(ConfigError, match=r"^forward must be a Python file ending in \.py, got '"):
        forward_function(f"{file}:run")
