"""A class or function that builds a model, and the configuration that it takes."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from inspect import Parameter
from typing import Any, get_type_hints

from torch import Tensor, nn

from gptinit.errors import ConfigError, SubjectError
from gptinit.facts.names import model_label
from gptinit.load.factory import Factory
from gptinit.load.isolation import blamed_on, guarded, isolated
from gptinit.load.settings import MISSING, SCALARS, Setting, kinds_of, resolve, sizes, typed

__all__ = ["Target", "configured_factory", "required_parameters"]

_CONFIG_NAME = re.compile(r"config|args|arguments|params|hyper|settings|options|cfg", re.I)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What builds a model, and where it was found.

    Attributes:
        call: the class or function.
        label: what errors and tables call it: "model.py:GPT".
        source: where it comes from, in words.
        namespace: the names of its module, which is searched for its configuration class.
        within: the context in which its code runs.
    """

    call: Callable[..., object]
    label: str
    source: str
    namespace: Mapping[str, object] = field(default_factory=dict)
    within: Callable[[], AbstractContextManager[None]] = isolated


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """How to call a target.

    Attributes:
        config: (parameter, class) of its configuration, if it takes one.
        config_settings: what the configuration takes.
        own_settings: what the target takes besides.
        anything: whether it takes settings that it does not name (**kwargs).
    """

    config: tuple[str, type] | None
    config_settings: Mapping[str, Setting]
    own_settings: Mapping[str, Setting]
    anything: bool

    def settings(self) -> dict[str, Setting]:
        return {**self.own_settings, **self.config_settings}


def configured_factory(target: Target, overrides: Mapping[str, object]) -> Factory:
    """The factory of a class or function with some of its settings replaced.

    It may take nothing, settings that all have defaults or are given, or a configuration: of the
    class that its annotation names, or of the only configuration class of its module.

    Args:
        target: what builds the model.
        overrides: name of a setting -> value, or its text; our names of sizes (n_layer) stand for
            the model's (n_layers).

    Raises:
        ConfigError: if a setting is unknown, of the wrong type, or missing.
        SubjectError: if the code of the configuration fails, or several classes could be meant.

    Example:
        >>> def width(n_in=4): return nn.Linear(n_in, 2)
        >>> target = Target(call=width, label="width", source="here")
        >>> factory = configured_factory(target, {"n_in": 8})
        >>> factory.name, factory.build().weight.shape
        ('width, n_in=8', torch.Size([2, 8]))
    """
    with target.within():
        plan = _plan(target, overrides)
        values = _values(target, plan, overrides)
        with blamed_on(target.label, "take its configuration"):
            settings = _settings(plan, values)

    def with_settings(more: Mapping[str, object]) -> Factory:
        return configured_factory(target, {**values, **more})

    changed = {name: values[name] for name in values if values[name] is not MISSING}
    return Factory(
        name=model_label(target.label, changed),
        source=target.source,
        build=guarded(target.label, lambda: _call(target, plan, values), target.within),
        settings=settings,
        within=target.within,
        with_settings=with_settings if plan.settings() or plan.anything else None,
        **sizes(settings),
    )


def required_parameters(call: Callable[..., object]) -> list[Parameter]:
    """The parameters of a call that have no default.

    Example:
        >>> [parameter.name for parameter in required_parameters(lambda config, bias=True: None)]
        ['config']
    """
    return [p for p in _parameters(call) if p.default is Parameter.empty]


def _parameters(call: Callable[..., object]) -> list[Parameter]:
    """The parameters of a call without *args and **kwargs."""
    starred = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return [p for p in _signature(call) if p.kind not in starred]


def _signature(call: Callable[..., object]) -> list[Parameter]:
    try:
        return list(inspect.signature(call).parameters.values())
    except (TypeError, ValueError):
        return []


def _plan(target: Target, overrides: Mapping[str, object]) -> _Plan:
    call = target.call
    hints = _hints(call.__init__ if isinstance(call, type) else call)  # type: ignore[misc]
    config: tuple[str, type] | None = None
    for parameter in _parameters(target.call):
        kind = None if config else _annotated_config(hints.get(parameter.name), parameter)
        config = (parameter.name, kind) if kind else config
    config = config or _config_by_name(target, hints, overrides)
    own = {
        p.name: Setting(kinds=kinds_of(hints.get(p.name), _default(p)), default=_default(p))
        for p in _parameters(target.call)
        if not config or p.name != config[0]
    }
    with blamed_on(target.label, "take its configuration"):
        fields = _fields(config[1]) if config else {}
    # nn.Module's own __init__ takes **kwargs and refuses them all.
    starred = any(p.kind is Parameter.VAR_KEYWORD for p in _signature(target.call))
    inherited = getattr(target.call, "__init__", None) is nn.Module.__init__
    return _Plan(
        config=config,
        config_settings=fields,
        own_settings=own,
        anything=starred and not inherited and not config,
    )


def _hints(described: object) -> dict[str, Any]:
    try:
        return get_type_hints(described)
    except Exception:  # annotations are the user's code; if it fails, names decide
        return {}


def _default(parameter: Parameter) -> object:
    return MISSING if parameter.default is Parameter.empty else parameter.default


def _annotated_config(hint: object, parameter: Parameter) -> type | None:
    hinted = [hint, *getattr(hint, "__args__", ())]  # the parts of Config | None
    default = [] if parameter.default is Parameter.empty else [type(parameter.default)]
    for kind in (*hinted, *default):
        if isinstance(kind, type) and _may_configure(kind) and _fields_known(kind):
            return kind
    return None


