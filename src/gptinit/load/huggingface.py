"""A Hugging Face `config.json` as a model: transformers' own class, built without any download."""

import copy
import difflib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from gptinit.errors import ConfigError, SubjectError
from gptinit.facts.names import model_label
from gptinit.load.factory import Factory
from gptinit.load.isolation import blamed_on, guarded, isolated
from gptinit.load.settings import SCALARS, Setting, kinds_of, resolved, sizes

__all__ = ["huggingface_factory"]

Raw = dict[str, Any]

_AUTO_CLASSES = (
    "AutoModelForCausalLM",
    "AutoModelForSeq2SeqLM",
    "AutoModelForImageTextToText",
    "AutoModelForMaskedLM",
    "AutoModel",
)
"""Where a model class is looked up, in this order; `architectures` comes after the first."""

_LABELS = ("id2label", "label2id")
"""Tables of a config that name the labels of a task, not settings of a model."""


def huggingface_factory(
    path: str | Path,
    overrides: Mapping[str, object] | None = None,
    *,
    trust_remote_code: bool = False,
) -> Factory:
    """The factory of a Hugging Face config, as transformers' `from_config` builds it.

    That is: in the config's dtype, else in torch's default; with the attention that transformers
    chooses; without pretrained weights. The class is the one for causal language modelling if
    there is one, whatever task `architectures` names; else the one that it names.

    Args:
        path: the file, or a folder that holds a config.json.
        overrides: keys to replace, in nested configs as "text_config.hidden_size". Lists with one
            entry per layer are cut or repeated for a new number of layers.
        trust_remote_code: whether Python code beside the config may run.

    Raises:
        ConfigError: if there is no such file, it is not a config, a key cannot be used, or
            transformers is not installed.
        SubjectError: if transformers does not know the model or cannot build it.
    """
    file = _config_file(Path(path))
    raw = _read(file)
    with _isolated_offline():
        transformers = _transformers(file)
        configure = _configurer(transformers, file, raw, trust_remote_code=trust_remote_code)
        return _factory(transformers, file, raw, configure, dict(overrides or {}))


def _factory(
    transformers: ModuleType,
    file: Path,
    raw: Raw,
    configure: Callable[[Raw], Any],
    overrides: dict[str, object],
) -> Factory:
    label = f"{raw['model_type']} {file.name}"
    with blamed_on(str(file), "be a config that transformers accepts"):
        before = configure(copy.deepcopy(raw))
    values = _values(label, before, overrides)
    changed = _changed(raw, before, values)
    with blamed_on(str(file), "be a config that transformers accepts"):
        config = configure(copy.deepcopy(changed))
    _require_kept(label, config, values)
    settings = _scalars(config)
    build = _builder(transformers, file, config)

    def with_settings(more: Mapping[str, object]) -> Factory:
        with _isolated_offline():
            return _factory(transformers, file, raw, configure, {**values, **more})

    return Factory(
        name=model_label(label, values),
        source=f"{file}, transformers {transformers.__version__}",
        build=guarded(label, lambda: build(configure(copy.deepcopy(changed))), _isolated_offline),
        settings=settings,
        within=_isolated_offline,
        with_settings=with_settings,
        architecture=str(raw["model_type"]),
        **sizes(_entries_of_sizes(config, settings)),
    )


def _config_file(path: Path) -> Path:
    file = path / "config.json" if path.is_dir() else path
    if file.is_file():
        return file
    if path.is_dir():
        raise ConfigError(
            f"model must be a folder that holds a config.json, got {str(path)!r}. "
            "For Python code write path/model.py:NAME."
        )
    raise ConfigError(f"model must be a file that exists, got {str(path)!r}. Check the path.")


def _read(file: Path) -> Raw:
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        message = " ".join(str(error).split())
        raise ConfigError(f"{file} must be JSON, got an error: {message}.") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{file} must hold a JSON object, got {type(raw).__name__}.")
    if not isinstance(raw.get("model_type"), str) or not raw["model_type"]:
        raise ConfigError(
            f"{file} must name a model_type, got {raw.get('model_type')!r}. "
            "A config saved by transformers does."
        )
    return raw


def _transformers(file: Path) -> ModuleType:
    """The library; imported here because it is an extra and takes seconds."""
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            f"transformers must be installed to read {file}. Run pip install 'gptinit[hf]'."
        ) from error
    return transformers


@contextmanager
def _isolated_offline() -> Iterator[None]:
    with isolated(), _offline():
        yield


@contextmanager
def _offline() -> Iterator[None]:
    """Forbid downloads inside the block; the rest of the process may still download."""
    try:
        from huggingface_hub import constants  # part of an extra
    except ImportError:
        yield  # without it nothing can be downloaded, and _transformers() says what is missing
        return
    # The constant for what is imported already, the variable for what reads it from now on.
    in_environment, in_library = os.environ.get("HF_HUB_OFFLINE"), constants.HF_HUB_OFFLINE
    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = in_library
        os.environ.pop("HF_HUB_OFFLINE")
        if in_environment is not None:
            os.environ["HF_HUB_OFFLINE"] = in_environment


