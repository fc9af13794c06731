"""The shape of a model and the settings of a run: frozen, validated on creation."""

from dataclasses import dataclass, fields
from typing import Literal, TypeAlias, get_args

from gptinit.errors import ConfigError, unknown_name

__all__ = [
    "ACTIVATIONS",
    "DATA_KINDS",
    "DEVICES",
    "DTYPES",
    "ENGINES",
    "WEIGHTS",
    "Activation",
    "Device",
    "Dtype",
    "Engine",
    "GPTConfig",
    "InitCall",
    "ModelFacts",
    "RunConfig",
    "Weights",
]

Activation: TypeAlias = Literal["gelu", "gelu_tanh", "relu"]
"""Activation of the built-in GPT: GELU by erf, GELU by tanh, ReLU."""

ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)

Engine: TypeAlias = Literal["auto", "dense", "stream", "lazy", "theory"]
"""How weights are held: all in memory (dense), drawn layer by layer (stream) or never drawn (lazy);
theory predicts without a run; auto chooses one of the first three."""

ENGINES: tuple[Engine, ...] = get_args(Engine)

Device: TypeAlias = Literal["auto", "cpu", "cuda", "mps"]
"""Where a run computes; auto takes the best device available."""

DEVICES: tuple[Device, ...] = get_args(Device)

Dtype: TypeAlias = Literal["float32", "bfloat16", "float16"]
"""Type of weights and activations; statistics are always float32."""

DTYPES: tuple[Dtype, ...] = get_args(Dtype)

Weights: TypeAlias = Literal["traced", "own"]
"""Who draws the weights: gptinit, from the traced init program, or the model's own code."""

WEIGHTS: tuple[Weights, ...] = get_args(Weights)

_LARGEST = 10**8  # of any size: the bytes of a product of two and a factor still fit 64 bits

_DEEPEST = 10**4  # modules are made before anything is measured

