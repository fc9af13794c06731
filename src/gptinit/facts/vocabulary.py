"""The words of results, schemes and JSON, each spelled once; statistics with their definitions.

The words of a model's shape and of a run (engines, devices, dtypes) are in `gptinit.config`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

__all__ = [
    "AXES",
    "BUILDS",
    "ROLES",
    "SEVERITIES",
    "SITE_NAMES",
    "STATISTICS",
    "Axis",
    "Build",
    "NoteKind",
    "ParameterKind",
    "ParameterRole",
    "PlaceKind",
    "Role",
    "Severity",
    "Statistic",
    "Verdict",
]

Role: TypeAlias = Literal[
    "tok_emb",
    "pos_emb",
    "q",
    "k",
    "v",
    "qkv",
    "attn_out",
    "mlp_up",
    "mlp_gate",
    "mlp_down",
    "lm_head",
    "norm_weight",
    "norm_bias",
    "linear_bias",
]
"""What a parameter does in a transformer."""

ROLES: tuple[Role, ...] = get_args(Role)
"""Every role, in the order of tables."""

ParameterRole: TypeAlias = Literal[Role, "other"]
"""The role of a parameter of any model: "other" where it has none of ROLES."""

ParameterKind: TypeAlias = Literal["parameter", "buffer"]
"""Whether training changes a tensor."""

Severity: TypeAlias = Literal["error", "warning", "note"]
"""How bad a finding is; exit codes depend on it."""

SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""Every severity, worst first."""

Verdict: TypeAlias = Literal["ok", "violated", "inconclusive"]
"""What a check says of one bound at one place."""

NoteKind: TypeAlias = Literal["materialised", "approximate", "theory-missing", "engine"]
"""What a note is about."""

Build: TypeAlias = Literal["own", "meta", "both", "live"]
"""How a model came into being: by its constructor; built on meta, then given storage and weights;
in both ways; or before gptinit saw it."""

BUILDS: tuple[Build, ...] = ("own", "meta", "both")
"""The builds that an audit can be given."""

Axis: TypeAlias = Literal["schemes", "depths", "widths", "models", "engines"]
"""What a comparison varies."""

AXES: tuple[Axis, ...] = get_args(Axis)
"""Every axis, in the order of the help."""

PlaceKind: TypeAlias = Literal["embedding", "layer", "final", "whole"]
"""Where a statistic can stand in a profile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistic:
    """One measured quantity.

    Attributes:
        name: key in JSON, configuration files and tables.
        title: heading in tables.
        definition: one line, exact enough to recompute it.
        unit: unit of the number.
        places: the places of a profile that can carry it.
        log: whether seeds are averaged as logarithms (standard deviations and ratios).
        needs_grad: whether it needs a backward pass.
    """

    name: str
    title: str
    definition: str
    unit: str
    places: tuple[PlaceKind, ...]
    log: bool = False
    needs_grad: bool = False


_STATISTICS = (
    Statistic(
        name="resid_var",
        title="stream var",
        definition=(
            "variance over B, T and C of the residual stream that leaves the block: after the "
            "closing norm of a post-norm block"
        ),
        unit="activation squared",
        places=("embedding", "layer"),
    ),
    Statistic(
        name="presum_var",
        title="sum var",
        definition=(
            "variance over B, T and C of the sum that the norm closing a post-norm block receives"
        ),
        unit="activation squared",
        places=("layer",),
    ),
    Statistic(
        name="attn_var",
        title="attn var",
        definition=(
            "variance of what the attention branch, or what mixes positions in its place, adds to "
            "the stream"
        ),
        unit="activation squared",
        places=("layer",),
    ),
    Statistic(
        name="mlp_var",
        title="mlp var",
        definition="variance of what the MLP branch adds to the stream",
        unit="activation squared",
        places=("layer",),
    ),
    Statistic(
        name="resid_growth",
        title="growth",
        definition="resid_var over resid_var of the embedding",
        unit="ratio",
        places=("layer", "whole"),
        log=True,
    ),
    Statistic(
        name="logit_std",
        title="logit std",
        definition=(
            "std over the vocabulary, averaged over positions, of the final norm and head applied "
            "to the stream; at layers on 512 vocabulary rows"
        ),
        unit="logit",
        places=("layer", "final"),
        log=True,
    ),
    Statistic(
        name="attn_score_std",
        title="score std",
        definition="std of the scaled attention scores over allowed pairs, 32 query rows",
        unit="logit",
        places=("layer",),
        log=True,
    ),
    Statistic(
        name="attn_score_max",
        title="score max",
        definition="largest scaled attention score over allowed pairs, 32 query rows",
        unit="logit",
        places=("layer",),
    ),
    Statistic(
        name="attn_entropy",
        title="entropy",
        definition=(
            "mean over heads and query rows with two or more allowed keys of the entropy of the "
            "attention weights over ln(allowed keys)"
        ),
        unit="0 to 1",
        places=("layer",),
    ),
    Statistic(
        name="token_cosine",
        title="cosine",
        definition="mean cosine of the stream vectors of two different positions of a sequence",
        unit="-1 to 1",
        places=("embedding", "layer"),
    ),
    Statistic(
        name="max_abs",
        title="max abs",
        definition="largest magnitude in the residual stream",
        unit="activation",
        places=("embedding", "layer"),
    ),
    Statistic(
        name="nonfinite",
        title="nonfinite",
        definition="count of NaN and infinity in the residual stream (final: in the logits)",
        unit="count",
        places=("embedding", "layer", "final"),
    ),
    Statistic(
        name="loss",
        title="loss",
        definition="next-token cross-entropy",
        unit="nats",
        places=("final",),
    ),
    Statistic(
        name="loss_excess",
        title="loss excess",
        definition="loss minus ln(vocab_size)",
        unit="nats",
        places=("final",),
    ),
    Statistic(
        name="copy_logit",
        title="copy logit",
        definition="mean logit of the position's own input token",
        unit="logit",
        places=("final",),
    ),
    Statistic(
        name="grad_rms",
        title="grad rms",
        definition="RMS of the gradient of the summed token losses in the stream",
        unit="nats per activation",
        places=("embedding", "layer"),
        log=True,
        needs_grad=True,
    ),
    Statistic(
        name="grad_growth",
        title="grad growth",
        definition="grad_rms over grad_rms of the last layer",
        unit="ratio",
        places=("embedding", "layer"),
        log=True,
        needs_grad=True,
    ),
    Statistic(
        name="angle_exponent",
        title="angle exponent",
        definition=(
            "slope of ln(1 - token_cosine) over the layers of the second half: negative where "
            "tokens collapse (Cowsik et al. 2024)"
        ),
        unit="per layer",
        places=("whole",),
    ),
    Statistic(
        name="gradient_exponent",
        title="gradient exponent",
        definition=(
            "minus the slope of ln(grad_rms^2) over the layers of the second half: positive where "
            "gradients grow on their way back (Cowsik et al. 2024)"
        ),
        unit="per layer",
        places=("whole",),
        needs_grad=True,
    ),
)

STATISTICS: Mapping[str, Statistic] = MappingProxyType({s.name: s for s in _STATISTICS})
"""Every statistic by its name, in the order of tables."""

SITE_NAMES: tuple[str, ...] = ("blocks", "attn", "mlp")
"""What a user can name the modules of."""
