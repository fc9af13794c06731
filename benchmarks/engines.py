"""Engines against each other: lazy and dense in law, and what dense, stream and lazy cost."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.agreement import differences, rejected, subject_of
from benchmarks.cost import growth_exponent
from gptinit.config import GPTConfig, RunConfig
from gptinit.facts.presets import get_config
from gptinit.load.argument import find_factory
from gptinit.measure.measure import measure
from gptinit.measure.subject import Subject
from gptinit.measure.traced_subject import traced_subject
from gptinit.results.profile import Profile

__all__ = ["crossing", "main"]

_SEEDS = 400
_SHAPE = GPTConfig(n_layer=3, n_embd=64, n_head=4, block_size=64, vocab_size=211)
_SEQ_LEN = 24
_ENGINES = ("dense", "stream", "lazy")
_DEPTHS = (6, 12, 24, 48)
_WIDTHS = (256, 512, 1024, 1600, 3200)
_LENGTHS = (128, 256)
_ROUNDS = 2


def main() -> None:
    """Print agreement of lazy with dense, then cost by width and by depth."""
    torch.set_num_threads(1)
    _print_agreement()
    _print_costs()


def _print_agreement() -> None:
    """Every statistic at the embedding, the last layer and the logits; weights' gradients apart."""
    print(f"lazy and dense, 3 x 64, {_SEQ_LEN} tokens, {_SEEDS} seeds each, Holm at 1 % a row:")
    print(f"  {'model':28} {'passes':>8} {'tests':>6} {'largest z':>10}  {'of':28} verdict")
    for name, build in _subjects():
        for grad in (False, True):
            lazy, dense = (
                measure(
                    build(),
                    RunConfig(
                        engine=engine,  # type: ignore[arg-type] # checks itself
                        seed=seed,
                        seeds=_SEEDS,
                        seq_len=_SEQ_LEN,
                        data="uniform",
                        device="cpu",
                        grad=grad,
                    ),
                )
                for engine, seed in (("lazy", 10 * _SEEDS), ("dense", 0))
            )
            print(_agreement_row(name, lazy, dense, grad=grad), flush=True)


def _agreement_row(name: str, lazy: Profile, dense: Profile, *, grad: bool) -> str:
    """One line: the largest of all differences in standard errors, and Holm's verdict."""
    found = differences(lazy, dense)
    worst = max(found, key=lambda d: abs(d.z))
    beyond = rejected(found)
    verdict = "differ: " + ", ".join(f"{d.stat} {d.where}" for d in beyond) if beyond else "agree"
    where = f"{worst.stat}, {worst.where}"
    passes = "both" if grad else "forward"
    return f"  {name:28} {passes:>8} {len(found):6} {worst.z:10.2f}  {where:28} {verdict}"


