"""Audits made by hand, small enough to write their reports out in full."""

from dataclasses import replace
from typing import Any

from gptinit.config import ModelFacts
from gptinit.facts.distributions import Constant, Distribution, Measured, Normal, Unset
from gptinit.facts.step import Step
from gptinit.results.audit import Audit, AuditedParameter, ClosestScheme
from gptinit.results.profile import Finding, Note
from gptinit.results.program import ParameterProgram
from gptinit.results.rule import Rule

FACTS = ModelFacts(
    name="model.py:GPT",
    source="model.py",
    n_layer=3,
    n_embd=64,
    bias=True,
    tied=True,
    n_params=124_439_808,
)
"""A model of which little is known."""

STEP = Step("normal_", (0, 0.02), "model.py", 151)

MISSING = Finding(
    rule="residual-scaling-missing",
    severity="error",
    where="h.*.attn.c_proj.weight",
    fact="Weights that write to the stream must be scaled, got N(0, 0.02): ratio 2.449.",
)
ODD = Finding(rule="bias-nonzero", severity="note", where="h.0.attn.c_proj.bias", fact="Odd.")
UNSET = Finding(
    rule="uninitialised", severity="warning", where="h.*.attn.mask", fact="Never written."
)


def documented(**changes: Any) -> Rule:
    """A rule with its documentation."""
    words: dict[str, Any] = {
        "name": "residual-scaling-missing",
        "severity": "error",
        "title": "Not scaled | by depth",
        "what": "The std is that of the others.",
        "why": "The stream grows.",
        "bug": "GPT-2: huggingface/transformers#47458.",
        "fix": "Scale it.",
    }
    return Rule(**{**words, **changes})


def parameter(name: str, drawn: Distribution, **changes: Any) -> AuditedParameter:
    """One parameter; its layer is the number in its name."""
    parts = [part for part in name.split(".") if part.isdecimal()]
    known = {"expected", "ratio", "hint"}
    program: dict[str, Any] = {
        "name": name,
        "shape": (64, 64),
        "role": "other",
        "layer": int(parts[0]) if parts else None,
        "distribution": drawn,
    }
    program |= {key: value for key, value in changes.items() if key not in known}
    audited = {key: value for key, value in changes.items() if key in known}
    return AuditedParameter(program=ParameterProgram(**program), **audited)


def measured(std: float, stderr: float) -> Measured:
    """A parameter known from its values, of mean zero."""
    return Measured(
        mean=0.0,
        std=std,
        mean_stderr=stderr,
        std_stderr=stderr,
        low=-4 * std,
        high=4 * std,
        kurtosis=3.0,
        count=4096,
    )


def scaled(i: int, drawn: Distribution | None = None) -> AuditedParameter:
    """The residual projection of layer i, by default without its scaling."""
    return parameter(
        f"h.{i}.attn.c_proj.weight",
        drawn or Normal(0.0, 0.02),
        role="attn_out",
        expected=Normal(0.0, 0.00816),
        ratio=2.449,
        hint="sqrt(2 n_layer): residual scaling missing",
        provenance=(Step("empty", (64, 64)), STEP),
    )


def small_audit(**changes: Any) -> Audit:
    """Three layers, of which the projections are not scaled and a mask was never written."""
    embedding = parameter(
        "wte.weight",
        Normal(0.0, 0.02),
        role="tok_emb",
        shape=(1000, 64),
        aliases=("lm_head.weight",),
        expected=Normal(0.0, 0.02),
        ratio=1.0,
    )
    biases = [
        parameter(f"h.{i}.attn.c_proj.bias", Constant(0.0), role="linear_bias") for i in range(3)
    ]
    masks = [parameter(f"h.{i}.attn.mask", Unset(), kind="buffer") for i in range(3)]
    angles = parameter("angles", Constant(1.0), kind="buffer")
    audit = Audit(
        torch="2.13.0",
        model=FACTS,
        build="own",
        claim=None,
        closest=ClosestScheme(name="nanogpt", exact=False, differs=("attn_out",)),
        parameters=(embedding, *(scaled(i) for i in range(3)), *biases, *masks, angles),
        findings=(ODD, UNSET, MISSING),
        notes=(Note(kind="approximate", where="roles", message="Read from | names."),),
    )
    return replace(audit, **changes)


def clean_audit(**changes: Any) -> Audit:
    """The same without any finding, exactly as its claim has it."""
    audit = small_audit(
        claim="nanogpt", closest=ClosestScheme(name="nanogpt", exact=True, differs=()), findings=()
    )
    return replace(audit, **changes)
