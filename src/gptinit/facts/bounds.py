"""Healthy ranges of statistics, each with its reason and source."""

import math
import re
from dataclasses import dataclass

from gptinit.errors import ConfigError, unknown_name
from gptinit.facts.vocabulary import STATISTICS

__all__ = ["DEFAULT_BOUNDS", "Bound"]

_WHERE = ("embedding", "final", "whole", "every layer", "last layer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A healthy range of a statistic.

    Attributes:
        stat: a name in `vocabulary.STATISTICS`.
        where: "embedding", "final", "whole", "every layer", "last layer" or "layer N".
        min: lowest healthy value, or None.
        max: highest healthy value, or None.
        why: what goes wrong outside.
        source: where the number comes from.

    Raises:
        ConfigError: if the statistic or place does not exist, they do not go together, or the
            range is empty.
    """

    stat: str
    where: str
    min: float | None = None
    max: float | None = None
    why: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if self.stat not in STATISTICS:
            known = f"Known: {', '.join(STATISTICS)}."
            raise unknown_name("bound stat", str(self.stat), STATISTICS, remedy=known)
        if self.where not in _WHERE and not re.fullmatch(r"layer \d+", self.where):
            raise unknown_name("bound where", self.where, (*_WHERE, "layer 0"))
        if self.place not in STATISTICS[self.stat].places:
            places = ", ".join(STATISTICS[self.stat].places)
            raise ConfigError(
                f"bound on {self.stat} must be at a place that has it ({places}), "
                f"got where={self.where!r}."
            )
        self._require_range()

    @property
    def place(self) -> str:
        """The kind of place that `where` names: one of `vocabulary.PlaceKind`."""
        return "layer" if "layer" in self.where else self.where

    def _require_range(self) -> None:
        """Raise unless there is a finite, non-empty range."""
        for name, limit in (("min", self.min), ("max", self.max)):
            number = isinstance(limit, (int, float)) and not isinstance(limit, bool)
            if limit is not None and not (number and math.isfinite(limit)):
                raise ConfigError(
                    f"bound on {self.stat} must have a finite number as {name}, got {limit!r}."
                )
        if self.min is None and self.max is None:
            raise ConfigError(f"bound on {self.stat} must have a min or a max, got neither.")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ConfigError(
                f"bound on {self.stat} must have min <= max, got min={self.min!r}, "
                f"max={self.max!r}."
            )


DEFAULT_BOUNDS: tuple[Bound, ...] = (
    Bound(
        stat="nonfinite",
        where="every layer",
        max=0,
        why="A NaN or infinity in the stream spreads to every later layer and to the loss.",
        source="definition",
    ),
    Bound(
        stat="resid_growth",
        where="whole",
        max=1000,
        why=(
            "The embedding is then under 0.1 % of the variance that the head reads: the token's "
            "identity is swamped by the random branch outputs."
        ),
        source="share of the embedding = 1 / resid_growth for independent branches",
    ),
    Bound(
        stat="token_cosine",
        where="last layer",
        max=0.9,
        why="All positions then carry nearly the same vector: rank collapse.",
        source="Noci et al. 2022, arXiv 2206.03126, section 3 (rank collapse at initialisation)",
    ),
    Bound(
        stat="attn_score_std",
        where="every layer",
        max=2,
        why=(
            "Attention then starts out picking random keys instead of averaging: a row of N keys "
            "acts like one of about N exp(-std^2)."
        ),
        source="participation of a softmax of N independent N(0, s^2) scores, large N: exp(-s^2)",
    ),
    Bound(
        stat="logit_std",
        where="final",
        min=1e-30,
        why=(
            "All logits are then equal: the final norm or the head is zero, and nothing else gets "
            "a gradient in the first step. A head of zeros may be meant."
        ),
        source="a product with a factor of 0 is exactly 0; no draw comes near",
    ),
    Bound(
        stat="copy_logit",
        where="final",
        max=6,
        why=(
            "The head then starts out predicting the token it has just read: a tied head does so "
            "when branches add too little to the embedding."
        ),
        source="share of the probability on the copy = exp(copy_logit) / vocab_size: 0.8 % at 6",
    ),
    Bound(
        stat="loss_excess",
        where="final",
        max=0.5,
        why=(
            "The first loss should be near ln(vocab_size); above it the first steps only shrink "
            "logits that are too large."
        ),
        source="loss_excess = logit_std^2 / 2 for uniform tokens: 0.5 nats at logit_std 1",
    ),
)
"""The bounds of `inspect`, and of a `check` whose configuration names none."""
