"""The configuration of `gptinit check`: which models, held to what, and what is accepted."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType

from gptinit import tomlfile
from gptinit.config import DATA_KINDS, GPTConfig, RunConfig
from gptinit.errors import ConfigError, unknown_name
from gptinit.facts.bounds import DEFAULT_BOUNDS, Bound
from gptinit.facts.model_argument import Preset, read_model_argument
from gptinit.facts.names import model_label
from gptinit.facts.presets import DEFAULT_PRESET
from gptinit.facts.schemes import get_scheme
from gptinit.facts.vocabulary import SITE_NAMES, STATISTICS
from gptinit.gate.judge import places_of
from gptinit.results.profile import Finding

__all__ = [
    "CONFIG_NAME",
    "LEAST_SEEDS",
    "Acceptance",
    "CheckConfig",
    "ModelSpec",
    "ScopedBound",
    "apply_acceptances",
    "load_acceptances",
    "load_check",
    "starter_config",
]

CONFIG_NAME = "gptinit.toml"
"""The file that is read when none is named; [tool.gptinit] of pyproject.toml comes second."""

LEAST_SEEDS = 6
"""Seeds of a check unless it asks for more; with fewer the Student quantile is out of reach."""

_TOP_KEYS = ("run", "models", "bounds", "accept", "baseline")
_BOUND_KEYS = ("stat", "where", "min", "max", "why", "source", "models")
_ACCEPT_KEYS = ("rule", "where", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One model to check.

    Attributes:
        name: label in results and findings, unique in its file.
        model: a preset, path/model.py:NAME, package.module:NAME or a config.json.
        scheme: slug or path of a preset's init, or the claim that a foreign model is held to; None
            is the model's own.
        overrides: settings in place of the model's: fields of GPTConfig for a preset.
        roles: of a foreign model: parameter pattern to role.
        sites: of a foreign model: names of "blocks", and of "attn" and "mlp" inside a block.
    """

    name: str
    model: str = DEFAULT_PRESET
    scheme: str | None = None
    overrides: Mapping[str, object] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    sites: Mapping[str, str] = field(default_factory=dict)

    @property
    def init(self) -> str | None:
        """The scheme that draws it; None where its own code does and `scheme` is a claim."""
        return read_model_argument(self.model).init(self.scheme)

    def config(self) -> GPTConfig | None:
        """Its shape; None where that is known only once it is built.

        Raises:
            ConfigError: if there is no such preset or the shape is not possible.
        """
        return read_model_argument(self.model).config(self.overrides)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopedBound:
    """A bound and the models that it is for: their names, or None for all."""

    bound: Bound
    models: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """Findings that someone has looked at and lives with.

    Attributes:
        rule: the rule of the findings.
        where: pattern of their place, with the wildcards of `fnmatch`.
        reason: why that is so.
    """

    rule: str
    reason: str
    where: str = "*"

    def covers(self, finding: Finding) -> bool:
        """Whether it is about `finding`."""
        return self.rule == finding.rule and (
            self.where == finding.where or fnmatchcase(finding.where, self.where)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckConfig:
    """Everything a check needs to know.

    Attributes:
        path: the file that it was read from.
        run: how models are measured, with at least LEAST_SEEDS seeds.
        models: the models, at least one.
        bounds: what they are held to.
        accept: findings that are accepted.
        baseline: the baseline file, which need not exist yet; None if there is none.
    """

    path: Path
    run: RunConfig
    models: tuple[ModelSpec, ...]
    bounds: tuple[ScopedBound, ...]
    accept: tuple[Acceptance, ...] = ()
    baseline: Path | None = None

    def bounds_for(self, name: str) -> tuple[Bound, ...]:
        """The bounds of the model called `name`."""
        return tuple(s.bound for s in self.bounds if s.models is None or name in s.models)


def load_check(path: Path | None, *, folder: Path) -> CheckConfig:
    """The configuration of a check.

    Args:
        path: a TOML file (of a pyproject.toml: its [tool.gptinit]); None looks into `folder` for
            gptinit.toml, then for a pyproject.toml with [tool.gptinit].
        folder: where to look.

    Raises:
        ConfigError: if there is none, or it has a key, name, type or value that cannot be used; one
            line that names the file and the table.
    """
    path, where, document = _find_document(path, folder)
    top = tomlfile.table(document, where, known=_TOP_KEYS)
    run = _run(top.get("run", {}), f"{where} [run]", path.parent)
    models = _models(top.get("models", []), where, path.parent)
    baseline = top.get("baseline")
    config = CheckConfig(
        path=path,
        run=run,
        models=models,
        bounds=_bounds(top.get("bounds", []), where, [m.name for m in models]),
        accept=tuple(_acceptance(t, w) for t, w in _tables(top.get("accept", []), where, "accept")),
        baseline=None if baseline is None else path.parent / _said(baseline, f"{where} baseline"),
    )
    _require_measurable(config, where)
    return config


def load_acceptances(path: Path) -> tuple[Acceptance, ...]:
    """The [[accept]] tables of a configuration, whatever else it holds.

    Args:
        path: a TOML file (of a pyproject.toml: its [tool.gptinit]).

    Raises:
        ConfigError: if it cannot be read, or a table is not a rule with a reason.
    """
    path, where, document = _find_document(path, path.parent)
    top = tomlfile.table(document, where, known=_TOP_KEYS)
    found = (_acceptance(t, w) for t, w in _tables(top.get("accept", []), where, "accept"))
    # A check names the model before the place: "small: h.*.attn.c_proj.weight".
    return tuple(replace(a, where=a.where.rpartition(": ")[2]) for a in found)


def apply_acceptances(
    findings: Iterable[Finding], accept: Sequence[Acceptance]
) -> tuple[Finding, ...]:
    """The findings, what is accepted as notes with the reason, and a warning an idle acceptance.

    The first acceptance that covers a finding gives the reason, and all that cover it are in use. A
    finding on several layers is accepted whole or not at all: its `where` lists them all.

    Args:
        findings: of all models.
        accept: what the configuration accepts.

    Example:
        >>> late = Finding(rule="out-of-bounds", severity="error", where="a: final", message="No.")
        >>> known = Acceptance(rule="out-of-bounds", where="a: *", reason="a fine-tune")
        >>> [(f.severity, f.message) for f in apply_acceptances([late], [known])]
        [('note', 'No. Accepted: a fine-tune')]
    """
    findings = tuple(findings)
    idle = [a for a in accept if not any(a.covers(f) for f in findings)]
    return (*(_accepted(f, accept) for f in findings), *map(_unused, idle))


def starter_config() -> str:
    """The text of a first gptinit.toml: a model, the default bounds written out, and comments."""
    return _STARTER_HEAD + "\n".join(_bound_text(b) for b in DEFAULT_BOUNDS) + _STARTER_TAIL


def _find_document(path: Path | None, folder: Path) -> tuple[Path, str, object]:
    """The file, how to call its table in messages, and the table."""
    if path is not None and path.name != "pyproject.toml":
        return path, str(path), tomlfile.load_toml(path)
    if path is None and (folder / CONFIG_NAME).is_file():
        path = folder / CONFIG_NAME
        return path, str(path), tomlfile.load_toml(path)
    project = path or folder / "pyproject.toml"
    if path is not None or project.is_file():
        tool = tomlfile.load_toml(project).get("tool")
        if isinstance(tool, Mapping) and "gptinit" in tool:
            return project, f"{project} [tool.gptinit]", tool["gptinit"]
    raise ConfigError(
        f"{path or folder} must have {'' if path else f'a {CONFIG_NAME} or '}[tool.gptinit]"
        f"{'' if path else ' in pyproject.toml'}, got none. Run gptinit check --init."
    )


def _run(value: object, where: str, folder: Path) -> RunConfig:
    """How to measure, with a file of data found from the folder of the configuration."""
    fields = dict(tomlfile.table(value, where, known=RunConfig.field_names()))
    data = fields.get("data")
    if isinstance(data, str) and data and data not in DATA_KINDS:
        fields["data"] = str(folder / data)
    try:
        run = RunConfig(**{"seeds": LEAST_SEEDS, **fields})  # type: ignore[arg-type] # checks itself
    except ConfigError as error:
        raise ConfigError(f"{where} {error}") from error
    if run.seeds < LEAST_SEEDS:
        raise ConfigError(
            f"{where} seeds must be at least {LEAST_SEEDS} in a check, got {run.seeds}. Fewer "
            "cannot tell a violation from noise."
        )
    return run


def _models(value: object, where: str, folder: Path) -> tuple[ModelSpec, ...]:
    """The models, each with a name of its own."""
    models = tuple(_model(t, w, folder) for t, w in _tables(value, where, "models"))
    if not models:
        raise ConfigError(
            f'{where} must have at least one [[models]], got none. Write model = "gpt2" under '
            "[[models]]."
        )
    names = [m.name for m in models]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ConfigError(
                f"{where} [[models]] {i + 1} must have a name of its own, got {name!r} again. "
                "Give it another name."
            )
    return models


def _model(value: object, where: str, folder: Path) -> ModelSpec:
    """One model, its preset, shape and scheme known to exist."""
    known = ("model", "name", "scheme", "set", "roles", "sites", *GPTConfig.field_names())
    fields = tomlfile.table(value, where, known=known)
    model = _said(fields.get("model", DEFAULT_PRESET), f"{where} model")
    scheme = _said(fields["scheme"], f"{where} scheme") if "scheme" in fields else None
    own = {k: v for k, v in fields.items() if k in GPTConfig.field_names()}
    overrides: dict[str, object] = {k: _simple(v, f"{where} {k}") for k, v in own.items()}
    overrides |= _settings(fields, where, model)
    name = _said(fields.get("name", _label(model, scheme, overrides)), f"{where} name")
    if scheme is not None and scheme.endswith(".toml"):
        scheme = str(folder / scheme)
    spec = ModelSpec(
        name=name,
        model=_located(model, folder),
        roles=MappingProxyType(_names(fields.get("roles", {}), f"{where} roles", None)),
        sites=MappingProxyType(_names(fields.get("sites", {}), f"{where} sites", SITE_NAMES)),
        scheme=scheme,
        overrides=MappingProxyType(overrides),
    )
    try:
        spec.config()
        if scheme is not None:
            get_scheme(scheme)
    except ConfigError as error:
        raise ConfigError(f"{where} {error}") from error
    return spec


def _located(model: str, folder: Path) -> str:
    """A model whose path is found from the folder of the configuration."""
    head, colon, name = model.rpartition(":")
    path = head if colon else model
    is_path = path.endswith((".py", ".json")) or "/" in path
    return f"{folder / path}{colon}{name if colon else ''}" if is_path else model


def _settings(fields: Mapping[str, object], where: str, model: str) -> dict[str, object]:
    """The table `set`: settings of a foreign model by their own names."""
    if "set" not in fields:
        return {}
    if isinstance(read_model_argument(model), Preset):
        raise ConfigError(f"{where} set must be of a foreign model, got the preset {model!r}.")
    table = fields["set"]
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} set must be a table, got {table!r}.")
    return {
        k: v if isinstance(v, float) else _simple(v, f"{where} set.{k}") for k, v in table.items()
    }


