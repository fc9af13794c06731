"""Which init is run after the constructor: decided by what the constructor ran, not by names."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from gptinit.errors import ConfigError, SubjectError
from gptinit.load import factory as load_factory
from gptinit.load.argument import factory_of, find_factory
from gptinit.load.factory import Factory, built
from gptinit.load.init_choice import InitChoice, left_uncalled
from gptinit.read.reading import read_model
from gptinit.trace.record.tracing import trace

MODELS = Path(__file__).resolve().parents[1] / "support" / "models"


def made(name: str, init: InitChoice = None) -> Factory:
    """The factory of a model of left_to_trainer.py."""
    return find_factory(f"{MODELS}/left_to_trainer.py:{name}", init=init)


@cache
def module_of(name: str, init: str | None = None) -> nn.Module:
    """One build of it."""
    torch.manual_seed(0)
    return made(name, init).build()


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("Chat", "init_weights()"),
        ("Titan", "init_weights()"),  # which calls init_states()
        ("Lingua", "init_weights()"),  # which calls reset_parameters()
        ("Tiny", "apply(_init_weights, n_layer=2)"),
        ("Caches", "init_weights()"),  # reset_states() sets no parameter
        ("Unconventional", "prepare()"),  # which calls draw(); decay() draws nothing
    ],
)
def test_the_init_that_the_constructor_leaves_to_the_trainer_is_run(name: str, call: str) -> None:
    init = made(name).init

    assert init is not None
    assert (init.call.call, init.call.chosen_by) == (call, "found")


@pytest.mark.parametrize(
    "name",
    ["Alone", "Bare", "Called", "Needs", "Declined", "Deferred", "Partly", "Finished", "Unknown"],
)
def test_nothing_is_run_where_the_constructor_decides_or_it_cannot_be_called(name: str) -> None:
    assert made(name).init is None


def test_the_line_is_that_of_the_definition_below_its_decorator() -> None:
    init = made("Chat").init

    assert init is not None
    lines = (MODELS / "left_to_trainer.py").read_text(encoding="utf-8").splitlines()
    assert lines[init.call.line - 1].strip() == "def init_weights(self):"
    assert init.call.file.endswith("left_to_trainer.py")


def test_several_inits_are_listed_and_none_is_guessed() -> None:
    message = (
        "the init of left_to_trainer.py:Rivals must be one, got init_weights(), "
        "reset_parameters(), none of which its constructor calls. Name what the trainer runs with "
        "--init NAME (or --init none)."
    )
    with pytest.raises(ConfigError, match=re.escape(message)):
        made("Rivals")


def test_of_several_under_other_names_none_is_guessed() -> None:
    with pytest.raises(
        ConfigError, match=r"must be one, got other\(\), prepare\(\), none of which"
    ):
        made("Doubtful")


def test_a_function_of_the_file_is_run_whatever_its_name(tmp_path: Path) -> None:
    """`init_model(model)` beside a class that draws nothing was called clean."""
    (tmp_path / "model.py").write_text(
        "from torch import nn\n"
        "class Model(nn.Linear):\n    def __init__(self):\n        super().__init__(2, 2)\n"
        "def set_up(model, std=0.02):\n    nn.init.normal_(model.weight, std=std)\n"
    )

    factory = find_factory(f"{tmp_path}/model.py:Model")

    assert factory.init is not None
    assert factory.init.call.call == "set_up(model)"


def test_a_method_of_parts_is_run_for_all_of_them_if_it_is_named() -> None:
    """A trainer that calls `block.init_weights()` for each block."""
    factory = made("Bare", "Block.init_weights")

    assert factory.init is not None
    assert factory.init.call.call == "Block.init_weights()"
    weights = dict(module_of("Bare", "Block.init_weights").named_parameters())
    for i in range(2):
        assert_std(weights[f"layers.{i}.mlp.down.weight"], 128**-0.5)
    assert_std(weights["embed.weight"], 1.0)  # torch's


def test_an_init_that_changes_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "nothing.py").write_text("def noop(model): pass\n")

    factory = made("Alone", f"{tmp_path}/nothing.py:noop")

    assert [n.message for n in factory.notes()] == [
        "noop(model), named by --init, changed no parameter."
    ]
    assert made("Chat", "init_weights").notes() == ()


@pytest.mark.parametrize(("name", "builds"), [("Called", 1), ("Alone", 1), ("Chat", 2)])
def test_an_init_is_chosen_without_a_build_of_its_own(
    name: str, builds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The builds that show what the constructor calls are those that the audit reads."""
    count = 0

    def counted(call: Callable[[], nn.Module]) -> nn.Module:
        nonlocal count
        count += 1
        return trace(call)

    monkeypatch.setattr(load_factory, "trace", counted)

    read_model(made(name), brief=True)

    assert count == builds


