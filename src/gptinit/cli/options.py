"""The options that commands share, in the order in which every help shows them."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from gptinit.cli import completion
from gptinit.config import (
    ACTIVATIONS,
    DATA_KINDS,
    DEVICES,
    DTYPES,
    ENGINES,
    WEIGHTS,
    GPTConfig,
    RunConfig,
)
from gptinit.errors import ConfigError, unknown_name
from gptinit.facts.model_argument import read_model_argument
from gptinit.facts.schemes import DEFAULT_SCHEME
from gptinit.facts.vocabulary import ROLES, SEVERITIES, SITE_NAMES, Severity

MODEL, SHAPE, RUN, OUTPUT = "Model", "Shape", "Run", "Output"
"""Panels of every help, in this order; audit and check have one of their own after Shape."""

MODEL_FORMS = "A preset, path/model.py:NAME, package.module:NAME or a config.json."

FAIL_ON: Mapping[str, tuple[Severity, ...]] = {
    "never": (),
    "warning": SEVERITIES[:2],
    "error": SEVERITIES[:1],
}
"""Value of --fail-on to the severities that make the exit code 1."""


def option(flag: str, text: str, panel: str, **more: Any) -> Any:
    """Return an option with its help and its panel; a default of None is not shown."""
    return typer.Option(*flag.split(), help=text, rich_help_panel=panel, **more)


def choice(flag: str, text: str, names: Sequence[str], panel: str, **more: Any) -> Any:
    """Return an option that takes one of a few names: listed in its help, completed by Tab."""
    listed = f"{', '.join(names[:-1])} or {names[-1]}"
    text = f"{text}: {listed}." if text else f"{listed}."
    complete = completion.known(names)
    return option(flag, text, panel, metavar="NAME", autocompletion=complete, **more)


def one_of(flag: str, names: Sequence[str]) -> Callable[[str], str]:
    """Return a callback that refuses any other name."""

    def checked(value: str) -> str:
        if value not in names:
            raise unknown_name(flag, value, names)
        return value

    return checked


def format_option(*formats: str) -> Any:
    """Return --format of a command that can write these formats."""
    flag = "--format"
    return choice(flag, "", formats, OUTPUT, callback=one_of(flag, formats))


def scheme_option(flag: str, text: str, panel: str, **more: Any) -> Any:
    """Return an option that takes a scheme."""
    text = f"{text}: a name or a .toml file."
    return option(flag, text, panel, metavar="SCHEME", autocompletion=completion.schemes, **more)


def roles(values: list[str] | None) -> dict[str, str]:
    """Return the role of each parameter pattern that --role names.

    Raises:
        ConfigError: if one is not GLOB=ROLE, or there is no such role.
    """
    found = _pairs("--role", values, "GLOB=ROLE")
    for role in found.values():
        if role not in (*ROLES, "other"):
            raise unknown_name("--role", role, (*ROLES, "other"))
    return found


def sites(values: list[str] | None) -> dict[str, str]:
    """Return the module path of each site that --site names.

    Raises:
        ConfigError: if one is not WHAT=PATH, or the blocks are not named.
    """
    found = _pairs("--site", values, "WHAT=PATH")
    for what in found:
        if what not in SITE_NAMES:
            raise unknown_name("--site", what, SITE_NAMES)
    if found and "blocks" not in found:
        raise ConfigError("--site attn and --site mlp need --site blocks=PATH as well.")
    return found


def _pairs(flag: str, values: list[str] | None, form: str) -> dict[str, str]:
    """Return KEY=VALUE options as a mapping.

    Raises:
        ConfigError: if one has no key or no value.
    """
    found = {}
    for value in values or ():
        key, _, text = value.rpartition("=")
        if not key or not text:
            raise ConfigError(f"{flag} must be {form}, got {value!r}.")
        found[key] = text
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeOptions:
    """The shape of the model: each option given replaces the model's own setting."""

    n_layer: Annotated[int | None, option("--n-layer", "Number of blocks.", SHAPE)] = None
    n_head: Annotated[
        int | None,
        option("--n-head", "Attention heads; n_embd/64 if only --n-embd is given.", SHAPE),
    ] = None
    n_embd: Annotated[int | None, option("--n-embd", "Width of the residual stream.", SHAPE)] = None
    head_dim: Annotated[
        int | None, option("--head-dim", "Width of a head; n_embd/n_head if not given.", SHAPE)
    ] = None
    d_ff: Annotated[
        int | None, option("--d-ff", "Hidden width of the MLP; 4 n_embd if not given.", SHAPE)
    ] = None
    block_size: Annotated[
        int | None, option("--block-size", "Context length (maximum positions).", SHAPE)
    ] = None
    vocab_size: Annotated[int | None, option("--vocab-size", "Vocabulary size.", SHAPE)] = None
    activation: Annotated[
        str | None, choice("--activation", "MLP activation", ACTIVATIONS, SHAPE)
    ] = None
    bias: Annotated[
        bool | None, option("--bias/--no-bias", "Biases in linear layers and norms.", SHAPE)
    ] = None
    tied: Annotated[
        bool | None, option("--tied/--untied", "Share the head with the embedding.", SHAPE)
    ] = None
    set_: Annotated[
        list[str] | None,
        option(
            "--set",
            "Any setting by name; for your model, one of its own.",
            SHAPE,
            metavar="KEY=VALUE",
        ),
    ] = None

    def fields(self, model: str) -> dict[str, Any]:
        """Return the settings that were given: typed for a preset, as text for your model.

        Raises:
            ConfigError: if a `--set` is not KEY=VALUE, or a setting is given twice.
        """
        argument = read_model_argument(model)
        given = {name: getattr(self, name) for name in GPTConfig.field_names()}
        shape = {name: value for name, value in given.items() if value is not None}
        for pair in self.set_ or ():
            name, equals, text = pair.partition("=")
            if not equals or not text:
                raise ConfigError(f"--set must be KEY=VALUE, got {pair!r}. Example: n_layer=48.")
            value = argument.read_setting(name, text)
            if name in shape:
                raise ConfigError(f"{name} is set twice: give it once.")
            shape[name] = value
        return shape


