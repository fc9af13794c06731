"""What Tab completes, asked for as a shell asks."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import gptinit
from gptinit.audit_rules import RULES
from gptinit.cli import main
from gptinit.config import DATA_KINDS, DEVICES, DTYPES, ENGINES, WEIGHTS
from gptinit.facts.presets import PRESETS
from gptinit.facts.schemes import load_schemes
from gptinit.facts.vocabulary import AXES

Completed = Callable[[str], list[str]]


@pytest.fixture
def completed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Completed:
    """What bash is offered for the last word of a line."""
    monkeypatch.setenv("_GPTINIT_COMPLETE", "complete_bash")

    def offered(line: str) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
        with pytest.raises(SystemExit) as stopped:
            main([])
        out, err = capsys.readouterr()
        assert (stopped.value.code, err) == (0, "")
        return out.split()

    return offered


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("gptinit ins", ["inspect"]),
        ("gptinit c", ["compare", "check"]),
        ("gptinit --install", ["--install-completion"]),
        ("gptinit inspect --eng", ["--engine"]),
        ("gptinit compare sch", ["schemes"]),
        ("gptinit compare ", list(AXES)),
        ("gptinit compare schemes pl", ["plain"]),
        ("gptinit compare schemes plain nanog", ["nanogpt"]),
        ("gptinit compare --n-layer 3 schemes nanog", ["nanogpt"]),
        ("gptinit compare models gpt3", ["gpt3-175b"]),
        ("gptinit compare engines ", list(ENGINES[1:])),
        ("gptinit compare depths ", []),
        ("gptinit compare schemes --model gpt3", ["gpt3-175b"]),
        ("gptinit inspect ", list(PRESETS)),
        ("gptinit inspect model", []),  # the shell then offers files
        ("gptinit inspect --scheme ", list(load_schemes())),
        ("gptinit inspect --reinit pl", ["plain"]),
        ("gptinit inspect --engine ", list(ENGINES)),
        ("gptinit inspect --weights ", list(WEIGHTS)),
        ("gptinit inspect --device ", list(DEVICES)),
        ("gptinit inspect --dtype ", list(DTYPES)),
        ("gptinit inspect --data ", list(DATA_KINDS)),
        ("gptinit inspect --activation gelu", ["gelu", "gelu_tanh"]),
        ("gptinit inspect --format ", ["table", "json", "markdown", "csv"]),
        ("gptinit inspect --fail-on ", ["never", "warning", "error"]),
        ("gptinit inspect --format yaml --dtype b", ["bfloat16"]),
        ("gptinit audit nanogpt", ["nanogpt-char"]),
        ("gptinit audit --build ", ["own", "meta", "both"]),
        ("gptinit audit --scheme pl", ["plain"]),
        ("gptinit audit --explain ", list(RULES)),
        ("gptinit audit --format s", ["sarif"]),
        ("gptinit check --format j", ["json", "junit"]),
        ("gptinit schemes pl", ["plain"]),
        ("gptinit schemes --model gpt3", ["gpt3-175b"]),
    ],
)
def test_tab_offers_the_names_that_would_do(
    line: str, offered: list[str], completed: Completed
) -> None:
    assert completed(line) == offered


def test_zsh_shows_the_title_of_a_scheme(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_GPTINIT_COMPLETE", "complete_zsh")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", "gptinit compare schemes plai")

    with pytest.raises(SystemExit):
        main([])

    assert f'"plain":"{load_schemes()["plain"].title}"' in capsys.readouterr().out


def test_completion_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom gptinit.cli import main\n"
        "try:\n    main([])\nexcept SystemExit:\n    print(*sys.modules)"
    )
    environ = {
        **os.environ,
        "PYTHONPATH": str(Path(gptinit.__file__).parents[1]),
        "_GPTINIT_COMPLETE": "complete_bash",
        "COMP_WORDS": "gptinit compare schemes plai",
        "COMP_CWORD": "3",
    }

    found = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )

    offered, modules = found.stdout.splitlines()
    assert offered == "plain"
    assert not set(modules.split()) & {"matplotlib", "numpy", "scipy", "torch", "transformers"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_with_the_script_that_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_GPTINIT_COMPLETE", "source_bash")
    with pytest.raises(SystemExit):
        main([])
    script = tmp_path / "completion.sh"
    script.write_text(capsys.readouterr().out, encoding="utf-8")
    program = tmp_path / "gptinit"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gptinit "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.delenv("_GPTINIT_COMPLETE")
    monkeypatch.setenv("PYTHONPATH", str(Path(gptinit.__file__).parents[1]))

    ask = (
        f'source "{script}"; COMP_WORDS=(gptinit compare sch); COMP_CWORD=2; '
        f'_gptinit_completion "{program}"; echo "${{COMPREPLY[@]}}"'
    )
    found = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)

    assert found.stdout == "schemes\n"
