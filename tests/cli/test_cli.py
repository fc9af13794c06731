"""Every command, format and exit code, in process: what a shell would see."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from support.report_profiles import small_report
from support.schemas import validate

import gptinit
from gptinit.cli import main
from gptinit.config import RunConfig
from gptinit.errors import ConfigError
from gptinit.facts.bounds import DEFAULT_BOUNDS
from gptinit.gate.check_config import load_check

Capture = pytest.CaptureFixture[str]

SHAPE = ("--n-layer", "2", "--n-embd", "64")
RUN = ("--seq-len", "16", "--seeds", "1", "--device", "cpu")
INSPECT = ("inspect", "nanogpt-char", *SHAPE, *RUN)
SCHEMES = ("compare", "schemes", "plain", "nanogpt", "--model", "nanogpt-char", *SHAPE, *RUN)
DEPTHS = ("compare", "depths", "1,2", "--model", "nanogpt-char", "--n-embd", "64", *RUN)
WIDTHS = ("compare", "widths", "64,128", "--model", "nanogpt-char", "--n-layer", "2", *RUN)

# Over 6 layers, 128 wide, on 16 positions the stream grows 3.3 times under nanogpt and 33 times
# under plain, with a standard error of the log of 0.024 and 0.039 at 6 seeds. Student's quantile at
# 1e-4 and 5 degrees of freedom is 9.7, so verdicts are certain from a distance of 0.38 on; ln 3 is
# 1.1.
CONFIG = """
[run]
seq_len = 16
device = "cpu"
[[models]]
model = "nanogpt-char"
name = "small"
scheme = "{scheme}"
n_layer = 6
n_embd = 128
[[bounds]]
stat = "resid_growth"
where = "whole"
max = 10
why = "It drowns."
"""


def run(*args: str) -> int:
    return main(args)


def output_of(capsys: Capture, *args: str) -> str:
    """What a successful command prints as its result."""
    capsys.readouterr()
    assert run(*args) == 0
    return capsys.readouterr().out


def check_folder(folder: Path, scheme: str = "nanogpt") -> Path:
    """A folder with a configuration."""
    (folder / "gptinit.toml").write_text(CONFIG.format(scheme=scheme), encoding="utf-8")
    return folder


@pytest.fixture
def healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a check that passes."""
    monkeypatch.chdir(tmp_path)
    return check_folder(tmp_path)


