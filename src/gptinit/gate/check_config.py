"""The configuration of `gptinit check`: models, their bounds, and findings that are accepted."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType

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
from gptinit.tomlfile import Table, load_toml

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
"""Seeds of a check unless it sets more; with fewer the Student quantile is out of reach."""

_TOP_KEYS = ("run", "models", "bounds", "accept", "baseline")
_BOUND_KEYS = ("stat", "where", "min", "max", "why", "source", "models")
_MODEL_KEYS = ("model", "name", "scheme", "init", "set", "roles", "sites", "stubs", "forward")
_ACCEPT_KEYS = ("rule", "where", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One model to check.

    Attributes:
        name: label in results and findings, unique in its file.
        model: a preset, path/model.py:NAME, package.module:NAME or a config.json.
        scheme: slug or path of the init of a preset, or of the scheme that your own model should
            match; None for the default init of a preset, and no claim on your own model.
        overrides: settings that replace the model's: fields of GPTConfig for a preset.
        roles: for your own model: parameter pattern to role.
        sites: for your own model: names of "blocks", and of "attn" and "mlp" inside a block.
        stubs: for your own model: modules for which inert stand-ins are imported.
        init: for your own model: what draws its weights once its constructor is done, as `--init`
            of the other commands; None to find it.
        forward: for your own model: path.py:FUNC of the function that calls it.
    """

    name: str
    model: str = DEFAULT_PRESET
    scheme: str | None = None
    overrides: Mapping[str, object] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    sites: Mapping[str, str] = field(default_factory=dict)
    stubs: tuple[str, ...] = ()
    init: str | None = None
    forward: str | None = None

    @property
    def drawn_by(self) -> str | None:
        """The scheme that draws it; None where its own code does and `scheme` is a claim."""
        return read_model_argument(self.model).drawn_by(self.scheme)

    def config(self) -> GPTConfig | None:
        """Its shape; None where that is known only once it is built.

        Raises:
            ConfigError: if there is no such preset or the shape is not possible.
        """
        return read_model_argument(self.model).config(self.overrides)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopedBound:
    """A bound and the names of the models that it applies to, or None for all."""

    bound: Bound
    models: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """Findings accepted with a stated reason.

    Attributes:
        rule: name of the rule of the findings.
        where: pattern of their location ("small: layer 3"), with the wildcards of `fnmatch`. An
            audit looks at one model: there the name of the model in the pattern is left out.
        reason: why they are accepted.
    """

    rule: str
    reason: str
    where: str = "*"

    def covers(self, finding: Finding) -> frozenset[str]:
        """The places of `finding` that it accepts."""
        where = self.where if finding.model else self.where.rpartition(": ")[2]
        if self.rule != finding.rule:
            return frozenset()
        return frozenset(p for p in finding.locations if where == p or fnmatchcase(p, where))


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckConfig:
    """The configuration of a check.

    Attributes:
        path: the file that it was read from.
        run: how models are measured, with at least LEAST_SEEDS seeds.
        models: the models, at least one.
        bounds: the bounds on them.
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
    """Load the configuration of a check.

    Args:
        path: a TOML file (of a pyproject.toml: its [tool.gptinit]); None looks into `folder` for
            gptinit.toml, then for a pyproject.toml with [tool.gptinit].
        folder: the folder to search.

    Raises:
        ConfigError: if there is none, or it has a key, name, type or value that cannot be used; the
            message is one line that names the file and the table.
    """
    path, where, document = _find_document(path, folder)
    top = Table(document, where, known=_TOP_KEYS)
    run = _run(top.values.get("run", {}), f"{where} [run]", path.parent)
    models = _models(top, path.parent)
    config = CheckConfig(
        path=path,
        run=run,
        models=models,
        bounds=_bounds(top, [m.name for m in models]),
        accept=_acceptances(top),
        baseline=path.parent / top.words("baseline") if "baseline" in top else None,
    )
    _require_measurable(config, where)
    return config


def load_acceptances(path: Path) -> tuple[Acceptance, ...]:
    """Load the [[accept]] tables of a configuration and ignore the rest.

    Args:
        path: a TOML file (of a pyproject.toml: its [tool.gptinit]).

    Raises:
        ConfigError: if it cannot be read, or a table is not a rule with a reason.
    """
    path, where, document = _find_document(path, path.parent)
    return _acceptances(Table(document, where, known=_TOP_KEYS))


def apply_acceptances(
    findings: Iterable[Finding], accept: Sequence[Acceptance]
) -> tuple[Finding, ...]:
    """Turn accepted findings into notes with the reason, and warn of every unused acceptance.

    The first acceptance that covers a finding gives the reason; all that cover a place of it count
    as used. A finding on several layers or parameters is accepted as a whole or not at all: every
    place must be covered, by one acceptance or by several.

    Example:
        >>> late = Finding(
        ...     rule="out-of-bounds", severity="error", model="a", where="final", fact="No."
        ... )
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
    """The file, the name of its table in messages, and the table."""
    if path is not None and path.name != "pyproject.toml":
        return path, str(path), load_toml(path)
    if path is None and (folder / CONFIG_NAME).is_file():
        path = folder / CONFIG_NAME
        return path, str(path), load_toml(path)
    project = path or folder / "pyproject.toml"
    if path is not None or project.is_file():
        tool = load_toml(project).get("tool")
        if isinstance(tool, Mapping) and "gptinit" in tool:
            return project, f"{project} [tool.gptinit]", tool["gptinit"]
    raise ConfigError(
        f"{path or folder} must have {'' if path else f'a {CONFIG_NAME} or '}[tool.gptinit]"
        f"{'' if path else ' in pyproject.toml'}, got none. Run gptinit check --init."
    )


