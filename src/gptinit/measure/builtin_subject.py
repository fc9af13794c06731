"""The built-in GPT as a subject, and as a factory: a shape and a scheme."""

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
from gptinit.forward.sites import sites_of_block
from gptinit.load.factory import Factory, seeded
from gptinit.load.settings import sizes
from gptinit.measure.subject import Lens, Subject
from gptinit.model import GPT
from gptinit.recognise.architecture import Forwarding
from gptinit.results.gpt_program import gpt_program
from gptinit.results.program import Program

__all__ = ["builtin_factory", "builtin_subject"]


def builtin_subject(config: GPTConfig, scheme: Scheme, *, name: str, source: str) -> Subject:
    """The built-in GPT of the shape `config`, drawn as `scheme` says.

    Raises:
        ConfigError: if the scheme lacks a role or a formula fails at this shape.
    """
    facts = model_facts(config, name=name, source=source)
    program = gpt_program(config, scheme)
    return Subject(
        facts=facts,
        vocab_size=config.vocab_size,
        block_size=config.block_size,
        scheme=scheme.slug,
        program=program,
        build=lambda: _build(config),
        own=seeded(builtin_factory(config, program, name=name, source=source)),
        sites=tuple(
            sites_of_block(f"transformer.h.{layer}", attn="attn", mlp="mlp")
            for layer in range(config.n_layer)
        ),
        call=lambda module, ids: module(ids),
        lens=_lens,
        recognised=Forwarding(facts=facts),
    )


def builtin_factory(config: GPTConfig, program: Program, *, name: str, source: str) -> Factory:
    """A factory of the built-in GPT that draws it with torch.nn.init, as a trainer would."""

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


_DRAWS = (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)


class _NoDraws(TorchFunctionMode):
    """Skips PyTorch's default draws: on meta they only cost the import of torch._dynamo."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _build(config: GPTConfig) -> GPT:
    """The module with parameters without storage."""
    with torch.device("meta"), _NoDraws():
        return GPT(config)


def _lens(module: nn.Module, rows: Tensor) -> Lens:
    assert isinstance(module, GPT)  # build() makes nothing else
    return module.lens(rows)
