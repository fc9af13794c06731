"""The init program of the built-in GPT, known without building it."""

from gptinit.config import GPTConfig
from gptinit.facts.apply_scheme import apply_scheme
from gptinit.facts.gpt import gpt_parameters
from gptinit.facts.schemes import Scheme
from gptinit.results.program import ParameterProgram, Program

__all__ = ["gpt_program"]


def gpt_program(config: GPTConfig, scheme: Scheme) -> Program:
    """What every parameter of the built-in GPT is drawn from; a tied head is the embedding.

    Raises:
        ConfigError: if the scheme lacks a role or a formula fails at this shape.

    Example:
        >>> from gptinit.facts.schemes import get_scheme
        >>> program = gpt_program(GPTConfig(n_layer=2), get_scheme("nanogpt"))
        >>> [str(p.distribution) for p in program if p.role == "mlp_down"]
        ['N(0, 0.01)', 'N(0, 0.01)']
    """
    parameters = gpt_parameters(config)
    drawn = apply_scheme(scheme, parameters, config, complete=True)
    return tuple(
        ParameterProgram(
            name=p.name,
            shape=p.shape,
            role=p.role,
            layer=p.layer,
            distribution=drawn[p.name],
            fan_in=p.fan_in,
            fan_out=p.fan_out,
        )
        for p in parameters
    )
