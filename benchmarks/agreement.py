"""Measurements against each other: engines, transformers, an independent computation, devices."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from gptinit.config import GPTConfig, RunConfig
from gptinit.facts.presets import get_config
from gptinit.facts.schemes import get_scheme
from gptinit.facts.vocabulary import STATISTICS
from gptinit.gate.student_t import student_quantile
from gptinit.measure.builtin_subject import builtin_subject
from gptinit.measure.measure import measure
from gptinit.measure.subject import Subject
from gptinit.results.profile import Profile
from gptinit.tokens import open_tokens
from gptinit.weights.dense import install_dense
from gptinit.weights.draws import Draws

__all__ = [
    "Difference",
    "differences",
    "largest_gap",
    "main",
    "rejected",
    "subject_of",
    "transformers_gaps",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One statistic measured twice with different seeds.

    Attributes:
        where: the place.
        stat: the statistic.
        z: difference over the joint standard error, as logarithms where seeds are averaged so.
        dof: degrees of freedom of that standard error, after Welch and Satterthwaite.
        relative: difference over the second value.
    """

    where: str
    stat: str
    z: float
    dof: int
    relative: float


def differences(one: Profile, other: Profile) -> tuple[Difference, ...]:
    """Every statistic that both have at the embedding, the last layer and the logits.

    Values without noise in both are left out where they are equal, and infinitely far apart where
    they are not.
    """
    places = dict(other.places())
    wanted = {"embedding", f"layer {len(one.layers) - 1}", "final"}
    found = []
    for where, place in one.places():
        if where not in wanted:
            continue
        theirs = places[where]
        for stat in (s for s in place.values if s in theirs.values):
            pair = [(p.values[stat], p.stderr[stat]) for p in (place, theirs)]
            seeds = (one.run.seeds, other.run.seeds)
            if pair[0] == pair[1] and pair[0][1] == 0:
                continue
            found.append(_difference(where, stat, pair, seeds))
    return tuple(found)


def _difference(
    where: str, stat: str, pair: Sequence[tuple[float, float]], seeds: tuple[int, int]
) -> Difference:
    """One statistic from two (value, standard error)."""
    (value, error), (base, base_error) = pair
    relative = (value - base) / base if base else math.inf
    gap = value - base
    if STATISTICS[stat].log and value > 0 and base > 0:
        gap, error, base_error = math.log(value / base), error / value, base_error / base
    joint = math.hypot(error, base_error)
    if joint == 0:
        return Difference(where=where, stat=stat, z=math.inf, dof=1, relative=relative)
    share = (error / joint) ** 2
    dof = 1 / (share**2 / (seeds[0] - 1) + (1 - share) ** 2 / (seeds[1] - 1))
    # 1e-9: rounding must not floor an integer to one less
    return Difference(
        where=where, stat=stat, z=gap / joint, dof=math.floor(dof + 1e-9), relative=relative
    )


def rejected(found: Sequence[Difference], alpha: float = 0.01) -> tuple[Difference, ...]:
    """The differences beyond noise, with at most probability `alpha` of any such by chance.

    Holm's procedure on two-sided Student tests, each with its own degrees of freedom: with k of m
    rejected so far, every test is rejected whose p is below alpha / (m - k), until none is added.

    References:
        Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    count = 0
    while count < len(found):
        tail = alpha / (len(found) - count) / 2
        beyond = [d for d in found if abs(d.z) > student_quantile(tail, d.dof)]
        if len(beyond) == count:
            break
        count = len(beyond)
    else:
        return tuple(found)
    return tuple(beyond)


def largest_gap(one: Profile, other: Profile) -> float:
    """Largest relative difference of any value at any place; 0 where they are bitwise equal."""
    pairs = zip(_all_values(one), _all_values(other), strict=True)
    return max((abs(a - b) / abs(b) if b else math.inf for a, b in pairs if a != b), default=0.0)


def _all_values(profile: Profile) -> Iterator[float]:
    """Every mean of a profile, weights' gradients included."""
    for _, place in profile.places():
        yield from place.values.values()
        for weight in place.weight_grad.values():
            yield from (weight.grad_rms, weight.weight_rms)


def subject_of(config: GPTConfig, scheme: str = "nanogpt") -> Subject:
    """The built-in GPT of a shape under a scheme."""
    return builtin_subject(config, get_scheme(scheme), name="gpt", source="benchmark")


def main() -> None:
    """Print the three tables: engines, transformers, reference values."""
    _print_engines()
    _print_transformers()
    _print_references()


def _print_engines() -> None:
    """Dense against stream at 12 x 768 with gradients."""
    print("dense and stream, 12 x 768, 256 tokens, forward and backward, one seed:")
    subject = subject_of(get_config("gpt2"))
    for dtype in ("float32", "bfloat16"):
        dense, stream = (
            measure(subject, RunConfig(engine=e, dtype=dtype, device="cpu", seeds=1, grad=True))
            for e in ("dense", "stream")
        )
        gap, count = largest_gap(dense, stream), sum(1 for _ in _all_values(dense))
        verdict = "bitwise equal" if gap == 0 else f"largest relative difference {gap:.2g}"
        print(f"  {dtype:8} {count} values: {verdict}", flush=True)


