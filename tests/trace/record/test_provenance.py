"""Whose line of code a step is: the user's, not that of a file which passes the call on."""

import copy
import sysconfig

import pytest
import torch

from gptinit.trace.record.provenance import is_of_user


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("/home/me/model.py", True),
        (f"{sysconfig.get_paths()['stdlib']}/site-packages/transformers/modeling_utils.py", True),
        (str(copy.__file__), False),  # deepcopy clones what the user's line copies
        (str(torch.__file__), False),
        ("/home/me/site-packages/transformers/initialization.py", False),
    ],
)
def test_torch_and_python_only_pass_a_call_on(file: str, found: bool) -> None:
    assert is_of_user(file) is found
