"""Branches of init code that ask for names: which of them were true of none."""

import ast
import math
import sys
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import pytest
from support.bug_models import DEPTH, STD, Decoder, decoder, depth_factor, matrices, plain
from support.foreign_models import factory
from torch import nn

from gptinit.api.audit import audit
from gptinit.read.branches import _holds, _is_only_text, _may_hold
from gptinit.read.reading import read_model
from gptinit.results.program import NameBranch
from gptinit.trace.record.branches import Branch

Draw: TypeAlias = Callable[[Decoder], None]

pytestmark = pytest.mark.skipif(
    sys.gettrace() is not None, reason="lines are watched by someone else"
)

OUTPUTS = tuple(f"blocks.{i}.{name}.weight" for i in range(DEPTH) for name in ("attn.wo", "mlp.w2"))


def untaken(draw: Draw) -> tuple[NameBranch, ...]:
    """The branches of a model's init code that were never taken."""
    return read_model(factory(partial(decoder, draw)), brief=True).program.never_taken


def compares_whole_names(model: Decoder) -> None:
    plain(model)
    for name, parameter in model.named_parameters():
        if name in ("wo.weight", "w2.weight"):
            nn.init.normal_(parameter, std=STD * depth_factor(model))


def compares_the_end(model: Decoder) -> None:
    plain(model)
    for name, parameter in model.named_parameters():
        if name.endswith(("wo.weight", "w2.weight")):
            nn.init.normal_(parameter, std=STD * depth_factor(model))


def scales_a_std(model: Decoder) -> None:
    for path, module in matrices(model):
        std = STD
        if path == "mlp.w2":
            std = std / math.sqrt(2 * DEPTH)
        nn.init.normal_(module.weight, std=std)


def compares_the_start(model: Decoder) -> None:
    plain(model)
    for name, parameter in model.named_parameters():
        if name.startswith("w2"):
            parameter.mul_(depth_factor(model))


def asks_for_another_type(model: Decoder) -> None:
    plain(model)
    for path, module in model.named_modules():
        if isinstance(module, nn.Conv1d) and path.endswith("w2"):
            nn.init.normal_(module.weight, std=STD)


def asks_for_a_type_by_name(model: Decoder) -> None:
    plain(model)
    for module in model.modules():
        kind = type(module).__name__
        if "Conv" in kind:
            nn.init.normal_(module.get_parameter("weight"), std=STD)


def asks_for_a_setting(model: Decoder) -> None:
    plain(model)
    method = "plain"
    if method == "scaled":
        nn.init.normal_(model.get_parameter("head.weight"), std=STD)


def asks_for_a_shape(model: Decoder) -> None:
    plain(model)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 3 and "weight" in name:
            nn.init.normal_(parameter, std=STD)


def skips_by_name(model: Decoder) -> None:
    plain(model)
    for name, parameter in model.named_parameters():
        if "weight" not in name:
            nn.init.normal_(parameter, std=STD)


def changes_nothing(model: Decoder) -> None:
    plain(model)
    for name, parameter in model.named_parameters():
        if name == "w2.weight":
            parameter.requires_grad_(True)  # neither a draw nor a scaling


def never_comes_there(model: Decoder) -> None:
    plain(model)
    if model.config.padding_idx is not None:
        compares_whole_names(model)


@pytest.mark.parametrize("draw", [compares_whole_names, scales_a_std, compares_the_start])
def test_a_test_that_says_no_to_the_names_it_is_for_is_found(draw: Draw) -> None:
    (branch,) = untaken(draw)

    assert branch.file.endswith("test_branches.py")
    assert branch.asked > DEPTH
    assert branch.meant
    assert set(branch.meant) <= {*OUTPUTS, *(name.removesuffix(".weight") for name in OUTPUTS)}


@pytest.mark.parametrize(
    "draw",
    [
        compares_the_end, asks_for_another_type, asks_for_a_type_by_name, asks_for_a_setting,
        asks_for_a_shape, skips_by_name, changes_nothing, never_comes_there,
    ],
)  # fmt: skip
def test_branches_that_are_taken_or_ask_for_something_else_are_not(draw: Draw) -> None:
    assert untaken(draw) == ()


