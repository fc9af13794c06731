"""The folders around a file, and what its imports leave behind."""

import sys
from pathlib import Path

import pytest

from gptinit.errors import SubjectError
from gptinit.load.python_file import code_factory
from gptinit.load.stand_ins import StandIns
from gptinit.load.surroundings import Surroundings


def test_a_namespace_package_without_its_parent_does_not_hide_the_users_error(
    tmp_path: Path,
) -> None:
    # Defect 5: the import of lab failed, and lab.inner, which has no __init__.py, stayed behind.
    inner = tmp_path / "lab_of_defect_5" / "inner"
    inner.mkdir(parents=True)
    (inner / "deep.py").write_text("x = 1\n", encoding="utf-8")
    text = "import lab_of_defect_5.inner.deep\nraise ValueError('the real one')\n"
    (inner.parent / "__init__.py").write_text(text, encoding="utf-8")
    file = tmp_path / "model.py"
    file.write_text("def build():\n    import lab_of_defect_5\n", encoding="utf-8")

    with pytest.raises(SubjectError) as caught:
        code_factory(file, "build", {}).build()

    assert str(caught.value) == (
        "model.py:build must build without an error, got ValueError: the real one (__init__.py:2)."
    )
    assert not any(name.startswith("lab_of_defect_5") for name in sys.modules)


def test_a_package_with_a_file_of_its_own_name_is_found_as_a_package(tmp_path: Path) -> None:
    package = tmp_path / "clippy"
    package.mkdir()
    (package / "__init__.py").write_text("from .clippy import *\n", encoding="utf-8")
    (package / "clippy.py").write_text("from .model import make\n", encoding="utf-8")
    text = "from torch import nn\ndef make():\n    return nn.Linear(2, 3)\n"
    (package / "model.py").write_text(text, encoding="utf-8")

    assert code_factory(package / "model.py", "make", {}).build().out_features == 3


def test_a_file_that_its_own_package_imports_runs_once(tmp_path: Path) -> None:
    package = tmp_path / "lab_that_runs_once"
    package.mkdir()
    (package / "__init__.py").write_text("from .model import make\n", encoding="utf-8")
    text = "from torch import nn\nwith open(__file__ + '.runs', 'a') as f:\n    f.write('x')\n"
    text += "def make():\n    from . import make as same\n    assert same is make\n"
    text += "    return nn.Linear(2, 3)\n"
    (package / "model.py").write_text(text, encoding="utf-8")

    code_factory(package / "model.py", "make", {}).build()

    assert (package / "model.py.runs").read_text() == "x"


def test_files_of_one_name_are_modules_of_their_own(tmp_path: Path) -> None:
    for folder, width in (("a", 3), ("b", 4)):
        (tmp_path / folder).mkdir()
        text = f"from torch import nn\ndef make():\n    return nn.Linear(2, {width})\n"
        (tmp_path / folder / "model.py").write_text(text, encoding="utf-8")

    first, second, again = (
        code_factory(tmp_path / folder / "model.py", "make", {}) for folder in "aba"
    )

    assert [f.build().out_features for f in (first, second, again)] == [3, 4, 3]


@pytest.mark.parametrize("root", ["", "src/"])
def test_a_file_is_run_from_the_folder_around_it_that_holds_what_it_imports(
    tmp_path: Path, root: str
) -> None:
    # As a repository is run from its root: `python -m apps.small.model`.
    lab = tmp_path / root / "a_lab_at_the_root"
    app = tmp_path / "apps" / "small"
    for folder in (lab, app):
        folder.mkdir(parents=True)
    (lab / "parts.py").write_text("from torch.nn import Linear\n", encoding="utf-8")
    (app / "model.py").write_text(
        "from a_lab_at_the_root.parts import Linear\ndef make(): return Linear(2, 3)\n"
    )

    factory = code_factory(app / "model.py", "make", {})

    assert dict(factory.build().named_parameters())["weight"].shape == (3, 2)
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(("is_package", "first"), [(False, 0), (True, 1)])
def test_absolute_imports_begin_beside_the_file_or_at_the_root_of_its_package(
    is_package: bool, first: int, tmp_path: Path
) -> None:
    file = tmp_path / "lab" / "model.py"
    file.parent.mkdir()
    file.write_text("from .parts import x\n", encoding="utf-8")
    if is_package:
        (file.parent / "__init__.py").touch()

    found = Surroundings.of(file, StandIns())

    around = [str(file.parent), str(tmp_path)]
    assert found.paths == (around[first], around[1 - first])
    assert found.package == (file.parent,)
    assert found.cpu is None


def test_a_file_alone_has_its_own_folder(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_text("device = 'cuda'\n", encoding="utf-8")

    found = Surroundings.of(file, StandIns())

    assert (found.paths, found.package) == ((str(tmp_path),), ())
    assert found.cpu is not None
