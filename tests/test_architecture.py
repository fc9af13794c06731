"""What no single module can promise: names, light imports, sources, examples, shipped files."""

import importlib
import os
import runpy
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

import gptinit
from gptinit.facts.bounds import DEFAULT_BOUNDS, Bound
from gptinit.facts.presets import PRESETS
from gptinit.facts.schemes import load_schemes
from gptinit.tomlfile import load_toml

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

PUBLIC_NAMES = [
    "Audit",
    "Comparison",
    "ConfigError",
    "Finding",
    "GPTConfig",
    "GptInitError",
    "MeasureError",
    "Profile",
    "RunConfig",
    "Scheme",
    "SubjectError",
    "__version__",
    "audit",
    "check",
    "compare",
    "get_scheme",
    "inspect",
]

NEEDS_TORCH = {
    "auditing",
    "forward",
    "load",
    "measure",
    "model",
    "read",
    "recognise",
    "trace",
    "weights",
}
"""The rooms that may import torch."""

LOADS_LAZILY = {"__init__", "__main__", "api", "cli"}
"""The rooms that reach torch, but only once something is to be measured."""

SHIPPED_DATA = [
    "audit_rules/rule_docs.toml",
    "facts/schemes.toml",
    "facts/text.txt",
    "py.typed",
    "report/schema/audit.schema.json",
    "report/schema/check.schema.json",
    "report/schema/compare.schema.json",
    "report/schema/profile.schema.json",
    "report/schema/schemes.schema.json",
    "theory/softmax_tables.npz",
]