def _may_configure(kind: type) -> bool:
    """Whether a class is the user's own: no plain value, no module, no tensor."""
    libraries = ("builtins", "typing", "types", "collections", "torch", "enum", "pathlib", "numpy")
    return kind.__module__.partition(".")[0] not in libraries and not issubclass(
        kind, (nn.Module, Tensor, BaseException)
    )


def _fields_known(kind: type) -> bool:
    return dataclasses.is_dataclass(kind) or bool(_parameters(kind) or _attributes(kind))


def _config_by_name(
    target: Target, hints: Mapping[str, object], overrides: Mapping[str, object]
) -> tuple[str, type] | None:
    """(parameter, class) for the only required parameter and the module's configuration class.

    Raises:
        SubjectError: if several classes would do.
    """
    needed = [p for p in required_parameters(target.call) if p.name not in overrides]
    if len(needed) != 1 or hints.get(needed[0].name) in SCALARS:
        return None
    candidates = _candidates(target)
    if len(candidates) > 1:
        # GPT takes GPTConfig and not the LoRAConfig beside it.
        owner = getattr(target.call, "__name__", "")
        candidates = [c for c in candidates if c.__name__.startswith(owner)] or candidates
    if len(candidates) > 1:
        raise SubjectError(
            f"{target.label} must say which configuration it takes, got "
            f"{' and '.join(sorted(c.__name__ for c in candidates))}. "
            f"Annotate its argument {needed[0].name!r}."
        )
    return (needed[0].name, candidates[0]) if candidates else None


def _candidates(target: Target) -> list[type]:
    """The module's configuration classes: its own by name, else its dataclasses, else imports."""
    classes = [
        kind
        for kind in dict.fromkeys(v for v in target.namespace.values() if isinstance(v, type))
        if _may_configure(kind) and _fields_known(kind)
    ]
    own = [c for c in classes if c.__module__ == target.namespace.get("__name__")]
    named_so = [c for c in own if _CONFIG_NAME.search(c.__name__)]
    plain = [c for c in own if dataclasses.is_dataclass(c)]
    return named_so or plain or [c for c in classes if _CONFIG_NAME.search(c.__name__)]


def _fields(config: type) -> dict[str, Setting]:
    """The settings of a configuration class: its fields, else arguments, else attributes."""
    if dataclasses.is_dataclass(config):
        hints = _hints(config)
        given = ((f.name, _field_default(f)) for f in dataclasses.fields(config) if f.init)
    elif _parameters(config):
        hints = _hints(config.__init__)  # type: ignore[misc]
        given = ((p.name, _default(p)) for p in _parameters(config))
    else:
        hints = _hints(config)
        given = ((n, value) for n, value in _attributes(config).items())
    return {
        n: Setting(kinds=kinds_of(hints.get(n), default), default=default) for n, default in given
    }


def _field_default(field: dataclasses.Field[Any]) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return MISSING if field.default is dataclasses.MISSING else field.default


def _attributes(kind: type) -> dict[str, object]:
    return {
        name: value
        for base in reversed(kind.__mro__[:-1])
        for name, value in vars(base).items()
        if not name.startswith("_") and not callable(value) and not hasattr(value, "__get__")
    }


def _values(target: Target, plan: _Plan, overrides: Mapping[str, object]) -> dict[str, object]:
    """The overrides by the model's own names and in its types.

    Raises:
        ConfigError: if one is unknown or of the wrong type, or one that is needed is not given.
    """
    known = plan.settings()
    values = {}
    for name, value in overrides.items():
        is_unnamed = plan.anything and name not in known
        own = name if is_unnamed else resolve(f"setting of {target.label}", name, known)
        if own in values:
            raise ConfigError(f"{own} must be given once, got it twice.")
        values[own] = typed(own, value, known[own].kinds if own in known else frozenset())
    missing = [n for n, s in known.items() if s.default is MISSING and n not in values]
    if missing:
        raise _missing(target, plan, missing)
    return values


def _missing(target: Target, plan: _Plan, missing: Iterable[str]) -> ConfigError:
    names = list(missing)
    rule = (
        "have a value for every setting" if plan.config else "take no argument or a configuration"
    )
    listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    state = f"no value for {listed}" if plan.config else f"the required {listed}"
    return ConfigError(
        f"{target.label} must {rule}, got {state}. "
        f"Use --set {names[0]}=VALUE, or name a function that takes nothing."
    )


def _settings(plan: _Plan, values: Mapping[str, object]) -> dict[str, object]:
    settings = {name: values.get(name, s.default) for name, s in plan.own_settings.items()}
    if plan.config:
        config = _configuration(plan, values)
        settings |= {n: getattr(config, n, s.default) for n, s in plan.config_settings.items()}
    settings |= {name: value for name, value in values.items() if name not in settings}
    return {name: value for name, value in settings.items() if type(value) in SCALARS}


def _configuration(plan: _Plan, values: Mapping[str, object]) -> object:
    assert plan.config
    kind = plan.config[1]
    given = {name: value for name, value in values.items() if name in plan.config_settings}
    if dataclasses.is_dataclass(kind) or _parameters(kind):
        return kind(**given)
    config = kind()
    for name, value in given.items():
        setattr(config, name, value)
    return config


def _call(target: Target, plan: _Plan, values: Mapping[str, object]) -> object:
    arguments = {name: v for name, v in values.items() if name not in plan.config_settings}
    if plan.config:
        arguments[plan.config[0]] = _configuration(plan, values)
    return target.call(**arguments)
