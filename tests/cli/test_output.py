"""Where output goes: notes to stderr, files whole, and which findings fail."""

import io
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.padding import Padding
from rich.text import Text

from gptinit.cli import main, output
from gptinit.cli.options import OutputOptions
from gptinit.cli.output import deliver, exit_code, progress_on_stderr, say, show_notes, write_whole
from gptinit.errors import ConfigError
from gptinit.facts.vocabulary import Severity
from gptinit.results.profile import Cost, Finding, Note

LOUD, QUIET = OutputOptions(), OutputOptions(quiet=True)
NOTES = (Note(kind="engine", where="model", message="Drawn anew."),)


class Terminal(io.StringIO):
    """A stderr that somebody looks at."""

    def isatty(self) -> bool:
        """It is one."""
        return True


@pytest.mark.parametrize(
    ("severities", "fail_on", "code"),
    [
        ((), "warning", 0),
        (("note",), "warning", 0),
        (("note", "warning"), "warning", 1),
        (("error",), "warning", 1),
        (("warning",), "error", 0),
        (("note", "error"), "error", 1),
        (("error",), "never", 0),
    ],
)
def test_the_exit_code_is_one_where_a_finding_is_severe_enough(
    severities: tuple[Severity, ...], fail_on: str, code: int
) -> None:
    found = [Finding(rule="x", severity=s, where="*", fact="Odd.") for s in severities]

    assert exit_code(found, fail_on) == code


@pytest.mark.parametrize(
    ("format", "options", "cost", "told"),
    [
        ("table", LOUD, None, "engine model: Drawn anew.\n"),
        (
            "table",
            LOUD,
            Cost(seconds=1.25, peak_bytes=2_500_000_000),
            "engine model: Drawn anew.\ntook 1.2 s, peak memory 2.50 GB\n",
        ),
        (
            "table",
            LOUD,
            Cost(seconds=1.25, peak_bytes=0),
            "engine model: Drawn anew.\ntook 1.2 s\n",
        ),
        ("table", QUIET, Cost(seconds=1.25, peak_bytes=0), ""),
        ("json", LOUD, Cost(seconds=1.25, peak_bytes=0), ""),
    ],
)
def test_notes_and_cost_of_a_table_are_on_stderr(
    format: str,
    options: OutputOptions,
    cost: Cost | None,
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_notes(format, options, NOTES, cost)

    assert capsys.readouterr() == ("", told)


def test_one_line_is_said_unless_all_is_to_be_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    say("wait", QUIET)
    say("done", LOUD)

    assert capsys.readouterr() == ("", "gptinit: done\n")


def test_a_result_goes_to_stdout_or_to_its_file_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    renderers = {"json": lambda: "{}\n", "table": lambda: "[bold]"}
    file = tmp_path / "out"

    deliver("json", LOUD, renderers)
    deliver("json", OutputOptions(output=str(file)), renderers)

    assert capsys.readouterr() == ("{}\n", "")
    assert file.read_text() == "{}\n"


def test_no_line_of_a_result_ends_in_blanks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    padded = Padding(Text("one\nlonger"), (0, 0, 0, 2))
    file = tmp_path / "out"

    deliver("table", LOUD, {"table": lambda: padded})
    deliver("table", OutputOptions(output=str(file)), {"table": lambda: padded})

    assert capsys.readouterr().out == file.read_text() == "  one\n  longer\n"


def test_a_file_is_replaced_whole_with_the_usual_mode_and_through_a_link(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("before, and longer")
    link.symlink_to(file)
    mask = os.umask(0o027)
    try:
        write_whole(link, "after\n")
    finally:
        assert os.umask(mask) == 0o027  # it is only looked at

    assert file.read_bytes() == b"after\n"
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "link"]


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    got: list[str] = []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()), daemon=True)
    reader.start()

    write_whole(pipe, "text")
    reader.join(5)

    assert got == ["text"]
    assert pipe.is_fifo()


def test_a_file_in_no_folder_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none/file cannot be written: No such file"):
        write_whole(tmp_path / "none" / "file", "text")


def test_no_progress_is_shown_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_on_stderr(LOUD) as show:
        show("model", 1, 2)
        show("model", 2, 2)

    assert capsys.readouterr() == ("", "")


def test_a_note_is_one_line_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    long = "[bold]h.0[/bold] " + "word " * 40 + "."

    show_notes("table", LOUD, [Note(kind="engine", where="model", message=long)], None)

    assert capsys.readouterr() == ("", f"engine model: {long}\n")


def shown(
    monkeypatch: pytest.MonkeyPatch,
    steps: list[tuple[float, str, int, int]],
    options: OutputOptions,
) -> str:
    """What a terminal gets of some progress: (seconds since the start, label, done, total)."""
    terminal, clock = Terminal(), [0.0]
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(output, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    with progress_on_stderr(options) as show:
        for seconds, label, done, total in steps:
            clock[0] = seconds
            show(label, done, total)
    return terminal.getvalue()


def test_a_bar_is_shown_on_a_terminal_after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [(0.5, "gpt2", 1, 9), (1.0, "gpt2", 2, 9)]

    assert shown(monkeypatch, steps, LOUD) == ""
    assert shown(monkeypatch, [*steps, (1.1, "gpt2", 3, 9)], QUIET) == ""
    for more in ([], [(1.2, "gpt2", 9, 9)]):
        text = shown(monkeypatch, [*steps, (1.1, "gpt2", 3, 9), *more], LOUD)
        assert "gpt2" in text
        assert ("9 of 9 layers" if more else "3 of 9 layers") in text


def test_of_several_bars_those_that_are_full_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, [(0.5, "a", 1, 3), (0.6, "b", 1, 1), (2.0, "a", 2, 3)], LOUD)

    assert "2 of 3 layers" in text
    assert "1 of 1 layers" not in text


@pytest.mark.parametrize("stubs", [(), ("lab", "ops")])
def test_a_baseline_is_made_with_the_stand_ins_of_the_command_line(
    stubs: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(config: str, **options: object) -> tuple[Path, str]:
        assert (config, options["seed"], tuple(options["stubs"])) == ("x.toml", 3, stubs)  # type: ignore[arg-type] # names
        return tmp_path / "baseline.json", "{}"

    monkeypatch.setattr("gptinit.cli.check.make_baseline", made)
    more = [part for name in stubs for part in ("--stub", name)]

    assert main(["check", "--config", "x.toml", "--update-baseline", "--seed", "3", *more]) == 0
    assert (tmp_path / "baseline.json").read_text() == "{}"


@pytest.mark.parametrize("site", ["blocks", "=h", "blocks="])
def test_a_pair_has_a_key_and_a_value(site: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "x.py:f", "--site", site]) == 2
    assert f"--site must be WHAT=PATH, got {site!r}." in capsys.readouterr().err
