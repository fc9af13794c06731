"""From a file whose trainer draws the weights to the truth about them, in one or two commands."""

import json
import re
from pathlib import Path

import pytest
from support.schemas import validate

from gptinit.cli.app import main

MODELS = Path(__file__).resolve().parents[1] / "support" / "models"
FILE = f"{MODELS}/left_to_trainer.py"
RUN = ("--seeds", "1", "--seq-len", "8", "--device", "cpu", "--quiet")

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line a sentence."""
    monkeypatch.setenv("COLUMNS", "400")


def result(capsys: Capture, *args: str, code: int = 0) -> str:
    """What a command prints as its result."""
    capsys.readouterr()
    assert main(args) == code
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "heading", "head"),
    [
        ("Chat", "init_weights() (left_to_trainer.py:112)", "N(0, 0.001)"),
        ("Titan", "init_weights() (left_to_trainer.py:132)", "TN(0, 0.1768; -0.5303 to 0.5303)"),
        ("Lingua", "init_weights() (left_to_trainer.py:145)", "TN(0, 0.1768; -0.5303 to 0.5303)"),
        ("Tiny", "apply(_init_weights, n_layer=2) (left_to_trainer.py:154)", "N(0, 0.1118)"),
    ],
)
def test_a_file_as_its_trainer_uses_it_takes_one_command(
    name: str, heading: str, head: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(MODELS)

    found = result(capsys, "audit", f"left_to_trainer.py:{name}")

    assert f"built by its constructor, then {heading} · 19 tensors traced" in found
    assert re.search(rf"^\W*lm_head .* {re.escape(head)}( |$)", found, re.M)
    assert "as constructed" in found


def test_an_init_in_another_file_takes_one_more_option(capsys: Capture) -> None:
    init = f"{MODELS}/lit_train.py:initialize_weights"

    found = json.loads(
        result(
            capsys, "audit", f"{FILE}:Bare", "--init", init, "--format", "json",
            "--fail-on", "never",
        )
    )  # fmt: skip

    validate("audit", found)
    assert found["model"]["init"]["call"] == (
        "initialize_weights(model, fabric=?, n_layer=2, n_embd=32)"
    )
    assert found["model"]["init"]["chosen_by"] == "--init"
    (head,) = (p for p in found["parameters"] if p["role"] == "lm_head")
    assert head["distribution"]["std"] == pytest.approx((2 / 5 / 32) ** 0.5)
    assert head["constructed"]["kind"] == "uniform"


def test_two_inits_are_told_apart_by_the_second_command(capsys: Capture) -> None:
    assert main(["audit", f"{FILE}:Rivals"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "got init_weights(), reset_parameters(), none of which" in line

    assert "then reset_parameters() (" in result(
        capsys, "audit", f"{FILE}:Rivals", "--init", "reset_parameters", "--fail-on", "never"
    )


def test_inspect_measures_what_the_trainer_draws(capsys: Capture) -> None:
    found = json.loads(result(capsys, "inspect", f"{FILE}:Chat", *RUN, "--format", "json"))

    validate("profile", found)
    assert found["model"]["init"]["call"] == "init_weights()"
    # Projections to the stream are zero, so that nothing is added to the embedding.
    assert [layer["attn_var"] for layer in found["layers"]] == [0, 0]
    (note,) = (n["message"] for n in found["notes"] if n["where"] == "init")
    assert "ran after the constructor; it changed tok_emb N(0, 1) -> N(0, 0.8); " in note


def test_inspect_says_in_its_heading_which_init_ran(capsys: Capture) -> None:
    first, *_ = result(capsys, "inspect", f"{FILE}:Chat", *RUN).splitlines()

    assert " · its own init, init_weights() · " in first


def test_inspect_notes_an_init_that_nothing_ran(capsys: Capture) -> None:
    found = json.loads(result(capsys, "inspect", f"{FILE}:forgets", *RUN, "--format", "json"))

    (note,) = (n["message"] for n in found["notes"] if n["where"] == "init")
    assert note.endswith("If the trainer runs it, add --init init_weights.")


def test_another_scheme_replaces_what_the_init_drew(capsys: Capture) -> None:
    found = json.loads(
        result(capsys, "inspect", f"{FILE}:Chat", "--reinit", "plain", *RUN, "--format", "json")
    )

    assert all(layer["attn_var"] > 0 for layer in found["layers"])


def test_compare_runs_the_init_of_each_model(capsys: Capture) -> None:
    models = (f"{FILE}:Chat", f"{FILE}:Called")
    options = ("--no-grad", *RUN, "--format", "json")

    found = json.loads(result(capsys, "compare", "models", *models, *options))

    assert ["init" in profile["model"] for profile in found["profiles"]] == [True, False]


def test_a_check_runs_the_init_that_its_file_names(capsys: Capture, tmp_path: Path) -> None:
    config = tmp_path / "gptinit.toml"
    config.write_text(
        "[run]\nseq_len = 8\ndevice = 'cpu'\n[[models]]\nname = 'chat'\n"
        f"model = '{FILE}:Rivals'\ninit = 'init_weights'\n"
        "[[bounds]]\nstat = 'attn_var'\nwhere = 'every layer'\nmax = 0\nwhy = 'Zero at first.'\n",
        encoding="utf-8",
    )

    table = result(capsys, "check", "--config", str(config), "--quiet")
    found = json.loads(result(capsys, "check", "--config", str(config), "--format", "json"))

    assert "chat: its constructor, then init_weights() (" in table
    validate("check", found)
    assert found["inits"]["chat"]["chosen_by"] == "--init"


def test_an_init_is_for_code_and_not_for_a_preset(capsys: Capture) -> None:
    assert main(["audit", "gpt2", "--init", "none"]) == 2
    assert "init must be for a model defined in code" in capsys.readouterr().err
