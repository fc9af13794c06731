"""The built-in GPT as a subject: a shape and a scheme."""

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gptinit.config import GPTConfig
from gptinit.facts.distributions import (
    Constant,
    Distribution,
    Normal,
    Piecewise,
    TruncatedNormal,
    Uniform,
)
from gptinit.facts.presets import model_facts
from gptinit.facts.schemes import Scheme
from gptinit.forward.sites import find_blocks
from gptinit.load.factory import Factory, seeded
from gptinit.load.settings import sizes
from gptinit.measure.subject import Lens, Subject
from gptinit.model import GPT
from gptinit.read.role_names import layer_of, role_of
from gptinit.results.program import ParameterProgram, Program
from gptinit.theory import theory_model

__all__ = ["builtin_factory", "builtin_program", "builtin_subject"]


def builtin_subject(config: GPTConfig, scheme: Scheme, *, name: str, source: str) -> Subject:
    """The built-in GPT of the shape `config`, drawn as `scheme` says.

    Args:
        config: the shape.
        scheme: the init.
        name: what to call it in results.
        source: where the shape comes from.

    Raises:
        ConfigError: if the scheme lacks a role or a formula fails at this shape.
    """
    skeleton = _build(config)
    program = _program(skeleton, config, scheme)
    return Subject(
        facts=model_facts(config, name=name, source=source),
        vocab_size=config.vocab_size,
        block_size=config.block_size,
        scheme=scheme.slug,
        program=program,
        build=lambda: _build(config),
        own=seeded(_factory(config, program, name=name, source=source)),
        sites=find_blocks(skeleton),
        call=_call,
        lens=_lens,
        theory=theory_model(config, scheme),
    )


def builtin_factory(config: GPTConfig, scheme: Scheme, *, name: str, source: str) -> Factory:
    """The built-in GPT as a factory that draws it with torch's own functions, as a trainer would.

    Args:
        config: the shape.
        scheme: the init.
        name: what to call it in results.
        source: where the shape comes from.

    Raises:
        ConfigError: if the scheme lacks a role or a formula fails at this shape.
    """
    return _factory(config, builtin_program(config, scheme), name=name, source=source)


def _factory(config: GPTConfig, program: Program, *, name: str, source: str) -> Factory:
    """The GPT of a shape, drawn as a program says."""

    def build() -> nn.Module:
        module = GPT(config)
        with torch.no_grad():
            for parameter in program:
                _draw(module.get_parameter(parameter.name), parameter.distribution)
        return module

    return Factory(
        name=name,
        source=source,
        build=build,
        settings={},
        with_settings=None,
        **sizes(asdict(config)),
    )


def _draw(tensor: Tensor, distribution: Distribution) -> None:
    """Fill a tensor by torch.nn.init."""
    match distribution:
        case Normal(mean=mean, std=std):
            nn.init.normal_(tensor, mean, std)
        case TruncatedNormal(loc=loc, scale=scale, low=low, high=high):
            nn.init.trunc_normal_(tensor, loc, scale, low, high)
        case Uniform(low=low, high=high):
            nn.init.uniform_(tensor, low, high)
        case Constant(value=value):
            nn.init.constant_(tensor, value)
        case Piecewise(pieces=pieces):
            parts = tensor.split([rows for rows, _ in pieces])
            for part, (_, piece) in zip(parts, pieces, strict=True):
                _draw(part, piece)


def builtin_program(config: GPTConfig, scheme: Scheme) -> Program:
    """What every parameter of the built-in GPT is drawn from; a tied head is the embedding.

    Raises:
        ConfigError: if the scheme lacks a role or a formula fails at this shape.
    """
    return _program(_build(config), config, scheme)


def _program(skeleton: GPT, config: GPTConfig, scheme: Scheme) -> Program:
    """See `builtin_program`; `skeleton` is the module of this shape."""
    shapes = {name: tuple(p.shape) for name, p in skeleton.named_parameters()}
    return tuple(
        ParameterProgram(
            name=name,
            shape=shape,
            role=role_of(name),
            layer=layer_of(name),
            distribution=_distribution(name, shapes, config, scheme),
        )
        for name, shape in shapes.items()
    )


_DRAWS = (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)


class _NoDraws(TorchFunctionMode):
    """Leaves PyTorch's default draws out: on meta they have no effect but import torch._dynamo."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Return the tensor that a draw would have filled; make any other call."""
        kwargs = kwargs or {}
        if func in _DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _build(config: GPTConfig) -> GPT:
    """The module with parameters that have no storage."""
    with torch.device("meta"), _NoDraws():
        return GPT(config)


def _distribution(
    name: str, shapes: dict[str, tuple[int, ...]], config: GPTConfig, scheme: Scheme
) -> Distribution:
    """The distribution of one parameter; a fused qkv is judged as q, k and v."""
    role, layer = role_of(name), layer_of(name) or 0
    # A bias is drawn by the fans of its matrix (torch.nn.Linear.reset_parameters does so).
    matrix = shapes.get(name.removesuffix("bias") + "weight", shapes[name])
    fan_out, fan_in = matrix[0], matrix[-1]
    if role != "qkv":
        return scheme.distribution(role, config, layer=layer, fan_in=fan_in, fan_out=fan_out)
    rows = fan_out // 3
    pieces = tuple(
        (rows, scheme.distribution(r, config, layer=layer, fan_in=fan_in, fan_out=rows))
        for r in ("q", "k", "v")
    )
    same = len({distribution for _, distribution in pieces}) == 1
    return pieces[0][1] if same else Piecewise(pieces)


def _call(module: nn.Module, ids: Tensor) -> Tensor:
    """The logits, (B, T, V), of ids, (B, T)."""
    logits: Tensor = module(ids)
    return logits


def _lens(module: nn.Module, rows: Tensor) -> Lens:
    """Final norm and those rows of the head of the built-in GPT."""
    assert isinstance(module, GPT)  # build() makes nothing else
    return module.lens(rows)
