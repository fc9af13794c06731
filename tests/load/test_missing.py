"""Modules that a file needs and this machine lacks: all are named at once."""

from pathlib import Path

import pytest

from gptinit.errors import SubjectError
from gptinit.load.loaded import load_file
from gptinit.load.missing import MissingModulesError, folders_with
from gptinit.load.stand_ins import StandIns

FILES = {
    "lab/__init__.py": "from .gone import x\nimport nowhere_a\n",
    "lab/model.py": "import torch, nowhere_b.part\nfrom .parts import y\nfrom lab import sizes\n",
    "lab/parts.py": "from .also_gone import z\nif True:\n    import nowhere_c\ny = z\n",
    "lab/sizes.py": "import lab.parts.deeper, plain\nfrom plain import inner\n",
    "plain/inner.py": "import nowhere_d\n",  # in a folder without __init__.py
}


def written(text: str, folder: Path) -> Path:
    file = folder / "model.py"
    file.write_text(text, encoding="utf-8")
    return file


def missing_modules(file: Path) -> list[str]:
    try:
        load_file(file, StandIns())
    except MissingModulesError as error:
        return list(error.names)
    return []


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_missing_modules_of_a_file_its_package_and_what_they_import_are_named(lab: Path) -> None:
    found = missing_modules(lab / "lab" / "model.py")

    assert set(found) == {
        "lab.gone", "nowhere_a", "nowhere_b", "lab.also_gone", "nowhere_c", "nowhere_d",
        "lab.parts.deeper",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "def late():\n    import nowhere\n",
        "try:\n    import nowhere\nexcept ImportError:\n    nowhere = None\n",
        "try:\n    import nowhere\nexcept Exception as error:\n    pass\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import nowhere\n",
        "if __name__ == '__main__':\n    import nowhere\n",
    ],
)
def test_imports_that_need_not_succeed_are_not_counted(tmp_path: Path, text: str) -> None:
    assert missing_modules(written(text, tmp_path)) == []


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    import nowhere\nexcept ValueError:\n    pass\n",
        "try:\n    import nowhere\nfinally:\n    pass\n",
        "try:\n    pass\nexcept ImportError:\n    pass\nfinally:\n    import nowhere\n",
        "with open(__file__):\n    import nowhere\n",
        "class C:\n    import nowhere\n",
        "for i in range(2):\n    import nowhere.inner as n\n",
        "TYPE_CHECKING = 0\nif TYPE_CHECKING:\n    pass\nelse:\n    from nowhere import x\n",
        "import typing\nif typing.TYPE_CHECKING:\n    import ignored\nimport nowhere\n",
        "DEBUG = True\nif DEBUG:\n    import nowhere\n",
        "TYPE_CHECKING = 0\nif not TYPE_CHECKING:\n    import nowhere\n",
        "if __name__ != '__main__':\n    import nowhere\n",
        "def f():\n    import ignored\nimport nowhere, torch, json\n",
        "try:\n    import ignored\nexcept (KeyError, ImportError):\n    pass\nimport nowhere\n",
        "try:\n    import ignored\nexcept:\n    pass\nimport nowhere\n",
    ],
)
def test_imports_that_must_succeed_are_counted(tmp_path: Path, text: str) -> None:
    assert missing_modules(written(text, tmp_path)) == ["nowhere"]


@pytest.mark.parametrize("line", ["from os import not_there", "from beside import not_there"])
def test_a_name_that_python_or_a_file_beside_lacks_is_the_user_s_error(
    tmp_path: Path, line: str
) -> None:
    (tmp_path / "beside.py").write_text("here = 1\n", encoding="utf-8")
    file = written(f"import nowhere\n{line}\n", tmp_path)

    with pytest.raises(SubjectError, match=r"ImportError: cannot import name 'not_there'"):
        load_file(file, StandIns.of(["nowhere"]))


def test_a_neighbour_inside_a_package_is_not_what_an_absolute_import_means(lab: Path) -> None:
    (lab / "lab" / "deep").mkdir()
    (lab / "lab" / "deep" / "__init__.py").touch()
    (lab / "sets").mkdir()
    (lab / "sets" / "text.py").touch()
    file = lab / "lab" / "deep" / "model.py"
    file.write_text("import sets.text\n")

    assert folders_with(["parts", "sets.text", "nowhere"], file) == [str(lab)]
    file.write_text("import sets.text\nfrom sets.gone import x\n")
    assert folders_with(["sets"], file) == []


def test_a_folder_that_one_import_shows_is_where_the_others_are_looked_up(lab: Path) -> None:
    (lab / "lab" / "__init__.py").write_text("")
    (lab / "scripts").mkdir()
    (lab / "scripts" / "common.py").write_text("z = 1\n")
    file = lab / "scripts" / "train.py"
    file.write_text("import nowhere_w\nimport lab.gone\nfrom scripts.common import z\n")

    assert missing_modules(file) == ["nowhere_w", "lab.gone"]
