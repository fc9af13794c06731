"""Leaves of nested arguments and results."""

from collections import OrderedDict
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_flatten, tree_map_only

from gptinit.trace.nested import map_only, only


class Pair(NamedTuple):
    """A user's named tuple."""

    first: object
    second: object


NEST: Any = ([1, None, "a", (2.5, [])], {"b": 3, "c": {"d": True}}, Pair(4, [5]))


def test_leaves_are_those_of_torch_s_own_function() -> None:
    assert only(object, NEST) == tree_flatten(NEST)[0]
    assert only((int, str), NEST) == [1, "a", 3, True, 4, 5]


def test_the_structure_and_its_types_are_kept() -> None:
    made = map_only(int, str, NEST)

    assert made == tree_map_only(int, str, NEST)
    assert type(made[2]) is Pair
    assert type(map_only(int, str, OrderedDict(a=1))) is dict  # a plain dict is all that is needed
    assert map_only(object, bool, NEST)[0] == [True, False, True, (True, [])]


def test_results_of_operators_with_names_keep_them() -> None:
    made = map_only(torch.Tensor, torch.neg, torch.eye(2).max(dim=0))

    assert isinstance(made, torch.return_types.max)
    assert made.values.tolist() == [-1.0, -1.0]