def run_python(*args: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    package = str(Path(gptinit.__file__).resolve().parent.parent)  # also where it is not installed
    terminal = {"COLUMNS": "80", "NO_COLOR": "1", "PYTHONUTF8": "1"}
    # One thread: on a busy machine threads that wait for each other are many times slower.
    python = {"PYTHONPATH": package, "OMP_NUM_THREADS": "1"}
    env = {**os.environ, **terminal, **python}
    return subprocess.run(
        [sys.executable, *args],
        cwd=cwd,
        env=env,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_public_names_are_frozen() -> None:
    assert sorted(gptinit.__all__) == PUBLIC_NAMES
    assert dir(gptinit) == PUBLIC_NAMES


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(gptinit, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'gptinit' has no attribute 'sweep'"):
        gptinit.__getattr__("sweep")


def test_no_module_bears_the_name_of_a_public_function() -> None:
    modules = {p.stem for p in (ROOT / "src" / "gptinit").iterdir()}

    assert not modules & set(PUBLIC_NAMES)


@pytest.mark.parametrize("name", ["audit", "check", "compare", "inspect"])
def test_a_verb_stays_a_function_after_its_command_was_imported(name: str) -> None:
    importlib.import_module(f"gptinit.cli.{name}")

    assert getattr(gptinit, name) is getattr(importlib.import_module(f"gptinit.api.{name}"), name)


def test_help_and_schemes_load_nothing_heavy() -> None:
    heavy = {"matplotlib", "numpy", "scipy", "torch", "transformers"}
    steps = [
        "import gptinit",
        "from gptinit import *",
        "import gptinit.cli",
        "from gptinit.cli import main; assert main(['--help']) == 0",
        "assert main(['inspect', '--help']) == 0",
        "assert main(['schemes', 'nanogpt']) == 0",
    ]
    # One interpreter for all: what a step loads is in sys.modules ever after.
    told = [
        f"{step}\nprint('loaded:', {i}, *{{m.partition('.')[0] for m in sys.modules}})"
        for i, step in enumerate(steps)
    ]

    done = run_python("-c", "\n".join(["import sys", *told]))

    assert done.returncode == 0, done.stderr
    loaded = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("loaded:")]
    assert [int(number) for number, *_ in loaded] == list(range(len(steps)))
    assert [(number, heavy & set(names)) for number, *names in loaded if heavy & set(names)] == []


def test_every_room_is_known_to_need_torch_or_held_not_to() -> None:
    rooms = {p.stem for p in (ROOT / "src" / "gptinit").iterdir() if is_module(p)}
    contracts = load_toml(ROOT / "pyproject.toml")["tool"]["importlinter"]["contracts"]  # type: ignore[index] # a file of ours
    [light] = [c["source_modules"] for c in contracts if c.get("forbidden_modules") == ["torch"]]

    assert rooms - NEEDS_TORCH - LOADS_LAZILY == {m.removeprefix("gptinit.") for m in light}


def test_the_folders_of_tests_are_those_of_the_packages() -> None:
    package = ROOT / "src" / "gptinit"
    packages = {p.parent.relative_to(package) for p in package.glob("*/**/__init__.py")}
    folders = {p.parent.relative_to(ROOT / "tests") for p in ROOT.glob("tests/**/test_*.py")}

    ours = {path for path in folders if path.parts and path.parts[0] not in ("docs", "hf", "laws")}
    tested = {above for path in ours for above in (path, *path.parents)}

    assert ours <= packages <= tested


def is_module(path: Path) -> bool:
    return path.suffix == ".py" or (path / "__init__.py").is_file()


@pytest.mark.parametrize("slug", load_schemes())
def test_every_scheme_has_a_source_and_says_how_far_it_was_verified(slug: str) -> None:
    scheme = load_schemes()[slug]

    assert scheme.title
    assert scheme.notes
    assert scheme.source
    assert all(source.strip() for source in scheme.source)
    assert scheme.verified in {"yes", "partly", "claim"}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_a_source(name: str) -> None:
    assert PRESETS[name].source


@pytest.mark.parametrize("bound", DEFAULT_BOUNDS, ids=lambda bound: bound.stat)
def test_every_default_bound_has_a_reason_and_a_source(bound: Bound) -> None:
    assert bound.why.endswith(".")
    assert bound.source


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 4


def slow_but(*quick: str) -> list[Any]:
    """The examples, all but the quick ones marked slow."""
    return [
        pytest.param(p, id=p.name, marks=[pytest.mark.slow] * (p.name not in quick))
        for p in EXAMPLES
    ]


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_runs_alone(path: Path, tmp_path: Path) -> None:
    done = run_python(str(path), cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 3
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", slow_but("audit_a_model.py", "own_scheme.py"))
def test_every_example_prints_something(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, which has loaded torch already."""
    monkeypatch.chdir(tmp_path)

    runpy.run_path(str(path), run_name="__main__")

    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) > 3
    assert printed.err == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_uses_the_public_api_only(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert "\nimport gptinit\n" in text
    assert "from gptinit" not in text
    assert "gptinit._" not in text


@pytest.mark.parametrize("name", SHIPPED_DATA)
def test_data_files_ship_with_the_package(name: str) -> None:
    assert resources.files("gptinit").joinpath(name).is_file()


def test_every_data_file_of_the_package_is_known_here() -> None:
    package = ROOT / "src" / "gptinit"
    files = [p.relative_to(package) for p in package.rglob("*") if p.is_file()]

    data = [p.as_posix() for p in files if p.suffix not in {".py", ".pyc"}]

    assert sorted(data) == SHIPPED_DATA


def test_no_file_names_a_path_of_one_machine() -> None:
    folders = ("src", "tests", "docs", "examples", "benchmarks", ".ci", ".github")
    files = [p for p in ROOT.iterdir() if p.is_file() and p.name != ".git"]  # that of a worktree
    files += [p for folder in folders for p in (ROOT / folder).rglob("*") if p.is_file()]
    ours = [p for p in files if p.suffix != ".pyc"]
    machine_paths = [f"/{folder}/".encode() for folder in ("work", "root")]

    guilty = [
        p.relative_to(ROOT).as_posix()
        for p in ours
        if any(path in p.read_bytes() for path in machine_paths)
    ]

    assert guilty == []
