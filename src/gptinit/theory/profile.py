"""A whole Profile by theory alone: no model is run, and only tokens are drawn."""

from dataclasses import replace

from gptinit.config import ModelFacts, RunConfig
from gptinit.errors import ConfigError
from gptinit.results.machine import processor_name
from gptinit.results.profile import Note, Place, Profile, run_facts
from gptinit.theory.model import TheoryModel
from gptinit.theory.predict import predict
from gptinit.tokens import RunTokens

__all__ = ["predicted_profile"]


_NO_EXTREMES = Note(
    kind="theory-missing",
    where="max_abs, attn_score_max, nonfinite",
    message="Theory has no formula for extremes: they are not predicted.",
)


def _no_formulas(name: str, why: str) -> ConfigError:
    """The error for a model that theory has no formulas for."""
    parts = (f"theory has no formulas for {name}.", why, "Use an engine that measures.")
    return ConfigError(" ".join(filter(None, parts)))


def predicted_profile(
    model: TheoryModel | Note | None,
    facts: ModelFacts,
    run: RunConfig,
    tokens: RunTokens,
    *,
    scheme: str | None,
) -> Profile:
    """The profile that theory expects of a model.

    Raises:
        ConfigError: if theory has no formulas for it, or predicts nothing of its layers.
    """
    if not isinstance(model, TheoryModel):
        raise _no_formulas(facts.name, f"{model.where}: {model.message}" if model else "")
    settings = run_facts(
        replace(run, engine="theory", device="cpu", dtype="float32"),
        vocab_size=model.vocab_size,
        device_name=processor_name(),
        data_sha256=tokens.fingerprint,
    )
    rows = {"lens_rows": settings.lens_rows, "query_rows": settings.query_rows}
    expected = predict(model, tokens.ids, grad=run.grad, **rows)
    if not any(expected.layers):
        why = expected.notes[0].message if expected.notes else "Its numbers overflow."
        raise _no_formulas(facts.name, why)
    return Profile(
        torch=None,
        model=facts,
        scheme=scheme,
        run=settings,
        embedding=Place(values=expected.embedding),
        layers=tuple(Place(values=values) for values in expected.layers),
        final=Place(values=expected.final),
        whole=Place(values=expected.whole),
        notes=(
            Note(kind="engine", where="theory", message="Predicted: nothing was run."),
            _NO_EXTREMES,
            *expected.notes,
        ),
    )
