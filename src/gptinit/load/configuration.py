"""The configuration that a model takes: which one, what can be set in it, and how it is made.

A configuration is one of these, whatever its author calls it:

- a class: its settings are the arguments of its `__init__` (of a dataclass: its fields; of one
  that takes **kwargs: also what they set on it), else its plain attributes;
- an object that is there: the default of the argument, the model's `get_default_config()`, or a
  constant of the module, a dict for instance; its settings are its items or attributes;
- nothing that is there: a model that reads `cfg["emb_dim"]` or `cfg.emb_dim` gets what is given,
  and a key that is not given is an error that says how to.

Settings inside settings have dotted names: `model.n_layers`.
"""

import copy
import dataclasses
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

from torch import Tensor, nn

from gptinit.errors import ConfigError, SubjectError, unknown_name
from gptinit.load.settings import MISSING, SCALARS, Setting, kinds_of
from gptinit.load.signature import (
    default_of,
    function_of,
    hints_of,
    parameters,
    reads,
    required_parameters,
    takes_any,
)

__all__ = ["Configuration", "find_configuration"]

_CONFIG_NAME = re.compile(r"config|args|arguments|params|hyper|settings|options|cfg", re.I)
_DEFAULT_CONFIG_NAME = re.compile(r"default_?config|config_?default", re.I)
_DEEPEST = 4  # levels of settings inside settings