def _names(value: object, where: str, known: Sequence[str] | None) -> dict[str, str]:
    """A table of texts."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} must be a table, got {value!r}.")
    if known is not None:
        value = tomlfile.table(value, where, known=known)
    return {k: _said(v, f"{where}.{k}") for k, v in value.items()}


def _label(model: str, scheme: str | None, overrides: Mapping[str, object]) -> str:
    """The name of a model that was given none.

    Example:
        >>> _label("gpt2", "plain", {"n_layer": 48, "bias": False})
        'gpt2 scheme=plain n_layer=48 bias=false'
    """
    named = {"scheme": scheme} if scheme else {}
    return model_label(model, {**named, **overrides}, separator=" ")


def _bounds(value: object, where: str, names: Sequence[str]) -> tuple[ScopedBound, ...]:
    """The bounds of the file, or the default ones for every model."""
    tables = _tables(value, where, "bounds")
    if not tables:
        return tuple(ScopedBound(bound=b) for b in DEFAULT_BOUNDS)
    return tuple(_scoped_bound(t, w, names) for t, w in tables)


def _scoped_bound(value: object, where: str, names: Sequence[str]) -> ScopedBound:
    """One bound, which must have a reason and be for models that exist."""
    fields = tomlfile.table(value, where, known=_BOUND_KEYS)
    for key in ("stat", "where"):
        if key not in fields:
            raise ConfigError(f"{where} must have a {key}, got none.")
    if "why" not in fields:
        raise ConfigError(
            f"{where} must have a why, got none. Say what goes wrong outside the bound."
        )
    try:
        bound = Bound(
            stat=_said(fields["stat"], "stat"),
            where=_said(fields["where"], "where"),
            min=_limit(fields.get("min"), "min"),
            max=_limit(fields.get("max"), "max"),
            why=_said(fields["why"], "why"),
            source=tomlfile.text(fields.get("source", ""), "source"),
        )
    except ConfigError as error:
        raise ConfigError(f"{where} {error}") from error
    return ScopedBound(bound=bound, models=_scope(fields, where, names))


def _scope(
    fields: Mapping[str, object], where: str, names: Sequence[str]
) -> tuple[str, ...] | None:
    """The models that a bound is for; None if it does not say."""
    if "models" not in fields:
        return None
    models = tomlfile.texts(fields["models"], f"{where} models")
    if not models:
        raise ConfigError(f"{where} models must name a model, got none. Without it all are meant.")
    for name in models:
        if name not in names:
            raise unknown_name(f"{where} models", name, names)
    return models


def _acceptance(value: object, where: str) -> Acceptance:
    """One acceptance, which must have a rule and a reason."""
    fields = tomlfile.table(value, where, known=_ACCEPT_KEYS)
    for key in ("rule", "reason"):
        if key not in fields:
            raise ConfigError(f"{where} must have a {key}, got none.")
    return Acceptance(
        rule=_said(fields["rule"], f"{where} rule"),
        where=_said(fields.get("where", "*"), f"{where} where"),
        reason=_said(fields["reason"], f"{where} reason"),
    )


def _require_measurable(config: CheckConfig, where: str) -> None:
    """Raise now for what would only fail once a model has been measured."""
    for spec in config.models:
        shape = spec.config()
        if shape is None:
            continue
        try:
            config.run.resolve_seq_len(shape.block_size)
            for bound in config.bounds_for(spec.name):
                places_of(bound, shape.n_layer)
        except ConfigError as error:
            raise ConfigError(f"{where} model {spec.name}: {error}") from error
    for scoped in config.bounds:
        if STATISTICS[scoped.bound.stat].needs_grad and not config.run.grad:
            raise ConfigError(
                f"{where} bound on {scoped.bound.stat} must come with grad = true under [run], "
                "got grad = false."
            )


def _tables(value: object, where: str, key: str) -> list[tuple[object, str]]:
    """The tables of [[key]], each with what to call it in messages."""
    if not isinstance(value, list):
        raise ConfigError(f"{where} {key} must be tables under [[{key}]], got {value!r}.")
    return [(t, f"{where} [[{key}]] {i}") for i, t in enumerate(value, start=1)]


def _said(value: object, where: str) -> str:
    """`value`, once it is a text that says something."""
    if not tomlfile.text(value, where).strip():
        raise ConfigError(f"{where} must say something, got {value!r}.")
    return str(value)


def _simple(value: object, where: str) -> int | str | bool:
    """`value`, once it is a number, text or bool without a point."""
    if not isinstance(value, (int, str)):
        raise ConfigError(f"{where} must be an integer, a text, true or false, got {value!r}.")
    return value


def _limit(value: object, where: str) -> float | None:
    """`value`, once it is a number that fits a float, or none."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{where} must be a number, got {value!r}.")
    try:
        float(value)
    except OverflowError as error:
        raise ConfigError(f"{where} must be below 1e308, got more.") from error
    return value


