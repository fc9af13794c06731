"""An audit in one line: its verdict, the closest scheme, how the model was built and traced."""

from collections.abc import Iterable, Sequence

from gptinit.facts.distributions import Measured
from gptinit.facts.vocabulary import SEVERITIES
from gptinit.report.headlines import init_words
from gptinit.report.numbers import large, plural
from gptinit.results.audit import Audit, ClosestScheme
from gptinit.results.profile import Finding

__all__ = [
    "closest_words",
    "expected_words",
    "explain_hint",
    "how_read",
    "shape_words",
    "verdict_of",
]

_BUILDS = {
    "own": "built by {builder}",
    "meta": "built on meta, then filled",
    "both": "built by {builder}, and on meta, then filled",
    "live": "already built",
}


def verdict_of(audit: Audit) -> str:
    """How many findings of each severity there are: "2 errors, 1 warning", or "clean"."""
    found = [finding.severity for finding in audit.findings]
    counts = {severity: found.count(severity) for severity in SEVERITIES}
    counted = [plural(count, severity) for severity, count in counts.items() if count]
    clean = [] if counts["error"] or counts["warning"] else ["clean"]
    return ", ".join([*clean, *counted])


def closest_words(closest: ClosestScheme | None) -> str:
    """The known scheme that matches best: "nanogpt (exact)" or "nanogpt, except q"."""
    if closest is None:
        return "none"
    if not closest.is_close:
        return "none is close"
    return _as_used(closest) + (" (exact)" if closest.exact else _but(closest.differs))


def expected_words(audit: Audit) -> str:
    """The scheme that the expected column is taken from; empty without one."""
    if audit.claim is None and audit.closest is not None and audit.closest.is_close:
        return _as_used(audit.closest)
    return audit.claim or ""


def _as_used(closest: ClosestScheme) -> str:
    """The scheme as the model has it: "nanogpt", "nanogpt with 1.5 times its stds"."""
    words = closest.name
    if closest.factor != 1.0:
        words += f" with {closest.factor:.4g} times its stds"
    if closest.cut is not None:
        words += f"{',' if closest.factor != 1.0 else ''} truncated at {closest.cut:.4g} std"
    return words


def _but(roles: Sequence[str]) -> str:
    return f", except {', '.join(roles)}" if roles else ""


def shape_words(audit: Audit) -> str:
    """Size and shape of the model: "124.4 M parameters", "12 layers x 768"."""
    model = audit.model
    return f"{large(model.n_params)} parameters · {plural(model.n_layer, 'layer')} x {model.n_embd}"


def how_read(audit: Audit) -> str:
    """How the model was built, and whether its init was traced or measured."""
    programs = [audited.program for audited in audit.parameters]
    measured = sum(isinstance(p.distribution, Measured) for p in programs)
    tensors = plural(len(programs), "tensor")
    torch = audit.torch.partition("+")[0]  # without the build: "+cpu"
    init = audit.model.init
    builder = f"{audit.builder}, then {init_words(init)}" if init else audit.builder
    build = _BUILDS[audit.build].format(builder=builder)
    if not measured:
        return f"{build} · {tensors} traced with torch {torch}"
    if measured == len(programs):
        return f"{build} · {tensors} measured with torch {torch}"
    return f"{build} · {tensors} traced with torch {torch}, {measured} of them measured"


def explain_hint(findings: Iterable[Finding]) -> str:
    """The command that explains the rules of some findings; empty where there are none."""
    rules = list(dict.fromkeys(finding.rule for finding in findings))
    if not rules:
        return ""
    name, which = (rules[0], "this rule") if len(rules) == 1 else ("RULE", "a rule")
    return f"gptinit audit --explain {name} explains {which} and how to fix it."
