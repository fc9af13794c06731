"""Every rule by its name: finders from the files here, documentation from rule_docs.toml."""

from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType

from gptinit import tomlfile
from gptinit.audit_rules import (
    constants,
    copies,
    head,
    overwritten,
    precision,
    residual,
    scale,
    unwritten,
)
from gptinit.errors import unknown_name
from gptinit.results.rule import Finder, Rule

__all__ = ["RULES", "explain"]

_FINDERS: Mapping[str, Finder | None] = MappingProxyType(
    {
        "init-never-called": unwritten.init_never_called,
        "uninitialised": unwritten.uninitialised,
        "pretrained-overwritten": overwritten.pretrained_overwritten,
        "special-init-overwritten": overwritten.special_init_overwritten,
        "residual-scaling-missing": residual.residual_scaling_missing,
        "residual-scaling-wrong-tensor": residual.residual_scaling_wrong_tensor,
        "residual-branches-unequal": residual.residual_branches_unequal,
        "scaled-twice": residual.scaled_twice,
        "fan-in-wrong": scale.fan_in_wrong,
        "std-vs-variance": scale.std_vs_variance,
        "role-std-mismatch": scale.role_std_mismatch,
        "wrong-distribution": scale.wrong_distribution,
        "tied-role-std-conflict": head.tied_role_std_conflict,
        "logit-scale": head.logit_scale,
        "tie-broken": head.tie_broken,
        "tie-unexpected": head.tie_unexpected,
        "norm-weight-wrong": constants.norm_weight_wrong,
        "bias-nonzero": constants.bias_nonzero,
        "zeros": constants.zeros,
        "padding-row-nonzero": constants.padding_row_nonzero,
        "duplicate-layers": copies.duplicate_layers,
        "duplicate-experts": copies.duplicate_experts,
        "duplicate-tensors": copies.duplicate_tensors,
        "dtype-rounding": precision.dtype_rounding,
        "duplicate-shards": copies.duplicate_shards,
        "replicas-differ": None,  # compares processes
        "setting-ignored": None,  # compares builds with other settings
        "build-mismatch": None,  # compares two ways to build
        "forward-not-followed": None,  # runs the model
    }
)


def _rules() -> Mapping[str, Rule]:
    """Every finder with its documentation."""
    where = "rule_docs.toml"
    text = (resources.files("gptinit") / "audit_rules" / where).read_text(encoding="utf-8")
    docs = tomlfile.table(tomlfile.parse_toml(text, where), where, known=_FINDERS)
    return MappingProxyType(
        {name: _rule(name, find, docs.get(name)) for name, find in _FINDERS.items()}
    )


def _rule(name: str, find: Finder | None, table: object) -> Rule:
    """One rule from its table."""
    keys = ("severity", "title", "what", "why", "bug", "fix")
    fields = tomlfile.table(table, f"rule_docs.toml [{name}]", known=keys)
    words = {key: tomlfile.text(fields.get(key), f"rule_docs.toml [{name}] {key}") for key in keys}
    return Rule(name=name, find=find, **words)


RULES: Mapping[str, Rule] = _rules()
"""Every rule, in the order in which findings of one severity are told."""


def explain(name: str) -> Rule:
    """The rule called `name`, with its documentation.

    Raises:
        ConfigError: if there is no such rule.

    Example:
        >>> explain("tie-broken").title
        'The head is not the embedding, although the settings say so'
    """
    if name not in RULES:
        raise unknown_name("rule", name, RULES, remedy=f"Known: {', '.join(RULES)}.")
    return RULES[name]
