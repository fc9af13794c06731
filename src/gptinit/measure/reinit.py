"""Your model with another init: the same module, every role drawn as a scheme says."""

from dataclasses import replace

from gptinit.errors import ConfigError
from gptinit.facts.apply_scheme import apply_scheme
from gptinit.facts.distributions import Mixture
from gptinit.facts.schemes import Scheme
from gptinit.measure.subject import Subject

__all__ = ["reinit"]

_KEPT = frozenset({"norm_weight", "norm_bias", "other"})
"""Roles that stay as they are: what a norm computes decides what its neutral weight is."""


def reinit(subject: Subject, scheme: Scheme) -> Subject:
    """`subject` drawn by `scheme`; norms, and roles without a rule, stay as they are.

    Raises:
        ConfigError: if the scheme draws q, k and v differently and they are columns of one matrix.
    """
    said = apply_scheme(scheme, subject.program, subject.facts)
    kept = {p.name for p in subject.program if p.role in _KEPT or p.name not in said}
    drawn = {name: distribution for name, distribution in said.items() if name not in kept}
    for name, distribution in drawn.items():
        if isinstance(distribution, Mixture):
            raise ConfigError(
                f"scheme {scheme.slug} must draw q, k and v alike for {name}, which holds them as "
                f"columns, got {distribution}."
            )
    program = tuple(
        replace(p, distribution=drawn[p.name], is_entangled=False) if p.name in drawn else p
        for p in subject.program
    )
    return replace(
        subject,
        scheme=scheme.slug,
        program=program,
        recipes={name: r for name, r in subject.recipes.items() if name in kept},
        own=None,
    )