_RUN = RunConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How to measure; the defaults are RunConfig's."""

    scheme: Annotated[
        str | None, scheme_option("--scheme", "Init of a preset", RUN, show_default=DEFAULT_SCHEME)
    ] = None
    engine: Annotated[
        str,
        option(
            "--engine",
            "How weights are held: dense (all in memory), stream (drawn layer by layer) or lazy "
            "(never drawn); theory predicts without a run; auto chooses.",
            RUN,
            metavar="NAME",
            autocompletion=completion.known(ENGINES),
        ),
    ] = _RUN.engine
    weights: Annotated[
        str,
        option(
            "--weights",
            "Who draws the weights: traced (gptinit, from the traced init) or own (your model's "
            "code).",
            RUN,
            metavar="NAME",
            autocompletion=completion.known(WEIGHTS),
        ),
    ] = _RUN.weights
    device: Annotated[str, choice("--device", "Where to compute", DEVICES, RUN)] = _RUN.device
    dtype: Annotated[str, choice("--dtype", "Type of weights and activations", DTYPES, RUN)] = (
        _RUN.dtype
    )
    seed: Annotated[int, option("--seed", "First seed.", RUN)] = _RUN.seed
    seeds: Annotated[int, option("--seeds", "Number of seeds to average over.", RUN)] = _RUN.seeds
    batch_size: Annotated[int, option("--batch-size", "Sequences per seed.", RUN)] = _RUN.batch_size
    seq_len: Annotated[
        int,
        option(
            "--seq-len",
            "Tokens per sequence.",
            RUN,
            show_default="256, or the context length if shorter",
        ),
    ] = _RUN.seq_len
    data: Annotated[
        str,
        option(
            "--data",
            "Input tokens: zipf, uniform, text, a text file or a nanoGPT .bin.",
            RUN,
            metavar="NAME",
            autocompletion=completion.known(DATA_KINDS),
        ),
    ] = _RUN.data

    def config(self, *, grad: bool) -> RunConfig:
        """Return the requested run.

        Raises:
            ConfigError: if a value is out of range or not a known name.
        """
        given = {name: getattr(self, name) for name in RunConfig.field_names() if name != "grad"}
        return RunConfig(grad=grad, **given)


