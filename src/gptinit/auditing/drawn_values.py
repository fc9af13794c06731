"""What only values show: shards and tensors that repeat, ranks that are lost, atoms of rounding."""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from gptinit.facts.distributions import Measured
from gptinit.facts.vocabulary import Severity
from gptinit.read.live import digest
from gptinit.results.profile import Finding
from gptinit.results.program import ModelProgram, ParameterProgram
from gptinit.trace.laws.laws import measured

__all__ = ["STANDARD_ERRORS", "findings_in_values"]

STANDARD_ERRORS = 5.0
"""A std is off where a right draw is further off less often than a normal by so many errors."""

_SURPRISE = -math.log(math.erfc(STANDARD_ERRORS / math.sqrt(2)) / 2)
"""Minus the log of that chance on either side, 15.1."""

_UNREACHED = 10.0
"""Standard deviations from the mean that no draw of a normal or a narrower law ever reaches."""

_DRAWN = ("normal", "uniform", "truncated_normal")
_ENTRIES = 1 << 22
"""Entries up to which all singular values of a matrix are computed."""

_LARGEST = 1.15
"""Largest singular value over that of independent entries, std (sqrt(rows) + sqrt(columns)).

Two equal halves give sqrt(2) (1 + sqrt(r / 2)) / (1 + sqrt(r)) or so: 1.2 for a square matrix.
"""


def findings_in_values(module: nn.Module, program: ModelProgram) -> list[Finding]:
    """What the drawn values of a model show that its program does not."""
    values = {n: p.detach().cpu() for n, p in module.named_parameters() if p.is_floating_point()}
    found: list[Finding] = []
    for parameter in program.parameters:
        tensor = values.get(parameter.name)
        if tensor is None or not tensor.numel() or not parameter.distribution.std > 0:
            continue
        blocks = _repeated_blocks(parameter, tensor)
        spoilt = _atoms(parameter, tensor) or _off_moments(parameter, tensor)
        shown = (blocks, spoilt) if blocks or spoilt else (_rank(parameter, tensor),)
        found += [finding for finding in shown if finding]
    return [*found, *_equal_tensors(program, values)]


def _repeated_blocks(parameter: ParameterProgram, tensor: Tensor) -> Finding | None:
    """Equal halves of rows or columns, as any even number of shards leaves that are drawn alike."""
    for dim, what in ((0, "rows"), (1, "columns")):
        if dim >= tensor.ndim or tensor.shape[dim] % 2 or tensor.shape[dim] < 4:
            continue
        first, second = tensor.chunk(2, dim)
        if torch.equal(first, second):
            message = (
                f"Shards must be drawn apart, got 2 equal blocks of {what}: the std "
                "looks right, the rank is a fraction. Seed each rank apart, or draw whole."
            )
            return _finding("duplicate-shards", "error", parameter.name, message)
    return None


def _rank(parameter: ParameterProgram, tensor: Tensor) -> Finding | None:
    """A matrix whose largest singular value or rank is not that of independent entries."""
    law = parameter.distribution
    if tensor.ndim != 2 or tensor.numel() > _ENTRIES or min(tensor.shape) < 16:
        return None
    if law.kind not in _DRAWN or law.mean:
        return None
    spectrum = torch.linalg.svdvals(tensor.float())
    rows, columns = tensor.shape
    expected = law.std * (math.sqrt(rows) + math.sqrt(columns))
    rank = int((spectrum > spectrum[0] * max(rows, columns) * 1.2e-7).sum())
    if float(spectrum[0]) > _LARGEST * expected or rank < min(rows, columns) - 1:
        message = (
            f"Entries must be independent, got largest singular value {float(spectrum[0]):.4g} "
            f"where {expected:.4g} is expected, and rank {rank} of {min(rows, columns)}."
        )
        return _finding("duplicate-shards", "warning", parameter.name, message)
    return None


def _off_moments(parameter: ParameterProgram, tensor: Tensor) -> Finding | None:
    """Values that do not have the moments that were read: the trace, or the draw, is wrong."""
    law, seen = parameter.distribution, measured(tensor)
    if law.kind not in _DRAWN:
        return None
    if _surprise(seen, law.std) > _SURPRISE and abs(seen.std / law.std - 1) > 2.0**-7:
        message = (
            f"Values must have the std that the code sets, {law.std:.4g}, got "
            f"{seen.std:.4g} ± {seen.std_stderr:.1g}."
        )
        return _finding("wrong-distribution", "error", parameter.name, message)
    return None


def _surprise(seen: Measured, std: float) -> float:
    """Minus the log of a bound on the chance that a right draw is off by more, on that side.

    Chernoff's bound for normal entries, valid for any number of them: (n - 1) s^2 / std^2 is
    chi-squared. Many normal entries at z standard errors give z^2 / 2; entries of bounded range
    vary less, and need to be further off in errors of their own.
    """
    if seen.count < 2:
        return 0.0
    ratio = (seen.std / std) ** 2 * seen.count / (seen.count - 1)
    return (seen.count - 1) / 2 * (ratio - 1 - math.log(ratio)) if ratio else math.inf


def _atoms(parameter: ParameterProgram, tensor: Tensor) -> Finding | None:
    """Values that pile up at the ends of their range, as erfinv in bfloat16 makes them."""
    low, law = tensor.dtype in {torch.bfloat16, torch.float16}, parameter.distribution
    if not low or law.kind not in _DRAWN:
        return None
    for end in (tensor.min(), tensor.max()):
        share = float((tensor == end).float().mean())
        far = abs(float(end) - law.mean) / law.std
        if far > _UNREACHED or (tensor.numel() >= 1000 and share > 1e-3 and far > 2):
            message = (
                f"Rounding must not pile values up, got {share:.2%} of them at {float(end):.4g}, "
                f"in {tensor.dtype}. Draw in float32 and cast."
            )
            return _finding("dtype-rounding", "error", parameter.name, message)
    return None


def _equal_tensors(program: ModelProgram, values: Mapping[str, Tensor]) -> Iterator[Finding]:
    first: dict[object, str] = {}
    for parameter in program.parameters:
        tensor = values.get(parameter.name)
        if tensor is None or tensor.numel() < 2 or tensor.min() == tensor.max():
            continue
        if parameter.distribution.kind in {"fixed", "copy"}:
            continue
        key = (tuple(tensor.shape), digest(tensor))
        other = first.setdefault(key, parameter.name)
        if other != parameter.name:
            message = f"Drawn tensors must differ, got the values of {other}."
            yield _finding("duplicate-tensors", "error", parameter.name, message)


def _finding(rule: str, severity: Severity, where: str, message: str) -> Finding:
    return Finding(rule=rule, severity=severity, where=where, fact=message)
