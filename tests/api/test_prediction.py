"""Theory's predictions beside a measured profile."""

import pytest
from support.subjects import tiny_subject

from gptinit.api.prediction import measure_with_prediction
from gptinit.config import RunConfig
from gptinit.measure.measure import measure


def test_measuring_alone_predicts_nothing() -> None:
    profile = measure(tiny_subject(), RunConfig(seeds=1))

    assert all(not place.predicted for _, place in profile.places())
    assert [note.kind for note in profile.notes] == ["engine"]


def test_a_prediction_that_fails_leaves_the_measurement_and_a_note(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("no channels")

    monkeypatch.setattr("gptinit.api.prediction.predict", broken)
    run = RunConfig(seeds=1)

    profile = measure_with_prediction(tiny_subject(), run)

    *notes, failed = profile.notes
    measured = measure(tiny_subject(), run)
    assert profile.places() == measured.places()
    assert tuple(notes) == measured.notes
    assert (failed.kind, failed.where) == ("theory-missing", "theory")
    assert failed.message == "No prediction: it failed (ZeroDivisionError: no channels)."
