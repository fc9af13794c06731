"""Settings of other people's models: typed values of texts, sizes under their many names."""

import json
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import torch

from gptinit.errors import ConfigError, unknown_name

__all__ = [
    "MISSING",
    "SCALARS",
    "Setting",
    "claimed_tie",
    "kinds_of",
    "resolve",
    "resolved",
    "setting_called",
    "sizes",
    "typed",
]

MISSING = object()
"""Stands for the default of a setting that has none."""

SCALARS: tuple[type, ...] = (bool, int, float, type(None), str)
"""Types of plain values, in the order in which they are tried for a text."""

_KINDS = (torch.dtype, *SCALARS)
"""Types of values that a text can be, where an annotation or a default says so."""

_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "n_layer": ("num_hidden_layers", "n_layers", "num_layers", "decoder_layers", "depth"),
        "n_head": ("num_attention_heads", "n_heads", "num_heads", "decoder_attention_heads"),
        "n_kv_head": (
            "num_key_value_heads", "n_kv_heads", "num_kv_heads", "n_query_groups",
            "num_query_groups",
        ),
        "head_dim": ("head_size", "d_head", "d_kv", "kv_channels"),
        "n_embd": ("hidden_size", "d_model", "dim", "embed_dim", "emb_dim", "model_dim"),
        "d_ff": (
            "intermediate_size", "n_inner", "ffn_dim", "decoder_ffn_dim", "hidden_dim",
            "ffn_hidden_size", "mlp_hidden_size", "dff",
        ),
        "block_size": (
            "max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "context_length",
            "max_sequence_length", "max_seq_length", "sequence_len", "seq_len", "seq_length",
            "context_size", "ctx_len", "max_target_positions",
        ),
        "vocab_size": ("n_vocab", "padded_vocab_size", "num_tokens", "vocabulary_size"),
        "tied": (
            "tie_word_embeddings", "tie_weights", "tie_embeddings", "weight_tying",
            "share_embeddings",
        ),
    }
)  # fmt: skip
"""Our name of a size -> the names that others give it, the most specific first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting that a model takes.

    Attributes:
        kinds: the types that its value may have, as `typed` takes them; none for any.
        default: its default; MISSING if it must be given.
    """

    kinds: frozenset[type] = frozenset()
    default: object = MISSING


def sizes(settings: Mapping[str, object]) -> dict[str, Any]:
    """The sizes that settings name, by our names, as a `Factory` takes them; None for others.

    Example:
        >>> found = sizes({"num_hidden_layers": 2, "vocab_size": -1, "tie_word_embeddings": True})
        >>> found["n_layer"], found["vocab_size"], found["tied"]
        (2, None, True)
    """
    found: dict[str, Any] = {}
    for size, words in _WORDS.items():
        named = [settings[word] for word in (size, *words) if word in settings]
        is_flag = size == "tied"  # True is no count; -1 and 0 stand for "not set"
        fit = (v for v in named if isinstance(v, bool) == is_flag and isinstance(v, int))
        found[size] = next((v for v in fit if is_flag or v > 0), None)
    return found


def claimed_tie(config: object) -> bool | None:
    """Whether a configuration says that the head is the token embedding; None if it is silent.

    Args:
        config: of any class, or a mapping.

    Example:
        >>> claimed_tie({"weight_tying": True}), claimed_tie(None)
        (True, None)
    """
    if not isinstance(config, Mapping):
        config = {word: getattr(config, word, None) for word in ("tied", *_WORDS["tied"])}
    return sizes(config)["tied"]  # type: ignore[no-any-return]


def resolve(what: str, name: str, known: Iterable[str]) -> str:
    """The model's setting for `name`: the one of that name, or the size that we call so.

    Raises:
        ConfigError: if the model has no such setting.

    Example:
        >>> resolve("setting of model.py:GPT", "n_layer", ["dim", "n_layers"])
        'n_layers'
    """
    names = list(known)
    words = (name, *_WORDS.get(name, ()))
    for prefix in ("", "text_config."):
        for word in words:
            if prefix + word in names:
                return prefix + word
    if names:
        raise unknown_name(what, name, names)
    raise ConfigError(f"{what} must be one that it takes, got {name!r}. It takes no settings.")


