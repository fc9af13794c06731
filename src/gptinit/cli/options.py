"""The options that commands share, and what they turn into."""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_type_hints

import typer

from gptinit.config import ACTIVATIONS, DEVICES, DTYPES, GPTConfig, RunConfig
from gptinit.errors import ConfigError, unknown_name
from gptinit.facts.model_argument import read_model_argument
from gptinit.facts.vocabulary import ROLES, SITE_NAMES

MODEL, SHAPE, RUN, OUTPUT = "Model", "Shape", "Run", "Output"


def _option(flag: str, text: str, panel: str, **more: Any) -> Any:
    """An option with its help and its panel."""
    return typer.Option(*flag.split(), help=text, rich_help_panel=panel, show_default=False, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeOptions:
    """The shape of the model: what is given replaces the preset's."""

    n_layer: Annotated[int | None, _option("--n-layer", "Blocks.", SHAPE)] = None
    n_head: Annotated[
        int | None,
        _option("--n-head", "Attention heads; n_embd/64 once --n-embd is given.", SHAPE),
    ] = None
    n_embd: Annotated[int | None, _option("--n-embd", "Width of the stream.", SHAPE)] = None
    head_dim: Annotated[
        int | None, _option("--head-dim", "Width of a head; else n_embd/n_head.", SHAPE)
    ] = None
    d_ff: Annotated[int | None, _option("--d-ff", "Width of the MLP; else 4 n_embd.", SHAPE)] = None
    block_size: Annotated[int | None, _option("--block-size", "Positions there are.", SHAPE)] = None
    vocab_size: Annotated[int | None, _option("--vocab-size", "Tokens there are.", SHAPE)] = None
    activation: Annotated[
        str | None, _option("--activation", f"One of {', '.join(ACTIVATIONS)}.", SHAPE)
    ] = None
    bias: Annotated[
        bool | None, _option("--bias/--no-bias", "Biases in linear layers and norms.", SHAPE)
    ] = None
    tied: Annotated[
        bool | None, _option("--tied/--untied", "Head shares the embedding.", SHAPE)
    ] = None
    set_: Annotated[
        list[str] | None,
        _option(
            "--set",
            "Any of these by its name; of a foreign model any setting it has.",
            SHAPE,
            metavar="KEY=VALUE",
        ),
    ] = None

    def fields(self, model: str) -> dict[str, Any]:
        """The settings that were given, by name: of a preset typed, of a foreign model as texts.

        Raises:
            ConfigError: if a `--set` is not KEY=VALUE, or a field is given twice.
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
                raise ConfigError(f"{name} must be given once, got it twice.")
            shape[name] = value
        return shape


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How to measure: what is not given keeps RunConfig's default."""

    engine: Annotated[
        str | None,
        _option(
            "--engine",
            "dense (weights resident), stream (drawn when used), lazy (never drawn), theory "
            "(nothing is run) or auto.",
            RUN,
        ),
    ] = None
    device: Annotated[str | None, _option("--device", f"{', '.join(DEVICES)}.", RUN)] = None
    dtype: Annotated[str | None, _option("--dtype", f"{', '.join(DTYPES)}.", RUN)] = None
    seed: Annotated[int | None, _option("--seed", "First seed; else 0.", RUN)] = None
    seeds: Annotated[int | None, _option("--seeds", "Repetitions; else 3.", RUN)] = None
    batch_size: Annotated[int | None, _option("--batch-size", "Sequences; else 1.", RUN)] = None
    seq_len: Annotated[
        int | None, _option("--seq-len", "Positions; else 256, or the block size.", RUN)
    ] = None
    data: Annotated[
        str | None,
        _option("--data", "zipf, uniform, text, a text file or a nanoGPT .bin; else zipf.", RUN),
    ] = None

    weights: Annotated[
        str | None,
        _option("--weights", "traced (drawn from the program) or own (by the model's code).", RUN),
    ] = None

    def config(self, *, grad: bool) -> RunConfig:
        """The run that was asked for.

        Raises:
            ConfigError: if a value is out of range or not a known name.
        """
        given = {name: getattr(self, name) for name in RunConfig.field_names() if name != "grad"}
        return RunConfig(grad=grad, **{k: v for k, v in given.items() if v is not None})


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignOptions:
    """What a model of someone else's may need to be told."""

    role: Annotated[
        list[str] | None,
        _option(
            "--role", "Role of parameters, where it is not found.", MODEL, metavar="PATTERN=ROLE"
        ),
    ] = None
    site: Annotated[
        list[str] | None,
        _option(
            "--site",
            "Where blocks, or attn or mlp inside a block, are.",
            MODEL,
            metavar="WHAT=NAME",
        ),
    ] = None
    trust_remote_code: Annotated[
        bool, _option("--trust-remote-code", "Run Python code beside a config.json.", MODEL)
    ] = False

    def roles(self) -> dict[str, str]:
        """Parameter pattern to role.

        Raises:
            ConfigError: if one is not PATTERN=ROLE, or there is no such role.
        """
        found = _pairs("--role", self.role, "PATTERN=ROLE")
        for role in found.values():
            if role not in (*ROLES, "other"):
                raise unknown_name("--role", role, (*ROLES, "other"))
        return found

    def sites(self) -> dict[str, str]:
        """What to the name of its module.

        Raises:
            ConfigError: if one is not WHAT=NAME, or blocks are not named.
        """
        found = _pairs("--site", self.site, "WHAT=NAME")
        for what in found:
            if what not in SITE_NAMES:
                raise unknown_name("--site", what, SITE_NAMES)
        if found and "blocks" not in found:
            raise ConfigError("--site must name blocks=PATH first, got only branches.")
        return found


def _pairs(flag: str, values: list[str] | None, form: str) -> dict[str, str]:
    """KEY=VALUE options as a mapping.

    Raises:
        ConfigError: if one has no key or no value.
    """
    found = {}
    for value in values or ():
        key, equals, text = value.rpartition("=")
        if not key or not equals or not text:
            raise ConfigError(f"{flag} must be {form}, got {value!r}.")
        found[key] = text
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions:
    """What to do with the result."""

    format: Annotated[
        str,
        _option(
            "--format",
            "table, json, markdown or csv; check also junit and github, audit github and sarif.",
            OUTPUT,
        ),
    ] = "table"
    output: Annotated[
        str | None, _option("--output -o", "Write to this file.", OUTPUT, metavar="FILE")
    ] = None
    quiet: Annotated[bool, _option("--quiet -q", "No progress and no notes.", OUTPUT)] = False
    debug: Annotated[bool, _option("--debug", "Show the traceback of an error.", OUTPUT)] = False


ModelArgument = Annotated[
    str,
    typer.Argument(help="A preset, path/model.py:NAME, package.module:NAME or a config.json."),
]
SchemeOption = Annotated[
    str | None,
    typer.Option(
        "--scheme",
        help="Init of a preset: a name or a .toml file; else nanogpt.",
        rich_help_panel=RUN,
        show_default=False,
    ),
]
FailOn = Annotated[
    str,
    typer.Option(
        "--fail-on",
        help="Exit 1 on findings: never, warning or error.",
        rich_help_panel=OUTPUT,
    ),
]
Timing = Annotated[
    bool, typer.Option("--timing", help="Add seconds and peak memory.", rich_help_panel=OUTPUT)
]
AllLayers = Annotated[
    bool,
    typer.Option("--all-layers", help="Show every layer of a long model.", rich_help_panel=OUTPUT),
]


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose dataclass parameters become one option for each of their fields.

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
    """One keyword parameter for each field of a dataclass."""
    kinds = get_type_hints(group, include_extras=True)
    return [
        Parameter(f.name, Parameter.KEYWORD_ONLY, default=f.default, annotation=kinds[f.name])
        for f in fields(group)
    ]
