"""What a MODEL argument stands for, as something to measure or to audit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from gptinit.config import GPTConfig, RunConfig
from gptinit.errors import ConfigError
from gptinit.facts.names import model_label
from gptinit.facts.presets import PRESETS, get_config, is_preset, model_facts
from gptinit.facts.schemes import DEFAULT_SCHEME, Scheme, get_scheme
from gptinit.results.profile import Profile

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import nn

    from gptinit.load.factory import Factory
    from gptinit.measure.subject import Subject

__all__ = ["Job", "Model", "as_scheme", "init_of", "label_of"]

Model: TypeAlias = "str | nn.Module | Callable[..., nn.Module]"
"""A preset, a file or module with a name, a config, a live module, or what builds one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One model to look at; what can be checked without torch is checked by `check`.

    Attributes:
        label: its name in progress and tables.
        model: what it is.
        shape: its settings in place of its own: fields of GPTConfig for a preset.
        scheme: the init of a preset, or the one that a foreign model is redrawn by; None is the
            usual one of a preset, and a foreign model's own.
        roles: the user's map, parameter pattern to role.
        sites: the user's names of blocks and branches.
        trust: whether a config may run code that comes with it.
    """

    label: str
    model: Model
    shape: Mapping[str, object] = field(default_factory=dict)
    scheme: Scheme | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    sites: Mapping[str, str] = field(default_factory=dict)
    trust: bool = False

    @property
    def is_preset(self) -> bool:
        """Whether it is the built-in GPT."""
        return isinstance(self.model, str) and is_preset(self.model)

    def check(self) -> None:
        """Refuse what cannot be, as far as that is known without torch.

        Raises:
            ConfigError: if there is no such preset, or its shape is not possible.
        """
        if self.is_preset:
            self.config()
            if self.sites or self.roles:
                raise ConfigError("sites and roles apply to your own model only, not to a preset.")

    def config(self) -> GPTConfig:
        """The shape of a preset."""
        assert isinstance(self.model, str)  # is_preset
        return get_config(self.model, **self.shape)  # type: ignore[arg-type] # checks itself

    def name(self) -> str:
        """A preset with what replaces its shape: "gpt2, n_layer=48"."""
        ordered = [k for k in GPTConfig.field_names() if k in self.shape]
        return model_label(str(self.model), {k: self.shape[k] for k in ordered})

    def subject(self) -> "Subject":
        """The model as measuring sees it.

        Raises:
            ConfigError: if it cannot be found or its settings are not possible.
            SubjectError: if it cannot be built or read.
        """
        if self.is_preset:
            # Loaded here and not above: torch takes a second, and reading a scheme needs none.
            from gptinit.measure.builtin_subject import builtin_subject

            scheme = self.scheme or get_scheme(DEFAULT_SCHEME)
            return builtin_subject(self.config(), scheme, name=self.name(), source=self._source())
        # Loaded here: a preset needs no trace.
        from gptinit.measure.reinit import reinit
        from gptinit.measure.traced_subject import foreign_subject, live_subject

        factory, module = self.factory()
        if module is not None:
            if self.scheme is not None:
                raise ConfigError(
                    "reinit cannot be used with a live module: its weights are measured as they "
                    "are."
                )
            return live_subject(module, factory, roles=self.roles, sites=self.sites)
        subject = foreign_subject(factory, roles=self.roles, sites=self.sites)
        return subject if self.scheme is None else reinit(subject, self.scheme)

    def predicted(self, run: RunConfig, tokens: "ArrayLike | None" = None) -> Profile:
        """Its profile by theory alone; a preset needs no torch for that.

        Raises:
            ConfigError: if theory has no formula for the model, or it cannot be found.
            SubjectError: if it cannot be built or read.
        """
        # Loaded here and not above: numpy is nothing that help or a list of schemes needs.
        from gptinit.theory import TheoryModel, no_formulas, predicted_profile, theory_model
        from gptinit.tokens import tokens_of_run

        if self.is_preset:
            config, scheme = self.config(), self.scheme or get_scheme(DEFAULT_SCHEME)
            facts = model_facts(config, name=self.name(), source=self._source())
            source, run = tokens_of_run(
                run, tokens, vocab_size=config.vocab_size, block_size=config.block_size
            )
            model = theory_model(config, scheme)
            return predicted_profile(model, facts, run, source, scheme=scheme.slug)
        # Loaded here: only a model with code of its own has to be traced.
        from gptinit.measure.measure import theory_of_run

        subject = self.subject()
        source, run = tokens_of_run(
            run, tokens, vocab_size=subject.vocab_size, block_size=subject.block_size
        )
        ids = [source.draw(seed) for seed in range(run.seed, run.seed + run.seeds)]
        theory = theory_of_run(subject, ids)
        if not isinstance(theory, TheoryModel):
            why = f"{theory.where}: {theory.message}" if theory else ""
            raise no_formulas(subject.facts.name, why)
        return predicted_profile(theory, subject.facts, run, source, scheme=subject.scheme)

    def factory(self) -> "tuple[Factory, nn.Module | None]":
        """What builds the model, and the module itself where it is built already.

        Raises:
            ConfigError: if it cannot be found or its settings are not possible.
        """
        # Loaded here and not above: as in `subject`.
        from torch import nn

        from gptinit.load.argument import factory_of, find_factory, live_factory
        from gptinit.load.isolation import uncompiled
        from gptinit.measure.builtin_subject import builtin_factory

        if self.is_preset:
            scheme = self.scheme or get_scheme(DEFAULT_SCHEME)
            made = builtin_factory(self.config(), scheme, name=self.name(), source=self._source())
            return made, None
        if isinstance(self.model, nn.Module):
            if self.shape:
                raise ConfigError(
                    f"{', '.join(self.shape)} cannot be set on a live module: it is built already."
                )
            if any(p.is_meta for p in self.model.parameters()):
                raise ConfigError("a live module must hold values, but it has parameters on meta.")
            module = uncompiled(self.model)
            return live_factory(module), module
        if isinstance(self.model, str):
            found = find_factory(self.model, self.shape, trust_remote_code=self.trust)
            return found, None
        return factory_of(self.model, self.shape), None

    def _source(self) -> str:
        """Where a preset's shape comes from."""
        return f"preset {self.model}: {PRESETS[str(self.model)].source}"


def init_of(
    model: Model, scheme: str | Scheme | None, reinit: str | Scheme | None
) -> Scheme | None:
    """The scheme that draws a model; None leaves it its own.

    Raises:
        ConfigError: if the wrong one of the two is named.
    """
    is_preset = isinstance(model, str) and Job(label="", model=model).is_preset
    if scheme is not None and reinit is not None:
        raise ConfigError(
            "scheme and reinit cannot be used together: scheme is the init of a preset, reinit "
            "that of your own model."
        )
    if scheme is not None and not is_preset:
        raise ConfigError(
            "scheme applies to a preset only. Use --reinit SCHEME to re-initialise your model, or "
            "gptinit audit --scheme SCHEME to check that it follows one."
        )
    named = scheme if scheme is not None else reinit
    return None if named is None else as_scheme(named)


def label_of(model: Model) -> str:
    """What progress calls a model."""
    return model if isinstance(model, str) else type(model).__name__


def as_scheme(named: str | Scheme) -> Scheme:
    """A scheme, looked up if need be."""
    return named if isinstance(named, Scheme) else get_scheme(named)
