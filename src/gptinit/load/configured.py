"""A class or function that builds a model, with some of its settings replaced."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from torch import nn

from gptinit.errors import ConfigError
from gptinit.facts.names import model_label
from gptinit.load.configuration import Configuration, find_configuration
from gptinit.load.factory import Factory
from gptinit.load.isolation import blamed_on, guarded, isolated
from gptinit.load.loaded import Loaded
from gptinit.load.settings import MISSING, SCALARS, Setting, kinds_of, resolved, sizes
from gptinit.load.signature import default_of, function_of, hints_of, parameters, takes_any
from gptinit.results.profile import Note

__all__ = ["Target", "configured_factory"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What builds a model, and where it was found.

    Attributes:
        call: the class or function.
        label: what errors and tables call it: "model.py:GPT".
        source: where it comes from, in words.
        namespace: the names of its module, which is searched for its configuration class.
        within: the context in which its code runs.
        notes: how its code was loaded, see `Factory`.
        beside: its file or module; None where nothing was loaded for it.
    """

    call: Callable[..., object]
    label: str
    source: str
    namespace: Mapping[str, object] = field(default_factory=dict)
    within: Callable[[], AbstractContextManager[None]] = isolated
    notes: Callable[[], Sequence[Note]] = tuple
    beside: Loaded | None = None

    @property
    def kind(self) -> type | None:
        """The class; None where a function builds the model, which says itself how it is drawn."""
        return self.call if isinstance(self.call, type) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """How to call a target.

    Attributes:
        config: the configuration that it takes, if any.
        own_settings: what the target takes besides.
        anything: whether it takes settings that it does not name (**kwargs).
    """

    config: Configuration | None
    own_settings: Mapping[str, Setting]
    anything: bool

    @property
    def config_settings(self) -> Mapping[str, Setting]:
        """What the configuration takes."""
        return self.config.settings if self.config else {}

    def settings(self) -> dict[str, Setting]:
        """What can be set."""
        return {**self.own_settings, **self.config_settings}

    def own_name(self, name: str) -> str:
        """A name as the configuration knows it: n_layer of `config.n_layer`."""
        if self.config and name not in self.settings():
            return name.removeprefix(f"{self.config.parameter}.")
        return name

    def chooses(self, name: str) -> bool:
        """Whether a name is that of the configuration itself, whose value names a constant."""
        return self.config is not None and name == self.config.parameter

    def of_config(self, values: Mapping[str, object]) -> dict[str, object]:
        """The values that go into the configuration."""
        if self.config and self.config.is_open:
            return {name: v for name, v in values.items() if name not in self.own_settings}
        return {name: v for name, v in values.items() if name in self.config_settings}


def configured_factory(target: Target, overrides: Mapping[str, object]) -> Factory:
    """The factory of a class or function with some of its settings replaced.

    It may take nothing, settings that all have defaults or are given, or a configuration, see
    `configuration`.

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

    chosen = {name: value for name, value in overrides.items() if plan.chooses(name)}

    def with_settings(more: Mapping[str, object]) -> Factory:
        return configured_factory(target, {**chosen, **values, **more})

    changed = {name: values[name] for name in values if values[name] is not MISSING}
    return Factory(
        name=model_label(target.label, {**chosen, **changed}),
        source=target.source,
        build=guarded(target.label, lambda: _call(target, plan, values), target.within),
        settings=settings,
        within=target.within,
        with_settings=with_settings if plan.settings() or plan.anything else None,
        notes=lambda: (*_chosen(plan), *target.notes()),
        builder=_builder(target.call),
        **sizes(settings),
    )


def _chosen(plan: _Plan) -> Iterator[Note]:
    """A note on the configuration that was found and that nobody named."""
    if plan.config and plan.config.constant:
        parameter, name = plan.config.parameter, plan.config.constant
        message = (
            f"{parameter} is {name}, the only constant with what the model reads of it; "
            f"--set {parameter}=NAME chooses another."
        )
        yield Note(kind="engine", where="config", message=message)


def _builder(call: Callable[..., object]) -> str:
    name = getattr(call, "__name__", "")
    if isinstance(call, type):
        return "its constructor"
    return f"{name}()" if name.isidentifier() else "a function"


def _plan(target: Target, overrides: Mapping[str, object]) -> _Plan:
    call = target.call
    with blamed_on(target.label, "take its configuration"):
        config = find_configuration(call, target.label, target.namespace, overrides)
    hints = hints_of(function_of(call))
    own = {
        p.name: Setting(kinds=kinds_of(hints.get(p.name), default_of(p)), default=default_of(p))
        for p in parameters(call)
        if not config or p.name != config.parameter
    }
    # nn.Module's own __init__ takes **kwargs and refuses them all.
    inherited = getattr(call, "__init__", None) is nn.Module.__init__
    anything = config.is_open if config else takes_any(call) and not inherited
    return _Plan(config=config, own_settings=own, anything=anything)


def _values(target: Target, plan: _Plan, overrides: Mapping[str, object]) -> dict[str, object]:
    """The overrides by the model's own names and in its types."""
    known = plan.settings()
    given = [(plan.own_name(name), value) for name, value in overrides.items()]
    given = [(name, value) for name, value in given if not plan.chooses(name)]
    values = resolved(f"setting of {target.label}", given, known, is_open=plan.anything)
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
        settings |= plan.config.read(plan.of_config(values))
    settings |= {name: value for name, value in values.items() if name not in settings}
    return {name: value for name, value in settings.items() if type(value) in SCALARS}


def _call(target: Target, plan: _Plan, values: Mapping[str, object]) -> object:
    inside = plan.of_config(values)
    arguments = {name: value for name, value in values.items() if name not in inside}
    if plan.config:
        arguments[plan.config.parameter] = plan.config.make(inside)
    return target.call(**arguments)
