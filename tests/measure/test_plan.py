"""The plan of a run: the fastest engine that fits and is exact, and no run that cannot fit."""

from dataclasses import replace

import pytest
import torch
from support.subjects import tiny_subject
from torch import nn

from gptinit.config import Engine, RunConfig
from gptinit.errors import ConfigError, MeasureError
from gptinit.facts.distributions import Distribution, Normal, Uniform
from gptinit.facts.presets import get_config
from gptinit.facts.schemes import get_scheme
from gptinit.measure.builtin_subject import builtin_subject
from gptinit.measure.memory import Workload, required_bytes
from gptinit.measure.plan import _choose_engine, _is_exact, _why_fastest, plan_run
from gptinit.measure.subject import Subject


def subject_of(width: int, *, scheme: str = "nanogpt", n_layer: int = 12) -> Subject:
    config = get_config("gpt2", n_layer=n_layer, n_embd=width)
    return builtin_subject(config, get_scheme(scheme), name="gpt2", source="tests")


def work(tokens: int = 256, *, grad: bool = False) -> Workload:
    return Workload(tokens=tokens, dtype=torch.float32, grad=grad)


def chosen(subject: Subject, **run: object) -> str:
    return plan_run(subject, RunConfig(device="cpu", **run)).run.engine  # type: ignore[arg-type] # settings by name


@pytest.fixture
def plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptinit.measure.plan.available_bytes", lambda device: 10**13)


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
    assert chosen(subject_of(width), seq_len=tokens, grad=grad) == engine


@pytest.mark.usefixtures("plenty")
def test_auto_draws_what_lazy_products_only_approximate() -> None:
    assert chosen(subject_of(1600, scheme="pytorch-default")) != "lazy"


def test_auto_is_lazy_where_nothing_else_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = subject_of(4096, scheme="pytorch-default")
    free = 3 * required_bytes(subject, work(64), "lazy")
    monkeypatch.setattr("gptinit.measure.plan.available_bytes", lambda device: free)

    plan = plan_run(subject, RunConfig(seq_len=64, device="cpu"))

    assert plan.run.engine == "lazy"
    assert "over half of what is free" in plan.note.message


def test_auto_takes_less_than_half_of_the_memory_that_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = tiny_subject()
    needed = required_bytes(subject, work(48), "dense")

    found = []
    for free in (2 * needed - 1, 2 * needed):
        monkeypatch.setattr("gptinit.measure.plan.available_bytes", lambda device, free=free: free)
        found.append(chosen(subject, seeds=3))

    assert found == ["stream", "dense"]


def test_blocks_are_recomputed_where_their_activations_would_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject, what = tiny_subject(n_layer=12), work(48, grad=True)
    kept = required_bytes(subject, what, "stream")
    saved = kept - required_bytes(subject, replace(what, recompute=True), "stream")
    assert saved > kept / 2  # so that a quarter saved counts, not half of what is free

    found = []
    for free in (4 * saved - 1, 4 * saved):
        monkeypatch.setattr("gptinit.measure.plan.available_bytes", lambda device, free=free: free)
        found.append(plan_run(subject, RunConfig(engine="stream", grad=True, device="cpu")))

    assert [plan.recompute for plan in found] == [True, False]


@pytest.mark.usefixtures("plenty")
def test_the_note_says_how_much_slower_the_next_one_would_be() -> None:
    note = plan_run(subject_of(1600), RunConfig(seq_len=64, device="cpu")).note

    assert (note.kind, note.where) == ("engine", "lazy")
    assert note.message.startswith("Estimated to be the fastest here: ")


def test_weights_of_the_models_own_are_dense() -> None:
    with pytest.raises(ConfigError, match="engine must be dense with the weights that a model"):
        chosen(tiny_subject(), weights="own", engine="lazy")


