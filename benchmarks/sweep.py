"""Every causal-LM class of transformers, tiny: loaded, traced, audited, measured."""

import contextlib
import gc
import io
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gptinit.audits import audit_factory
from gptinit.config import RunConfig
from gptinit.errors import MeasureError
from gptinit.factory import Factory
from gptinit.measuring import measure
from gptinit.subjects.foreign import foreign_subject

__all__ = [
    "STAGES",
    "Outcome",
    "main",
    "short_config",
    "sweep",
    "sweep_class",
    "table",
    "tiny_config",
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
    """

    name: str
    reached: tuple[str, ...]
    reason: str
    findings: tuple[str, ...]
    seconds: float


def tiny_config(config_class: Any) -> Any:
    """A configuration of a class with every known size made small.

    Args:
        config_class: of transformers.
    """
    config = config_class()
    _shrink(config)
    for name in list(vars(config)):
        inner = getattr(config, name, None)
        if hasattr(inner, "to_dict"):
            _shrink(inner)
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


def _shrink(config: Any) -> None:
    """Make the sizes of one configuration small, where it has them."""
    for name, value in _TINY.items():
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
    if len(tiny.reached) >= STAGES.index("measures"):
        return tiny
    # Sizes that do not go together are no fault of the model's: its own, with few layers.
    short = _come_far(name, model_class, lambda: short_config(config_class))
    return max(tiny, short, key=lambda outcome: len(outcome.reached))


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
    reason = ""
    try:
        config = _own(model_class, make())
        factory = Factory(
            name=name,
            source="transformers",
            build=lambda: model_class(config),
            settings={
                k: v for k, v in config.to_dict().items() if isinstance(v, int | float | str)
            },
            with_settings=None,
            architecture=config.model_type,
            tied=getattr(config, "tie_word_embeddings", None),
            block_size=64,
        )
        reached.append("loads")
        audit = audit_factory(factory)
        reached.append("traces")
        findings = tuple(
            f"{f.rule} ({f.severity}) {f.where}" for f in audit.findings if f.severity != "note"
        )
        reason = "; ".join(n.message for n in audit.notes if n.kind == "approximate")
        subject = foreign_subject(factory)
        reached.append("flows")
        _require_small(subject.facts.n_params)
        measure(subject, RunConfig(seeds=1, seq_len=16, data="uniform", device="cpu"))
        reached.append("measures")
    except Exception as error:  # whatever a class does: its reason is a line of the table
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    seconds = time.perf_counter() - start
    gc.collect()
    return Outcome(
        name=name, reached=tuple(reached), reason=reason, findings=findings, seconds=seconds
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
    """Counts, then everything that did not go through or was found."""
    counts = Counter(stage for outcome in outcomes for stage in outcome.reached)
    lines = [f"{len(outcomes)} classes: " + ", ".join(f"{counts[s]} {s}" for s in STAGES)]
    for outcome in outcomes:
        if outcome.reason or outcome.findings or len(outcome.reached) < len(STAGES):
            last = outcome.reached[-1] if outcome.reached else "nothing"
            lines.append(f"{outcome.name}: {last}, {outcome.seconds:.1f} s. {outcome.reason}")
            lines += [f"    {finding}" for finding in outcome.findings]
    return "\n".join(lines)


def main(options: Sequence[str]) -> int:
    """Print the table; an option is part of the class names to look at."""
    print(table(sweep(options[0] if options else "")))
    return 0