Values = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The configuration that one argument of a model takes.

    Attributes:
        parameter: the argument.
        settings: what can be set in it, by name.
        make: makes it with some of them set.
        is_open: whether it takes names that `settings` lacks.
        constant: the constant of the module that it is, where nobody chose it.
    """

    parameter: str
    settings: Mapping[str, Setting]
    make: Callable[[Values], object]
    is_open: bool = False
    constant: str = ""

    def read(self, values: Values) -> dict[str, object]:
        """Every setting of the configuration that is made with some values."""
        made = self.make(values)
        names = dict.fromkeys([*self.settings, *values])
        return {name: _entry(made, name) for name in names}


def find_configuration(
    call: Callable[..., object],
    label: str,
    namespace: Mapping[str, object],
    overrides: Mapping[str, object],
) -> Configuration | None:
    """The configuration that a class or function takes; None if it takes plain settings.

    Raises:
        SubjectError: if several would do.
    """
    hints = hints_of(function_of(call))
    for parameter in parameters(call):
        found = _of_signature(parameter, hints.get(parameter.name))
        if parameter.name in overrides:
            given = overrides[parameter.name]
            chosen = namespace.get(given) if isinstance(given, str) else given
            if _has_entries(chosen):
                return _of_object(parameter.name, _constantly(chosen))
            choices = _constants(_wanted(call, parameter.name), namespace)
            if choices:
                raise unknown_name(f"{parameter.name} of {label}", str(given), choices)
            if found:
                raise ConfigError(
                    f"{parameter.name} of {label} must be a configuration of its file, got "
                    f"{given!r}. What is in it is set by name: --set "
                    f"{parameter.name}.{next(iter(found.settings), 'NAME')}=VALUE."
                )
        elif found:
            return found
    needed = [p for p in required_parameters(call) if p.name not in overrides]
    if len(needed) > 1:
        needed = [p for p in needed if _CONFIG_NAME.fullmatch(p.name.rpartition("_")[2])]
    if len(needed) != 1 or hints.get(needed[0].name) in SCALARS:
        return None
    return _of_needed(call, needed[0], label, namespace)


def _of_signature(parameter: Parameter, hint: object) -> Configuration | None:
    """The configuration that the default or the annotation of an argument says."""
    default = default_of(parameter)
    if _is_object_of_user(default):
        return _of_object(parameter.name, _constantly(default))
    for kind in (hint, *getattr(hint, "__args__", ())):
        if isinstance(kind, type) and _may_configure(kind) and _settings_known(kind):
            return _of_class(parameter.name, kind)
    return None


def _of_needed(
    call: Callable[..., object], needed: Parameter, label: str, namespace: Mapping[str, object]
) -> Configuration | None:
    """The configuration for the only required parameter, whose annotation says nothing."""
    makers = [m for n, m in _methods(call) if _DEFAULT_CONFIG_NAME.search(n)]
    if len(makers) == 1:
        return _of_object(needed.name, makers[0])
    wanted = _wanted(call, needed.name)
    if not reads(call, needed.name)[0]:
        classes = _classes(call, namespace)
        # Of several the one that has all that is read; if none has, the file does not show it.
        fit = [kind for kind in classes if wanted <= _of_class(needed.name, kind).settings.keys()]
        if len(classes) == 1 or fit:
            names = [kind.__name__ for kind in fit or classes]
            _require_one(names, label, f"Annotate its argument {needed.name!r}.")
            return _of_class(needed.name, (fit or classes)[0])
    if not wanted:
        return None
    constants = _constants(wanted, namespace)
    if constants:
        _require_one(list(constants), label, f"Use --set {needed.name}={next(iter(constants))}.")
        ((name, value),) = constants.items()
        return dataclasses.replace(_of_object(needed.name, _constantly(value)), constant=name)
    return _of_what_is_given(needed.name, label, _read_by_module(needed.name, namespace) | wanted)


def _wanted(call: Callable[..., object], parameter: str) -> frozenset[str]:
    """What a call reads of a parameter: keys if it reads any, else attributes."""
    keys, attributes = reads(call, parameter)
    return keys or attributes


def _constants(wanted: frozenset[str], namespace: Mapping[str, object]) -> dict[str, object]:
    """The constants of a module that hold all that is read of an argument, if that is known."""
    tops = {name.partition(".")[0] for name in wanted}
    return {
        name: value
        for name, value in namespace.items()
        if wanted
        and _has_entries(value)
        and not name.startswith("_")
        and tops <= dict(_entries(value)).keys()
    }


def _require_one(names: list[str], label: str, remedy: str) -> None:
    """Refuse to guess.

    Raises:
        SubjectError: if there are several names.
    """
    if len(names) > 1:
        raise SubjectError(
            f"{label} must say which configuration it takes, got {' and '.join(sorted(names))}. "
            f"{remedy}"
        )


def _methods(call: Callable[..., object]) -> Iterator[tuple[str, Callable[[], object]]]:
    """The class methods and static methods of a class that need no argument."""
    for name in dir(call) if isinstance(call, type) else ():
        method = getattr(call, name, None)
        is_bound = isinstance(vars(call).get(name), classmethod | staticmethod)
        if is_bound and callable(method) and not required_parameters(method):
            yield name, method


def _may_configure(kind: type) -> bool:
    """Whether a class is the user's own: no plain value, no module, no tensor."""
    libraries = ("builtins", "typing", "types", "collections", "torch", "enum", "pathlib", "numpy")
    return kind.__module__.partition(".")[0] not in libraries and not issubclass(
        kind, (nn.Module, Tensor, BaseException)
    )


def _settings_known(kind: type) -> bool:
    return dataclasses.is_dataclass(kind) or bool(parameters(kind) or _attributes(kind))


def _classes(call: Callable[..., object], namespace: Mapping[str, object]) -> list[type]:
    """The module's configuration classes: its own by name, else its dataclasses, else imports."""
    classes = [
        kind
        for kind in dict.fromkeys(v for v in namespace.values() if isinstance(v, type))
        if _may_configure(kind) and _settings_known(kind)
    ]
    own = [c for c in classes if c.__module__ == namespace.get("__name__")]
    named_so = [c for c in own if _CONFIG_NAME.search(c.__name__)]
    plain = [c for c in own if dataclasses.is_dataclass(c)]
    found = named_so or plain or [c for c in classes if _CONFIG_NAME.search(c.__name__)]
    # GPT takes GPTConfig and not the LoRAConfig beside it.
    owner = getattr(call, "__name__", "")
    return [c for c in found if c.__name__.startswith(owner)] or found


