"""Theory's predictions beside a measured profile."""

from dataclasses import replace

import numpy as np
import pytest
from support.subjects import tiny_subject

from gptinit.api.prediction import measure_with_prediction, theory_of, theory_of_run
from gptinit.config import RunConfig
from gptinit.measure.measure import measure
from gptinit.measure.subject import Subject
from gptinit.recognise.architecture import Forwarding
from gptinit.results.profile import Note
from gptinit.theory import TheoryModel


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


def with_tokens(most: int | None) -> Subject:
    """A tiny model whose forward pass is known for so many tokens."""
    subject = tiny_subject()
    assert isinstance(subject.recognised, Forwarding)
    return replace(subject, recognised=replace(subject.recognised, tokens=most))


@pytest.mark.parametrize(
    ("most", "length", "is_known"),
    [(8, 7, True), (8, 8, True), (8, 9, False), (8, 40, False), (None, 40, True)],
)
def test_sequences_are_predicted_up_to_the_longest_that_was_recognised(
    most: int | None, length: int, is_known: bool
) -> None:
    subject = with_tokens(most)
    ids = np.zeros((2, 3, length + 1), dtype=np.int64)  # with the last target

    found = theory_of_run(subject, ids)

    if is_known:
        assert found == theory_of(subject)
        assert isinstance(found, TheoryModel)
    else:
        assert isinstance(found, Note)
        assert (found.kind, found.where) == ("theory-missing", "tokens")
        assert found.message == (
            "No prediction: what the model does with more than 8 tokens is not known."
        )


@pytest.mark.parametrize(
    ("silent", "is_known"), [(set(), True), ({5}, True), ({4}, False), ({5, 0}, False)], ids=str
)
def test_a_token_that_is_embedded_as_zeros_has_no_prediction(
    silent: set[int], is_known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = tiny_subject()
    theory = theory_of(subject)
    assert isinstance(theory, TheoryModel)
    padded = replace(theory, silent_tokens=frozenset(silent))
    monkeypatch.setattr("gptinit.api.prediction.theory_of", lambda _: padded)
    ids = np.array([[[0, 1, 2]], [[3, 4, 0]]])

    found = theory_of_run(subject, ids)

    if is_known:
        assert found is padded
    else:
        assert isinstance(found, Note)
        assert found.where == "tokens"
        assert found.message == "No prediction: some tokens have an embedding of zeros."


def test_what_was_not_recognised_stays_as_it_is_for_any_tokens() -> None:
    ids = np.zeros((1, 1, 40), dtype=np.int64)
    refused = Note(kind="theory-missing", where="norm", message="No prediction: no norm.")

    assert theory_of_run(replace(tiny_subject(), recognised=refused), ids) is refused