def _subjects() -> Iterator[tuple[str, Callable[[], Subject]]]:
    """Models by name: each call builds one anew."""
    for name, config in (
        ("built-in, tied", _SHAPE),
        ("built-in, untied", replace(_SHAPE, tied=False)),
        ("built-in, no biases", replace(_SHAPE, bias=False)),
    ):
        yield name, partial(subject_of, config, "plain")
    yield (
        "built-in, uniform entries",
        partial(subject_of, replace(_SHAPE, tied=False), "pytorch-default"),
    )
    shape = {
        "num_hidden_layers": 3,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "vocab_size": 211,
    }
    llama = {**shape, "model_type": "llama", "num_key_value_heads": 2, "intermediate_size": 160}
    gpt2 = {"model_type": "gpt2", "vocab_size": 211} | {
        "n_layer": 3,
        "n_embd": 64,
        "n_head": 4,
        "n_positions": 64,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    yield "transformers' GPT-2", partial(_transformers, gpt2)
    for tied in (True, False):
        word = "tied" if tied else "untied"
        yield (
            f"transformers' Llama, {word}",
            partial(_transformers, llama | {"tie_word_embeddings": tied}),
        )
    experts = {**llama, "model_type": "mixtral", "num_local_experts": 4}
    yield "transformers' Mixtral", partial(_transformers, experts)


def _transformers(config: Mapping[str, object]) -> Subject:
    """A transformers model from the content of its config.json."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        return traced_subject(find_factory(str(path)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One measurement: one seed, CPU, float32, vocabulary 50257, the scheme nanogpt."""

    n_layer: int
    n_embd: int
    tokens: int
    engine: str
    grad: bool

    def subject(self) -> Subject:
        """The model."""
        return subject_of(get_config("gpt2", n_layer=self.n_layer, n_embd=self.n_embd))

    def seconds(self) -> float:
        """CPU seconds on one thread: how cost grows must not depend on what a machine does else."""
        subject = self.subject()
        run = RunConfig(
            engine=self.engine,  # type: ignore[arg-type] # checks itself
            grad=self.grad,
            seeds=1,
            device="cpu",
            seq_len=self.tokens,
        )
        start = time.process_time()
        measure(subject, run)
        return time.process_time() - start


def _print_costs() -> None:
    """Tables by width and by depth, a few rounds, the least of each."""
    for engine in _ENGINES:  # torch's first calls are slow
        Job(n_layer=2, n_embd=256, tokens=128, engine=engine, grad=True).seconds()
    print("\nCPU seconds a seed on one thread, weights drawn where they are; vocabulary 50257")
    for tokens in _LENGTHS:
        for grad in (False, True):
            passes = "both passes" if grad else "forward"
            shapes = {n: (6, n) for n in _WIDTHS}
            _print_growth(f"6 layers, {tokens} tokens, {passes}", "width", shapes, tokens, grad)
    for grad in (False, True):
        passes = "both passes" if grad else "forward"
        depths = {n: (n, 768) for n in _DEPTHS}
        _print_growth(f"768 wide, 128 tokens, {passes}", "layers", depths, 128, grad)


def _print_growth(
    title: str, axis: str, shapes: Mapping[int, tuple[int, int]], tokens: int, grad: bool
) -> None:
    """A table of one axis with exponents in its last row, and where lazy overtakes the others."""
    print(f"\n{title}")
    print(f"{axis:>9} {'M params':>9} " + " ".join(f"{e:>8}" for e in _ENGINES))
    seconds: dict[str, list[float]] = {engine: [] for engine in _ENGINES}
    params = []
    for size, (n_layer, n_embd) in shapes.items():
        jobs = [
            Job(n_layer=n_layer, n_embd=n_embd, tokens=tokens, engine=e, grad=grad)
            for e in _ENGINES
        ]
        for job in jobs:
            seconds[job.engine].append(min(job.seconds() for _ in range(_ROUNDS)))
        params.append(jobs[0].subject().facts.n_params)
        row = " ".join(f"{seconds[e][-1]:8.2f}" for e in _ENGINES)
        print(f"{size:9} {params[-1] / 1e6:9.0f} {row}", flush=True)
    sizes = list(shapes)
    row = " ".join(f"{growth_exponent(sizes, seconds[e]):8.2f}" for e in _ENGINES)
    print(f"{'exponent':>9} {growth_exponent(sizes, params):9.2f} {row}")
    if axis == "width":
        for engine in ("dense", "stream"):
            where = crossing(sizes, seconds["lazy"], seconds[engine])
            said = "always" if where is None else f"from {axis} {where:.0f} on"
            if where == math.inf:
                said = "nowhere here"
            print(f"  lazy is faster than {engine}: {said}", flush=True)


def crossing(sizes: Sequence[float], one: Sequence[float], other: Sequence[float]) -> float | None:
    """From which size on the first costs less; None if at all of them, infinity if not at the last.

    Between two sizes by a straight line in logarithms.

    Example:
        >>> round(crossing([1, 100], [2, 2], [1, 4]), 6)
        10.0
    """
    gaps = np.log(np.asarray(one) / np.asarray(other))
    slower = [i for i, gap in enumerate(gaps) if gap >= 0]
    if not slower:
        return None
    last = slower[-1]
    if last == len(sizes) - 1:
        return math.inf
    share = gaps[last] / (gaps[last] - gaps[last + 1])
    ends = np.log(sizes[last : last + 2])
    return float(np.exp(ends[0] + share * (ends[1] - ends[0])))


if __name__ == "__main__":
    main()