def _print_transformers() -> None:
    """Ours against transformers' GPT-2 with our weights in it."""
    print("\nours and transformers' GPT-2 with the same weights, 12 x 768, 256 tokens, float32:")
    print("largest difference of the stream over its largest magnitude")
    kinds = ("eager", "sdpa")
    gaps = [transformers_gaps(get_config("gpt2"), 256, attention=kind) for kind in kinds]
    print(f"  {'after':>9} {kinds[0]:>9} {kinds[1]:>9}")
    names = [*(f"layer {i}" for i in range(len(gaps[0]) - 1)), "logits"]
    for name, *row in zip(names, *gaps, strict=True):
        print(f"  {name:>9} {row[0]:9.1e} {row[1]:9.1e}")


def transformers_gaps(config: GPTConfig, seq_len: int, *, attention: str) -> list[float]:
    """Largest differences of the stream after every layer and of the logits, over the largest.

    Args:
        config: a shape that GPT-2 can have.
        seq_len: uniform tokens.
        attention: "eager" or "sdpa", transformers' way to compute it.
    """
    subject = subject_of(config)
    ours = subject.build()
    draws = Draws(seed=0, device=torch.device("cpu"), dtype=torch.float32)
    install_dense(ours, subject.program, draws)
    theirs = _transformers_gpt2(config, ours, attention)
    tokens = open_tokens("uniform", vocab_size=config.vocab_size, batch_size=1, seq_len=seq_len)
    idx = torch.as_tensor(tokens.draw(0))[:, :-1]
    pairs = zip(_streams(ours, idx), _streams(theirs, idx), strict=True)
    return [float((a - b).abs().max() / a.abs().max()) for a, b in pairs]


def _transformers_gpt2(config: GPTConfig, ours: nn.Module, attention: str) -> nn.Module:
    """Transformers' GPT-2 with our weights; its Conv1D stores a matrix transposed."""
    transformers: Any = import_module("transformers")  # an extra; the other tables need none
    theirs: nn.Module = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            n_layer=config.n_layer,
            n_head=config.n_head,
            n_embd=config.n_embd,
            n_positions=config.block_size,
            vocab_size=config.vocab_size,
            attn_implementation=attention,
        )
    ).eval()
    turned = {
        name: tensor.t() if ".h." in name and tensor.dim() == 2 else tensor
        for name, tensor in ours.state_dict().items()
    }
    theirs.load_state_dict(turned)
    return theirs


def _streams(model: nn.Module, idx: Tensor) -> list[Tensor]:
    """The stream after every block, (B, T, C), and the logits, (B, T, V)."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    blocks = model.get_submodule("transformer.h")
    handles = [block.register_forward_hook(keep) for block in blocks.children()]
    with torch.no_grad():
        output = model(idx)
    for handle in handles:
        handle.remove()
    return [*seen, getattr(output, "logits", output)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Variance of the stream after the last block, computed without gptinit: 6 seeds.

    Attributes:
        scheme: slug.
        n_layer: depth; 768 wide, 12 heads, vocabulary 50304, 256 uniform tokens.
        value: mean.
        stderr: standard error of the mean, or of its rounding where that is larger.
    """

    scheme: str
    n_layer: int
    value: float
    stderr: float


_REFERENCES = (
    Reference(scheme="nanogpt", n_layer=12, value=0.0863, stderr=0.0011),
    Reference(scheme="plain", n_layer=12, value=2.30, stderr=0.04),
    Reference(scheme="nanogpt", n_layer=48, value=0.0889, stderr=0.0013),
    Reference(scheme="plain", n_layer=48, value=9.53, stderr=0.18),
    Reference(scheme="cproj-0.02", n_layer=48, value=0.00355, stderr=0.00002),
    Reference(scheme="cproj-sqrt-l", n_layer=48, value=0.182, stderr=0.003),
    Reference(scheme="cproj-sqrt-2-over-l", n_layer=48, value=0.371, stderr=0.006),
)
_EMBEDDING = Reference(scheme="nanogpt", n_layer=12, value=0.00080, stderr=0.00001 / math.sqrt(12))


def _print_references() -> None:
    """Ours against an independent computation: z over 3 is marked."""
    print("\nvariance of the stream, 768 wide, vocabulary 50304, 256 uniform tokens, 6 seeds:")
    print(f"  {'':27} {'independent':>20} {'ours':>23} {'z':>6}")
    run = RunConfig(seeds=6, data="uniform", device="cpu")
    for reference in _REFERENCES:
        config = get_config("gpt2", n_layer=reference.n_layer, vocab_size=50304)
        profile = measure(subject_of(config, reference.scheme), run)
        if (reference.scheme, reference.n_layer) == (_EMBEDDING.scheme, _EMBEDDING.n_layer):
            start = profile.embedding
            print(_row("embedding", _EMBEDDING, start.values, start.stderr))
        name, last = f"{reference.n_layer} layers {reference.scheme}", profile.layers[-1]
        print(_row(name, reference, last.values, last.stderr), flush=True)


def _row(
    name: str, reference: Reference, values: Mapping[str, float], stderr: Mapping[str, float]
) -> str:
    """One line: theirs, ours, and how many joint standard errors lie between."""
    value, error = values["resid_var"], stderr["resid_var"]
    z = (value - reference.value) / math.hypot(error, reference.stderr)
    theirs = f"{reference.value:.3g} ± {reference.stderr:.1g}"
    mark = "  <-- beyond 3" if abs(z) > 3 else ""
    return f"  {name:27} {theirs:>20} {f'{value:.4g} ± {error:.2g}':>23} {z:6.2f}{mark}"


if __name__ == "__main__":
    main()