def test_a_name_that_the_model_does_not_have_is_told_without_a_meant_one() -> None:
    def draw(model: Decoder) -> None:
        plain(model)
        for name, parameter in model.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, std=STD)

    (branch,) = untaken(draw)

    assert branch.meant == ()
    assert branch.test == "name.endswith('c_proj.weight')"


def test_the_audit_names_the_parameters_and_the_line() -> None:
    finding = next(
        f
        for f in audit(partial(decoder, compares_whole_names)).findings
        if f.rule == "init-branch-never-taken"
    )

    assert finding.severity == "error"
    assert finding.places == ("blocks.*.attn.wo.weight", "blocks.*.mlp.w2.weight")
    line = compares_whole_names.__code__.co_firstlineno + 3
    assert f"test_branches.py:{line} false for all" in finding.message


def test_a_debugger_keeps_its_trace() -> None:
    seen: list[str] = []

    def tracer(*args: object) -> None:
        seen.append("called")

    sys.settrace(tracer)
    try:
        found = untaken(compares_whole_names)
        kept = sys.gettrace()
    finally:
        sys.settrace(None)

    assert found == ()
    assert kept is tracer
    assert seen


def test_nothing_watches_after_the_build() -> None:
    untaken(compares_whole_names)

    assert sys.gettrace() is None


NAMES = {"n": "mlp.w2", "m": "wo"}
SETTLED = [
    "n == 'mlp.w2'",
    "n == 'w2'",
    "'w2' in n",
    "'w3' in n",
    "'mlp.w2 of' in n",
    "n in ('a', 'mlp.w2')",
    "n in ['w2', 'mlp']",
    "n in {m, 'x'}",
    "m in (m, 'x')",
    "m in n",
    "n.endswith('w2')",
    "n.endswith('mlp')",
    "n.startswith(('x', 'mlp'))",
    "n.startswith('w2')",
]


@pytest.mark.parametrize("text", SETTLED)
def test_a_test_of_texts_holds_where_python_says_so(text: str) -> None:
    holds = eval(text, {}, NAMES)  # of the table above

    assert _holds(condition(text), NAMES) is holds


def condition(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


UNSETTLED = ["k == 'w2'", "n in names", "n.endswith(k)", "flag", "n in ('a', k)", "n < 'x'", "f(n)"]


@pytest.mark.parametrize("text", UNSETTLED)
def test_a_test_of_more_than_texts_is_not_settled(text: str) -> None:
    assert _holds(condition(text), NAMES) is None


@pytest.mark.parametrize("joined", ["or", "and"])
@pytest.mark.parametrize("first", ["m == 'wo'", "m == 'x'", "flag"])
@pytest.mark.parametrize("second", ["m == 'wo'", "m == 'x'", "flag"])
def test_joined_tests_are_settled_where_the_rest_cannot_matter(
    joined: str, first: str, second: str
) -> None:
    text = f"{first} {joined} {second}"
    answers = {eval(text, {}, {**NAMES, "flag": flag}) for flag in (True, False)}

    assert _holds(condition(text), NAMES) is (answers.pop() if len(answers) == 1 else None)


@pytest.mark.parametrize(
    ("text", "only_text", "may_hold"),
    [
        ("n == 'mlp.w2'", True, True),
        ("n == 'x'", True, False),
        ("n == 'mlp.w2' and flag", False, True),
        ("n == 'x' and flag", False, False),
        ("n == 'x' or flag", False, True),
        ("n == 'x' or g(n, 'y')", True, False),  # of text alone: it was false of all names
        ("g(n, 'y')", True, False),
        ("g(n)", False, True),
        ("k == 'x'", False, True),
    ],
)
def test_a_branch_may_hold_unless_it_is_of_text_alone_and_false(
    text: str, only_text: bool, may_hold: bool
) -> None:
    branch = Branch(
        file="m.py", line=1, test=condition(text), texts=(), variables=("n",), body=range(2, 3)
    )

    assert _is_only_text(branch.test, NAMES) is only_text
    assert _may_hold(branch, NAMES) is may_hold
