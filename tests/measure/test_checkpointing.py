"""Blocks that run again for the backward pass give what they gave, in less memory."""

from dataclasses import replace

import pytest
import torch
from support.foreign_models import FOREIGN, WITHOUT_GRADIENTS
from support.subjects import tiny_subject
from torch import Tensor, nn

from gptinit.config import Engine, RunConfig
from gptinit.load.argument import factory_of
from gptinit.measure import plan
from gptinit.measure.checkpointing import entering_blocks
from gptinit.measure.measure import measure
from gptinit.measure.subject import Subject
from gptinit.measure.traced_subject import traced_subject
from gptinit.results.profile import Place, Profile
from gptinit.weights.policy import Resident


def places(profile: Profile) -> list[Place]:
    return [profile.embedding, *profile.layers, profile.final, profile.whole]


def both(
    subject: Subject, run: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> tuple[Profile, Profile]:
    """The profile with activations kept, and with blocks that run again."""
    kept = measure(subject, run)
    fitting = plan._fitting
    monkeypatch.setattr(
        plan,
        "_fitting",
        lambda *args: replace(fitting(*args), recompute=True),
    )
    return kept, measure(subject, run)


@pytest.mark.parametrize("engine", ["dense", "stream", "lazy"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_running_blocks_again_changes_no_number(
    engine: Engine, tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunConfig(engine=engine, seeds=3, seq_len=12, grad=True, device="cpu", batch_size=2)

    kept, again = both(tiny_subject(tied=tied), run, monkeypatch)

    assert places(kept) == places(again)


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        *(("lazy", n) for n in FOREIGN if n not in WITHOUT_GRADIENTS),
        ("stream", next(iter(FOREIGN))),
    ],
)
def test_foreign_blocks_run_again(
    engine: Engine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunConfig(engine=engine, seeds=1, seq_len=8, grad=True, device="cpu")

    kept, again = both(traced_subject(factory_of(FOREIGN[name], {})), run, monkeypatch)

    for one, other in zip(places(kept), places(again), strict=True):
        assert one.values == pytest.approx(other.values, rel=1e-5)
        assert one.weight_grad.keys() == other.weight_grad.keys()


class Counter(nn.Module):
    """Counts how often it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        """Count, and do something that has a gradient."""
        self.calls += 1
        return (x * self.weight).sin()


def test_a_block_runs_twice_where_there_is_a_backward_pass_and_once_where_there_is_none() -> None:
    model = nn.Sequential(Counter(), Counter())
    x = torch.ones(3, requires_grad=True)

    with entering_blocks(model, ["0", "1"], Resident(), recompute=True):
        model(x).sum().backward()
    assert [m.calls for m in model if isinstance(m, Counter)] == [2, 2]

    with torch.no_grad(), entering_blocks(model, ["0", "1"], Resident(), recompute=True):
        model(x)
    assert [m.calls for m in model if isinstance(m, Counter)] == [3, 3]


def test_a_module_is_as_it_was_afterwards() -> None:
    model = nn.Sequential(Counter())

    with entering_blocks(model, ["0"], Resident(), recompute=False):
        assert "forward" in vars(model[0])

    assert "forward" not in vars(model[0])