@pytest.fixture
def sick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a check that fails."""
    monkeypatch.chdir(tmp_path)
    return check_folder(tmp_path, "plain")


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        (INSPECT, ["nanogpt-char, n_layer=2, n_embd=64 · scheme nanogpt", "Stream: variance"]),
        ((*INSPECT, "--grad"), ["Gradients: ", "grad"]),
        ((*INSPECT, "--scheme", "gpt2"), ["scheme nanogpt"]),
        (SCHEMES, ["#  scheme", "1  nanogpt", "2  plain", "Ranked by"]),
        ((*SCHEMES, "--no-grad"), ["nanogpt", "plain"]),
        (DEPTHS, ["depth", "\n1 ", "\n2 "]),
        (WIDTHS, ["width", "\n64 ", "\n128 "]),
        (("schemes",), ["plain ", "gpt2-code", "(gpt2)"]),
        (("schemes", "gpt2", "--n-layer", "2"), ["nanogpt, also gpt2", "N(0, 0.01)", "Radford"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_command_prints_its_table_on_stdout(
    args: tuple[str, ...], shown: list[str], capsys: Capture
) -> None:
    code = run(*args)

    out, err = capsys.readouterr()
    assert code == 0
    for text in shown:
        assert text in out
    assert "engine" not in out
    assert "engine" in err or args[0] == "schemes"


@pytest.mark.parametrize("values", [("1", "2"), ("1,", "2"), ("1,2",)], ids=" ".join)
def test_numbers_may_be_separated_by_commas_or_blanks(
    values: tuple[str, ...], capsys: Capture
) -> None:
    _, _, _, *rest = DEPTHS

    shown = output_of(capsys, "compare", "depths", *values, *rest, "--engine", "theory")

    assert shown == output_of(capsys, *DEPTHS, "--engine", "theory")


def test_options_may_stand_before_the_axis(capsys: Capture) -> None:
    axis, names, rest = SCHEMES[1], SCHEMES[2:4], SCHEMES[4:]

    first = output_of(capsys, "compare", *rest, "--engine", "theory", axis, *names)

    assert first == output_of(capsys, *SCHEMES, "--engine", "theory")


def test_no_grad_is_the_default_of_inspect(capsys: Capture) -> None:
    theory = (*INSPECT, "--engine", "theory")

    assert output_of(capsys, *theory, "--no-grad") == output_of(capsys, *theory)
    assert output_of(capsys, *theory, "--grad") != output_of(capsys, *theory)


@pytest.mark.parametrize("args", [(), ("compare",), ("compare", "--no-grad")], ids=" ".join)
def test_without_a_command_or_an_axis_the_help_is_shown(
    args: tuple[str, ...], capsys: Capture
) -> None:
    shown = output_of(capsys, *args[:1], "--help")

    assert run(*args) == 2

    assert capsys.readouterr() == (shown, "")


@pytest.mark.parametrize("args", [INSPECT, SCHEMES, DEPTHS, WIDTHS], ids=" ".join)
def test_the_engine_is_told_in_one_line_on_stderr(args: tuple[str, ...], capsys: Capture) -> None:
    run(*args)

    err = capsys.readouterr().err
    assert re.fullmatch(r"engine (dense|stream): [^\n]*\.\n", err)


@pytest.mark.parametrize(
    "args",
    [INSPECT, SCHEMES, DEPTHS, WIDTHS, ("schemes",), ("schemes", "plain")],
    ids=" ".join,
)
@pytest.mark.parametrize("format", ["json", "markdown", "csv"])
def test_results_alone_are_on_stdout_and_nothing_is_on_stderr(
    args: tuple[str, ...], format: str, capsys: Capture
) -> None:
    code = run(*args, "--format", format)

    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    assert out.endswith("\n")
    assert not out.endswith("\n\n")
    assert out[0] in {"json": "{", "markdown": "#", "csv": "plsca"}[format]
    if format == "csv":
        header, *rows = csv.reader(io.StringIO(out))
        assert rows
        assert {len(row) for row in rows} == {len(header)}


@pytest.mark.parametrize(
    ("schema", "args"),
    [
        ("profile", INSPECT),
        ("profile", (*INSPECT, "--grad", "--timing")),
        ("profile", (*INSPECT, "--seeds", "2", "--engine", "stream", "--dtype", "bfloat16")),
        ("profile", (*INSPECT, "--seq-len", "1", "--grad")),
        ("compare", SCHEMES),
        ("compare", DEPTHS),
        ("compare", (*WIDTHS, "--no-grad", "--timing")),
        ("schemes", ("schemes",)),
        ("schemes", ("schemes", "plain", "--n-layer", "48")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_json_is_what_its_schema_says(schema: str, args: tuple[str, ...], capsys: Capture) -> None:
    validate(schema, json.loads(output_of(capsys, *args, "--format", "json")))


def test_json_of_a_check_is_what_its_schema_says(sick: Path, capsys: Capture) -> None:
    code = run("check", "--format", "json")

    out, err = capsys.readouterr()
    document = json.loads(out)
    validate("check", document)
    assert (code, err) == (1, "")
    assert [r["verdict"] for r in document["results"]] == ["violated"]
    assert [f["severity"] for f in document["findings"]] == ["error"]


def test_json_carries_the_canonical_slug_of_an_alias(capsys: Capture) -> None:
    inspected = json.loads(output_of(capsys, *INSPECT, "--scheme", "gpt2", "--format", "json"))
    listed = json.loads(output_of(capsys, "schemes", "gpt2", "--format", "json"))

    assert inspected["scheme"] == "nanogpt"
    assert [s["name"] for s in listed["schemes"]] == ["nanogpt"]


def test_json_and_csv_tell_the_numbers_that_the_library_has(capsys: Capture) -> None:
    profile = gptinit.inspect(
        "nanogpt-char", n_layer=2, n_embd=64, run=RunConfig(seq_len=16, seeds=1, device="cpu")
    )

    document = json.loads(output_of(capsys, *INSPECT, "--format", "json"))
    rows = list(csv.DictReader(io.StringIO(output_of(capsys, *INSPECT, "--format", "csv"))))
    for place, values in (("final", document["final"]), ("whole", document["whole"])):
        measured = dict(profile.places())[place]
        expected = dict(measured.values)
        assert values.pop("predicted") == measured.predicted
        assert values == expected
        found = {r["stat"]: float(r["value"]) for r in rows if r["place"] == place}
        assert found == expected


@pytest.mark.parametrize(
    "args",
    [(*INSPECT, "--grad"), SCHEMES, ("schemes", "plain"), (*INSPECT, "--data", "uniform")],
    ids=["inspect", "compare", "schemes", "uniform"],
)
@pytest.mark.parametrize("format", ["table", "json", "markdown", "csv"])
def test_equal_runs_give_equal_bytes(args: tuple[str, ...], format: str, capsys: Capture) -> None:
    first, second = (output_of(capsys, *args, "--format", format) for _ in range(2))

    assert first == second


def test_another_seed_gives_other_numbers(capsys: Capture) -> None:
    first, second = (output_of(capsys, *INSPECT, "--seed", seed) for seed in ("0", "1"))

    assert first != second


@pytest.mark.parametrize("format", ["table", "json", "markdown", "csv"])
def test_o_writes_the_whole_result_and_nothing_on_stdout(
    format: str, tmp_path: Path, capsys: Capture
) -> None:
    shown = output_of(capsys, *INSPECT, "--format", format)
    file = tmp_path / "result"
    file.write_text("what was there before" * 1000, encoding="utf-8")

    assert output_of(capsys, *INSPECT, "--format", format, "-o", str(file)) == ""

    assert file.read_text(encoding="utf-8") == shown
    assert [p.name for p in tmp_path.iterdir()] == ["result"]


def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "other").touch()

    output_of(capsys, *INSPECT, "-o", str(tmp_path / "result"))

    modes = {p.name: p.stat().st_mode for p in tmp_path.iterdir()}
    assert modes["result"] == modes["other"]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes")
def test_o_never_replaces_what_is_no_file(tmp_path: Path, capsys: Capture) -> None:
    # `-o /dev/null` as root must not turn /dev/null into a file; a pipe stands for it here, with a
    # reader so that whoever writes to it does not wait for one.
    pipe, shown = tmp_path / "pipe", output_of(capsys, "schemes")
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    try:
        assert run("schemes", "-o", str(pipe)) == 0
        assert pipe.is_fifo()
        assert os.read(reader, 1 << 16).decode() == shown
    finally:
        os.close(reader)
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


def test_o_through_a_link_writes_the_file_behind_it(tmp_path: Path, capsys: Capture) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.touch()
    link.symlink_to(real)

    assert run("schemes", "-o", str(link)) == 0

    assert link.is_symlink()
    assert real.read_text(encoding="utf-8").startswith("scheme")


def test_a_file_has_no_colour_even_where_colour_is_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    # Many CI systems set FORCE_COLOR; a terminal's codes have no place in a file.
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR")

    output_of(capsys, *INSPECT, "-o", str(tmp_path / "result"))

    assert "\x1b" not in (tmp_path / "result").read_text(encoding="utf-8")


def test_colour_is_there_for_a_terminal_and_gone_with_no_color(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    without = output_of(capsys, *INSPECT)
    monkeypatch.delenv("NO_COLOR")
    coloured = output_of(capsys, *INSPECT)

    assert "\x1b[32m" in coloured  # green: all default bounds hold
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", without)


def test_quiet_leaves_stderr_empty_and_stdout_as_it_was(capsys: Capture) -> None:
    loud = output_of(capsys, *INSPECT)

    assert run(*INSPECT, "--quiet") == 0

    out, err = capsys.readouterr()
    assert (out, err) == (loud, "")


def test_timing_adds_cost_and_nothing_else(capsys: Capture) -> None:
    plain = json.loads(output_of(capsys, *INSPECT, "--format", "json"))
    timed = json.loads(output_of(capsys, *INSPECT, "--format", "json", "--timing"))

    cost = timed.pop("cost")
    assert timed == plain
    assert list(cost) == ["seconds", "peak_bytes"]
    assert cost["seconds"] > 0


def test_timing_of_a_table_is_a_note_on_stderr(capsys: Capture) -> None:
    plain = output_of(capsys, *INSPECT)

    run(*INSPECT, "--timing")

    out, err = capsys.readouterr()
    assert out == plain
    assert re.search(r"^took \d+\.\d s(, peak memory \d+\.\d\d GB)?$", err, re.MULTILINE)


# Scores have std std_q std_k n_embd = 64 here, over the default bound of 2: a warning.
LOUD = """
[loud.roles]
tok_emb = {dist = "normal", std = "0.02"}
pos_emb = {dist = "normal", std = "0.02"}
q = {dist = "normal", std = "1"}
k = {dist = "normal", std = "1"}
v = {dist = "normal", std = "0.02"}
attn_out = {dist = "normal", std = "0.02"}
mlp_up = {dist = "normal", std = "0.02"}
mlp_down = {dist = "normal", std = "STD"}
lm_head = {dist = "normal", std = "0.02"}
norm_weight = {dist = "const", value = "1"}
norm_bias = {dist = "const", value = "0"}
linear_bias = {dist = "const", value = "0"}
"""


def loud_scheme(folder: Path, std: str = "0.02") -> str:
    """A scheme file that misses a default bound; with a large std, one whose stream overflows."""
    path = folder / "loud.toml"
    path.write_text(LOUD.replace("STD", std), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("std", "fail_on", "code"),
    [
        ("0.02", (), 0),
        ("0.02", ("--fail-on", "never"), 0),
        ("0.02", ("--fail-on", "error"), 0),
        ("0.02", ("--fail-on", "warning"), 1),
        ("1e30", ("--fail-on", "warning"), 1),
        ("1e30", ("--fail-on", "error"), 1),
        ("1e30", (), 0),
    ],
)
def test_fail_on_decides_the_exit_code(
    std: str, fail_on: tuple[str, ...], code: int, tmp_path: Path, capsys: Capture
) -> None:
    args = (*INSPECT, "--scheme", loud_scheme(tmp_path, std), "--dtype", "bfloat16", *fail_on)

    assert run(*args) == code

    out = capsys.readouterr().out
    assert ("error: " in out) == (std == "1e30")
    assert ("warning: " in out) == (std == "0.02")


def test_fail_on_holds_for_every_profile_of_a_comparison(tmp_path: Path, capsys: Capture) -> None:
    args = ("compare", "schemes", "plain", loud_scheme(tmp_path), "--model", "nanogpt-char")

    codes = [run(*args, *SHAPE, *RUN, *more) for more in ((), ("--fail-on", "warning"))]

    assert codes == [0, 1]


def test_no_finding_is_no_failure_at_any_level(capsys: Capture) -> None:
    assert run(*INSPECT, "--fail-on", "warning") == 0


def layers_of(table: str) -> list[int]:
    return [int(m) for m in re.findall(r"^ *(\d+)  +\S+ ", table, re.MULTILINE)]


def test_a_long_model_is_folded_unless_all_layers_are_asked_for(capsys: Capture) -> None:
    long = ("inspect", "nanogpt-char", "--n-layer", "20", "--n-embd", "64", *RUN)
    folded, whole = output_of(capsys, *long), output_of(capsys, *long, "--all-layers")

    shown = layers_of(folded)
    assert (shown[0], shown[-1], len(shown)) == (0, 19, 13)
    assert "13 of 20 layers; --all-layers shows the rest." in folded
    assert layers_of(whole) == list(range(20))
    assert "--all-layers" not in whole


def test_set_does_what_the_option_of_that_name_does(capsys: Capture) -> None:
    by_option = output_of(
        capsys, "inspect", "nanogpt-char", *SHAPE, *RUN, "--activation", "relu", "--bias"
    )
    by_set = output_of(
        capsys,
        *("inspect", "nanogpt-char", *RUN, "--set", "n_layer=2", "--set", "n_embd=64"),
        *("--set", "activation=relu", "--set", "bias=True"),
    )

    assert by_set == by_option
    assert "relu, biases" in by_set


def test_plot_draws_a_file_beside_the_table(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "profile.svg"

    assert output_of(capsys, *INSPECT, "--plot", str(file)).startswith("nanogpt-char")

    assert file.read_bytes().startswith(b"<?xml")


def test_a_text_file_is_data_of_bytes(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "corpus.txt"
    file.write_bytes(b"the quick brown fox jumps over the lazy dog")

    document = json.loads(
        output_of(capsys, *INSPECT, "--vocab-size", "256", "--data", str(file), "--format", "json")
    )

    assert document["run"]["data"] == str(file)
    # sha256sum of the line above
    assert document["run"]["data_sha256"] == (
        "05c6e08f1d9fdafa03147fcb8f82f124c76d2f70e3d989dc8aadb5e7d7450bec"
    )


def test_a_nanogpt_bin_is_data_of_tokens(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "train.bin"
    np.arange(64, dtype="<u2").tofile(file)

    document = json.loads(output_of(capsys, *INSPECT, "--data", str(file), "--format", "json"))
    other = json.loads(output_of(capsys, *INSPECT, "--format", "json"))

    assert document["run"]["data"] == str(file)
    assert document["final"]["loss"] != other["final"]["loss"]


def test_version_is_the_packages(capsys: Capture) -> None:
    assert output_of(capsys, "--version") == f"gptinit {gptinit.__version__}\n"


def test_h_is_help(capsys: Capture) -> None:
    assert output_of(capsys, "inspect", "-h") == output_of(capsys, "inspect", "--help")


@pytest.mark.parametrize("args", [(), ("compare",)])
def test_nothing_to_do_shows_the_help_and_is_wrong_usage(
    args: tuple[str, ...], capsys: Capture
) -> None:
    assert run(*args) == 2

    out, err = capsys.readouterr()
    assert "Usage: gptinit" in out + err


def test_check_passes_on_nanogpt(healthy: Path, capsys: Capture) -> None:
    assert run("check") == 0

    out, err = capsys.readouterr()
    assert "1 of 1 bounds hold." in out
    assert err == ""


def test_check_fails_on_plain_with_exit_code_1(sick: Path, capsys: Capture) -> None:
    assert run("check") == 1

    out = capsys.readouterr().out
    assert "error: small: whole: resid_growth must be at most 10, got" in out
    assert "0 of 1 bounds hold: 1 violated." in out


@pytest.mark.parametrize(("fail_on", "code"), [("never", 0), ("warning", 1), ("error", 1)])
def test_fail_on_softens_a_check(fail_on: str, code: int, sick: Path, capsys: Capture) -> None:
    assert run("check", "--fail-on", fail_on) == code


def test_a_check_reads_the_file_that_is_named(sick: Path, capsys: Capture) -> None:
    (sick / "other.toml").write_text(CONFIG.format(scheme="nanogpt"), encoding="utf-8")

    assert [run("check"), run("check", "--config", "other.toml")] == [1, 0]


def test_a_check_reads_its_table_of_pyproject(healthy: Path, capsys: Capture) -> None:
    text = (healthy / "gptinit.toml").read_text(encoding="utf-8")
    (healthy / "gptinit.toml").unlink()
    for section in ("run", "models", "bounds"):
        text = text.replace(f"[{section}]", f"[tool.gptinit.{section}]")
    (healthy / "pyproject.toml").write_text(text, encoding="utf-8")

    assert run("check") == 0
    assert "1 of 1 bounds hold." in capsys.readouterr().out


def test_the_seed_of_a_check_replaces_the_files(healthy: Path, capsys: Capture) -> None:
    tables = []
    for more in ((), ("--seed", "0"), ("--seed", "7")):
        run("check", *more, "--format", "csv")
        tables.append(capsys.readouterr().out)

    assert tables[0] == tables[1] != tables[2]


def test_init_writes_a_configuration_that_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)

    assert run("check", "--init") == 0

    out, err = capsys.readouterr()
    assert out == ""
    assert err == "gptinit: wrote gptinit.toml: edit it, then run gptinit check\n"
    config = load_check(Path("gptinit.toml"), folder=tmp_path)
    assert config.bounds_for(config.models[0].name) == DEFAULT_BOUNDS
    assert [p.name for p in tmp_path.iterdir()] == ["gptinit.toml"]


def test_what_init_writes_runs_once_the_model_is_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    run("check", "--init")
    file = tmp_path / "gptinit.toml"
    text = file.read_text(encoding="utf-8").replace(
        '"gpt2"', '"nanogpt-char"\nn_layer = 2\nn_embd = 64', 1
    )
    file.write_text(text.replace("# seq_len = 256", "seq_len = 16"), encoding="utf-8")

    assert run("check", "--config", "gptinit.toml", "--format", "json") == 0
    results = json.loads(capsys.readouterr().out)["results"]
    # nonfinite and attn_score_std on 2 layers, five bounds on one place
    assert len(results) == 9
    assert "violated" not in {r["verdict"] for r in results}


@pytest.fixture
def reviewed(healthy: Path) -> Path:
    """A folder whose check has a baseline."""
    file = healthy / "gptinit.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text('baseline = "baseline.json"\n' + text, encoding="utf-8")
    return healthy


def test_a_check_holds_to_the_baseline_it_has_written(reviewed: Path, capsys: Capture) -> None:
    assert run("check", "--update-baseline") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"gptinit: wrote \S*baseline\.json\n", err)

    assert run("check") == 0
    assert run("check", "--seed", "100") == 0

    assert "0 violated" not in capsys.readouterr().out
    assert {p.name for p in reviewed.iterdir()} == {"gptinit.toml", "baseline.json"}


def test_a_baseline_is_made_with_the_seed_of_the_command_line(reviewed: Path) -> None:
    baseline, file = reviewed / "baseline.json", reviewed / "gptinit.toml"
    run("check", "--update-baseline")
    usual = baseline.read_bytes()
    run("check", "--update-baseline", "--seed", "7")
    other = baseline.read_bytes()
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("[run]\n", "[run]\nseed = 7\n"), encoding="utf-8")
    run("check", "--update-baseline")

    assert other == baseline.read_bytes()
    assert other != usual


def test_equal_baselines_are_equal_bytes(reviewed: Path, capsys: Capture) -> None:
    texts = []
    for _ in range(2):
        run("check", "--update-baseline")
        texts.append((reviewed / "baseline.json").read_bytes())

    assert texts[0] == texts[1]


def test_another_scheme_is_not_compared_with_the_baseline(reviewed: Path, capsys: Capture) -> None:
    run("check", "--update-baseline")
    file = reviewed / "gptinit.toml"
    file.write_text(file.read_text(encoding="utf-8").replace('nanogpt"', 'plain"'), "utf-8")
    capsys.readouterr()

    assert run("check") == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert "scheme='nanogpt' (now 'plain')" in err
    assert err.count("\n") == 1


def test_a_scheme_that_changed_under_its_name_drifts(reviewed: Path, capsys: Capture) -> None:
    file = reviewed / "gptinit.toml"
    text = file.read_text(encoding="utf-8").replace("max = 10", "max = 1e9")
    file.write_text(text.replace('"nanogpt"', '"mine.toml"'), encoding="utf-8")
    own = (
        LOUD.replace("loud", "mine")
        .replace('"1"}\nk', '"0.02"}\nk')
        .replace('k = {dist = "normal", std = "1"}', 'k = {dist = "normal", std = "0.02"}')
    )
    for std in ("0.02", "0.01"):
        (reviewed / "mine.toml").write_text(own.replace("STD", std), encoding="utf-8")
        if std == "0.02":
            assert run("check", "--update-baseline") == 0
    capsys.readouterr()

    assert run("check", "--format", "json") == 1

    findings = json.loads(capsys.readouterr().out)["findings"]
    assert {f["rule"] for f in findings} >= {"drift"}
    assert "small: whole" in {f["where"] for f in findings}


def test_junit_lists_the_bounds_as_test_cases(sick: Path, capsys: Capture) -> None:
    assert run("check", "--format", "junit") == 1

    out, err = capsys.readouterr()
    root = ET.fromstring(out)
    assert err == ""
    assert (root.get("tests"), root.get("failures")) == ("1", "1")
    assert [case.get("name") for case in root.iter("testcase")] == ["resid_growth at whole"]


def test_github_annotates_what_is_violated(sick: Path, capsys: Capture) -> None:
    assert run("check", "--format", "github") == 1

    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("::error title=out-of-bounds%3A small%3A whole::resid_growth must be")
    assert last == "0 of 1 bounds hold: 1 violated."


@pytest.mark.parametrize("format", ["table", "json", "markdown", "csv", "junit", "github"])
def test_a_check_writes_every_format_to_a_file_and_keeps_its_exit_code(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("gptinit.api.check.check", lambda *args, **kwargs: small_report())
    file = tmp_path / "result"
    run("check", "--format", format)
    shown = capsys.readouterr().out

    assert run("check", "--format", format, "-o", str(file)) == 1

    assert capsys.readouterr().out == ""
    assert file.read_text(encoding="utf-8") == shown


def interrupt(*args: Any, **kwargs: Any) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_is_130_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("gptinit.api.inspect.inspect", interrupt)

    assert run(*INSPECT) == 130

    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err


def test_ctrl_c_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("gptinit.api.inspect.inspect", interrupt)

    run(*INSPECT)

    assert capsys.readouterr().err == "gptinit: interrupted.\n"


def test_ctrl_c_leaves_no_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(Path, "chmod", interrupt)

    assert run("schemes", "-o", str(tmp_path / "result")) == 130
    assert list(tmp_path.iterdir()) == []


def divide(*args: Any, **kwargs: Any) -> None:
    raise ZeroDivisionError("division by zero")


def test_a_crash_is_one_line_and_never_a_1(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("gptinit.api.inspect.inspect", divide)

    assert run(*INSPECT) == 2
    assert capsys.readouterr() == (
        "",
        "gptinit: the run failed: ZeroDivisionError: division by zero. "
        "Use --debug for the traceback.\n",
    )


def test_debug_shows_the_traceback_of_a_crash(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("gptinit.api.inspect.inspect", divide)

    assert run(*INSPECT, "--debug") == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Traceback (most recent call last):\n")
    assert "in divide" in err
    assert err.endswith("gptinit: the run failed: ZeroDivisionError: division by zero.\n")


def test_debug_shows_the_traceback_of_an_error_too(capsys: Capture) -> None:
    assert run(*INSPECT, "--scheme", "gtp2", "--debug") == 2

    err = capsys.readouterr().err
    assert "Traceback (most recent call last):" in err
    assert "gptinit: scheme must be" in err.splitlines()[-1]


def shell(*args: str) -> "subprocess.Popen[bytes]":
    """`python -m gptinit` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "gptinit", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(gptinit.__file__).parents[1])},
    )


