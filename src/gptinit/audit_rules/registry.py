"""Every rule by its name: a function from the files here, documentation from rule_docs.toml."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import resources
from types import MappingProxyType
from typing import TypeAlias

from gptinit.audit_rules import (
    branches,
    constants,
    copies,
    gradients,
    head,
    overwritten,
    precision,
    residual,
    scale,
    truncation,
    unwritten,
)
from gptinit.audit_rules.blame import blamed
from gptinit.audit_rules.context import Context
from gptinit.audit_rules.grouping import Hit, grouped
from gptinit.errors import unknown_name
from gptinit.results.profile import Finding
from gptinit.results.program import ModelProgram
from gptinit.results.rule import Rule
from gptinit.tomlfile import Table, parse_toml

__all__ = ["FINDERS", "RULES", "Finder", "explain", "findings"]

Finder: TypeAlias = Callable[[ModelProgram, Context], Iterable[Hit]]
"""The hits of one rule, apart from parameters on which a claim speaks: those are `blamed`."""


def _nothing(_: ModelProgram, __: Context) -> Iterable[Hit]:
    """No hits: only a claim can show that this rule is broken."""
    return ()


FINDERS: Mapping[str, Finder] = MappingProxyType(
    {
        "init-never-called": unwritten.init_never_called,
        "init-not-called": unwritten.init_not_called,
        "uninitialised": unwritten.uninitialised,
        "pretrained-overwritten": overwritten.pretrained_overwritten,
        "special-init-overwritten": overwritten.special_init_overwritten,
        "init-branch-never-taken": branches.init_branch_never_taken,
        "residual-scaling-missing": residual.residual_scaling_missing,
        "residual-scaling-wrong-tensor": residual.residual_scaling_wrong_tensor,
        "residual-branches-unequal": residual.residual_branches_unequal,
        "scaled-twice": residual.scaled_twice,
        "fan-in-wrong": scale.fan_in_wrong,
        "std-vs-variance": scale.std_vs_variance,
        "role-std-mismatch": _nothing,
        "wrong-distribution": scale.wrong_distribution,
        "truncation-without-effect": truncation.truncation_without_effect,
        "tied-role-std-conflict": head.tied_role_std_conflict,
        "logit-scale": head.logit_scale,
        "tie-broken": head.tie_broken,
        "tie-unexpected": head.tie_unexpected,
        "norm-weight-wrong": constants.norm_weight_wrong,
        "bias-nonzero": constants.bias_nonzero,
        "zeros": constants.zeros,
        "logits-constant": gradients.logits_constant,
        "parameters-without-gradient": gradients.parameters_without_gradient,
        "padding-row-nonzero": constants.padding_row_nonzero,
        "duplicate-layers": copies.duplicate_layers,
        "duplicate-experts": copies.duplicate_experts,
        "duplicate-tensors": copies.duplicate_tensors,
        "dtype-rounding": precision.dtype_rounding,
        "duplicate-shards": copies.duplicate_shards,
    }
)
"""The rules that one program can break, in the order in which findings are shown."""

_BEYOND_ONE_PROGRAM = (
    "replicas-differ",  # compares processes
    "setting-ignored",  # compares builds with other settings
    "build-mismatch",  # compares two ways to build
    "forward-not-followed",  # runs the model
)


def _rules() -> Mapping[str, Rule]:
    where, names = "rule_docs.toml", (*FINDERS, *_BEYOND_ONE_PROGRAM)
    text = (resources.files("gptinit.audit_rules") / where).read_text(encoding="utf-8")
    docs = Table(parse_toml(text, where), where, known=names)
    return MappingProxyType({name: _rule(name, docs.values.get(name)) for name in names})


def _rule(name: str, table: object) -> Rule:
    keys = ("severity", "title", "what", "why", "bug", "fix")
    fields = Table(table, f"rule_docs.toml [{name}]", known=(*keys, "silenced_by"))
    words = {key: fields.text(key) for key in keys}
    silenced_by = fields.texts("silenced_by", [])
    return Rule(name=name, silenced_by=silenced_by, **words)  # type: ignore[arg-type] # ours


RULES: Mapping[str, Rule] = _rules()
"""Every rule: those of `FINDERS`, then those that need more than one program."""


def findings(program: ModelProgram, context: Context) -> Iterator[Finding]:
    """What every rule finds in a program, in the order of `FINDERS`."""
    by_claim = blamed(program, context)
    assert by_claim.keys() <= FINDERS.keys()  # `blame` names rules of this table
    for name, find in FINDERS.items():
        hits = (*by_claim.get(name, ()), *find(program, context))
        yield from grouped(name, hits, program)


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