def test_a_named_init_ends_the_doubt() -> None:
    named, without = made("Rivals", "reset_parameters"), made("Rivals", "none")

    assert named.init is not None
    assert (named.init.call.call, named.init.call.chosen_by) == ("reset_parameters()", "--init")
    assert without.init is None


def test_an_init_that_fails_says_so_and_how_to_go_on() -> None:
    message = r"init_weights\(\) of Fails must run without an error, got RuntimeError: no mesh \(.*"
    with pytest.raises(SubjectError, match=message + r"with --init NAME \(or --init none\)\.$"):
        made("Fails")


def test_an_init_that_lacks_an_argument_says_which_and_what_to_write() -> None:
    with pytest.raises(ConfigError, match=r"got the required std\. Write a function that takes"):
        made("Needs", "init_weights")


def test_an_unknown_init_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"Known: init_weights, none, path\.py:FUNCTION"):
        made("Chat", "init_wieghts")


def test_a_function_of_another_file_sees_the_classes_of_the_model() -> None:
    init = f"{MODELS}/lit_train.py:initialize_weights"
    factory = made("Bare", init)

    assert factory.init is not None
    assert factory.init.call.call == "initialize_weights(model, fabric=?, n_layer=2, n_embd=32)"
    # The two projections of a block only get their own std if isinstance() knows their classes.
    weights = dict(module_of("Bare", init).named_parameters())
    for name, std in (
        ("layers.0.attn.o.weight", 32**-0.5 / 2),
        ("embed.weight", (2 / 5 / 32) ** 0.5),
    ):
        assert_std(weights[name], std)


def test_a_function_for_one_module_is_applied_to_all() -> None:
    factory = made("Bare", f"{MODELS}/lit_train.py:half")

    assert factory.init is not None
    assert factory.init.call.call == "apply(half)"


def test_what_stands_in_for_an_argument_is_no_number() -> None:
    with pytest.raises(SubjectError, match=r"^std must have a value here, got the stand-in"):
        made("Bare", f"{MODELS}/lit_train.py:scaled")


@pytest.mark.parametrize("place", ["nowhere.py", str(MODELS / "lit_train.py"), "no.such.module"])
def test_an_init_that_is_not_there_is_refused(place: str) -> None:
    with pytest.raises(ConfigError, match="init must"):
        made("Bare", f"{place}:draw")


def test_a_function_that_builds_the_model_says_itself_what_the_init_is() -> None:
    assert made("forgets").init is None
    assert made("forgets", "init_weights").init is not None


def test_other_settings_keep_the_init() -> None:
    factory = made("Tiny")
    assert factory.with_settings is not None

    deeper = factory.with_settings({"n_layer": 3})

    assert deeper.init is not None
    assert deeper.init.call.call == "apply(_init_weights, n_layer=3)"


def test_a_function_can_be_given_in_python() -> None:
    class Model(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 2)

    def ones(model: nn.Module) -> None:
        for parameter in model.parameters():
            nn.init.ones_(parameter)

    factory = factory_of(Model, init=ones)

    assert all(bool((p == 1).all()) for p in factory.build().parameters())


