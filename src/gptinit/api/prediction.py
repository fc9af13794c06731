"""Theory's predictions, added to the statistics of a measured profile."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from gptinit.config import RunConfig
from gptinit.measure.measure import measure_plan
from gptinit.measure.plan import plan_run
from gptinit.measure.subject import Subject
from gptinit.results.profile import Note, Place, Profile
from gptinit.theory import TheoryModel, predict

__all__ = ["measure_with_prediction", "theory_of", "theory_of_run", "with_prediction"]


def measure_with_prediction(
    subject: Subject,
    run: RunConfig,
    *,
    tokens: npt.ArrayLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Profile:
    """The measured profile of `subject` with theory's predictions of every statistic.

    Arguments and errors are those of `measure.measure.measure`.
    """
    plan = plan_run(subject, run, tokens=tokens)
    profile = measure_plan(plan, progress=progress)
    return with_prediction(profile, subject, plan.tokens.ids)


def with_prediction(profile: Profile, subject: Subject, ids: npt.NDArray[np.int64]) -> Profile:
    """Add theory's predictions, or a note on why there are none.

    Shape:
        ids: (seeds, B, T + 1).
    """
    theory = theory_of_run(subject, ids)
    if isinstance(theory, Note):
        return replace(profile, notes=(*profile.notes, theory))
    run, grad = profile.run, "grad_rms" in profile.embedding.values
    try:
        expected = predict(
            theory, ids, grad=grad, lens_rows=run.lens_rows, query_rows=run.query_rows
        )
    except Exception as error:  # whatever theory does: it must not stop a measurement
        why = f"No prediction: it failed ({type(error).__name__}: {error})."
        failed = Note(kind="theory-missing", where="theory", message=why)
        return replace(profile, notes=(*profile.notes, failed))

    def predicted(place: Place, values: Mapping[str, float]) -> Place:
        known = {stat: values[stat] for stat in place.values if stat in values}
        return replace(place, predicted=known)

    return replace(
        profile,
        embedding=predicted(profile.embedding, expected.embedding),
        layers=tuple(map(predicted, profile.layers, expected.layers)),
        final=predicted(profile.final, expected.final),
        whole=predicted(profile.whole, expected.whole),
        notes=(*profile.notes, *expected.notes),
    )


def theory_of(subject: Subject) -> TheoryModel | Note:
    """Theory's model of a subject, or a note on why it has no formula."""
    recognised = subject.recognised
    return recognised if isinstance(recognised, Note) else recognised.model(subject.program)


def theory_of_run(subject: Subject, ids: npt.NDArray[np.int64]) -> TheoryModel | Note:
    """Theory's model of a subject, or a note on why it has no formula for these tokens.

    Shape:
        ids: (seeds, B, T + 1).
    """
    theory, recognised = theory_of(subject), subject.recognised
    if isinstance(theory, Note) or isinstance(recognised, Note):
        return theory
    why, most = "", recognised.tokens
    if most is not None and ids.shape[-1] - 1 > most:
        why = f"what the model does with more than {most} tokens is not known."
    elif theory.silent_tokens and np.isin(ids, list(theory.silent_tokens)).any():
        why = "some tokens have an embedding of zeros."
    if not why:
        return theory
    return Note(kind="theory-missing", where="tokens", message=f"No prediction: {why}")