def _of_class(parameter: str, kind: type, level: int = 0) -> Configuration:
    """A class, called with the values; without arguments, its attributes are set."""
    named = parameters(kind)
    if not named and not dataclasses.is_dataclass(kind):
        return _of_object(parameter, kind, {**_attributes(kind)}, hints_of(kind))
    # A dataclass may have an `__init__` of its own, or inherit fields that a subclass replaced.
    factories = {
        f.name: f.default_factory
        for f in (dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ())
        if f.default_factory is not dataclasses.MISSING
    }
    hints = {**hints_of(kind), **hints_of(function_of(kind))}
    own = {p.name: factories[p.name]() if _is_made(p, factories) else default_of(p) for p in named}
    known = _set_by_any(kind) if takes_any(kind) else {}
    defaults = {**known, **own}
    nested = _nested(defaults, hints, level)

    def make(values: Values) -> object:
        given = _made_inside(values, nested, [n for n in nested if defaults[n] is MISSING])
        made = kind(**given)
        for name in given.keys() - own.keys():
            if _entry(made, name) != given[name]:
                raise ConfigError(f"{name} must be a setting of {kind.__name__}, which ignores it.")
        return made

    return Configuration(
        parameter=parameter,
        settings=_with_nested(defaults, hints, nested),
        make=make,
        is_open=takes_any(kind) and not known,
    )


def _set_by_any(kind: type) -> dict[str, object]:
    """What a class that takes **kwargs holds without any; nothing where it needs some."""
    try:
        made = kind()
        return {**dict(_entries(made)), **_public(vars(made))}
    except Exception:  # the user's code, which may say what it needs once it is given values
        return {}


def _is_made(parameter: Parameter, factories: Mapping[str, object]) -> bool:
    """Whether the default of a parameter stands for a dataclass's default_factory."""
    return parameter.name in factories and "factory" in repr(parameter.default)


def _of_object(
    parameter: str,
    get: Callable[[], object],
    entries: Mapping[str, object] | None = None,
    hints: Mapping[str, Any] | None = None,
    level: int = 0,
) -> Configuration:
    """An object that is there; what is made is a copy of it with the values set."""
    found = dict(_entries(get())) if entries is None else entries
    nested = _nested(found, hints or {}, level)

    def make(values: Values) -> object:
        given = _made_inside(values, nested)
        made = copy.deepcopy(get())
        if dataclasses.is_dataclass(made) and not isinstance(made, type):
            return dataclasses.replace(made, **given)  # which checks and derives what is new
        for name, value in given.items():
            made.__setitem__(name, value) if isinstance(made, dict) else setattr(made, name, value)
        return made

    return Configuration(
        parameter=parameter, settings=_with_nested(found, hints or {}, nested), make=make
    )


def _nested(
    entries: Mapping[str, object], hints: Mapping[str, Any], level: int
) -> dict[str, Configuration]:
    """The configurations inside a configuration: objects, or values still to be made of a class."""
    found: dict[str, Configuration] = {}
    for name, value in entries.items():
        hint = hints.get(name)
        if level >= _DEEPEST:
            break
        if _has_entries(value):
            found[name] = _of_object(name, _constantly(value), level=level + 1)
        elif value is MISSING and isinstance(hint, type) and dataclasses.is_dataclass(hint):
            found[name] = _of_class(name, hint, level + 1)
    return found


def _constantly(value: object) -> Callable[[], object]:
    return lambda: value


def _with_nested(
    entries: Mapping[str, object], hints: Mapping[str, Any], nested: Mapping[str, Configuration]
) -> dict[str, Setting]:
    own = {
        name: Setting(kinds=kinds_of(hints.get(name), value), default=value)
        for name, value in entries.items()
        if not (name in nested and value is MISSING)
    }
    inner = {f"{n}.{k}": setting for n, c in nested.items() for k, setting in c.settings.items()}
    return {**own, **inner}


