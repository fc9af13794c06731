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

__all__ = [
    "DEFAULT_SCHEME",
    "RoleRule",
    "Scheme",
    "distributions_at",
    "get_scheme",
    "load_schemes",
    "role_fans",
    "scheme_names",
]

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
        self, role: str, config: GPTConfig, *, layer: int = 0, fan_in: int = 1, fan_out: int = 1
    ) -> Distribution:
        """What a parameter of `role` is drawn from.

        Args:
            role: one of `vocabulary.ROLES`, without the fused "qkv" (ask for q, k and v).
            config: the model's shape.
            layer: 0-based block index; 0 outside the blocks.
            fan_in: columns of the matrix.
            fan_out: rows of the matrix.

        Raises:
            ConfigError: if the scheme has no rule for the role, or its formula fails there.

        Example:
            >>> nanogpt = get_scheme("nanogpt")
            >>> round(nanogpt.distribution("attn_out", GPTConfig(n_layer=12)).std, 7)
            0.0040825
        """
        if role not in self.rules:
            raise ConfigError(
                f"scheme {self.slug} must have a rule for the role {role} of this model, "
                f"got rules for {', '.join(self.rules)}."
            )
        variables = {
            "n_layer": config.n_layer,
            "layer": layer,
            "n_embd": config.n_embd,
            "d_ff": config.d_ff,
            "n_head": config.n_head,
            "head_dim": config.head_dim,
            "vocab_size": config.vocab_size,
            "fan_in": fan_in,
            "fan_out": fan_out,
        }
        try:
            return self.rules[role].distribution(variables)
        except ConfigError as error:
            raise ConfigError(f"scheme {self.slug}, role {role}: {error}") from error

    def expected(
        self,
        role: str,
        facts: ModelFacts,
        *,
        layer: int | None = None,
        fan_in: int | None = None,
        fan_out: int | None = None,
    ) -> Distribution | None:
        """What it would draw a parameter of any model from; None where it cannot say.

        Args:
            role: one of `vocabulary.ROLES`, without the fused "qkv" (ask for q, k and v).
            facts: the model's shape; what is None there is unknown.
            layer: 0-based block index, None outside the blocks.
            fan_in: columns of the matrix, None if unknown.
            fan_out: rows of the matrix, None if unknown.

        Returns:
            None if there is no rule for the role, if its formula needs what nobody knows, or if
            it has no value at this shape.
        """
        rule = self.rules.get(role)
        if rule is None:
            return None
        given: dict[str, int | None] = {
            "n_layer": facts.n_layer,
            "layer": layer or 0,
            "n_embd": facts.n_embd,
            "d_ff": facts.d_ff,
            "n_head": facts.n_head,
            "head_dim": facts.head_dim,
            "vocab_size": facts.vocab_size,
            "fan_in": fan_in,
            "fan_out": fan_out,
        }
        known = {name: float(value) for name, value in given.items() if value is not None}
        if not rule.variables <= known.keys():
            return None
        try:
            return rule.distribution(known)
        except ConfigError:  # no value at this shape: n_layer 0 under a square root, say
            return None


@cache
def _variables(tree: ast.expr) -> frozenset[str]:
    """Variables that a parsed formula names."""
    names = frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    return names & frozenset(VARIABLES)


def role_fans(role: str, config: GPTConfig) -> tuple[int, int]:
    """(fan_in, fan_out) of a parameter of `role` in the built-in GPT of this shape.

    For a bias those of the matrix named first among several (attention's projections).

    Example:
        >>> role_fans("mlp_down", GPTConfig())
        (3072, 768)
    """
    inner, width = config.n_head * config.head_dim, config.n_embd
    return {
        "tok_emb": (width, config.vocab_size),
        "pos_emb": (width, config.block_size),
        "attn_out": (inner, width),
        "mlp_up": (width, config.d_ff),
        "mlp_gate": (width, config.d_ff),
        "mlp_down": (config.d_ff, width),
        "lm_head": (width, config.vocab_size),
        "norm_weight": (width, width),
        "norm_bias": (width, width),
    }.get(role, (width, inner))


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
    """The one scheme in a file of the user's."""
    found = _schemes(load_toml(path), str(path))
    if len(found) != 1:
        raise ConfigError(
            f"{path} must hold exactly one scheme, got {len(found)}: {', '.join(found) or 'none'}."
        )
    scheme = next(iter(found.values()))
    if scheme.slug in scheme_names():
        raise ConfigError(
            f"{path} must give its scheme a name of its own, got the built-in [{scheme.slug}]."
        )
    return scheme


def _schemes(document: Mapping[str, object], where: str) -> dict[str, Scheme]:
    """Every scheme of a parsed TOML document."""
    return {slug: _scheme(slug, table, f"{where} [{slug}]") for slug, table in document.items()}


def _scheme(slug: str, table: object, where: str) -> Scheme:
    """One scheme from its table."""
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
    """One rule from its inline table."""
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


def distributions_at(scheme: Scheme, config: GPTConfig) -> dict[str, tuple[Distribution, ...]]:
    """What a scheme draws every role from at one shape.

    Returns:
        Role to its distribution, or to several: those of the first and the last layer, and of
        biases with different fans, where they differ; none for a role that the model lacks.

    Raises:
        ConfigError: if a formula fails at this shape.
    """
    found = {}
    for role in scheme.rules:
        fans = [role_fans(role, config)]
        if role == "linear_bias":
            fans.append(role_fans("mlp_down", config))
        every = [
            scheme.distribution(role, config, layer=layer, fan_in=fan_in, fan_out=fan_out)
            for layer in (0, config.n_layer - 1)
            for fan_in, fan_out in fans
        ]
        found[role] = () if role in _lacking(config) else tuple(dict.fromkeys(every))
    return found


def _lacking(config: GPTConfig) -> set[str]:
    """Roles that no parameter of the built-in GPT plays at this shape."""
    biases = set() if config.bias else {"linear_bias", "norm_bias"}
    return {"mlp_gate", *biases, *({"lm_head"} if config.tied else ())}
