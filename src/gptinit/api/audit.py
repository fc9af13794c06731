"""How every parameter of a model is drawn, and what is wrong with it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gptinit.api.job import Job, Model, as_scheme, label_of
from gptinit.api.run import audit_job
from gptinit.facts.presets import DEFAULT_PRESET
from gptinit.facts.schemes import Scheme
from gptinit.facts.vocabulary import Build
from gptinit.gate.check_config import apply_acceptances

if TYPE_CHECKING:
    from gptinit.gate.check_config import Acceptance
    from gptinit.results.audit import Audit

__all__ = ["audit"]


def audit(
    model: Model = DEFAULT_PRESET,
    *,
    scheme: str | Scheme | None = None,
    build: Build = "own",
    perturb: bool = False,
    draw: bool = False,
    roles: Mapping[str, str] | None = None,
    accept: "Sequence[Acceptance]" = (),
    trust_remote_code: bool = False,
    **shape: object,
) -> "Audit":
    """How every parameter of a model is really drawn, and what is wrong with that.

    Args:
        model: as for `inspect`. A module that is built already is measured, not traced.
        scheme: the claim to hold a foreign model to, or the init of a preset: slug, alias, TOML
            file or Scheme.
        build: "own" (by its constructor), "meta" (built on meta, to_empty, initialised) or "both".
        perturb: whether to move every init setting too, and see which roles follow.
        draw: whether to build it for real too, and look at the values.
        roles: parameter pattern (as of fnmatch) to role, before what the model's forward shows.
        accept: findings that are known, with a reason each.
        trust_remote_code: whether Python code beside a Hugging Face config may run.
        shape: settings that replace the model's, such as n_layer=48.

    Raises:
        ConfigError: if a name, a value or a file cannot be used.
        SubjectError: if the model cannot be built, or has no repeated block.

    Example:
        >>> found = audit("gpt2", n_layer=2)
        >>> found.closest.name, found.closest.exact, len(found.findings)
        ('nanogpt', True, 0)
    """
    claim = None if scheme is None else as_scheme(scheme)
    job = Job(
        label=label_of(model), model=model, shape=shape, scheme=claim, roles=roles or {},
        trust=trust_remote_code,
    )  # fmt: skip
    found = audit_job(job, claim, build=build, perturb=perturb, draw=draw)
    if not accept:
        return found
    # Acceptances for a check may name other models: one that is idle here is no news.
    judged = apply_acceptances(found.findings, accept)
    return replace(found, findings=tuple(f for f in judged if f.rule != "unused-acceptance"))