def test_the_caller_is_still_profiled() -> None:
    import sys

    def profiler(*_: object) -> None: ...

    before = sys.getprofile()
    sys.setprofile(profiler)
    try:
        made("Called")
        after = sys.getprofile()
    finally:
        sys.setprofile(before)

    assert after is profiler


def assert_std(weight: torch.Tensor, std: float) -> None:
    """Within five standard errors of a normal sample; those of a uniform or a cut are smaller."""
    assert abs(float(weight.detach().std()) / std - 1) < 5 / (2 * weight.numel()) ** 0.5


BY_HAND: dict[str, Callable[[nn.Module], object]] = {
    "Chat": lambda m: m.init_weights(),  # type: ignore[operator]
    "Titan": lambda m: m.init_weights(buffer_device=None),  # type: ignore[operator]
    "Lingua": lambda m: m.init_weights(),  # type: ignore[operator]
    "Tiny": lambda m: m.apply(lambda c: m._init_weights(c, n_layer=2)),  # type: ignore[operator]
}
"""What each trainer calls."""


@pytest.mark.parametrize("name", BY_HAND)
def test_the_build_is_what_the_trainer_makes(name: str) -> None:
    factory = made(name)
    assert factory.init is not None
    torch.manual_seed(1)
    by_hand = factory.init.constructed()
    with torch.no_grad():
        BY_HAND[name](by_hand)

    torch.manual_seed(1)
    built = factory.build()

    for (key, one), other in zip(by_hand.named_parameters(), built.parameters(), strict=True):
        assert torch.equal(one, other), key


def test_an_init_that_a_file_beside_the_model_runs_is_a_rival(tmp_path: Path) -> None:
    """As in litgpt: a method that nobody calls, and a function of the training script."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "model.py").write_text((MODELS / "left_to_trainer.py").read_text(encoding="utf-8"))
    define = "def init_weights(model):\n    pass\n"
    (package / "train.py").write_text(f"import wandb\n{define}init_weights(None)\n")
    (package / "unused.py").write_text(define)
    (package / "other.py").write_text(define.replace("model", "count") + "init_weights(3)\n")

    with pytest.raises(ConfigError, match=r"got init_weights\(\), \S*train\.py:init_weights, none"):
        find_factory(f"{package}/model.py:Chat")

    (package / "train.py").unlink()
    assert find_factory(f"{package}/model.py:Chat").init is not None


@pytest.mark.parametrize(
    ("name", "choice", "call", "ran"),
    [
        ("Needs", None, "init_weights(std=?)", False),
        ("Chat", "none", "init_weights()", True),
        ("Titan", "none", "init_weights()", True),  # init_states() is a part of it
        ("Chat", None, None, True),
        ("Called", None, None, True),
        ("Bare", None, "Block.init_weights()", True),  # which calls those of its parts
        ("Alone", None, None, True),
        ("Partly", None, "new_head()", True),
        ("Finished", None, None, True),
        ("Unknown", None, "prepare(std=?)", False),
    ],
)
def test_an_init_that_nothing_calls_is_told_whether_or_not_it_can_run(
    name: str, choice: str | None, call: str | None, ran: bool
) -> None:
    factory = made(name, choice)

    found = left_uncalled(factory, built(factory, factory.build, watch=True))

    assert [u.call.call for u in found] == ([call] if call else [])
    assert all((u.module is not None) is ran for u in found)
    assert all(("must take nothing but the model" in u.obstacle) is not ran for u in found)


NEEDS_MORE = """
from torch import nn
class Model(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)
    def init_weights(self, std):
        nn.init.normal_(self.weight, std=std)
    def _init_weights(self, gain):
        nn.init.zeros_(self.weight)
"""


def test_of_inits_that_need_more_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(NEEDS_MORE, encoding="utf-8")
    factory = find_factory(f"{tmp_path}/model.py:Model", init="none")

    found = left_uncalled(factory, built(factory, factory.build, watch=True))

    assert [u.call.call for u in found] == ["_init_weights(gain=?)"]