def test_python_m_gptinit_works() -> None:
    with shell("--version") as process:
        out, err = process.communicate()

    assert (process.returncode, err) == (0, b"")
    assert out.decode().split() == ["gptinit", gptinit.__version__]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break in another way there")
@pytest.mark.parametrize("format", ["table", "json"])
def test_a_reader_that_goes_away_is_no_error(format: str) -> None:
    with shell("schemes", "nanogpt", "--format", format) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # before anything is written: what `| head -0` does
        err = process.stderr.read()

    assert (process.returncode, err) == (0, b"")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "verdict", "code"), [("nanogpt", "ok", 0), ("plain", "violated", 1)]
)
def test_the_verdict_of_a_check_does_not_depend_on_its_seed(
    scheme: str, verdict: str, code: int, healthy: Path, capsys: Capture
) -> None:
    # The default bound of 1000 stands 2.9 times below plain at the shape of GPT-2 (12 layers, 768
    # wide: growth 2930, nanogpt 115). At 192 wide, 16 times cheaper, growth is 159 (nanogpt 6.4),
    # so the bound that stands as far below it is 159 / 2.93 = 54. The log of growth varies by 0.08
    # from seed to seed: Student's reach at 6 seeds is 9.7 * 0.08 / sqrt(6) = 0.32, the distance
    # ln 2.93 = 1.07. 50 checks of 6 seeds each, no seed in two of them.
    text = CONFIG.replace("n_layer = 6", "n_layer = 12").replace("128", "192").replace("16", "32")
    (healthy / "gptinit.toml").write_text(
        text.replace("max = 10", "max = 54").format(scheme=scheme), encoding="utf-8"
    )

    codes, verdicts = set(), set()
    for check in range(50):
        codes.add(run("check", "--seed", str(6 * check), "--format", "json"))
        results = json.loads(capsys.readouterr().out)["results"]
        verdicts |= {r["verdict"] for r in results}

    assert (codes, verdicts) == ({code}, {verdict})


