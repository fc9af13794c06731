"""Errors of unknown names."""

import pytest

from gptinit.errors import did_you_mean, unknown_name

NAMES = [f"name_{letter}" for letter in "abcdefghijklm"]


@pytest.mark.parametrize(
    ("count", "rule"), [(2, "one of name_a, name_b"), (12, "one of name_a, "), (13, "a known name")]
)
def test_up_to_twelve_known_names_are_listed(count: int, rule: str) -> None:
    text = str(unknown_name("--engine", "xyz", [*NAMES[count - 1 :: -1], "name_a"]))

    assert text.startswith(f"--engine must be {rule}")
    assert text.endswith("got 'xyz'.")


def test_the_two_nearest_names_are_offered_and_a_remedy_closes() -> None:
    error = unknown_name("scheme", "Name_X", NAMES, remedy="See gptinit schemes.")

    question = str(error).removeprefix("scheme must be a known name, got 'Name_X'. ")
    assert question.startswith("Did you mean name_")
    assert question.count("name_") == 2
    assert question.endswith("? See gptinit schemes.")
    assert did_you_mean("zzz", NAMES) == ""
