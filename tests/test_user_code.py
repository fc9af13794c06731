"""What errors of the user's code say, and where they come from."""

from pathlib import Path

import pytest
import torch

from gptinit.user_code import failed_module, one_line, place_of


def raised(text: str, file: Path) -> Exception:
    """The error that a file raises."""
    file.write_text(text, encoding="utf-8")
    try:
        exec(compile(text, file, "exec"), {"__name__": file.stem, "torch": torch})
    except Exception as error:
        return error
    raise AssertionError(text)


def test_an_error_is_said_with_its_type_and_place(tmp_path: Path) -> None:
    error = raised("x = 1\nraise ValueError('no\\nheads.')\n", tmp_path / "model.py")

    assert one_line(error) == "ValueError: no heads (model.py:2)"
    assert failed_module(error) == ("model", tmp_path / "model.py")


def test_an_error_without_a_message_shows_the_line_that_raised_it(tmp_path: Path) -> None:
    text = "def check(n):\n    assert n % 2 == 0\ncheck(3)\n"

    error = raised(text, tmp_path / "model.py")

    assert one_line(error) == "AssertionError: assert n % 2 == 0 (model.py:2)"


def test_an_error_inside_a_library_has_the_users_place(tmp_path: Path) -> None:
    error = raised("torch.ones(2) @ torch.ones(3)\n", tmp_path / "model.py")
    inside = raised("torch.nn.Linear(2, 3, 4, 5, 6)\n", tmp_path / "model.py")

    assert place_of(error) == "model.py:1"
    assert place_of(inside) == "model.py:1"


def test_a_call_that_torch_passes_on_has_no_place_in_torch() -> None:
    with pytest.raises(TypeError) as raised_by_torch:
        torch.nn.Linear(2, 3)(1, 2, 3)

    error = raised_by_torch.value
    here = error.__traceback__
    assert here is not None
    assert "linear.py" not in one_line(error)  # this file's line: it is the user's
    assert place_of(error.with_traceback(here.tb_next)) == ""


def test_an_error_that_nothing_raised_has_no_place() -> None:
    assert one_line(AssertionError()) == "AssertionError"
    assert failed_module(KeyError())[0] == ""
