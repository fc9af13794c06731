"""Statistics of a model at every place: measuring and theory return them, gate and reports read."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from gptinit.config import Dtype, Engine, ModelFacts, RunConfig, Weights
from gptinit.facts.sampling import LENS_ROWS, QUERY_ROWS
from gptinit.facts.vocabulary import SEVERITIES, Axis, Build, NoteKind, ParameterRole, Severity

__all__ = [
    "WEIGHT_GRAD_NUMBERS",
    "Comparison",
    "Cost",
    "Finding",
    "Note",
    "Place",
    "Profile",
    "Ranking",
    "RunFacts",
    "WeightGrad",
    "named_places",
    "run_facts",
    "worst_first",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """The settings of a run with every `auto` resolved; keys as in JSON."""

    engine: Engine
    weights: Weights
    device: str
    device_name: str
    dtype: Dtype
    seed: int
    seeds: int
    batch_size: int
    seq_len: int
    data: str
    data_sha256: str
    lens_rows: int
    query_rows: int


def run_facts(run: RunConfig, *, vocab_size: int, device_name: str, data_sha256: str) -> RunFacts:
    """The facts of a run."""
    settings = {name: getattr(run, name) for name in RunConfig.field_names() if name != "grad"}
    return RunFacts(
        **settings,
        device_name=device_name,
        data_sha256=data_sha256,
        lens_rows=min(LENS_ROWS, vocab_size),
        query_rows=min(QUERY_ROWS, run.seq_len),
    )


WEIGHT_GRAD_NUMBERS: tuple[str, ...] = ("grad_rms", "weight_rms", "ratio")
"""Names of the numbers of a `WeightGrad`, in the order of tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightGrad:
    """Gradient of the mean token loss in the weights of one role of one layer.

    Attributes:
        grad_rms: RMS of the gradient, nats per unit of weight.
        weight_rms: RMS of the weight.
        ratio: mean over seeds of grad_rms over weight_rms; None where a weight is zero.
        stderr: name of one of these to its standard error over seeds; empty with one seed.
    """

    grad_rms: float
    weight_rms: float
    ratio: float | None
    stderr: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The statistics of one place: the embedding, a layer, the final logits, the whole.

    A statistic that was not measured or is undefined is absent.

    Attributes:
        values: statistic name to its mean over seeds (standard deviations and ratios: exp of
            the mean log).
        stderr: statistic name to the standard error of that mean, in the unit of the value
            (standard deviations and ratios: value times the standard error of the mean log);
            empty with one seed.
        predicted: statistic name to the prediction of theory.
        weight_grad: role to the gradient of its weights; only layers have it.
    """

    values: Mapping[str, float]
    stderr: Mapping[str, float] = field(default_factory=dict)
    predicted: Mapping[str, float] = field(default_factory=dict)
    weight_grad: Mapping[ParameterRole, WeightGrad] = field(default_factory=dict)


PlaceT = TypeVar("PlaceT")


def named_places(
    embedding: PlaceT, layers: Sequence[PlaceT], final: PlaceT, whole: PlaceT
) -> tuple[tuple[str, PlaceT], ...]:
    """Every place with its name: embedding, layer 0, layer 1 ..., final, whole."""
    numbered = ((f"layer {i}", place) for i, place in enumerate(layers))
    return (("embedding", embedding), *numbered, ("final", final), ("whole", whole))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something a person should know, with a severity that decides exit codes.

    Attributes:
        rule: name of the rule, such as "out-of-bounds".
        severity: "error", "warning" or "note".
        model: name of the model in a check; None where only one model is looked at.
        where: the place ("layer 3", "layers 3, 40-47"), parameter or pattern of parameters.
        also: further parameters or patterns that have the same cause.
        fact: what is the case, in one or two sentences.
        why: why that matters; empty where only the documentation of the rule says so.
        stat: the statistic that is out of its bound; None for findings on parameters.
        build: "meta" where only the build on meta shows it, else None.
        accepted: the reason for which the configuration accepts it, else None.
    """

    rule: str
    severity: Severity
    model: str | None = None
    where: str
    also: tuple[str, ...] = ()
    fact: str
    why: str = ""
    stat: str | None = None
    build: Build | None = None
    accepted: str | None = None

    @property
    def places(self) -> tuple[str, ...]:
        """Every parameter or pattern that it is about."""
        return (self.where, *self.also)

    @property
    def location(self) -> str:
        """The place or parameter, after the name of the model in a check: "small: layer 3"."""
        return self.locations[0]

    @property
    def locations(self) -> tuple[str, ...]:
        """Its places, each after the name of the model in a check."""
        lead = "" if self.model is None else f"{self.model}: "
        return tuple(f"{lead}{place}" for place in self.places)

    @property
    def message(self) -> str:
        """The finding in sentences: build, fact, reason, and why it is accepted."""
        fact = f"Built on meta: {self.fact}" if self.build == "meta" else self.fact
        accepted = "" if self.accepted is None else f"Accepted: {self.accepted}"
        return " ".join(part for part in (fact, self.why, accepted) if part)


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings by severity; equally severe ones in the order that they came in."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A remark on how the numbers were obtained.

    Attributes:
        kind: "materialised", "approximate", "theory-missing" or "engine".
        where: the place, parameter or setting.
        message: one or two sentences.
    """

    kind: NoteKind
    where: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Cost of a run: wall-clock seconds and the peak memory of the process (or GPU), bytes."""

    seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How one model starts out: statistics at every place, findings and notes.

    Attributes:
        torch: version that computed it, or None where theory did.
        scheme: slug of the init, or None for the init of your own model.
        cost: present when timing was requested, so that equal runs give equal profiles.
    """

    torch: str | None
    model: ModelFacts
    scheme: str | None
    run: RunFacts
    embedding: Place
    layers: tuple[Place, ...]
    final: Place
    whole: Place
    findings: tuple[Finding, ...] = ()
    notes: tuple[Note, ...] = ()
    cost: Cost | None = None

    def places(self) -> tuple[tuple[str, Place], ...]:
        """Every place with its name: embedding, layer 0, layer 1 ..., final, whole."""
        return named_places(self.embedding, self.layers, self.final, self.whole)

    def headroom(self, largest: float) -> float | None:
        """`largest` (the dtype's maximum) over the largest magnitude in the stream, a ratio."""
        peaks = [
            p.values["max_abs"]
            for p in (self.embedding, *self.layers)
            if "max_abs" in p.values and math.isfinite(p.values["max_abs"])
        ]
        return largest / max(peaks) if peaks and max(peaks) > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """An order of profiles.

    Attributes:
        by: the criterion, in words.
        order: labels of the profiles, best first.
    """

    by: str
    order: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Several profiles side by side.

    Attributes:
        axis: what varies: "schemes", "depths", "widths", "models" or "engines".
        labels: one label a profile: a slug, a depth, a width.
        profiles: the profiles, in the order requested.
        ranking: an order of the labels, or None where nothing is ranked.
    """

    axis: Axis
    labels: tuple[str, ...]
    profiles: tuple[Profile, ...]
    ranking: Ranking | None = None
