"""One model to look at. What a MODEL argument stands for is decided once: in `make_job`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from gptinit.config import GPTConfig, RunConfig
from gptinit.errors import ConfigError
from gptinit.facts.model_argument import Code, Preset, read_model_argument
from gptinit.facts.presets import model_facts
from gptinit.facts.schemes import DEFAULT_SCHEME, Scheme, get_scheme
from gptinit.facts.vocabulary import Build
from gptinit.results.profile import Profile

# torch, and all that needs it, is imported inside the methods below: reading a scheme or a
# prediction of a preset must not wait a second for it.
if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor, nn

    from gptinit.load.factory import Factory
    from gptinit.load.init_choice import InitChoice
    from gptinit.measure.subject import Subject
    from gptinit.results.audit import Audit, AuditedParameter

__all__ = ["FactoryJob", "Forward", "Job", "LiveJob", "Model", "PresetJob", "as_scheme", "make_job"]

Forward: TypeAlias = "str | Callable[[nn.Module, Tensor], object]"
"""How to call a model: a function of (model, ids) that returns logits, or path.py:FUNC."""

Model: TypeAlias = "str | nn.Module | Callable[..., nn.Module]"
"""A preset, a file or module with a name, a config, a live module, or what builds one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(ABC):
    """One model to look at; its kinds are PresetJob, FactoryJob and LiveJob.

    Attributes:
        label: its name in progress and tables.
        shape: settings in place of the model's own.
        scheme: the init that draws it; None leaves it its own.
        roles: the user's map, parameter pattern to role.
        sites: the user's names of blocks and branches.
        forward: the user's way to call the model: a function or where it is.
    """

    label: str
    shape: Mapping[str, object] = field(default_factory=dict)
    scheme: Scheme | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    sites: Mapping[str, str] = field(default_factory=dict)
    forward: "Forward | None" = None

    @property
    def block_size(self) -> int | None:
        """Longest sequence, where that is known before anything is built."""
        return None

    @abstractmethod
    def check(self) -> None:
        """Refuse what cannot be, as far as that is known before anything is built.

        Raises:
            ConfigError: if there is no such preset, or a setting does not go with the model.
        """

    @abstractmethod
    def subject(self) -> "Subject":
        """The model as measuring sees it.

        Raises:
            ConfigError: if it cannot be found or its settings are not possible.
            SubjectError: if it cannot be built or read.
        """

    @abstractmethod
    def audit(self, claim: Scheme | None, *, build: Build, perturb: bool, draw: bool) -> "Audit":
        """The audit of the model; arguments as of `api.audit`.

        Raises:
            ConfigError: if the model cannot be built, moved or drawn as requested.
            SubjectError: if the model cannot be built, or has no repeated block.
        """

    def _called(self, factory: "Factory") -> "Factory":
        """A factory with the user's way to call its model, if there is one."""
        from gptinit.load.forward_function import called_by

        return called_by(factory, self.forward)

    def predicted(self, run: RunConfig, tokens: "ArrayLike | None" = None) -> Profile:
        """Its profile by theory alone.

        Raises:
            ConfigError: if theory has no formula for the model, or it cannot be found.
            SubjectError: if it cannot be built or read.
        """
        from gptinit.api.prediction import theory_of_run
        from gptinit.theory import predicted_profile
        from gptinit.tokens import tokens_of_run

        subject = self.subject()
        source, run = tokens_of_run(
            run, tokens, vocab_size=subject.vocab_size, block_size=subject.block_size
        )
        theory = theory_of_run(subject, source.ids)
        return predicted_profile(theory, subject.facts, run, source, scheme=subject.scheme)


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetJob(Job):
    """The built-in GPT, drawn by a scheme; the usual one unless another is named.

    Attributes:
        preset: the name of its shape.
    """

    preset: Preset

    @property
    def config(self) -> GPTConfig:
        """Its shape."""
        return self.preset.config(self.shape)

    @property
    def block_size(self) -> int | None:
        """Longest sequence."""
        return self.config.block_size

    def check(self) -> None:
        """Refuse an unknown preset, an impossible shape, and names for what is known anyway."""
        self.preset.config(self.shape)
        if self.sites or self.roles or self.forward:
            raise ConfigError(
                "sites, roles and forward apply to your own model only, not to a preset."
            )

    def subject(self) -> "Subject":
        """The built-in GPT as measuring sees it."""
        from gptinit.measure.builtin_subject import builtin_subject

        return builtin_subject(
            self.config, self._scheme, name=self._name, source=self.preset.source
        )

    def audit(self, claim: Scheme | None, *, build: Build, perturb: bool, draw: bool) -> "Audit":
        """The audit of the built-in GPT, which a claim draws too."""
        config = self.config
        if build != "own" or perturb:
            raise ConfigError(
                "build and perturb need a model defined in code; the preset "
                f"{self.preset.name!r} takes its init from the scheme."
            )
        from gptinit.auditing.audit import audit_factory
        from gptinit.measure.builtin_subject import builtin_factory
        from gptinit.results.gpt_program import gpt_program

        program = gpt_program(config, claim or self._scheme)
        factory = builtin_factory(config, program, name=self._name, source=self.preset.source)
        audit = audit_factory(factory, claim=claim, drawn=draw, roles=self.roles)
        return _without_lines(audit)

    def predicted(self, run: RunConfig, tokens: "ArrayLike | None" = None) -> Profile:
        """Its profile by theory alone; torch is not needed for that."""
        from gptinit.results.gpt_program import gpt_program
        from gptinit.theory import model_of_program, predicted_profile
        from gptinit.tokens import tokens_of_run

        config = self.config
        facts = model_facts(config, name=self._name, source=self.preset.source)
        source, run = tokens_of_run(
            run, tokens, vocab_size=config.vocab_size, block_size=config.block_size
        )
        theory = model_of_program(facts, gpt_program(config, self._scheme))
        return predicted_profile(theory, facts, run, source, scheme=self._scheme.slug)

    @property
    def _scheme(self) -> Scheme:
        return self.scheme or get_scheme(DEFAULT_SCHEME)

    @property
    def _name(self) -> str:
        return self.preset.title(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class FactoryJob(Job):
    """Your own model: built by code, a config, or a callable, and drawn as its code says.

    Attributes:
        source: what names or is its builder.
        init: what draws its weights after the constructor; None finds it.
        trust: whether a config may run code that comes with it.
        stubs: modules for which inert stand-ins are imported.
    """

    source: "Code | Callable[..., nn.Module]"
    init: "InitChoice" = None
    trust: bool = False
    stubs: tuple[str, ...] = ()

    def check(self) -> None:
        """Refuse nothing: whatever there is to know takes torch to find out."""

    def subject(self) -> "Subject":
        """The model as its trace shows it, re-initialised where a scheme is named."""
        from gptinit.measure.reinit import reinit
        from gptinit.measure.traced_subject import traced_subject

        subject = traced_subject(self._factory(), roles=self.roles, sites=self.sites)
        return subject if self.scheme is None else reinit(subject, self.scheme)

    def audit(self, claim: Scheme | None, *, build: Build, perturb: bool, draw: bool) -> "Audit":
        """The audit of the model in the requested builds."""
        from gptinit.auditing.audit import audit_factory

        return audit_factory(
            self._factory(), claim=claim, build=build, perturbed=perturb, drawn=draw,
            roles=self.roles,
        )  # fmt: skip

    def _factory(self) -> "Factory":
        from gptinit.load.argument import factory_of, find_factory

        if isinstance(self.source, Code):
            return find_factory(
                self.source.text, self.shape, init=self.init, forward=self.forward,
                trust_remote_code=self.trust, stubs=self.stubs,
            )  # fmt: skip
        return self._called(factory_of(self.source, self.shape, init=self.init))


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveJob(Job):
    """A module that is built already, with the weights that it has.

    Attributes:
        module: the model.
    """

    module: "nn.Module"

    def check(self) -> None:
        """Refuse settings, another init, and a module without values."""
        if self.scheme is not None:
            raise ConfigError(
                "reinit cannot be used with a live module: its weights are measured as they are."
            )
        if self.shape:
            raise ConfigError(
                f"{', '.join(self.shape)} cannot be set on a live module: it is built already."
            )
        if any(p.is_meta for p in self.module.parameters()):
            raise ConfigError("a live module must hold values, but it has parameters on meta.")

    def subject(self) -> "Subject":
        """The module as measuring sees it."""
        from gptinit.measure.traced_subject import live_subject

        module, factory = self._uncompiled()
        return live_subject(module, factory, roles=self.roles, sites=self.sites)

    def audit(self, claim: Scheme | None, *, build: Build, perturb: bool, draw: bool) -> "Audit":
        """The audit of its values."""
        if build != "own" or perturb:
            raise ConfigError(
                "build and perturb cannot be used with a live module: it is built already."
            )
        from gptinit.auditing.audit import audit_module

        module, factory = self._uncompiled()
        return audit_module(module, factory, claim=claim, drawn=draw, roles=self.roles)

    def _uncompiled(self) -> "tuple[nn.Module, Factory]":
        from gptinit.load.argument import live_factory
        from gptinit.load.isolation import uncompiled

        self.check()
        module = uncompiled(self.module)
        return module, self._called(live_factory(module))


def make_job(
    model: Model,
    *,
    label: str | None = None,
    shape: Mapping[str, object] | None = None,
    scheme: str | Scheme | None = None,
    reinit: str | Scheme | None = None,
    roles: Mapping[str, str] | None = None,
    sites: Mapping[str, str] | None = None,
    init: "InitChoice" = None,
    forward: "Forward | None" = None,
    trust: bool = False,
    stubs: Sequence[str] = (),
) -> Job:
    """The job that a MODEL argument stands for.

    Args:
        model: a preset, code, a callable that builds a module, or a module.
        label: its name in progress and tables; None takes the argument's.
        shape: settings in place of the model's own.
        scheme: the init of a preset, which other models do not have.
        reinit: the init that draws the model, whatever it is.
        roles: the user's map, parameter pattern to role.
        sites: the user's names of blocks and branches.
        init: what draws the weights of your own model after its constructor; None finds it.
        forward: the user's way to call the model.
        trust: whether a config may run code that comes with it.
        stubs: modules for which inert stand-ins are imported.

    Raises:
        ConfigError: if a scheme is named for a model that is no preset, both inits are named, or
            stand-ins are for a model that is not loaded from code.
    """
    if scheme is not None and reinit is not None:
        raise ConfigError(
            "scheme and reinit cannot be used together: scheme is the init of a preset, reinit "
            "that of your own model."
        )
    name = model if isinstance(model, str) else getattr(model, "__name__", type(model).__name__)
    argument = read_model_argument(model) if isinstance(model, str) else model
    if scheme is not None and not isinstance(argument, Preset):
        raise ConfigError(
            "scheme applies to a preset only. Use --reinit SCHEME to re-initialise your model, or "
            "gptinit audit --scheme SCHEME to check that it follows one."
        )
    if stubs and not isinstance(argument, Code):
        raise ConfigError(
            f"stub applies to a model in a Python file or module only, got {', '.join(stubs)} for "
            f"{name!r}."
        )
    common: dict[str, Any] = {
        "label": label or name,
        "shape": shape or {},
        "scheme": as_scheme(reinit if scheme is None else scheme),
        "roles": roles or {},
        "sites": sites or {},
        "forward": forward,
    }
    if isinstance(argument, Preset):
        _refuse(init, f"the preset {argument.name!r}, which its scheme draws")
        return PresetJob(preset=argument, **common)
    if not isinstance(argument, Code):
        from torch import nn

        if isinstance(argument, nn.Module):
            _refuse(init, "a module that is built already")
            return LiveJob(module=argument, **common)
    return FactoryJob(source=argument, init=init, trust=trust, stubs=tuple(stubs), **common)


def _refuse(init: "InitChoice", model: str) -> None:
    """Refuse an init where no constructor runs.

    Raises:
        ConfigError: if there is one.
    """
    if init is not None:
        raise ConfigError(f"init must be for a model defined in code, got {model}.")


def _without_lines(audit: "Audit") -> "Audit":
    """The audit of a preset without the lines of this package that draw it: the scheme does."""

    def without(audited: "AuditedParameter") -> "AuditedParameter":
        steps = tuple(replace(step, file="", line=0) for step in audited.program.provenance)
        return replace(audited, program=replace(audited.program, provenance=steps))

    return replace(audit, parameters=tuple(map(without, audit.parameters)))


def as_scheme(named: str | Scheme | None) -> Scheme | None:
    """A scheme, looked up where only its name is given; None for none."""
    return get_scheme(named) if isinstance(named, str) else named
