"""Initialisation schemes: which distribution each role is drawn from, as data with its source."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from gptinit.config import GPTConfig, ModelFacts
from gptinit.errors import ConfigError, unknown_name
from gptinit.facts.distributions import Constant, Distribution, Normal, TruncatedNormal, Uniform
from gptinit.facts.formulas import VARIABLES, evaluate, parse
from gptinit.facts.vocabulary import ROLES
from gptinit.tomlfile import Table, load_toml, parse_toml

__all__ = ["DEFAULT_SCHEME", "RoleRule", "Scheme", "get_scheme", "load_schemes", "scheme_names"]

DEFAULT_SCHEME = "nanogpt"
"""The init of the built-in model when none is named."""

_FORMULAS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "normal": ("std", "mean"),
        "truncated_normal": ("std", "cut", "mean"),
        "uniform": ("bound",),
        "const": ("value",),
    }
)
_OPTIONAL = frozenset({"mean"})
_SCHEME_KEYS = ("title", "aliases", "year", "source", "verified", "notes", "roles")
_SCHEME_ROLES = tuple(role for role in ROLES if role != "qkv")
_RULE_KEYS = ("dist", "std", "mean", "cut", "bound", "value")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleRule:
    """The distribution of one role, with formulas for its parameters.

    Attributes:
        dist: "normal", "truncated_normal", "uniform" or "const".
        formulas: parameter name ("std", "bound" ...) to its text.
        trees: the same, parsed.
    """

    dist: str
    formulas: Mapping[str, str]
    trees: Mapping[str, ast.expr]

    def distribution(self, variables: Mapping[str, float]) -> Distribution:
        """The distribution at `variables` (see `formulas.VARIABLES`).

        Raises:
            ConfigError: if a formula has no finite value there, or gives a negative std.
        """
        value = {name: evaluate(tree, variables) for name, tree in self.trees.items()}
        mean = value.get("mean", 0.0)
        match self.dist:
            case "normal":
                return Normal(mean, value["std"])
            case "truncated_normal":
                cut = value["cut"] * value["std"]
                return TruncatedNormal(mean, value["std"], mean - cut, mean + cut)
            case "uniform":
                return Uniform(-value["bound"], value["bound"])
            case _:
                return Constant(value["value"])

    @property
    def variables(self) -> frozenset[str]:
        """Names that its formulas use.

        Example:
            >>> sorted(get_scheme("nanogpt").rules["attn_out"].variables)
            ['n_layer']
        """
        return frozenset().union(*map(_variables, self.trees.values()))

    def __str__(self) -> str:
        match self.dist:
            case "normal":
                return f"N({self.formulas.get('mean', '0')}, {self.formulas['std']})"
            case "truncated_normal":
                return f"TN(0, {self.formulas['std']}; cut {self.formulas['cut']} std)"
            case "uniform":
                return f"U(±{self.formulas['bound']})"
            case _:
                return self.formulas["value"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """One initialisation: a rule for every role.

    Attributes:
        slug: canonical name, as in JSON.
        title: one line.
        aliases: other names it answers to.
        source: where the rule was read, or who claims it.
        verified: "yes", "partly", "claim", or "user" for a file of the user's.
        notes: what to know about it.
        rules: role to rule.
        year: when it appeared, if known.
    """

    slug: str
    title: str
    aliases: tuple[str, ...]
    source: tuple[str, ...]
    verified: str
    notes: str
    rules: Mapping[str, RoleRule]
    year: int | None = None

    def distribution(
        self,
        role: str,
        shape: GPTConfig | ModelFacts,
        *,
        layer: int | None = None,
        fan_in: int | None = None,
        fan_out: int | None = None,
    ) -> Distribution:
        """What a parameter of `role` is drawn from.

        Args:
            role: one of `vocabulary.ROLES`, without the fused "qkv" (`apply_scheme` splits it).
            shape: the model's shape; a size that is None there is unknown.
            layer: 0-based block index, None outside the blocks.
            fan_in: inputs of the matrix, None if unknown.
            fan_out: outputs of the matrix, None if unknown.

        Raises:
            ConfigError: if the scheme has no rule for the role, its formula needs an unknown size,
                or it has no value at this shape.

        Example:
            >>> nanogpt = get_scheme("nanogpt")
            >>> round(nanogpt.distribution("attn_out", GPTConfig(n_layer=12)).std, 7)
            0.0040825
        """
        rule = self.rules.get(role)
        if rule is None:
            raise ConfigError(
                f"scheme {self.slug} must have a rule for the role {role} of this model, "
                f"got rules for {', '.join(self.rules)}."
            )
        sizes = {"layer": layer or 0, "fan_in": fan_in, "fan_out": fan_out}
        given = {n: sizes[n] if n in sizes else getattr(shape, n) for n in VARIABLES}
        unknown = [name for name in sorted(rule.variables) if given[name] is None]
        if unknown:
            raise ConfigError(
                f"scheme {self.slug}, role {role}: its formula needs {', '.join(unknown)}, which "
                "is not known of this model."
            )
        try:
            return rule.distribution({k: float(v) for k, v in given.items() if v is not None})
        except ConfigError as error:
            raise ConfigError(f"scheme {self.slug}, role {role}: {error}") from error

    def by_depth(self, role: str) -> bool:
        """Whether its rule for a role depends on the depth.

        Example:
            >>> get_scheme("nanogpt").by_depth("mlp_down")
            True
        """
        rule = self.rules.get(role)
        return rule is not None and bool({"n_layer", "layer"} & rule.variables)

    def expected(
        self, role: str, shape: GPTConfig | ModelFacts, **sizes: int | None
    ) -> Distribution | None:
        """What a parameter of `role` is drawn from; None where `distribution` would raise."""
        try:
            return self.distribution(role, shape, **sizes)
        except ConfigError:
            return None


@cache
def _variables(tree: ast.expr) -> frozenset[str]:
    names = frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    return names & frozenset(VARIABLES)


@cache
def load_schemes() -> Mapping[str, Scheme]:
    """The built-in schemes by slug, in the order of tables."""
    text = (resources.files("gptinit.facts") / "schemes.toml").read_text(encoding="utf-8")
    return MappingProxyType(_schemes(parse_toml(text, "schemes.toml"), "schemes.toml"))


def scheme_names() -> Mapping[str, str]:
    """Every slug and alias to its slug."""
    known = {slug: slug for slug in load_schemes()}
    return {**known, **{a: s.slug for s in load_schemes().values() for a in s.aliases}}


def get_scheme(name: str) -> Scheme:
    """The scheme called `name`: a slug, an alias, or the path of a TOML file with one scheme.

    Raises:
        ConfigError: if there is no such scheme or file, or the file is not a scheme.

    Example:
        >>> get_scheme("gpt2").slug
        'nanogpt'
    """
    slug = scheme_names().get(name)
    if slug is not None:
        return load_schemes()[slug]
    if name.endswith(".toml"):
        return _user_scheme(Path(name))
    raise unknown_name(
        "scheme", name, scheme_names(), remedy="A scheme of your own is a path ending in .toml."
    )


def _user_scheme(path: Path) -> Scheme:
    found = _schemes(load_toml(path), str(path))
    if len(found) != 1:
        raise ConfigError(
            f"{path} must hold exactly one scheme, got {len(found)}: {', '.join(found) or 'none'}."
        )
    scheme = next(iter(found.values()))
    if scheme.slug in scheme_names():
        raise ConfigError(
            f"{path} must give its scheme an unused name, got the built-in [{scheme.slug}]."
        )
    return scheme


def _schemes(document: Mapping[str, object], where: str) -> dict[str, Scheme]:
    return {slug: _scheme(slug, table, f"{where} [{slug}]") for slug, table in document.items()}


def _scheme(slug: str, table: object, where: str) -> Scheme:
    fields = Table(table, where, known=_SCHEME_KEYS)
    roles = Table(fields.values.get("roles"), f"{where} roles", known=_SCHEME_ROLES)
    year = fields.values.get("year")
    return Scheme(
        slug=slug,
        title=fields.text("title", slug),
        aliases=fields.texts("aliases", []),
        source=fields.texts("source", [where]),
        verified=fields.text("verified", "user"),
        notes=fields.text("notes", ""),
        year=year if isinstance(year, int) else None,
        rules=MappingProxyType(
            {r: _rule(rule, f"{where} {r}") for r, rule in roles.values.items()}
        ),
    )


def _rule(table: object, where: str) -> RoleRule:
    fields = dict(Table(table, where, known=_RULE_KEYS).values)
    dist = fields.pop("dist", None)
    if dist not in _FORMULAS or not isinstance(dist, str):
        raise unknown_name(f"{where} dist", str(dist), _FORMULAS)
    wanted = _FORMULAS[dist]
    for name in fields:
        if name not in wanted:
            raise ConfigError(
                f"{where} must have only {', '.join(wanted)} with {dist}, got {name}."
            )
    for name in wanted:
        if name not in fields and name not in _OPTIONAL:
            raise ConfigError(f"{where} must have {name} with dist={dist!r}, got none.")
    try:
        trees = {name: parse(value) for name, value in fields.items()}
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    formulas = {name: str(value) for name, value in fields.items()}
    return RoleRule(dist=dist, formulas=MappingProxyType(formulas), trees=MappingProxyType(trees))
