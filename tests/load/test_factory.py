"""A model that is called in the user's way keeps that way, whatever its settings."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from gptinit.load.factory import Factory
from gptinit.load.forward_function import called_by


def call(model: nn.Module, ids: Tensor) -> object:
    """The user's way."""
    return model(ids, 1)


def sized(settings: Mapping[str, object]) -> Factory:
    """A factory whose settings can change."""
    return Factory(
        name="m", source="here", build=lambda: nn.Linear(2, 2), settings=settings,
        with_settings=lambda more: sized({**settings, **more}),
    )  # fmt: skip


def test_other_settings_keep_the_way_to_call_a_model() -> None:
    factory = called_by(sized({"a": 1}), call)
    assert factory.with_settings is not None

    changed = factory.with_settings({"b": 2})

    assert (changed.forward, changed.settings) == (call, {"a": 1, "b": 2})
    assert changed.with_settings is not None
    assert changed.with_settings({}).forward is call


def test_a_model_whose_settings_cannot_change_stays_so() -> None:
    fixed = called_by(replace(sized({}), with_settings=None), call)

    assert fixed.forward is call
    assert fixed.with_settings is None