NANO = str(Path(__file__).parents[1] / "support" / "models" / "nano.py") + ":GPT"
FOREIGN = ("inspect", NANO, "--set", "n_layer=2", *RUN)


def test_a_model_in_a_file_is_measured_with_one_command(capsys: Capture) -> None:
    found = json.loads(output_of(capsys, *FOREIGN, "--format", "json"))

    assert (found["model"]["n_layer"], found["scheme"]) == (2, None)
    assert len(found["layers"]) == 2
    assert "logit_std" in found["layers"][-1]


def test_what_a_model_prints_is_not_the_result(capsys: Capture) -> None:
    capsys.readouterr()

    assert run(*FOREIGN, "--format", "json") == 0

    said = capsys.readouterr()
    assert json.loads(said.out)
    assert "parameters: " in said.err


def test_set_is_of_the_model_s_own_settings_and_typed_by_them(capsys: Capture) -> None:
    more = ("--set", "init_std=0.5", "--set", "bias=false")

    found = json.loads(output_of(capsys, *FOREIGN, *more, "--format", "json"))

    assert found["model"]["bias"] is False
    # Token and position embedding at 0.5: 0.5 in all. Their sample is 16 tokens of 64 entries, many
    # of them alike: a relative standard error of sqrt(2 / 64) at the very worst, k = 4.
    assert abs(found["embedding"]["resid_var"] - 0.5) < 4 * 0.5 * (2 / 64) ** 0.5


