"""Init programs: every parameter with its role, its distribution and the steps that made it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from gptinit.config import InitCall, ModelFacts
from gptinit.facts.distributions import Distribution
from gptinit.facts.step import Step
from gptinit.facts.vocabulary import Build, ParameterKind, ParameterRole

__all__ = [
    "Draw",
    "FirstGradient",
    "ModelProgram",
    "NameBranch",
    "ParameterProgram",
    "Program",
    "UncalledInit",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One time that all entries of a parameter were set; later ones replace earlier ones.

    Attributes:
        distribution: what they were set to.
        step: the operator that did it; None for values that were there before the trace.
        by_default: whether the constructor of a torch module did it, not the model's own code.
    """

    distribution: Distribution
    step: Step | None
    by_default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstGradient:
    """When training first changes a parameter.

    Attributes:
        step: 0-based training step in which its gradient may first be other than exactly 0; None
            for never.
        waits_for: parameters of zeros that keep its gradient at 0 in the first step.
        is_used: whether the logits depend on it at all.
        is_cut: whether they do so in no way that autograd follows, as behind detach().
    """

    step: int | None
    waits_for: tuple[str, ...] = ()
    is_used: bool = True
    is_cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterProgram:
    """How one parameter or buffer comes into being.

    Attributes:
        name: canonical name, the first that `named_parameters` gives; ties appear once.
        shape: its shape.
        role: one of `vocabulary.ROLES`, or "other".
        layer: 0-based block index, or None outside the blocks.
        block: path of its block in the model; None outside the blocks, or if it is not known.
        distribution: what its entries are drawn from.
        dtype: torch's name of its dtype, without "torch.".
        kind: "parameter" or "buffer".
        aliases: its other names, where it is tied.
        fan_in: inputs that one output sums over, whatever the layout; None for what is no matrix.
        fan_out: outputs of the matrix; None for what is no matrix.
        writes_stream: whether its output is added to the residual stream, or that of the norm
            whose weight it is; None if not known.
        gain: of a norm's weight, the RMS of the norm's output for an input of RMS 1; else None.
        constructed: what the constructor alone draws it from, where the init that runs after it
            changes that; else None.
        gradient: when it first gets a gradient; None where the forward pass does not show it, or
            training does not change it.
        history: every time that all its entries were set, oldest first; the last one is what
            `distribution` started from.
        provenance: the last steps that made the distribution, oldest first.
        looked: whether the code read drawn values and may have acted on them.
        is_entangled: whether some of its entries are those of another parameter too, other than
            all of them in their places (that is a Copy).
    """

    name: str
    shape: tuple[int, ...]
    role: ParameterRole
    layer: int | None
    distribution: Distribution
    block: str | None = None
    dtype: str = "float32"
    kind: ParameterKind = "parameter"
    aliases: tuple[str, ...] = ()
    fan_in: int | None = None
    fan_out: int | None = None
    writes_stream: bool | None = None
    gain: float | None = None
    constructed: Distribution | None = None
    gradient: FirstGradient | None = None
    history: tuple[Draw, ...] = ()
    provenance: tuple[Step, ...] = ()
    looked: bool = False
    is_entangled: bool = False

    @property
    def numel(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class NameBranch:
    """An `if` of the init code that asks for names, draws or scales, and was never taken.

    Attributes:
        file: as users know it.
        line: of the `if`.
        test: its condition, as Python writes it.
        asked: how many names of the model it was asked about.
        meant: those of them that have a text that it compares with as a part.
        missed: names of the model that have one, whether or not it was asked about them.
    """

    file: str
    line: int
    test: str
    asked: int
    meant: tuple[str, ...]
    missed: tuple[str, ...] = ()


Program = tuple[ParameterProgram, ...]
"""The init program of a model: one entry a parameter, in the order of `named_parameters`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UncalledInit:
    """An init that a model has, and that nothing runs.

    Attributes:
        init: the call that would run it.
        changes: name of each parameter that it would change to what it would draw it from.
        obstacle: why it could not be run to see; empty where it could.
    """

    init: InitCall
    changes: Mapping[str, Distribution] = field(default_factory=dict)
    obstacle: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelProgram:
    """A model as the audit reads it.

    Attributes:
        facts: its name, source and shape.
        parameters: every parameter once.
        buffers: every buffer, and tensors that modules hold as plain attributes.
        claims_tied: whether its settings say that head and embedding are one; None if they are
            silent.
        padding: name of an embedding's weight to the row that stands for padding.
        build: "own" (the constructor as it is) or "meta" (built without storage, then filled).
        builder: what builds it, in words: "its constructor", "build()".
        architecture: name of a published architecture, such as "gpt2" (Hugging Face's
            model_type); None if it is not a published one.
        logit_multiplier: product of the numbers by which its forward multiplies the head's input
            and output; None if it is not known.
        uncalled: its inits that nothing runs, and that would change it as far as is known.
        constant_logits: parameters of one value each that keep the logits from depending on the
            tokens; None where they depend on them, or that is not known.
        never_taken: branches of the init code that ask for names and found none.
    """

    facts: ModelFacts
    parameters: Program
    buffers: Program = ()
    claims_tied: bool | None = None
    padding: Mapping[str, int] = field(default_factory=dict)
    build: Build = "own"
    builder: str = "its constructor"
    architecture: str | None = None
    logit_multiplier: float | None = None
    uncalled: tuple[UncalledInit, ...] = ()
    constant_logits: tuple[str, ...] | None = None
    never_taken: tuple[NameBranch, ...] = ()