def _writable(value: str | None) -> str | None:
    """Refuse a file that could not be written, before any work.

    Raises:
        ConfigError: if it is a folder, or in one that cannot be written.
    """
    if value is None:
        return None
    path = Path(value)
    if path.is_dir():
        raise ConfigError(f"--output must be a file, got the folder {value!r}.")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError(f"--output must be in a folder that can be written, got {str(path)!r}.")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """Where the result goes, and what else is said."""

    output: Annotated[
        str | None,
        option("--output -o", "Write to this file.", OUTPUT, metavar="FILE", callback=_writable),
    ] = None
    quiet: Annotated[bool, option("--quiet -q", "Hide progress and notes.", OUTPUT)] = False
    debug: Annotated[bool, option("--debug", "Show the traceback of an error.", OUTPUT)] = False


Role = Annotated[
    list[str] | None,
    option(
        "--role",
        "Assign a role to parameters that were not recognised, e.g. '*.wo.*=attn_out'.",
        MODEL,
        metavar="GLOB=ROLE",
    ),
]
Init = Annotated[
    str | None,
    option(
        "--init",
        "What draws the weights after the constructor: a method or function by name, "
        "path.py:FUNCTION, or none.",
        MODEL,
        metavar="NAME",
        show_default="the only one nothing calls",
    ),
]
TrustRemoteCode = Annotated[
    bool,
    option(
        "--trust-remote-code", "Allow running Python code that comes with a config.json.", MODEL
    ),
]
Stub = Annotated[
    list[str] | None,
    option(
        "--stub",
        "Import an inert stand-in for a module that is not installed; a note says if the model "
        "used it.",
        MODEL,
        metavar="NAME",
    ),
]
Forward = Annotated[
    str | None,
    option(
        "--forward",
        "How to call a model that wants more than token ids: path.py:FUNC, a function of (model, "
        "ids) that returns logits.",
        MODEL,
        metavar="FUNC",
    ),
]
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help=MODEL_FORMS, autocompletion=completion.presets)
]
Grad = Annotated[bool, option("--grad/--no-grad", "Run the backward pass too.", RUN)]
FailOn = Annotated[
    str,
    choice(
        "--fail-on",
        "Exit 1 on findings of at least this severity",
        tuple(FAIL_ON),
        OUTPUT,
        callback=one_of("--fail-on", tuple(FAIL_ON)),
    ),
]
Format = Annotated[str, format_option("table", "json", "markdown", "csv")]
Timing = Annotated[bool, option("--timing", "Add seconds and peak memory.", OUTPUT)]


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command whose dataclass parameters become one option for each of their fields.

    Typer reads a flat signature; the command itself gets the groups.
    """
    # Not get_type_hints: Python 3.10 hides Annotated in an Optional where the default is None.
    hints = dict(command.__annotations__)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    flat = []
    for parameter in signature(command).parameters.values():
        if parameter.name in groups:
            flat += _parameters_of(groups[parameter.name])
        else:
            annotation = hints[parameter.name]
            flat.append(parameter.replace(annotation=annotation, kind=Parameter.KEYWORD_ONLY))

    @wraps(command)
    def flattened(**given: Any) -> None:
        made = {
            name: kind(**{f.name: given.pop(f.name) for f in fields(kind)})
            for name, kind in groups.items()
        }
        command(**given, **made)

    flattened.__signature__ = Signature(flat)  # type: ignore[attr-defined]
    flattened.__annotations__ = {p.name: p.annotation for p in flat}
    del flattened.__wrapped__  # its signature is not ours
    return flattened


def _parameters_of(group: Any) -> list[Parameter]:
    """Return one keyword parameter for each field of a dataclass."""
    kinds = get_type_hints(group, include_extras=True)
    return [
        Parameter(f.name, Parameter.KEYWORD_ONLY, default=f.default, annotation=kinds[f.name])
        for f in fields(group)
    ]
