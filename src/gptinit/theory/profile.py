"""A whole Profile by theory alone: nothing is run and nothing is drawn but the tokens."""

from dataclasses import replace

from gptinit.config import GPTConfig, ModelFacts, RunConfig
from gptinit.errors import ConfigError
from gptinit.facts.presets import model_facts
from gptinit.facts.schemes import Scheme
from gptinit.results.machine import processor_name
from gptinit.results.profile import Note, Place, Profile, run_facts
from gptinit.theory.model import TheoryModel, theory_model
from gptinit.theory.predict import predict
from gptinit.tokens import RunTokens, tokens_of_run

__all__ = ["no_formulas", "predicted_profile", "theory_profile"]


_NO_EXTREMES = Note(
    kind="theory-missing",
    where="max_abs, attn_score_max, nonfinite",
    message="Theory has no formula for extremes: they are not predicted.",
)


def no_formulas(name: str, why: str) -> ConfigError:
    """What to raise where theory says nothing of a model."""
    told = (f"theory must have formulas for {name}, got none.", why, "Use an engine that measures.")
    return ConfigError(" ".join(filter(None, told)))


def predicted_profile(
    model: TheoryModel,
    facts: ModelFacts,
    run: RunConfig,
    tokens: RunTokens,
    *,
    scheme: str | None,
) -> Profile:
    """What theory expects of a model, in the place of what measuring would find.

    Args:
        model: what is predicted.
        facts: the same for a person.
        run: seeds, batch size, length (resolved) and data as for a measurement.
        tokens: what it would run on.
        scheme: canonical slug of the init, or None for a foreign model's own.

    Raises:
        ConfigError: if theory says nothing of its layers.
    """
    run = replace(run, engine="theory", device="cpu", dtype="float32")
    facts_of_run = run_facts(
        run,
        vocab_size=model.vocab_size,
        device_name=processor_name(),
        data_sha256=tokens.fingerprint,
    )
    expected = predict(
        model,
        tokens.ids,
        grad=run.grad,
        lens_rows=facts_of_run.lens_rows,
        query_rows=facts_of_run.query_rows,
    )
    if not any(expected.layers):
        why = expected.notes[0].message if expected.notes else "Its numbers overflow."
        raise no_formulas(facts.name, why)
    return Profile(
        torch=None,
        model=facts,
        scheme=scheme,
        run=facts_of_run,
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


def theory_profile(
    config: GPTConfig, scheme: Scheme, run: RunConfig, *, name: str, source: str
) -> Profile:
    """The profile of the built-in GPT by theory alone.

    Args:
        config: the shape.
        scheme: the init.
        run: seeds, batch size, length and data as for a measurement.
        name: what to call the model in results.
        source: where the shape comes from.

    Raises:
        ConfigError: if scheme, sequence, data and model do not go together.
    """
    tokens, run = tokens_of_run(
        run, None, vocab_size=config.vocab_size, block_size=config.block_size
    )
    facts = model_facts(config, name=name, source=source)
    return predicted_profile(theory_model(config, scheme), facts, run, tokens, scheme=scheme.slug)