def resolved(
    what: str,
    given: Iterable[tuple[str, object]],
    known: Mapping[str, Setting],
    *,
    is_open: bool = False,
) -> dict[str, object]:
    """What a user gave, by the model's own names and in its types.

    Args:
        what: the subject of errors.
        given: names of settings, and values or their texts.
        known: the settings that the model has.
        is_open: whether it takes others too.

    Raises:
        ConfigError: if one is unknown, of the wrong type, or given twice.
    """
    values: dict[str, object] = {}
    for name, value in given:
        own = name if is_open and name not in known else resolve(what, name, known)
        if own in values:
            raise ConfigError(f"{own} must be given once, got it twice.")
        values[own] = typed(own, value, known[own].kinds if own in known else frozenset())
    return values


def setting_called(name: str, settings: Mapping[str, object]) -> object:
    """The setting of that name, or the size that it is another name of; MISSING if there is none.

    Example:
        >>> setting_called("n_layer", {"num_layers": 12}), setting_called("dim", {"n_embd": 64})
        (12, 64)
    """
    if name in settings:
        return settings[name]
    for size, words in _WORDS.items():
        if name in (size, *words):
            value = sizes(settings)[size]
            return MISSING if value is None else value
    return MISSING


def typed(name: str, value: object, kinds: frozenset[type]) -> object:
    """A value as one of the plain types `kinds`; a text is parsed as the first that fits.

    Args:
        name: the setting, for the error.
        value: a plain value, or the text of one.
        kinds: types among SCALARS, or torch.dtype; none allows all of them.

    Raises:
        ConfigError: if the value is of none of these types.

    Example:
        >>> typed("dropout", "0.1", frozenset({float})), typed("n_layer", "12", frozenset())
        (0.1, 12)
    """
    if not kinds and isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError as error:
            raise ConfigError(f"{name} must be valid JSON, got {value!r}.") from error
    for kind in _KINDS:
        if kind in kinds or (not kinds and (kind in SCALARS or str(value).startswith("torch."))):
            try:
                return _as(kind, value)
            except (KeyError, ValueError, OverflowError):
                continue
    if kinds:
        rule = " or ".join(_IN_WORDS[kind] for kind in _KINDS if kind in kinds)
        raise ConfigError(f"{name} must be {rule}, got {value!r}.")
    return value


def kinds_of(hint: object, default: object) -> frozenset[type]:
    """The plain types that an annotation allows; none if it allows others too.

    Args:
        hint: the annotation, evaluated; None if there is none.
        default: the default, whose type decides without an annotation.

    Example:
        >>> sorted(kind.__name__ for kind in kinds_of(int | None, 3))
        ['NoneType', 'int']
    """
    if hint is None or hint is Any:
        return frozenset({type(default)} & set(_KINDS) - {type(None)})
    kinds = frozenset(_flat(hint))
    if not kinds <= frozenset(_KINDS):
        return frozenset()
    return kinds | {type(None)} if default is None else kinds


def _flat(hint: object) -> Iterable[Any]:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return [kind for part in get_args(hint) for kind in _flat(part)]
    if origin is Literal:
        return [type(value) for value in get_args(hint)]
    return _flat(get_args(hint)[0]) if origin is Annotated else [hint]


def _as(kind: type, value: object) -> object:
    """A value as one of the plain types; a bool is no int here.

    Raises:
        KeyError, ValueError, OverflowError: if it is none.
    """
    if type(value) is kind:
        return value
    if kind is float and type(value) is int:
        return float(value)
    if not isinstance(value, str) or kind is str:
        raise ValueError(value)
    if kind is torch.dtype:
        named = getattr(torch, value.removeprefix("torch."), None)
        if isinstance(named, torch.dtype):
            return named
        raise ValueError(value)
    return _SPELLED[kind][value.lower()] if kind in _SPELLED else kind(value)


_SPELLED: Mapping[type, Mapping[str, object]] = MappingProxyType(
    {bool: {"true": True, "false": False}, type(None): {"none": None, "null": None}}
)

_IN_WORDS: Mapping[type, str] = MappingProxyType(
    {
        torch.dtype: "a dtype of torch", bool: "true or false", int: "an integer",
        float: "a number", type(None): "none", str: "a text",
    }
)  # fmt: skip