def test_a_live_module_is_dense_with_the_weights_that_it_has() -> None:
    live = replace(tiny_subject(), own=lambda seed: nn.Module(), is_live=True)

    assert chosen(live, weights="own") == "dense"
    with pytest.raises(ConfigError, match="engine must be dense or theory for a module that is"):
        chosen(live, weights="own", engine="lazy")


def free_bytes(count: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptinit.measure.plan.available_bytes", lambda device: count)


def test_where_free_memory_is_not_known_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free_bytes(None, monkeypatch)

    plan = plan_run(tiny_subject(), RunConfig(engine="dense", device="cpu", batch_size=10**8))

    assert plan.required_bytes > 10**12


def test_what_fits_exactly_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunConfig(engine="dense", device="cpu")
    needed = required_bytes(tiny_subject(), work(48), "dense")
    free_bytes(needed, monkeypatch)

    assert plan_run(tiny_subject(), run).required_bytes == needed
    free_bytes(needed - 1, monkeypatch)
    with pytest.raises(MeasureError, match="must fit in memory"):
        plan_run(tiny_subject(), run)


def test_a_plan_has_everything_auto_resolved() -> None:
    plan = plan_run(tiny_subject(), RunConfig(engine="stream", seeds=2), tokens=[[1, 2, 3]] * 4)

    assert plan.run.engine == "stream"
    assert plan.run.device == plan.device.type != "auto"
    assert (plan.run.batch_size, plan.run.seq_len, plan.run.data) == (4, 2, "given")
    assert plan.tokens.ids.shape == (2, 4, 3)


def test_a_plan_draws_no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptinit.tokens._generator", pytest.fail)

    plan_run(tiny_subject(), RunConfig(engine="dense", device="cpu"))


def test_the_note_of_a_requested_engine_says_so() -> None:
    note = plan_run(tiny_subject(), RunConfig(engine="stream", device="cpu")).note

    assert (note.where, note.message) == ("stream", "Requested with --engine.")


@pytest.mark.parametrize(
    ("seconds", "why"),
    [
        ({"lazy": 2.0}, "The only engine that fits"),
        ({"lazy": 2.0, "dense": 2.1, "stream": 9.0}, "tied with dense"),
        ({"lazy": 2.0, "dense": 9.0, "stream": 2.5}, "stream would take 1.2 times as long"),
        ({"lazy": 2.0, "dense": 5.0}, "dense would take 2.5 times as long"),
    ],
)
def test_the_fastest_engine_is_compared_with_the_next(
    seconds: dict[Engine, float], why: str
) -> None:
    assert why in _why_fastest("lazy", seconds)


@pytest.mark.parametrize(
    ("needed", "best"),
    [
        ({"dense": 90, "stream": 60, "lazy": 70}, "stream"),
        ({"dense": 90, "stream": 80, "lazy": 50}, "lazy"),
    ],
)
def test_where_nothing_exact_fits_lazy_does_or_the_one_that_needs_least(
    needed: dict[Engine, int], best: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gptinit.measure.plan.required_bytes", lambda _, __, engine: needed[engine])
    subject = tiny_subject(scheme="pytorch-default")  # of uniform entries: lazy approximates

    found, why = _choose_engine(subject, dict.fromkeys(needed, work(48)), "cpu", 1, 100)

    assert found == best
    assert why == "dense would take 9e-08 GB, over half of what is free."


@pytest.mark.parametrize(
    ("matrices", "vectors", "exact"),
    [
        (Normal(0.0, 0.02), Uniform(-0.1, 0.1), True),  # of vectors there are no products
        (Uniform(-0.1, 0.1), Normal(0.0, 0.02), False),
    ],
)
def test_products_of_normal_matrices_are_exact_whatever_the_biases(
    matrices: Distribution, vectors: Distribution, exact: bool
) -> None:
    subject = tiny_subject()
    laws = tuple(
        replace(p, distribution=matrices if len(p.shape) > 1 else vectors) for p in subject.program
    )

    assert _is_exact(replace(subject, program=laws)) is exact