def test_reinit_draws_a_foreign_model_by_a_scheme(capsys: Capture) -> None:
    own, plain = (
        json.loads(output_of(capsys, *FOREIGN, *more, "--format", "json"))
        for more in ((), ("--reinit", "plain"))
    )

    assert (own["scheme"], plain["scheme"]) == (None, "plain")
    # 0.02 in place of 0.02 / sqrt(2 * 2) for what writes to the stream: the factor is 4 for
    # attention, which is linear in it, in the first layer and on the same draws.
    ratio = plain["layers"][0]["attn_var"] / own["layers"][0]["attn_var"]
    assert ratio == pytest.approx(4, rel=1e-3)


def test_weights_can_be_the_model_s_own(capsys: Capture) -> None:
    traced, own = (
        json.loads(output_of(capsys, *FOREIGN, "--weights", w, "--format", "json"))
        for w in ("traced", "own")
    )

    assert (traced["run"]["weights"], own["run"]["weights"]) == ("traced", "own")
    assert traced["layers"] != own["layers"]


def test_sites_and_roles_can_be_named(capsys: Capture) -> None:
    sites = ("--site", "blocks=transformer.h", "--site", "attn=attn", "--site", "mlp=mlp")

    plain, named = (
        json.loads(output_of(capsys, *FOREIGN, *more, "--format", "json"))
        for more in ((), (*sites, "--role", "*.c_fc.*=other"))
    )
    predicted = [layer.pop("predicted") for layer in plain["layers"]]

    assert named["layers"] == plain["layers"]
    assert all(predicted)
    assert [n["where"] for n in named["notes"] if n["kind"] == "theory-missing"] == ["sites"]


