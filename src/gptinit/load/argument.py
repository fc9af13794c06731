"""Find the factory of code, of a callable, or of a module that is built already."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import nn

from gptinit.errors import ConfigError, SubjectError
from gptinit.facts.presets import PRESETS
from gptinit.load.configured import Target, configured_factory
from gptinit.load.factory import Factory
from gptinit.load.forward_function import Forward, called_by
from gptinit.load.huggingface import huggingface_factory
from gptinit.load.init_choice import NO_INIT, InitChoice, with_init
from gptinit.load.python_file import code_factory
from gptinit.load.settings import SCALARS, sizes

__all__ = ["factory_of", "find_factory", "live_factory"]


def find_factory(  # noqa: PLR0913 - what the user says, by keyword
    model: str,
    overrides: Mapping[str, object] | None = None,
    *,
    init: InitChoice = None,
    forward: str | Forward | None = None,
    trust_remote_code: bool = False,
    stubs: Sequence[str] = (),
) -> Factory:
    """The factory of a MODEL argument that names code.

    Args:
        model: path/model.py:NAME, path/model.py, package.module:NAME, or a Hugging Face
            config.json or its folder.
        overrides: settings of its configuration to replace: values, or their texts.
        init: what draws the weights after the constructor, see `InitChoice`.
        forward: how to call the model, see `forward_function`.
        trust_remote_code: whether Python code beside a Hugging Face config may run.
        stubs: modules for which inert stand-ins are imported in Python code.

    Raises:
        ConfigError: if it is none of these, or a setting is unknown or of the wrong type.
        SubjectError: if the model's code fails or has no such name.
    """
    head, colon, name = model.rpartition(":")
    if colon and not Path(model).exists():  # a path may have a colon of its own
        is_module = all(part.isidentifier() for part in head.split("."))
        if not (name and head and (head.endswith(".py") or Path(head).is_file() or is_module)):
            raise _no_model(model)
    elif model.endswith(".py"):
        head, name = model, ""
    elif model and (model.endswith(".json") or Path(model).is_dir()):
        if stubs:
            raise ConfigError(
                f"stub cannot be used with a config, got {', '.join(stubs)} for {model!r}. "
                "transformers says what it needs."
            )
        made = huggingface_factory(model, overrides, trust_remote_code=trust_remote_code)
        target = Target(call=made.build, label=made.name, source=made.source)
        return called_by(with_init(made, target, init or NO_INIT), forward)
    else:
        raise _no_model(model)
    return code_factory(
        head, name or None, overrides or {}, init=init, forward=forward, stubs=stubs
    )


def factory_of(
    call: Callable[..., object],
    overrides: Mapping[str, object] | None = None,
    *,
    init: InitChoice = None,
) -> Factory:
    """The factory of a class or function that builds a model.

    Args:
        call: a model class or a function that returns a model; one that takes a configuration
            gets that of its annotation or its module.
        overrides: settings of its configuration to replace.
        init: what draws the weights after the constructor, see `InitChoice`.

    Raises:
        ConfigError: if a setting is unknown, of the wrong type, or missing.
        SubjectError: if it cannot be called, or is a model that is built already.

    Example:
        >>> factory_of(lambda: nn.Linear(2, 3)).build()
        Linear(in_features=2, out_features=3, bias=True)
    """
    if isinstance(call, nn.Module) or not callable(call):
        raise SubjectError(
            "model must be a class or a function that builds a model, "
            f"got an object of type {type(call).__name__}."
        )
    name = getattr(call, "__qualname__", None) or type(call).__name__
    module = getattr(call, "__module__", None) or "__main__"
    namespace = vars(sys.modules[module]) if module in sys.modules else {}
    target = Target(
        call=call,
        label=name.rpartition("<locals>.")[2],
        source=f"module {module}",
        namespace=namespace,
    )
    return with_init(configured_factory(target, overrides or {}), target, init)


def live_factory(module: nn.Module) -> Factory:
    """The factory of a module that is built already, with the sizes of its configuration.

    Args:
        module: the model; its `config` is read if it has one.

    Example:
        >>> live_factory(nn.Linear(2, 3)).name
        'Linear'
    """
    config = getattr(module, "config", None)
    read = getattr(config, "to_dict", None)
    found = read() if callable(read) else getattr(config, "__dict__", {})
    settings = {k: v for k, v in dict(found).items() if isinstance(v, SCALARS)}
    architecture = settings.get("model_type")
    return Factory(
        name=type(module).__name__,
        source="a live module",
        build=lambda: module,
        settings=settings,
        with_settings=None,
        architecture=architecture if isinstance(architecture, str) else None,
        **sizes(settings),
    )


def _no_model(model: str) -> ConfigError:
    return ConfigError(
        f"model must be a preset ({', '.join(PRESETS)}), path/model.py:NAME, "
        f"package.module:NAME, or a config.json or its folder, got {model!r}. "
        "Nothing is downloaded: a model of the Hub needs its config.json here."
    )
