"""What the text of a MODEL argument names: a preset, or code that builds a model."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from gptinit.config import GPTConfig
from gptinit.errors import unknown_name
from gptinit.facts.names import model_label
from gptinit.facts.presets import PRESETS, get_config

__all__ = ["Code", "ModelArgument", "Preset", "read_model_argument"]


@dataclass(frozen=True, slots=True)
class Preset:
    """The built-in GPT in a published shape, by the name of that shape.

    Its settings are the fields of GPTConfig, and a scheme is what draws it.
    """

    name: str

    @property
    def source(self) -> str:
        """Where its shape was read."""
        return f"preset {self.name}: {PRESETS[self.name].source}"

    def config(self, settings: Mapping[str, object]) -> GPTConfig:
        """Its shape with some settings replaced.

        Raises:
            ConfigError: if there is no such preset, or the shape is not possible.
        """
        return get_config(self.name, **settings)  # type: ignore[arg-type] # it checks every type

    def title(self, settings: Mapping[str, object]) -> str:
        """What tables call it.

        Example:
            >>> Preset("gpt2").title({"n_layer": 48})
            'gpt2, n_layer=48'
        """
        ordered = [name for name in GPTConfig.field_names() if name in settings]
        return model_label(self.name, {name: settings[name] for name in ordered})

    def read_setting(self, name: str, text: str) -> int | str | bool:
        """The value of a setting that was typed as text.

        Raises:
            ConfigError: if GPTConfig has no such field.
        """
        if name not in GPTConfig.field_names():
            raise unknown_name("--set key", name, GPTConfig.field_names())
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        try:
            return int(text)
        except ValueError:
            return text

    def drawn_by(self, scheme: str | None) -> str | None:
        """The scheme that draws it: the one that was named for it."""
        return scheme


@dataclass(frozen=True, slots=True)
class Code:
    """A path/model.py:NAME, a package.module:NAME, or a Hugging Face config.json or its folder.

    Its settings are its own, and a scheme named for it is a claim to audit it against.
    """

    text: str

    def config(self, settings: Mapping[str, object]) -> GPTConfig | None:
        """None: its shape is known only once it is built."""
        return None

    def read_setting(self, name: str, text: str) -> str:
        """The text as it was typed: the model's configuration knows the type."""
        return text

    def drawn_by(self, scheme: str | None) -> str | None:
        """None: it draws itself."""
        return None


ModelArgument: TypeAlias = Preset | Code


def read_model_argument(text: str) -> ModelArgument:
    """What a MODEL argument names: a preset if it is no path and names no code.

    Example:
        >>> read_model_argument("gpt2"), read_model_argument("model.py:GPT")
        (Preset(name='gpt2'), Code(text='model.py:GPT'))
        >>> read_model_argument("gtp2")  # a misspelt preset is refused as one
        Preset(name='gtp2')
    """
    is_code = ":" in text or text.endswith((".py", ".json"))
    is_path = any(separator in text for separator in ("/", os.sep)) or Path(text).is_dir()
    return Code(text) if is_code or is_path else Preset(text)