def _configurer(
    transformers: ModuleType, file: Path, raw: Raw, *, trust_remote_code: bool
) -> Callable[[Raw], Any]:
    """The function that makes transformers' config object of the entries of a file."""
    kind, version = raw["model_type"], transformers.__version__
    if trust_remote_code and "auto_map" in raw:
        return _remote_class(transformers, file, raw).from_dict  # type: ignore[no-any-return]
    if kind in transformers.CONFIG_MAPPING:
        config_class = transformers.CONFIG_MAPPING[kind]
        return lambda entries: config_class.from_dict(
            {name: value for name, value in entries.items() if name != "auto_map"}
        )
    if "auto_map" in raw:
        raise SubjectError(
            f"{file} must have a model_type that transformers {version} knows, got {kind!r} with "
            "its own Python code. Add --trust-remote-code to run that code."
        )
    near = difflib.get_close_matches(kind, list(transformers.CONFIG_MAPPING), n=2, cutoff=0.6)
    hint = f"Did you mean {' or '.join(near)}?" if near else "A newer release may know it."
    raise SubjectError(
        f"{file} must have a model_type that transformers {version} knows, got {kind!r}. {hint}"
    )


def _remote_class(transformers: ModuleType, file: Path, raw: Raw) -> Any:
    if "AutoConfig" not in raw["auto_map"]:
        return transformers.CONFIG_MAPPING[raw["model_type"]]
    with blamed_on(str(file), "come with code that loads"):
        return transformers.dynamic_module_utils.get_class_from_dynamic_module(
            raw["auto_map"]["AutoConfig"], str(file.parent), local_files_only=True
        )


def _values(label: str, config: Any, overrides: Mapping[str, object]) -> dict[str, object]:
    known = {n: Setting(kinds=kinds_of(None, v)) for n, v in _flat(config.to_dict()).items()}
    given = [(config.attribute_map.get(name, name), value) for name, value in overrides.items()]
    return resolved(f"setting of {label}", given, known)


def _changed(raw: Raw, config: Any, values: Mapping[str, object]) -> Raw:
    """The entries of a file with some replaced, under whichever spelling it uses."""
    changed = copy.deepcopy(raw)
    for name, value in values.items():
        *path, last = name.split(".")
        entries, part, defaults = changed, config, config.to_dict()
        for step in path:
            part, defaults = getattr(part, step, None), defaults[step]
            if not isinstance(entries.get(step), dict):
                entries[step] = copy.deepcopy(defaults)
            if step == "rope_parameters":  # older spellings would win over it; they were merged
                entries.pop("rope_scaling", None)
                entries.pop("rope_theta", None)
            entries = entries[step]
        aliases = getattr(part, "attribute_map", {})
        if aliases.get("num_hidden_layers", "num_hidden_layers") == last:
            _fit_layers(entries, defaults.get(last), value)
        for alias in [a for a, own in aliases.items() if own == last]:
            entries.pop(alias, None)
        if last == "dtype":
            entries.pop("torch_dtype", None)
        entries[last] = value
    return changed


def _require_kept(label: str, config: Any, values: Mapping[str, object]) -> None:
    """Refuse a value that transformers replaces by another; None may stand for its own choice."""
    kept = _flat(config.to_dict())
    for name, value in values.items():
        if value is not None and kept.get(name) != value:
            raise ConfigError(
                f"{name} must be a key of {label} that transformers keeps, got {value!r}, "
                f"which it replaced by {kept.get(name)!r}. Change the file itself."
            )


def _fit_layers(entries: Raw, before: object, now: object) -> None:
    for name, value in entries.items():
        if isinstance(value, list) and len(value) == before and isinstance(now, int):
            entries[name] = [value[layer % len(value)] for layer in range(now)] if value else value


def _flat(entries: Raw, prefix: str = "") -> dict[str, object]:
    """The entries of a config; those of nested configs by dotted names."""
    flat: dict[str, object] = {}
    for name, value in entries.items():
        if isinstance(value, dict):
            flat |= {} if name in _LABELS else _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _scalars(config: Any) -> dict[str, object]:
    skipped = ("transformers_version", "_name_or_path", "model_type")
    return {
        name: value
        for name, value in _flat(config.to_dict()).items()
        if type(value) in SCALARS and name.rpartition(".")[2] not in skipped
    }


def _entries_of_sizes(config: Any, settings: Mapping[str, object]) -> dict[str, object]:
    """The entries that may name sizes of the language model; later ones override earlier."""
    try:
        text = config.get_text_config()
    except ValueError:  # it has a text encoder too
        text = config.get_text_config(decoder=True)
    standard = {name: getattr(text, name, None) for name in text.attribute_map}
    own = {name: value for name, value in text.to_dict().items() if type(value) in SCALARS}
    return {**settings, **own, **standard}


def _builder(transformers: ModuleType, file: Path, config: Any) -> Callable[[Any], object]:
    """The function that builds the model of a config."""
    remote = getattr(config, "auto_map", None) or {}
    for name in _AUTO_CLASSES:
        auto = getattr(transformers, name, None)
        if auto and name in remote:
            return lambda made: _from_folder(auto, made, file)
        if auto and type(config) in auto._model_mapping:
            return lambda made: auto.from_config(made, trust_remote_code=False)
        # Reached first after AutoModelForCausalLM, so that a causal class is preferred to it.
        for architecture in config.architectures or ():
            kind = getattr(transformers, architecture, None)
            if isinstance(kind, type):
                return kind._from_config  # type: ignore[attr-defined, no-any-return]
    raise SubjectError(
        f"{file} must be the config of a language model, got model_type "
        f"{config.model_type!r}. transformers {transformers.__version__} has no model class for it."
    )


def _from_folder(auto: Any, config: Any, file: Path) -> object:
    # from_config looks the code up there.
    config._name_or_path = str(file.parent)
    return auto.from_config(config, trust_remote_code=True)
