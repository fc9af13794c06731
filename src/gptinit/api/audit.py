"""How every parameter of a model is drawn, and what is wrong with it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gptinit.api.job import Forward, Model, as_scheme, make_job
from gptinit.facts.presets import DEFAULT_PRESET
from gptinit.facts.schemes import Scheme
from gptinit.facts.vocabulary import Build
from gptinit.gate.check_config import apply_acceptances

if TYPE_CHECKING:
    from gptinit.gate.check_config import Acceptance
    from gptinit.load.init_choice import InitChoice
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
    forward: "Forward | None" = None,
    accept: "Sequence[Acceptance]" = (),
    init: "InitChoice" = None,
    trust_remote_code: bool = False,
    stubs: Sequence[str] = (),
    settings: Mapping[str, object] | None = None,
    **shape: object,
) -> "Audit":
    """How every parameter of a model is really drawn, and what is wrong with it.

    Args:
        model: as for `inspect`. A module that is built already is audited by its values, not
            traced.
        scheme: the claim to audit your model against, or the init of a preset: slug, alias, TOML
            file or Scheme.
        build: "own" (by its constructor), "meta" (built on meta, to_empty, initialised) or "both".
        perturb: whether to vary each init setting too and report roles that ignore it.
        draw: whether to build the model for real too and check the drawn values.
        roles: parameter pattern (as of fnmatch) to role; overrides the roles that were recognised.
        forward: how to call a model whose forward wants more than token ids: a function of (model,
            ids) that returns logits, or "path.py:FUNC".
        accept: findings accepted with a stated reason.
        init: what draws your model's weights once its constructor is done: a method or function of
            its file by name, "path.py:FUNCTION", a function, or "none". None runs the only init
            that its class has and nothing calls; a function that builds a model is left as it is.
        trust_remote_code: whether Python code that comes with a Hugging Face config may run.
        stubs: modules that your model's code imports and that are not installed; inert stand-ins
            are imported for them, and a note says if the model used one.
        settings: those of `shape` whose names are taken by an argument here, such as init=3.
        shape: settings that replace the model's, such as n_layer=48.

    Raises:
        ConfigError: if a name, a value or a file cannot be used.
        SubjectError: if the model cannot be built, or has no repeated block.

    Example:
        >>> found = audit("gpt2", n_layer=2)
        >>> found.closest.name, found.closest.exact, len(found.findings)
        ('nanogpt', True, 0)
    """
    claim = as_scheme(scheme)
    job = make_job(
        model,
        shape={**(settings or {}), **shape},
        roles=roles,
        forward=forward,
        init=init,
        trust=trust_remote_code,
        stubs=stubs,
    )
    found = job.audit(claim, build=build, perturb=perturb, draw=draw)
    if not accept:
        return found
    # Acceptances for a check may name other models: unused ones are not reported here.
    judged = apply_acceptances(found.findings, accept)
    return replace(found, findings=tuple(f for f in judged if f.rule != "unused-acceptance"))
