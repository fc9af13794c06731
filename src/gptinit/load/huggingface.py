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
from gptinit.load.settings import SCALARS, kinds_of, resolve, sizes, typed

__all__ = ["huggingface_factory"]

Raw = dict[str, Any]

_AUTO_CLASSES = (
    "AutoModelForCausalLM",
    "AutoModelForSeq2SeqLM",
    "AutoModelForImageTextToText",
    "AutoModelForMaskedLM",
    "AutoModel",
)
"""Where a model is looked for, in this order; `architectures` decides before the second."""


_LABELS = ("id2label", "label2id")
"""Tables of a config that hold words of a task, not settings of a model."""


def huggingface_factory(
    path: str | Path,
    overrides: Mapping[str, object] | None = None,
    *,
    trust_remote_code: bool = False,
) -> Factory:
    """The factory of a Hugging Face config, as transformers' `from_config` builds it.

    That is: in the dtype that the config names, else in torch's default dtype; with the attention
    that transformers chooses; never with weights from anywhere. The class is the one for causal
    language modelling, whatever task `architectures` names; else the one that it names.

    Args:
        path: the file, or a folder that holds a config.json.
        overrides: keys to replace, those of a nested config as "text_config.hidden_size". Lists
            with an entry per layer are cut or repeated to a new number of layers.
        trust_remote_code: whether Python code beside the config may run.

    Raises:
        ConfigError: if there is no such file, it is no config, a key cannot be used, or
            transformers is not installed.
        SubjectError: if transformers does not know the model or cannot build it.
    """
    file = _config_file(Path(path))
    raw = _read(file)
    with isolated(), _offline():
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
    """The factory of a config that was read, with overrides."""
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
        with isolated(), _offline():
            return _factory(transformers, file, raw, configure, {**values, **more})

    @contextmanager
    def within() -> Iterator[None]:
        with isolated(), _offline():
            yield

    return Factory(
        name=model_label(label, values),
        source=f"{file}, transformers {transformers.__version__}",
        build=guarded(label, lambda: build(configure(copy.deepcopy(changed))), within),
        settings=settings,
        with_settings=with_settings,
        architecture=str(raw["model_type"]),
        **sizes(_sizes_told(config, settings)),
    )


def _config_file(path: Path) -> Path:
    """The config.json that a path means."""
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
    """The entries of a config that names its model type."""
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        told = " ".join(str(error).split())
        raise ConfigError(f"{file} must be JSON, got an error: {told}.") from error
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
def _offline() -> Iterator[None]:
    """Forbids downloads for the block, without deciding it for the rest of the process."""
    try:
        from huggingface_hub import constants  # part of an extra
    except ImportError:
        yield  # without it nothing can be downloaded, and _transformers() says what is missing
        return
    told, known = os.environ.get("HF_HUB_OFFLINE"), constants.HF_HUB_OFFLINE
    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = known
        os.environ.pop("HF_HUB_OFFLINE")
        if told is not None:
            os.environ["HF_HUB_OFFLINE"] = told


def _configurer(
    transformers: ModuleType, file: Path, raw: Raw, *, trust_remote_code: bool
) -> Callable[[Raw], Any]:
    """The function from the entries of a config to transformers' object.

    Raises:
        SubjectError: if transformers does not know the model type and its code may not run.
    """
    kind, version = raw["model_type"], transformers.__version__
    if trust_remote_code and "auto_map" in raw:
        return _remote_class(transformers, file, raw).from_dict  # type: ignore[no-any-return]
    if kind in transformers.CONFIG_MAPPING:
        known = transformers.CONFIG_MAPPING[kind]
        return lambda entries: known.from_dict(
            {name: value for name, value in entries.items() if name != "auto_map"}
        )
    if "auto_map" in raw:
        raise SubjectError(
            f"{file} must have a model_type that transformers {version} knows, got {kind!r} with "
            "Python code of its own. Add --trust-remote-code to run that code."
        )
    near = difflib.get_close_matches(kind, list(transformers.CONFIG_MAPPING), n=2, cutoff=0.6)
    hint = f"Did you mean {' or '.join(near)}?" if near else "A newer release may know it."
    raise SubjectError(
        f"{file} must have a model_type that transformers {version} knows, got {kind!r}. {hint}"
    )


def _remote_class(transformers: ModuleType, file: Path, raw: Raw) -> Any:
    """The config class that the code beside a config defines, or transformers' own."""
    if "AutoConfig" not in raw["auto_map"]:
        return transformers.CONFIG_MAPPING[raw["model_type"]]
    with blamed_on(str(file), "come with code that loads"):
        return transformers.dynamic_module_utils.get_class_from_dynamic_module(
            raw["auto_map"]["AutoConfig"], str(file.parent), local_files_only=True
        )


