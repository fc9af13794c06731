"""Branches of init code that ask for names: which of them were true of none."""

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
from gptinit.read.reading import read_model
from gptinit.results.program import NameBranch

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
