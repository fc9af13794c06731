"""Every causal-LM class of transformers, tiny: loaded, traced, audited, measured, predicted."""

import contextlib
import gc
import io
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.theory import Deviation, deviations
from gptinit.api.prediction import measure_with_prediction, theory_of
from gptinit.auditing.audit import audit_factory
from gptinit.config import RunConfig
from gptinit.errors import MeasureError
from gptinit.gate.student_t import student_quantile
from gptinit.load.factory import Factory
from gptinit.measure.measure import measure
from gptinit.measure.traced_subject import traced_subject
from gptinit.results.profile import Place, Profile
from gptinit.theory import TheoryModel

__all__ = [
    "STAGES",
    "Outcome",
    "main",
    "predicted",
    "short_config",
    "sweep",
    "sweep_class",
    "table",
    "tiny_config",
    "wide_config",
    "width_error",
]

STAGES: tuple[str, ...] = ("loads", "traces", "flows", "measures")
"""What a class goes through: its configuration, the audit, the forward pass, a measurement."""

_TINY = {
    "hidden_size": 64,
    "n_embd": 64,
    "d_model": 64,
    "word_embed_proj_dim": 64,
    "embedding_size": 64,
    "num_hidden_layers": 2,
    "n_layer": 2,
    "num_layers": 2,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "num_decoder_layers": 2,
    "num_encoder_layers": 2,
    "num_attention_heads": 4,
    "n_head": 4,
    "num_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 128,
    "n_inner": 128,
    "d_ff": 128,
    "ffn_dim": 128,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "ffn_hidden_size": 128,
    "vocab_size": 128,
    "max_position_embeddings": 128,
    "n_positions": 128,
    "n_ctx": 128,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 64,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""Settings of a model small enough to draw and run in a second; pad, bos and eos stay inside."""


_WIDE: dict[str, int | None] = {
    **_TINY,
    **{name: 256 for name, size in _TINY.items() if size == 64},
    **{name: 640 for name, size in _TINY.items() if size == 128},
    "head_dim": 64,
    "v_head_dim": 64,
    "rotary_dim": 32,
    "moe_intermediate_size": 64,
    "vocab_size": 1024,
    "max_position_embeddings": 128,
    "n_positions": 128,
    "n_ctx": 128,
    "pad_token_id": None,
}
"""Settings of a model wide enough for formulas that hold in the limit of many channels."""

_PREDICTED = RunConfig(seeds=10, seq_len=48, device="cpu", engine="dense", grad=True)

_LARGEST = 300_000_000
"""Parameters up to which a model is drawn here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How far one class came.

    Attributes:
        name: of the class.
        reached: the stages that it passed.
        reason: what stopped it, or what the audit or the reading says besides.
        findings: "rule (severity)" of what the audit found above a note.
        seconds: that it took.
        prediction: the largest deviation of theory, or why it predicts nothing; "" where that was
            not looked at.
        is_predicted: whether theory predicts it.
        is_off: whether a deviation is more than its standard error and the width account for.
    """

    name: str
    reached: tuple[str, ...]
    reason: str
    findings: tuple[str, ...]
    seconds: float
    prediction: str = ""
    is_predicted: bool = False
    is_off: bool = False


def tiny_config(config_class: Any) -> Any:
    """A configuration of a class with every known size made small.

    Args:
        config_class: of transformers.
    """
    return _with_sizes(config_class, _TINY)


def wide_config(config_class: Any) -> Any:
    """A configuration of a class as narrow as theory's formulas allow.

    Args:
        config_class: of transformers.
    """
    return _with_sizes(config_class, _WIDE)


def _with_sizes(config_class: Any, sizes: Mapping[str, int | None]) -> Any:
    """The default configuration with every size that it has replaced, nested ones too."""
    config = config_class()
    _shrink(config, sizes)
    for name in list(vars(config)):
        inner = getattr(config, name, None)
        if hasattr(inner, "to_dict"):
            _shrink(inner, sizes)
    return config


def _require_small(n_params: int) -> None:
    """Refuse to draw a model that is large: only its sizes would not go together when small.

    Raises:
        MeasureError: if it is.
    """
    if n_params > _LARGEST:
        raise MeasureError(f"{n_params} parameters are too many for this table.")


def short_config(config_class: Any) -> Any:
    """The default configuration of a class with few layers and every other size its own.

    Args:
        config_class: of transformers.
    """
    config = config_class()
    for name in _TINY:
        if name.endswith(("layers", "layer")) and isinstance(getattr(config, name, None), int):
            with contextlib.suppress(Exception):
                setattr(config, name, _TINY[name])
    _cut_lists(config)
    return config


def _shrink(config: Any, sizes: Mapping[str, int | None]) -> None:
    """Make the sizes of one configuration small, where it has them."""
    for name, value in sizes.items():
        old = getattr(config, name, False)
        if old is None or (isinstance(old, int) and not isinstance(old, bool)):
            with contextlib.suppress(Exception):
                setattr(config, name, value)
    _cut_lists(config)


def _cut_lists(config: Any) -> None:
    """Leave two entries of every list that has one a layer."""
    for name, value in list(vars(config).items()):
        is_per_layer = isinstance(value, list) and len(value) > 2 and "layer" in name
        if is_per_layer and "indices" not in name:
            with contextlib.suppress(Exception):
                setattr(config, name, value[:2])


def sweep_class(name: str, model_class: Any, config_class: Any) -> Outcome:
    """How far one class comes.

    Args:
        name: for the table.
        model_class: builds the model from a configuration.
        config_class: of that configuration.
    """
    tiny = _come_far(name, model_class, lambda: tiny_config(config_class))
    if len(tiny.reached) < STAGES.index("measures"):
        # Sizes that do not go together are no fault of the model's: its own, with few layers.
        short = _come_far(name, model_class, lambda: short_config(config_class))
        tiny = max(tiny, short, key=lambda outcome: len(outcome.reached))
    if not tiny.is_predicted:
        return tiny
    return _predict(tiny, model_class, lambda: wide_config(config_class))


def _predict(outcome: Outcome, model_class: Any, make: Callable[[], Any]) -> Outcome:
    """The same with the largest deviation of theory from a measurement of a wider model."""
    try:
        factory = _factory(outcome.name, model_class, _own(model_class, make()))
        found = predicted(measure_with_prediction(traced_subject(factory), _PREDICTED))
    except Exception as error:  # whatever a class does with these sizes
        return replace(outcome, prediction=f"{type(error).__name__}: {error}"[:150])
    if not found:
        return replace(outcome, prediction="not at this width", is_predicted=False)
    limit = _limit(len(found))
    worst = max(found, key=lambda d: (abs(d.value) - width_error(256)) / max(d.stderr, 1e-9))
    text = f"{worst.value:+.3f} ± {worst.stderr:.3f} ({worst.stat}, {worst.where})"
    is_off = abs(worst.value) > width_error(256) + limit * worst.stderr
    return replace(outcome, prediction=text, is_off=is_off)


def width_error(n_embd: int) -> float:
    """How far off theory may be because a model is narrow, in ln or as a difference.

    The built-in GPT of 256 channels (4 heads, 3 layers, 48 tokens, 40 seeds, tied or not, by
    nanogpt and by plain) is off by at most 0.021 with standard errors of up to 0.018, on no
    statistic by more than 2.3 of them: 4 / 256 = 0.016 is what it leaves room for.
    """
    return 4 / n_embd


def _limit(comparisons: int) -> float:
    """Standard errors that one of as many comparisons exceeds in one class of a thousand."""
    return student_quantile(0.5e-3 / comparisons, _PREDICTED.seeds - 1)


def predicted(profile: Profile) -> list[Deviation]:
    """Every deviation of a profile's predictions from its own values.

    Args:
        profile: a measurement with predictions beside it.
    """

    def guess(place: Place) -> Place:
        return replace(place, values=place.predicted)

    expected = replace(
        profile,
        embedding=guess(profile.embedding),
        layers=tuple(map(guess, profile.layers)),
        final=guess(profile.final),
        whole=guess(profile.whole),
    )
    return list(deviations(profile, expected))


def _own(model_class: Any, config: Any) -> Any:
    """The part of a configuration that a class takes: its text half, of one with several."""
    wanted = getattr(model_class, "config_class", None)
    is_part = isinstance(wanted, type) and not isinstance(config, wanted)
    return config.get_text_config() if is_part else config


def _come_far(name: str, model_class: Any, make: Callable[[], Any]) -> Outcome:
    """How far one class comes with one configuration."""
    start = time.perf_counter()
    reached: list[str] = []
    findings: tuple[str, ...] = ()
    reason, prediction, is_predicted = "", "", False
    try:
        factory = _factory(name, model_class, _own(model_class, make()))
        reached.append("loads")
        audit = audit_factory(factory)
        reached.append("traces")
        findings = tuple(
            f"{f.rule} ({f.severity}) {f.where}" for f in audit.findings if f.severity != "note"
        )
        reason = "; ".join(n.message for n in audit.notes if n.kind == "approximate")
        subject = traced_subject(factory)
        reached.append("flows")
        is_predicted = isinstance(theory_of(subject), TheoryModel)
        prediction = getattr(theory_of(subject), "message", "").removeprefix("No prediction: ")
        _require_small(subject.facts.n_params)
        measure(subject, RunConfig(seeds=1, seq_len=16, data="uniform", device="cpu"))
        reached.append("measures")
    except Exception as error:  # whatever a class does: its reason is a line of the table
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    seconds = time.perf_counter() - start
    gc.collect()
    return Outcome(
        name=name,
        reached=tuple(reached),
        reason=reason,
        findings=findings,
        seconds=seconds,
        prediction=prediction,
        is_predicted=is_predicted,
    )


def _factory(name: str, model_class: Any, config: Any) -> Factory:
    """A class with a configuration, as what is read."""
    return Factory(
        name=name,
        source="transformers",
        build=lambda: model_class(config),
        settings={k: v for k, v in config.to_dict().items() if isinstance(v, int | float | str)},
        with_settings=None,
        architecture=config.model_type,
        tied=getattr(config, "tie_word_embeddings", None),
        block_size=64,
    )


def _classes() -> Iterator[tuple[str, Any, Any]]:
    """(name, model class, configuration class) of every causal LM."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING  # an extra: only this benchmark needs it

    for config_class in list(MODEL_FOR_CAUSAL_LM_MAPPING.keys()):
        try:
            model_class = MODEL_FOR_CAUSAL_LM_MAPPING[config_class]
        except (ImportError, ValueError, AttributeError, KeyError):
            continue
        yield str(getattr(model_class, "__name__", model_class)), model_class, config_class


def sweep(only: str = "") -> list[Outcome]:
    """Every class, or those whose name holds `only`.

    Args:
        only: part of a name.
    """
    found = []
    for name, model_class, config_class in _classes():
        if only.lower() not in name.lower():
            continue
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            found.append(sweep_class(name, model_class, config_class))
    return found


def table(outcomes: list[Outcome]) -> str:
    """Counts, then everything that did not go through or was found, then what theory says."""
    counts = Counter(stage for outcome in outcomes for stage in outcome.reached)
    known = [o for o in outcomes if o.is_predicted]
    lines = [
        f"{len(outcomes)} classes: "
        + ", ".join(f"{counts[s]} {s}" for s in STAGES)
        + f"; {len(known)} predicted, {sum(o.is_off for o in known)} of them wrongly"
    ]
    for outcome in outcomes:
        if outcome.reason or outcome.findings or len(outcome.reached) < len(STAGES):
            last = outcome.reached[-1] if outcome.reached else "nothing"
            lines.append(f"{outcome.name}: {last}, {outcome.seconds:.1f} s. {outcome.reason}")
            lines += [f"    {finding}" for finding in outcome.findings]
    lines += [f"predicted: {o.name}: {o.prediction}{' OFF' * o.is_off}" for o in known]
    refused = Counter(o.prediction for o in outcomes if o.prediction and not o.is_predicted)
    lines += [f"not predicted: {count} classes: {why}" for why, count in refused.most_common()]
    return "\n".join(lines)


def main(options: Sequence[str]) -> int:
    """Print the table; an option is part of the class names to look at."""
    print(table(sweep(options[0] if options else "")))
    return 0