def _accepted(finding: Finding, accept: Sequence[Acceptance]) -> Finding:
    """The finding, as a note with the reason if it is accepted."""
    for acceptance in accept:
        if acceptance.covers(finding):
            message = f"{finding.message} Accepted: {acceptance.reason}"
            return replace(finding, severity="note", message=message)
    return finding


def _unused(acceptance: Acceptance) -> Finding:
    """The warning that an acceptance has nothing to accept."""
    return Finding(
        rule="unused-acceptance",
        severity="warning",
        where=acceptance.where,
        message=(
            f"An acceptance must match a finding, got none of rule {acceptance.rule!r} at "
            f"{acceptance.where!r}. Remove it, or mend its rule or where."
        ),
    )


def _bound_text(bound: Bound) -> str:
    """A bound as TOML."""
    lines = ["[[bounds]]"]
    for key in ("stat", "where", "min", "max", "why", "source"):
        value = getattr(bound, key)
        if value not in (None, ""):
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


_STARTER_HEAD = f"""\
# What `gptinit check` measures and holds to bounds. Paths are relative to this file.

# A reviewed file of what the models were like; `gptinit check --update-baseline` writes it.
# baseline = "gptinit-baseline.json"

[run]
seeds = {LEAST_SEEDS}  # at least {LEAST_SEEDS}; more seeds settle what is inconclusive
# seq_len = 256
# data = "zipf"  # or uniform, text, or a file
# grad = true  # needed by bounds on grad_rms and grad_growth

[[models]]
model = "{DEFAULT_PRESET}"  # a preset; any field of its shape can follow, such as n_layer = 48
scheme = "nanogpt"  # see `gptinit schemes`; or the path of a .toml file
# name = "small"  # the label in results; made from the lines above unless given

# The bounds; without any [[bounds]] these very ones hold. Each needs a reason (why), and may name
# the models it is for: models = ["small"].

"""

_STARTER_TAIL = """
# A finding that you have looked at and live with, with the reason. Findings on several layers name
# them all, as in "small: layers 3, 8-11".
# [[accept]]
# rule = "out-of-bounds"
# where = "small: *"  # every place unless given
# reason = "known since the first release; retraining is planned"
"""
