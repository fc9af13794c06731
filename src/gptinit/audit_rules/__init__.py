"""Judge an init program: what is wrong with how a model is initialised, one function a rule.

A rule takes a `ModelProgram` and a `Context` (the claimed scheme with what it expects of each
parameter, and the scale of each block) and yields hits: (parameter, severity, message). `findings`
runs every rule and makes a `Finding` of the hits of all layers that share a parameter's name.

    unwritten overwritten residual scale head constants copies precision    the rules, by theme
    blame      which rule explains a difference from the claim
    hints      ratios with a known cause
    matching   whether a distribution is the expected one, within which error
    closest    the known scheme that differs least from a program
    grouping   hits to findings
    registry   rule name to function and documentation (rule_docs.toml)
"""

from gptinit.audit_rules.context import Context, make_context
from gptinit.audit_rules.registry import FINDERS, RULES, explain, findings
from gptinit.results.rule import Rule

__all__ = ["FINDERS", "RULES", "Context", "Rule", "explain", "findings", "make_context"]