def test_models_of_every_kind_are_compared(capsys: Capture) -> None:
    args = ("compare", "models", "nanogpt-char", NANO, "--n-layer", "2", *RUN)

    found = json.loads(output_of(capsys, *args, "--format", "json"))

    assert [p["model"]["n_layer"] for p in found["profiles"]] == [2, 2]
    assert [p["scheme"] for p in found["profiles"]] == ["nanogpt", None]
    assert found.get("ranking") is None


def test_schemes_are_compared_on_a_foreign_model(capsys: Capture) -> None:
    args = ("compare", "schemes", "plain", "nanogpt", "--model", NANO, *RUN)

    found = json.loads(output_of(capsys, *args, "--format", "json"))

    assert [p["scheme"] for p in found["profiles"]] == ["plain", "nanogpt"]


def test_a_foreign_model_is_checked_and_audited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    text = CONFIG.format(scheme="nanogpt").replace("nanogpt-char", NANO)
    text = text.replace("n_embd = 128\n", "").replace("n_layer = 6\n", "set = { n_layer = 3 }\n")
    (tmp_path / "gptinit.toml").write_text(text, encoding="utf-8")

    assert run("check") == 0
    capsys.readouterr()

    (tmp_path / "gptinit.toml").write_text(text.replace('"nanogpt"', '"plain"'), encoding="utf-8")
    assert run("check", "--format", "json") == 1
    rules = {f["rule"] for f in json.loads(capsys.readouterr().out)["findings"]}
    assert rules & {"role-std-mismatch", "residual-scaling-wrong-tensor", "scaled-twice"}


