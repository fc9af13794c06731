"""What a scheme draws every parameter of a model from: the one way to apply it to any model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from gptinit.config import GPTConfig, ModelFacts
from gptinit.errors import ConfigError
from gptinit.facts.distributions import Distribution, Mixture, Piecewise
from gptinit.facts.gpt import GPTParameter, gpt_parameters
from gptinit.facts.schemes import Scheme
from gptinit.facts.vocabulary import Role

__all__ = ["apply_scheme", "distributions_at"]


class _Parameter(Protocol):
    """What a scheme has to know of a parameter: a GPTParameter has it, and so has a trace's."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def role(self) -> str: ...
    @property
    def layer(self) -> int | None: ...
    @property
    def fan_in(self) -> int | None: ...
    @property
    def fan_out(self) -> int | None: ...


def apply_scheme(
    scheme: Scheme,
    parameters: Sequence[_Parameter],
    shape: GPTConfig | ModelFacts,
    *,
    complete: bool = False,
) -> dict[str, Distribution]:
    """What a scheme draws each parameter of a model from, by name.

    A fused q, k, v is drawn block by block, and a bias by the fans of its matrix.

    Args:
        scheme: the init.
        parameters: of the whole model, so that a bias finds its matrix.
        shape: the model's shape.
        complete: whether every parameter must be drawn; else those are left out of which the scheme
            does not say what they are drawn from.

    Raises:
        ConfigError: if `complete`, and the scheme lacks a role or a formula fails at this shape.

    Example:
        >>> from gptinit.facts.schemes import get_scheme
        >>> config = GPTConfig(n_layer=8)
        >>> drawn = apply_scheme(get_scheme("nanogpt"), gpt_parameters(config), config)
        >>> str(drawn["transformer.h.0.attn.c_proj.weight"])
        'N(0, 0.005)'
    """
    matrices = {p.name: p for p in parameters if p.name.endswith("weight")}
    by_layer = {role for role, rule in scheme.rules.items() if "layer" in rule.variables}
    # Layers repeat: without this table a deep model would evaluate each formula once a layer.
    known: dict[tuple[object, ...], Distribution | None] = {}
    found: dict[str, Distribution] = {}
    for parameter in parameters:
        fans = _fans(parameter, matrices)
        is_fused = parameter.role == "qkv"
        layer = parameter.layer if is_fused or parameter.role in by_layer else None
        key = (parameter.role, layer, fans, parameter.shape if is_fused else ())
        if key not in known:
            try:
                known[key] = _drawn(scheme, parameter, fans, shape)
            except ConfigError:
                if complete:
                    raise
                known[key] = None
        distribution = known[key]
        if distribution is not None:
            found[parameter.name] = distribution
    return found


_Fans = tuple[int | None, int | None]


def _fans(parameter: _Parameter, matrices: Mapping[str, _Parameter]) -> _Fans:
    """(fan_in, fan_out) as torch.nn.init counts; of a bias those of its matrix."""
    if parameter.role in ("tok_emb", "pos_emb") and len(parameter.shape) == 2:
        return parameter.shape[1], parameter.shape[0]
    if parameter.role == "linear_bias" and parameter.fan_in is None:
        matrix = matrices.get(f"{parameter.name.removesuffix('bias')}weight")
        return (matrix.fan_in, matrix.fan_out) if matrix else (None, None)
    return parameter.fan_in, parameter.fan_out


def _drawn(
    scheme: Scheme, parameter: _Parameter, fans: _Fans, shape: GPTConfig | ModelFacts
) -> Distribution:
    """What a scheme draws one parameter from; raises ConfigError where it cannot say."""
    layer, (fan_in, fan_out) = parameter.layer, fans
    if parameter.role != "qkv":
        return scheme.distribution(
            parameter.role, shape, layer=layer, fan_in=fan_in, fan_out=fan_out
        )
    rows = _fused_rows(fan_out, shape)
    parts = tuple(
        scheme.distribution(role, shape, layer=layer, fan_in=fan_in, fan_out=count)
        for role, count in zip("qkv", rows or (None,) * 3, strict=True)
    )
    if len(set(parts)) == 1:
        return parts[0]
    if rows is None:
        raise ConfigError(f"{parameter.name} must be of q, k and v of known sizes.")
    blocks = tuple(zip(rows, parts, strict=True))
    is_by_rows = parameter.shape[0] == fan_out  # transformers' Conv1D has outputs as columns
    return Piecewise(blocks) if is_by_rows else Mixture(blocks)


def _fused_rows(fan_out: int | None, shape: GPTConfig | ModelFacts) -> tuple[int, int, int] | None:
    """Outputs of q, k and v in a fused projection of `fan_out` outputs; None where not known."""
    if fan_out is None:
        return None
    if shape.n_head and shape.head_dim:
        query = shape.n_head * shape.head_dim
        key = (shape.n_kv_head or shape.n_head) * shape.head_dim
        if query + 2 * key == fan_out:
            return query, key, key
    return None if fan_out % 3 else (fan_out // 3,) * 3


def distributions_at(scheme: Scheme, config: GPTConfig) -> dict[str, tuple[Distribution, ...]]:
    """What a scheme draws every role of the built-in GPT from at one shape.

    Returns:
        Role to its distribution, or to several: those of the first and the last layer, and of
        biases with different fans, where they differ; none for a role that the model lacks.

    Raises:
        ConfigError: if a formula fails at this shape.
    """
    ends = (None, 0, config.n_layer - 1)
    shown = [
        part
        for parameter in gpt_parameters(config)
        if parameter.layer in ends
        for part in _unfused(parameter)
        if part.role in scheme.rules
    ]
    drawn = apply_scheme(scheme, shown, config, complete=True)
    return {
        role: tuple(dict.fromkeys(drawn[p.name] for p in shown if p.role == role))
        for role in scheme.rules
    }


def _unfused(parameter: GPTParameter) -> tuple[GPTParameter, ...]:
    """A fused projection as its three; any other parameter alone."""
    if parameter.role != "qkv":
        return (parameter,)
    roles: tuple[Role, ...] = ("q", "k", "v")
    each = replace(parameter, fan_out=parameter.fan_out // 3)
    return tuple(replace(each, name=f"{parameter.name} {role}", role=role) for role in roles)