def _run(value: object, where: str, folder: Path) -> RunConfig:
    """The settings of the runs; the path of a data file is relative to `folder`."""
    fields = dict(Table(value, where, known=RunConfig.field_names()).values)
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


def _models(top: Table, folder: Path) -> tuple[ModelSpec, ...]:
    models = tuple(_model(value, where, folder) for value, where in top.tables("models"))
    if not models:
        raise ConfigError(
            f'{top.where} must have at least one [[models]], got none. Write model = "gpt2" under '
            "[[models]]."
        )
    names = [m.name for m in models]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ConfigError(
                f"{top.where} [[models]] {i + 1} must have a unique name, got {name!r} again. "
                "Give it another name."
            )
    return models


def _model(value: object, where: str, folder: Path) -> ModelSpec:
    fields = Table(value, where, known=(*_MODEL_KEYS, *GPTConfig.field_names()))
    model = fields.words("model", DEFAULT_PRESET)
    scheme = fields.words("scheme") if "scheme" in fields else None
    own = [key for key in fields.values if key in GPTConfig.field_names()]
    overrides: dict[str, object] = {key: fields.setting(key) for key in own}
    overrides |= _settings(fields, model)
    name = fields.words("name", _label(model, scheme, overrides))
    if scheme is not None and scheme.endswith(".toml"):
        scheme = str(folder / scheme)
    spec = ModelSpec(
        name=name,
        model=_located(model, folder),
        roles=_names(fields, "roles", known=None),
        sites=_names(fields, "sites", known=SITE_NAMES),
        forward=_located(fields.words("forward"), folder) if "forward" in fields else None,
        scheme=scheme,
        stubs=fields.texts("stubs", []),
        init=_located(fields.words("init"), folder) if "init" in fields else None,
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
    """A MODEL argument with its path, if it has one, relative to `folder`."""
    head, colon, name = model.rpartition(":")
    path = head if colon else model
    is_path = path.endswith((".py", ".json")) or "/" in path
    return f"{folder / path}{colon}{name if colon else ''}" if is_path else model


def _settings(fields: Table, model: str) -> dict[str, object]:
    """Settings of your model in the table `set`, by the names that the model gives them."""
    if "set" not in fields:
        return {}
    if isinstance(read_model_argument(model), Preset):
        raise ConfigError(
            f"{fields.where} set must be for your own model, got the preset {model!r}. Write "
            "fields of its shape, such as n_layer, without set."
        )
    chosen = Table(fields.values["set"], fields.named("set"), sign=".")
    return {k: v if isinstance(v, float) else chosen.setting(k) for k, v in chosen.values.items()}


def _names(fields: Table, key: str, *, known: Sequence[str] | None) -> Mapping[str, str]:
    names = Table(fields.values.get(key, {}), fields.named(key), known=known, sign=".")
    return MappingProxyType({name: names.words(name) for name in names.values})


def _label(model: str, scheme: str | None, overrides: Mapping[str, object]) -> str:
    """The name of a model that the configuration does not name.

    Example:
        >>> _label("gpt2", "plain", {"n_layer": 48, "bias": False})
        'gpt2 scheme=plain n_layer=48 bias=false'
    """
    named = {"scheme": scheme} if scheme else {}
    return model_label(model, {**named, **overrides}, separator=" ")


def _bounds(top: Table, names: Sequence[str]) -> tuple[ScopedBound, ...]:
    """The bounds of the file, or the default bounds on every model."""
    bounds = tuple(_scoped_bound(value, where, names) for value, where in top.tables("bounds"))
    return bounds or tuple(ScopedBound(bound=b) for b in DEFAULT_BOUNDS)


def _scoped_bound(value: object, where: str, names: Sequence[str]) -> ScopedBound:
    fields = Table(value, where, known=_BOUND_KEYS)
    fields.require("stat", "where")
    if "why" not in fields:
        raise ConfigError(
            f"{where} must have a why, got none. Say what goes wrong outside the bound."
        )
    texts = {
        "stat": fields.words("stat"),
        "where": fields.words("where"),
        "why": fields.words("why"),
        "source": fields.text("source", ""),
    }
    low, high = fields.number("min"), fields.number("max")
    try:
        bound = Bound(min=low, max=high, **texts)
    except ConfigError as error:
        raise ConfigError(f"{where} {error}") from error
    return ScopedBound(bound=bound, models=_scope(fields, names))


def _scope(fields: Table, names: Sequence[str]) -> tuple[str, ...] | None:
    """The models that a bound applies to; None for all."""
    if "models" not in fields:
        return None
    models, where = fields.texts("models", []), fields.named("models")
    if not models:
        raise ConfigError(f"{where} must name a model, got none. Leave it out to mean all models.")
    for name in models:
        if name not in names:
            raise unknown_name(where, name, names)
    return models


def _acceptances(top: Table) -> tuple[Acceptance, ...]:
    return tuple(_acceptance(value, where) for value, where in top.tables("accept"))


def _acceptance(value: object, where: str) -> Acceptance:
    fields = Table(value, where, known=_ACCEPT_KEYS)
    fields.require("rule", "reason")
    return Acceptance(
        rule=fields.words("rule"), where=fields.words("where", "*"), reason=fields.words("reason")
    )


def _require_measurable(config: CheckConfig, where: str) -> None:
    """Raise now for settings that would only fail after a model has been measured."""
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


def _accepted(finding: Finding, accept: Sequence[Acceptance]) -> Finding:
    """The finding, turned into a note with the reason if it is accepted."""
    covering = [acceptance for acceptance in accept if acceptance.covers(finding)]
    covered = frozenset[str]().union(*(acceptance.covers(finding) for acceptance in covering))
    if covered == frozenset(finding.locations):
        return replace(finding, severity="note", accepted=covering[0].reason)
    return finding


def _unused(acceptance: Acceptance) -> Finding:
    return Finding(
        rule="unused-acceptance",
        severity="warning",
        where=acceptance.where,
        fact=(
            f"An acceptance must match a finding, got none of rule {acceptance.rule!r} at "
            f"{acceptance.where!r}. Remove it, or correct its rule or where."
        ),
    )


def _bound_text(bound: Bound) -> str:
    lines = ["[[bounds]]"]
    for key in ("stat", "where", "min", "max", "why", "source"):
        value = getattr(bound, key)
        if value not in (None, ""):
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


_STARTER_HEAD = f"""\
# What `gptinit check` measures, and the bounds it checks. Paths are relative to this file.

# Reviewed values of earlier runs; `gptinit check --update-baseline` writes the file.
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

# The bounds; without any [[bounds]] these defaults apply. Each needs a reason (why), and may name
# the models that it applies to: models = ["small"].

"""

_STARTER_TAIL = """
# A finding that you accept, with the reason. A finding on several layers lists them all, as in
# "small: layers 3, 8-11".
# [[accept]]
# rule = "out-of-bounds"
# where = "small: *"  # every place unless given
# reason = "known since the first release; retraining is planned"
"""
