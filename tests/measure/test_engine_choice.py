"""Which engine `auto` takes: the fastest that fits and is exact, by a cost that was calibrated."""

from dataclasses import replace

import pytest
import torch
from support.subjects import tiny_subject
from torch import nn

from gptinit.config import RunConfig
from gptinit.errors import ConfigError
from gptinit.facts.presets import get_config
from gptinit.facts.schemes import get_scheme
from gptinit.measure.builtin_subject import builtin_subject
from gptinit.measure.engine_choice import choose_engine, estimated_seconds
from gptinit.measure.memory import Workload, required_bytes
from gptinit.measure.subject import Subject

CPU = torch.device("cpu")


def subject_of(width: int, *, scheme: str = "nanogpt", n_layer: int = 12) -> Subject:
    config = get_config("gpt2", n_layer=n_layer, n_embd=width)
    return builtin_subject(config, get_scheme(scheme), name="gpt2", source="tests")


def work(tokens: int = 256, *, grad: bool = False) -> Workload:
    return Workload(tokens=tokens, dtype=torch.float32, grad=grad)


def chosen(subject: Subject, what: Workload, **run: object) -> str:
    return choose_engine(subject, what, RunConfig(**run), CPU).engine  # type: ignore[arg-type] # settings by name


@pytest.fixture
def plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptinit.measure.engine_choice.available_bytes", lambda device: 10**13)


@pytest.mark.usefixtures("plenty")
@pytest.mark.parametrize(
    ("width", "tokens", "grad", "engine"),
    [
        (256, 256, True, "dense"),  # as many tokens as inputs: nothing to leave undrawn
        (256, 256, False, "dense"),
        (768, 64, False, "lazy"),
        (1600, 256, False, "lazy"),
        (1600, 256, True, "lazy"),
        (12288, 128, True, "lazy"),
    ],
)
def test_auto_draws_what_is_narrow_and_asks_what_is_wide(
    width: int, tokens: int, grad: bool, engine: str
) -> None:
    assert chosen(subject_of(width), work(tokens, grad=grad), grad=grad) == engine


@pytest.mark.usefixtures("plenty")
@pytest.mark.parametrize("grad", [False, True])
def test_lazy_is_linear_in_width_and_dense_quadratic(grad: bool) -> None:
    what = work(64, grad=grad)
    seconds = {
        engine: [
            estimated_seconds(subject_of(width), what, engine, "cpu") for width in (6144, 12288)
        ]
        for engine in ("dense", "lazy")
    }

    # What does not grow (a call, the vocabulary's share) makes both ratios a little smaller.
    assert 1.8 < seconds["lazy"][1] / seconds["lazy"][0] < 2.05
    assert 3.8 < seconds["dense"][1] / seconds["dense"][0] < 4.05


@pytest.mark.usefixtures("plenty")
def test_auto_draws_what_lazy_products_only_approximate() -> None:
    assert chosen(subject_of(1600, scheme="pytorch-default"), work()) != "lazy"


def test_auto_is_lazy_where_nothing_else_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = subject_of(4096, scheme="pytorch-default")
    free = 3 * required_bytes(subject, work(64), "lazy")
    monkeypatch.setattr("gptinit.measure.engine_choice.available_bytes", lambda device: free)

    choice = choose_engine(subject, work(64), RunConfig(), CPU)

    assert choice.engine == "lazy"
    assert "over half of what is free" in choice.note.message


def test_auto_takes_less_than_half_of_the_memory_that_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject, what = tiny_subject(), work(48)
    needed = required_bytes(subject, what, "dense")

    found = []
    for free in (2 * needed - 1, 2 * needed):
        monkeypatch.setattr(
            "gptinit.measure.engine_choice.available_bytes", lambda device, free=free: free
        )
        found.append(chosen(subject, what, seeds=3))

    assert found == ["stream", "dense"]


def test_blocks_run_again_where_their_activations_would_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject, what = tiny_subject(n_layer=12), work(48, grad=True)
    kept = required_bytes(subject, what, "stream")
    saved = kept - required_bytes(subject, replace(what, again=True), "stream")
    assert saved > kept / 2  # so that a quarter saved counts, not half of what is free

    found = []
    for free in (4 * saved - 1, 4 * saved):
        monkeypatch.setattr(
            "gptinit.measure.engine_choice.available_bytes", lambda device, free=free: free
        )
        found.append(choose_engine(subject, what, RunConfig(engine="stream", grad=True), CPU))

    assert [choice.work.again for choice in found] == [True, False]


@pytest.mark.usefixtures("plenty")
def test_the_note_says_how_much_slower_the_next_one_would_be() -> None:
    note = choose_engine(subject_of(1600), work(64), RunConfig(), CPU).note

    assert (note.kind, note.where) == ("engine", "lazy")
    assert note.message.startswith("Estimated to be the fastest here: ")


def test_weights_of_the_models_own_are_dense() -> None:
    with pytest.raises(ConfigError, match="engine must be dense with the weights that a model"):
        chosen(tiny_subject(), work(), weights="own", engine="lazy")


def test_a_live_module_is_dense_with_the_weights_that_it_has() -> None:
    live = replace(tiny_subject(), own=lambda seed: nn.Module(), is_live=True)

    assert chosen(live, work(), weights="own") == "dense"
    with pytest.raises(ConfigError, match="engine must be dense or theory for a module that is"):
        chosen(live, work(), weights="own", engine="lazy")