def _below(name: str, values: Values) -> dict[str, object]:
    """The values whose dotted names begin with `name`, without it."""
    prefix = f"{name}."
    return {n.removeprefix(prefix): v for n, v in values.items() if n.startswith(prefix)}


def _made_inside(
    values: Values, nested: Mapping[str, Configuration], needed: Collection[str] = ()
) -> dict[str, object]:
    """The values by plain names, those inside nested configurations made into these."""
    inner = {n: _below(n, values) for n in nested}
    made = {n: nested[n].make(inside) for n, inside in inner.items() if inside or n in needed}
    return {n: v for n, v in values.items() if "." not in n} | made


def _has_entries(value: object) -> bool:
    return (isinstance(value, dict) and bool(value) and all(isinstance(k, str) for k in value)) or (
        _is_object_of_user(value)
    )


def _is_object_of_user(value: object) -> bool:
    """Whether a value is an object of the user's that holds settings."""
    if isinstance(value, type) or not _may_configure(type(value)) or callable(value):
        return False
    return dataclasses.is_dataclass(value) or bool(getattr(value, "__dict__", None))


def _entries(value: object) -> Iterator[tuple[str, object]]:
    """Name and value of every setting that an object holds."""
    if isinstance(value, dict):
        yield from value.items()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.init)
    else:
        yield from {**_attributes(type(value)), **_public(getattr(value, "__dict__", {}))}.items()


def _public(names: Mapping[str, object]) -> dict[str, object]:
    return {n: v for n, v in names.items() if not n.startswith("_") and not callable(v)}


def _entry(value: object, name: str) -> object:
    for step in name.split("."):
        value = value.get(step) if isinstance(value, dict) else getattr(value, step, None)
    return value


def _attributes(kind: type) -> dict[str, object]:
    return {
        name: value
        for base in reversed(kind.__mro__[:-1])
        for name, value in vars(base).items()
        if not name.startswith("_") and not callable(value) and not hasattr(value, "__get__")
    }


class _NotGivenError(ConfigError, KeyError, AttributeError):
    """A key that a model reads and nobody gave; an error that `hasattr` and `get` know too."""

    __str__ = Exception.__str__


class _Given(dict[str, object]):
    """What is given of a configuration that is written down nowhere, by item and by attribute."""

    _refuse: Callable[[str], _NotGivenError]

    def __missing__(self, name: str) -> object:
        raise self._refuse(name)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]

    def __setattr__(self, name: str, value: object) -> None:
        self[name] = value


def _of_what_is_given(parameter: str, label: str, known: frozenset[str]) -> Configuration:
    """A configuration that nothing but its reader describes."""

    def make(values: Values, around: str = "") -> object:
        def refuse(name: str) -> _NotGivenError:
            inside = sorted(k for k in known if k.startswith(f"{around}{name}."))
            asked = inside[0] if inside else f"{around}{name}"
            others = sorted(known - {f"{around}{v}" for v in values} - {asked})
            more = f" It may read {', '.join(others)} too." if others else ""
            return _NotGivenError(
                f"{label} must have a value for every key of {parameter} that it reads, got none "
                f"for {asked}. Give --set {asked}=VALUE.{more}"
            )

        tops = dict.fromkeys(name.partition(".")[0] for name in values)
        nested = {n: make(inner, f"{around}{n}.") for n in tops if (inner := _below(n, values))}
        made = _Given({n: values.get(n) for n in tops} | nested)
        object.__setattr__(made, "_refuse", refuse)
        return made

    return Configuration(parameter=parameter, settings={}, make=make, is_open=True)


def _read_by_module(parameter: str, namespace: Mapping[str, object]) -> frozenset[str]:
    """What the classes and functions of a module read of a parameter of that name."""
    here = namespace.get("__name__")
    own = (v for v in namespace.values() if callable(v) and getattr(v, "__module__", "") == here)
    takers = (v for v in own if any(p.name == parameter for p in required_parameters(v)))
    return frozenset[str]().union(*(_wanted(taker, parameter) for taker in takers))
