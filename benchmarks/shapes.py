"""Theory, lazy and dense weights side by side, by depth and width: who is how far from whom."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from benchmarks.theory import Deviation
from gptinit.api.prediction import measure_with_prediction
from gptinit.config import GPTConfig, RunConfig
from gptinit.facts.presets import get_config
from gptinit.facts.schemes import get_scheme
from gptinit.facts.vocabulary import STATISTICS
from gptinit.measure.builtin_subject import builtin_subject
from gptinit.measure.measure import measure
from gptinit.results.profile import Profile

__all__ = ["gaps", "main"]

_DEPTHS, _WIDTHS = (12, 48, 96), (256, 512, 768, 1600)
_SEEDS, _LAZY_FIRST = 6, 1000
_STATS = (
    "resid_var",
    "attn_var",
    "mlp_var",
    "logit_std",
    "attn_score_std",
    "attn_entropy",
    "token_cosine",
    "grad_rms",
    "loss",
)
_DIFFERENCES = ("attn_entropy", "token_cosine", "loss")
"""Statistics that are compared by their difference; all others by their ratio."""


def gaps(profile: Profile, base: Profile, *, predicted: bool = False) -> Iterator[Deviation]:
    """Every statistic that both have, at every place: ratios less one, or differences.

    Args:
        profile: what is compared.
        base: with dense weights, and standard errors.
        predicted: whether to compare what theory expects of `profile` in its place.
    """
    theirs = dict(base.places())
    for where, place in profile.places():
        values: Mapping[str, float] = place.predicted if predicted else place.values
        errors: Mapping[str, float] = {} if predicted else place.stderr
        for stat in (s for s in _STATS if s in values and s in theirs[where].values):
            value, other = values[stat], theirs[where].values[stat]
            error = math.hypot(theirs[where].stderr.get(stat, 0.0), errors.get(stat, 0.0))
            if stat in _DIFFERENCES:
                yield Deviation(stat=stat, where=where, value=value - other, stderr=error)
            else:
                yield Deviation(
                    stat=stat, where=where, value=value / other - 1, stderr=error / other
                )


def main() -> None:
    """Print a row a shape: final variance three times, then the largest gap of each statistic."""
    print(
        f"nanogpt, 256 tokens of zipf, {_SEEDS} seeds of dense and {_SEEDS} others of lazy weights"
    )
    largest: dict[tuple[str, str], Deviation] = {}
    heads = f"{'layers':>6} {'width':>6} {'dense':>20} {'lazy':>20} {'theory':>9}"
    print(f"{heads}    lazy/dense - 1  theory/dense - 1")
    for n_layer in _DEPTHS:
        for width in _WIDTHS:
            config = get_config("gpt2", n_layer=n_layer, n_embd=width)
            dense, lazy = _profiles(config, grad=width <= 768 and n_layer <= 48)
            print(f"{n_layer:6} {width:6} {_row(dense, lazy)}", flush=True)
            shape = f"{n_layer} x {width}"
            for name, found in (
                ("lazy", gaps(lazy, dense)),
                ("theory", gaps(dense, dense, predicted=True)),
            ):
                _keep(largest, name, shape, found)
    print("\nlargest gap of each statistic over all layers and shapes (± standard error)")
    for (name, stat), gap in sorted(largest.items(), key=lambda item: _order(item[0])):
        unit = "" if stat in _DIFFERENCES else " of the value"
        print(f"  {name:7} {stat:15} {gap.value:+.4f} ± {gap.stderr:.4f}{unit} at {gap.where}")


def _profiles(config: GPTConfig, *, grad: bool) -> tuple[Profile, Profile]:
    """With dense weights (drawn as they are needed where they are large) and lazy ones."""
    subject = builtin_subject(config, get_scheme("nanogpt"), name="gpt2", source="benchmark")
    run = RunConfig(device="cpu", seeds=_SEEDS, seq_len=256, grad=grad)
    is_large = subject.facts.n_params > 10**9
    dense = measure_with_prediction(subject, replace(run, engine="stream" if is_large else "dense"))
    return dense, measure(subject, replace(run, engine="lazy", seed=_LAZY_FIRST))


def _row(dense: Profile, lazy: Profile) -> str:
    """The last layer's variance and how far its values are apart."""
    cells, last = [], [p.layers[-1] for p in (dense, lazy)]
    for place in last:
        cells.append(f"{place.values['resid_var']:.4g} ± {place.stderr['resid_var']:.2g}")
    expected = last[0].predicted["resid_var"]
    found = [
        next(
            g for g in both if g.stat == "resid_var" and g.where == f"layer {len(dense.layers) - 1}"
        )
        for both in (gaps(lazy, dense), gaps(dense, dense, predicted=True))
    ]
    shares = " ".join(f"{100 * g.value:+6.1f} ± {100 * g.stderr:.1f} %" for g in found)
    return f"{cells[0]:>20} {cells[1]:>20} {expected:9.4g}  {shares}"


def _keep(
    largest: dict[tuple[str, str], Deviation], name: str, shape: str, found: Iterator[Deviation]
) -> None:
    """Take in what is larger than what was seen of the same statistic."""
    for gap in found:
        old = largest.get((name, gap.stat))
        if old is None or abs(gap.value) > abs(old.value):
            largest[name, gap.stat] = replace(gap, where=f"{shape}, {gap.where}")


def _order(key: tuple[str, str]) -> tuple[str, int]:
    """By engine, then as in tables."""
    names: Sequence[str] = list(STATISTICS)
    known: Mapping[str, int] = {name: i for i, name in enumerate(names)}
    return key[0], known[key[1]]


if __name__ == "__main__":
    main()