@pytest.mark.parametrize("command", ["audit", "inspect"])
@pytest.mark.parametrize("trust", [False, True])
def test_code_beside_a_config_is_trusted_only_where_the_command_says_so(
    command: str, trust: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted: list[bool] = []

    def read(*_: object, trust_remote_code: bool) -> None:
        trusted.append(trust_remote_code)
        raise ConfigError("seen")

    monkeypatch.setattr("gptinit.load.argument.huggingface_factory", read)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")

    assert run(command, str(tmp_path), *(["--trust-remote-code"] if trust else [])) == 2

    assert trusted == [trust]


@pytest.mark.parametrize(
    "command",
    [
        "audit needy.py:GPT {}",
        "inspect needy.py:GPT --engine theory {}",
        "compare models needy.py:GPT nanogpt-char --engine theory {}",
        "check {}",
    ],
)
def test_every_command_names_a_missing_module_and_takes_a_stand_in_for_it(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    nano = Path(NANO.rpartition(":")[0]).read_text(encoding="utf-8")
    (tmp_path / "needy.py").write_text(f"import nowhere_to_be_found\n{nano}", encoding="utf-8")
    text = '[run]\nseq_len = 4\n[[models]]\nmodel = "needy.py:GPT"\nset = {n_layer = 1}\n'
    (tmp_path / "gptinit.toml").write_text(text, encoding="utf-8")

    assert run(*command.format("").split()) == 2
    said = capsys.readouterr().err.strip()
    assert said == (
        "gptinit: needy.py must import modules that are installed, got none named "
        "nowhere_to_be_found (needy.py:1). Install what the model needs, and add "
        "--stub nowhere_to_be_found for what it does not."
    )

    assert run(*command.format("--stub nowhere_to_be_found").split()) == 0