DATA_KINDS: tuple[str, ...] = ("zipf", "uniform", "text")
"""Inputs that have a name; anything else is the path of a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GPTConfig:
    """Shape of the built-in GPT; the defaults are GPT-2 (124M).

    Attributes:
        n_layer: number of blocks.
        n_head: attention heads.
        n_embd: width C of the residual stream.
        head_dim: width of a head; 0 means n_embd // n_head.
        d_ff: hidden width of the MLP; 0 means 4 * n_embd.
        block_size: context length (maximum positions).
        vocab_size: vocabulary size.
        activation: one of ACTIVATIONS.
        bias: whether linear layers and norms have biases (the head has none).
        tied: whether the head shares the weight of the token embedding.

    Raises:
        ConfigError: if a size is not a positive integer or n_head does not divide n_embd.

    Example:
        >>> GPTConfig(n_layer=48).head_dim
        64
    """

    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    head_dim: int = 0
    d_ff: int = 0
    block_size: int = 1024
    vocab_size: int = 50257
    activation: Activation = "gelu_tanh"
    bias: bool = True
    tied: bool = True

    def __post_init__(self) -> None:
        for name in ("n_layer", "n_head", "n_embd", "block_size", "vocab_size"):
            _require_count(name, getattr(self, name), least=1)
        for name in ("head_dim", "d_ff"):
            _require_count(name, getattr(self, name), least=0)
        for name in ("bias", "tied"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} must be true or false, got {getattr(self, name)!r}.")
        if self.activation not in ACTIVATIONS:
            raise unknown_name("activation", str(self.activation), ACTIVATIONS)
        if self.head_dim == 0:
            object.__setattr__(self, "head_dim", self._divided_head_dim())
        if self.d_ff == 0:
            object.__setattr__(self, "d_ff", 4 * self.n_embd)

    def _divided_head_dim(self) -> int:
        """Return the usual head width, n_embd // n_head.

        Raises:
            ConfigError: if n_head does not divide n_embd.
        """
        if self.n_embd % self.n_head:
            nearest = max(1, round(self.n_embd / self.n_head)) * self.n_head
            raise ConfigError(
                f"n_embd must be a multiple of n_head={self.n_head}, got n_embd={self.n_embd}. "
                f"Nearest multiple: {nearest}."
            )
        return self.n_embd // self.n_head

    @property
    def n_kv_head(self) -> int:
        """Number of key and value heads: as many as query heads."""
        return self.n_head

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """Names of the fields, in order."""
        return tuple(f.name for f in fields(cls))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """How a model is measured.

    Attributes:
        engine: one of ENGINES.
        device: one of DEVICES.
        dtype: one of DTYPES.
        seed: first seed; repetition i uses seed + i.
        seeds: number of repetitions.
        batch_size: sequences B.
        seq_len: positions T; 0 means min(256, block_size).
        data: one of DATA_KINDS, or the path of a text file or a nanoGPT `.bin`.
        grad: whether to run the backward pass as well.
        weights: one of WEIGHTS.

    Raises:
        ConfigError: if a value is out of its range or not a known name.
    """

    engine: Engine = "auto"
    device: Device = "auto"
    dtype: Dtype = "float32"
    seed: int = 0
    seeds: int = 3
    batch_size: int = 1
    seq_len: int = 0
    data: str = "zipf"
    grad: bool = False
    weights: Weights = "traced"

    def __post_init__(self) -> None:
        named = (
            ("engine", ENGINES), ("device", DEVICES), ("dtype", DTYPES), ("weights", WEIGHTS),
        )  # fmt: skip
        for name, known in named:
            if getattr(self, name) not in known:
                raise unknown_name(name, str(getattr(self, name)), known)
        for name in ("seeds", "batch_size"):
            _require_count(name, getattr(self, name), least=1)
        for name in ("seed", "seq_len"):
            _require_count(name, getattr(self, name), least=0)
        if not isinstance(self.data, str) or not self.data:
            raise ConfigError(
                f"data must be one of {', '.join(DATA_KINDS)} or a file, got {self.data!r}."
            )
        if not isinstance(self.grad, bool):
            raise ConfigError(f"grad must be true or false, got {self.grad!r}.")

    @classmethod
    def field_names(cls) -> tuple[str, ...]:
        """Names of the fields, in order."""
        return tuple(f.name for f in fields(cls))

    def resolve_seq_len(self, block_size: int) -> int:
        """Return the number of tokens per sequence for a model with this context length.

        Raises:
            ConfigError: if seq_len exceeds block_size.
        """
        if self.seq_len > block_size:
            raise ConfigError(
                f"seq_len must be at most block_size={block_size}, got seq_len={self.seq_len}. "
                f"Use --seq-len {block_size} or a larger --block-size."
            )
        return self.seq_len or min(256, block_size)


def _require_count(name: str, value: object, *, least: int) -> None:
    """Raise unless `value` is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        rule = "a positive integer" if least else "a non-negative integer"
        raise ConfigError(f"{name} must be {rule}, got {value!r}.")
    largest = _DEEPEST if name == "n_layer" else _LARGEST
    if value > largest and name != "seed":
        raise ConfigError(f"{name} must be at most {largest}, got {value!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class InitCall:
    """The call that draws a model's weights once its constructor is done.

    Attributes:
        call: as Python would write it: "init_weights()", "apply(_init_weights)".
        name: the name of the method or function.
        file: the file that defines it.
        line: the line of its definition.
        chosen_by: "found" where it was the only init that no one had called, or "--init".
    """

    call: str
    name: str
    file: str
    line: int
    chosen_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known of a model; keys as in the JSON contract, None if unknown."""

    name: str
    source: str
    n_layer: int
    n_head: int | None = None
    n_kv_head: int | None = None
    head_dim: int | None = None
    n_embd: int
    d_ff: int | None = None
    block_size: int | None = None
    vocab_size: int | None = None
    norm: str | None = None
    norm_placement: str | None = None
    positions: str | None = None
    activation: str | None = None
    bias: bool
    tied: bool
    n_params: int
    init: InitCall | None = None
