"""What another init would draw: the constructor alone, and one that nothing calls."""

from dataclasses import replace
from pathlib import Path

from gptinit.load.argument import find_factory
from gptinit.load.factory import built
from gptinit.read.inits import uncalled_inits, with_constructed
from gptinit.read.reading import read_model
from gptinit.results.program import UncalledInit

FILE = Path(__file__).resolve().parents[1] / "support" / "models" / "left_to_trainer.py"


def test_what_the_constructor_draws_is_kept_where_the_init_after_it_draws_otherwise() -> None:
    factory = find_factory(f"{FILE}:Titan")
    assert factory.init is not None
    parameters = read_model(factory, brief=True).program.parameters
    bare = read_model(replace(factory, build=factory.init.constructed, init=None), brief=True)
    before = {p.name: p.distribution for p in bare.program.parameters}

    found = with_constructed(parameters, factory)

    assert [p.distribution for p in found] == [p.distribution for p in parameters]
    is_changed = [str(before[p.name]) != str(p.distribution) for p in found]
    assert {True, False} == set(is_changed)
    for p, changed in zip(found, is_changed, strict=True):
        assert str(p.constructed) == str(before[p.name] if changed else None), p.name


def uncalled(name: str) -> tuple[UncalledInit, ...]:
    factory = find_factory(f"{FILE}:{name}", init="none" if name == "Chat" else None)
    program = read_model(factory, brief=True).program
    return uncalled_inits(factory, built(factory, factory.build, watch=True), program.parameters)


def test_an_uncalled_init_is_told_with_what_it_would_change_or_why_it_cannot_run() -> None:
    (chat,), (needs,) = uncalled("Chat"), uncalled("Needs")

    assert (chat.init.name, chat.obstacle) == ("init_weights", "")
    assert chat.changes
    assert needs.obstacle.startswith("init_weights must take nothing but the model")
    assert needs.changes == {}
