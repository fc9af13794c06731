"""The rules of the audit: what can be wrong with an init program, one function each."""

from gptinit.audit_rules.context import Context, make_context
from gptinit.audit_rules.registry import FINDERS, RULES, explain
from gptinit.results.rule import Rule

__all__ = ["FINDERS", "RULES", "Context", "Rule", "explain", "make_context"]