def _values(label: str, config: Any, overrides: Mapping[str, object]) -> dict[str, object]:
    """The overrides by the config's own keys, of the right types."""
    told = _flat(config.to_dict())
    values = {}
    for name, value in overrides.items():
        own = config.attribute_map.get(name, name)
        own = resolve(f"setting of {label}", own, told)
        if own in values:
            raise ConfigError(f"{own} must be given once, got it twice.")
        values[own] = typed(own, value, kinds_of(None, told[own]))
    return values


def _changed(raw: Raw, config: Any, values: Mapping[str, object]) -> Raw:
    """The entries of the config with some replaced."""
    changed = copy.deepcopy(raw)
    for name, value in values.items():
        *path, last = name.split(".")
        entries, part, told = changed, config, config.to_dict()
        for step in path:
            part, told = getattr(part, step, None), told[step]
            if not isinstance(entries.get(step), dict):
                entries[step] = copy.deepcopy(told)
            if step == "rope_parameters":  # older spellings would win, and are in it by now
                entries.pop("rope_scaling", None)
                entries.pop("rope_theta", None)
            entries = entries[step]
        aliases = getattr(part, "attribute_map", {})
        if aliases.get("num_hidden_layers", "num_hidden_layers") == last:
            _fit_layers(entries, told.get(last), value)
        for alias in [a for a, own in aliases.items() if own == last]:
            entries.pop(alias, None)
        if last == "dtype":
            entries.pop("torch_dtype", None)
        entries[last] = value
    return changed


def _require_kept(label: str, config: Any, values: Mapping[str, object]) -> None:
    """Raise if a config has not what it was given: None may mean what transformers chooses."""
    kept = _flat(config.to_dict())
    for name, value in values.items():
        if value is not None and kept.get(name) != value:
            raise ConfigError(
                f"{name} must be a key that {label} keeps as it is given, got {value!r}, "
                f"of which transformers made {kept.get(name)!r}. Change the file itself."
            )


def _fit_layers(entries: Raw, before: object, now: object) -> None:
    """Cut or repeat the lists that have one entry per layer."""
    for name, value in entries.items():
        if isinstance(value, list) and len(value) == before and isinstance(now, int):
            entries[name] = [value[layer % len(value)] for layer in range(now)] if value else value


def _flat(entries: Raw, prefix: str = "") -> dict[str, object]:
    """The entries of a config, those of nested ones by dotted names."""
    flat: dict[str, object] = {}
    for name, value in entries.items():
        if isinstance(value, dict):
            flat |= {} if name in _LABELS else _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _scalars(config: Any) -> dict[str, object]:
    """The plain values of a config."""
    skipped = ("transformers_version", "_name_or_path", "model_type")
    return {
        name: value
        for name, value in _flat(config.to_dict()).items()
        if type(value) in SCALARS and name.rpartition(".")[2] not in skipped
    }


def _sizes_told(config: Any, settings: Mapping[str, object]) -> dict[str, object]:
    """What a config says of its language model's shape; transformers' standard names first."""
    try:
        text = config.get_text_config()
    except ValueError:  # a text encoder beside the language model
        text = config.get_text_config(decoder=True)
    standard = {name: getattr(text, name, None) for name in text.attribute_map}
    own = {name: value for name, value in text.to_dict().items() if type(value) in SCALARS}
    return {**settings, **own, **standard}


def _builder(transformers: ModuleType, file: Path, config: Any) -> Callable[[Any], object]:
    """The function from a config to its model.

    Raises:
        SubjectError: if transformers has no model for it.
    """
    remote = getattr(config, "auto_map", None) or {}
    for name in _AUTO_CLASSES:
        auto = getattr(transformers, name, None)
        if auto and name in remote:
            return lambda made: _from_folder(auto, made, file)
        if auto and type(config) in auto._model_mapping:
            return lambda made: auto.from_config(made, trust_remote_code=False)
        for architecture in config.architectures or ():  # between the first auto class and others
            kind = getattr(transformers, architecture, None)
            if isinstance(kind, type):
                return kind._from_config  # type: ignore[attr-defined, no-any-return]
    raise SubjectError(
        f"{file} must be the config of a language model, got model_type "
        f"{config.model_type!r}. transformers {transformers.__version__} has no model class for it."
    )


def _from_folder(auto: Any, config: Any, file: Path) -> object:
    """The model of code that lies beside a config."""
    config._name_or_path = str(file.parent)
    return auto.from_config(config, trust_remote_code=True)
