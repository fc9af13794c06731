"""Branches of init code that ask for names: which of them were true of none."""

import ast
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from support.bug_models import DEPTH, STD, Decoder, decoder, depth_factor, matrices, plain
from support.foreign_models import factory
from torch import nn

from gptinit.api.audit import audit
from gptinit.read.branches import never_taken
from gptinit.read.reading import read_model
from gptinit.results.program import NameBranch
from gptinit.trace.record.branches import Asked, Branch, Condition

Draw: TypeAlias = Callable[[Decoder], None]

pytestmark = pytest.mark.skipif(
    sys.gettrace() is not None, reason="lines are watched by someone else"
)

needs_columns = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="Python 3.10 knows lines and no columns"
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


@needs_columns
@pytest.mark.parametrize(
    "line",
    [
        'if name == "w2.weight": p.mul_(0.5)',
        'if name in {"wo.weight", "w2.weight"}: p.mul_(0.5)',
        'if re.match(r"(wo|w2)\\.weight", name): p.mul_(0.5)',
        'nn.init.normal_(p, std=0.01 if name == "w2.weight" else 0.02)',
        'if name.split(".")[0] == "mlp": p.mul_(0.5)',
        """match name:
            case "w2.weight": p.mul_(0.5)""",
    ],
)
def test_a_test_that_says_no_to_the_names_it_is_for_is_found_in_any_form(
    line: str, tmp_path: Path
) -> None:
    """`if` on one line, conditional expressions, patterns and `match` went unseen."""
    file = tmp_path / "way.py"
    file.write_text(
        "import re\nfrom torch import nn\n"
        f"def draw(model):\n    for name, p in model.named_parameters():\n        {line}\n"
    )
    namespace: dict[str, Any] = {}
    exec(compile(file.read_text(), file, "exec"), namespace)

    (branch,) = untaken(namespace["draw"])

    assert branch.meant
    assert all(".mlp." in name or ".wo." in name for name in branch.meant)


def asked(test: str, *values: dict[str, str | tuple[str, ...]]) -> Branch:
    """A branch whose condition was asked with these values of its variables."""
    own = [{n: v if isinstance(v, tuple) else (v,) for n, v in vs.items()} for vs in values]
    around = [frozenset(v for v in vs.values() if isinstance(v, str)) for vs in values]
    condition = Condition(ast.parse(test, mode="eval").body, ())
    used = {part.id for part in ast.walk(condition.test) if isinstance(part, ast.Name)}
    condition.asked |= {
        Asked(tuple((n, t) for n, t in texts.items() if n in used), names)
        for texts, names in zip(own, around, strict=True)
    }
    return Branch(file="m.py", line=1, test=test, conditions=(condition,))


NAMES = ("h.0.attn.wo.weight", "h.0.mlp.w2.weight", "head.weight")
FIRST, SECOND = NAMES[:2]


@pytest.mark.parametrize(
    ("branch", "count", "meant"),
    [
        (asked("n == 'wo'", {"n": FIRST}, {"n": SECOND}), 2, [FIRST]),
        (asked("n in keys", {"n": FIRST, "keys": ("wo", "w2")}), 1, [FIRST]),
        (asked("n in keys", {"n": FIRST, "keys": ("w2", "w3")}), 1, []),
        (asked("n.endswith('attn.wo.')", {"n": FIRST}), 1, [FIRST]),
        (asked("leaf == 'wo'", {"leaf": "h", "n": FIRST}), 1, [FIRST]),
        (asked("parts[0] == 'wo'", {"parts": ("h", "0"), "n": FIRST}, {"parts": ("head", "weight"),
         "n": "head.weight"}), 2, [FIRST]),
        (asked("leaf == 'wo'", {"leaf": "h", "kind": "Linear"}), 1, []),  # of a module's name
        (asked("re.match('w[o2]', n)", {"n": FIRST}), 1, [FIRST]),
        (asked("re.match('w[3', n)", {"n": FIRST}), 1, []),  # no pattern
        (asked("n == 'h.*'", {"n": FIRST}), 1, [FIRST]),
    ],
)  # fmt: skip
def test_what_is_asked_about_and_what_is_meant(
    branch: Branch, count: int, meant: list[str]
) -> None:
    (found,) = never_taken([branch], [*NAMES, "h"])

    assert (found.asked, list(found.meant)) == (count, meant)


@pytest.mark.parametrize(
    ("test", "missed"),
    [
        ("n == 'wo.weight'", [FIRST]),  # a module's own names: weight, not wo.weight
        ("n == 'w3.weight'", []),
        ("n == 'bias' or n == 'weight'", []),  # every module has them: nobody is meant
    ],
)
def test_names_of_the_model_that_it_was_never_asked_about_are_kept(
    test: str, missed: list[str]
) -> None:
    (found,) = never_taken([asked(test, {"n": "scale"})], [*NAMES, "scale"])

    assert (found.asked, found.meant, list(found.missed)) == (1, (), missed)


@pytest.mark.parametrize(
    "branch",
    [
        asked("kind == 'Conv1d'", {"kind": "Linear", "n": FIRST}),
        asked("mode == 'scaled'", {"mode": "plain"}),
        asked("f(n)", {"n": FIRST}),  # no text to compare with
        asked("n == f'h.{i}.attn'", {"n": FIRST}),  # whatever it was, it is not known
        asked("n == 'wo'", {}),
    ],
)
def test_what_asks_for_no_name_of_the_model_is_no_finding(branch: Branch) -> None:
    assert never_taken([branch], NAMES) == ()
