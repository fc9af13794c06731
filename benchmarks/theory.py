"""Theory against measurements: how far off each statistic is, by scheme, depth and width."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.timing import alternate, process, python
from gptinit.api.prediction import theory_of
from gptinit.config import GPTConfig, RunConfig
from gptinit.facts.presets import get_config
from gptinit.facts.schemes import get_scheme, load_schemes
from gptinit.measure.builtin_subject import builtin_subject
from gptinit.measure.measure import measure
from gptinit.measure.subject import Subject
from gptinit.results.profile import Profile
from gptinit.theory import TheoryModel, predicted_profile
from gptinit.tokens import tokens_of_run

__all__ = ["Deviation", "deviations", "main"]

_DEPTHS = (12, 48, 96)
_WIDTHS = (256, 512, 768, 1024, 1600)
_LAZY_WIDTHS = (1600, 4096, 12288)
_SEEDS = 6
_DIFFERENCES = ("token_cosine", "attn_entropy", "loss_excess", "copy_logit")
"""Statistics that are compared by their difference; all others by their ratio."""

_PROCESS = """
import gptinit
gptinit.inspect("gpt2", n_layer={n_layer}, run=gptinit.RunConfig(engine="theory"))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """How far one statistic at one place is from another way to it.

    Attributes:
        stat: its name.
        where: the place.
        value: logarithm of the ratio (or the ratio less one), or the difference.
        stderr: its standard error in the same terms.
    """

    stat: str
    where: str
    value: float
    stderr: float


def deviations(measured: Profile, expected: Profile) -> Iterator[Deviation]:
    """Every statistic that both have, at every place."""
    theirs = dict(expected.places())
    for where, place in measured.places():
        for stat, value in place.values.items():
            guess = theirs[where].values.get(stat)
            if guess is None or stat not in place.stderr or stat == "loss":
                continue
            if stat in _DIFFERENCES:
                yield Deviation(
                    stat=stat, where=where, value=guess - value, stderr=place.stderr[stat]
                )
            elif guess > 0 and value > 0:
                yield Deviation(
                    stat=stat,
                    where=where,
                    value=math.log(guess / value),
                    stderr=place.stderr[stat] / value,
                )


def main() -> None:
    """Print deviations by scheme and depth and by width, and seconds of whole processes."""
    for n_layer in _DEPTHS:
        print(f"\n{n_layer} layers, 768 wide, 256 tokens, {_SEEDS} seeds, dense")
        config = get_config("gpt2", n_layer=n_layer)
        _print_table([(slug, config, slug, "dense") for slug in load_schemes()], grad=n_layer < 96)
    for engine, widths in (("dense", _WIDTHS), ("lazy", _LAZY_WIDTHS)):
        print(f"\n12 layers by width, nanogpt, {_SEEDS} seeds, {engine}")
        configs = [(width, get_config("gpt2", n_layer=12, n_embd=width)) for width in widths]
        rows = [(str(width), config, "nanogpt", engine) for width, config in configs]
        _print_table(rows, grad=engine == "lazy")
    print("\ngpt3-175b, 128 tokens, lazy")
    for slug in ("nanogpt", "plain"):
        _print_table([(slug, get_config("gpt3-175b"), slug, "lazy")], grad=False, seq_len=128)
    _print_seconds()


def _predicted(subject: Subject, run: RunConfig) -> Profile:
    """The profile of a subject by theory alone."""
    assert isinstance(theory_of(subject), TheoryModel)
    tokens, run = tokens_of_run(
        run, None, vocab_size=subject.vocab_size, block_size=subject.block_size
    )
    return predicted_profile(theory_of(subject), subject.facts, run, tokens, scheme=subject.scheme)


def _print_table(
    rows: Sequence[tuple[str, GPTConfig, str, str]], *, grad: bool, seq_len: int = 256
) -> None:
    """Largest deviation of each statistic with its standard error and place, a line each."""
    for label, config, slug, engine in rows:
        run = RunConfig(engine=engine, device="cpu", seeds=_SEEDS, seq_len=seq_len, grad=grad)  # type: ignore[arg-type] # checks itself
        subject = builtin_subject(config, get_scheme(slug), name=label, source="benchmark")
        began = time.perf_counter()
        expected = _predicted(subject, run)
        seconds = time.perf_counter() - began
        print(f"{label}  (theory {seconds:.2f} s)")
        found: dict[str, list[Deviation]] = {}
        for deviation in deviations(measure(subject, run), expected):
            found.setdefault(deviation.stat, []).append(deviation)
        for stat, several in found.items():
            worst, last = max(several, key=lambda d: abs(d.value)), several[-1]
            print(
                f"  {stat:15} largest {worst.value:+.4f} ± {worst.stderr:.4f} at {worst.where:10}"
                f" last {last.value:+.4f} ± {last.stderr:.4f}"
            )


def _print_seconds() -> None:
    """Seconds of whole processes, 256 tokens and 3 seeds."""
    jobs = {n: process(python("-c", _PROCESS.format(n_layer=n))) for n in (48, 1000)}
    print("\nwhole process without the command line")
    for n_layer, seconds in alternate({str(n): job for n, job in jobs.items()}, rounds=3).items():
        print(f"{n_layer:>6} layers {seconds:6.2f} s")


if __name__ == "__main__":
    main()
