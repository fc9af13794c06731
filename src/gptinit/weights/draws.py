"""Drawing a parameter from its program: every draw has a generator of its own.

exact for: normal, truncated normal (by rejection), uniform, constant and row blocks of them.
approximate for: nothing. Entries are drawn in float32 and rounded once to the dtype of the run.
"""

import hashlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType

import torch
from torch import Tensor

from gptinit.errors import MeasureError
from gptinit.facts.algebra import is_iid, row_blocks
from gptinit.facts.distributions import (
    Constant,
    Distribution,
    Normal,
    Piecewise,
    TruncatedNormal,
    Uniform,
)
from gptinit.results.program import ParameterProgram
from gptinit.trace.replay.recipes import Recipe

__all__ = ["Draws", "is_drawable", "is_drawn_alone", "seed_of"]


_CHUNK: Mapping[str, int] = MappingProxyType({"cpu": 1 << 19, "cuda": 1 << 26, "mps": 1 << 26})
"""Entries drawn by one generator: on a CPU few enough to share a matrix among its cores, on a GPU
enough that starting a generator does not count."""


_SCRATCH: Mapping[str, int] = MappingProxyType({"cpu": 1 << 21, "cuda": 1 << 27, "mps": 1 << 27})
"""Normal numbers held at once while a product with them is computed."""


class _Scratch(threading.local):
    """Memory for numbers that are multiplied and dropped, reused by every product."""

    def __init__(self) -> None:
        self._held: dict[torch.device, Tensor] = {}

    def of(self, device: torch.device, numel: int) -> Tensor:
        """Return (numel,) float32 entries, which the next call overwrites."""
        held = self._held.get(device)
        if held is None or held.numel() < numel:
            held = self._held[device] = torch.empty(numel, device=device)
        return held[:numel]


_scratch = _Scratch()


def _stripe_of(rows: int, device: torch.device) -> int:
    """How many columns of this many rows one generator draws."""
    return max(_CHUNK[device.type] // 2 // max(rows, 1), 1)


def seed_of(seed: int, name: str, node: int = 0, chunk: int = 0) -> int:
    """Seed of the generator of one chunk of draw number `node` of the parameter `name`.

    63 bits of a SHA-256; torch's CPU generator (mt19937) uses the low 32 of them, CUDA's (Philox)
    all.
    """
    key = f"gptinit/weights/{seed}/{name}/{node}/{chunk}"
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little") >> 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """All draws of one seed on one device in one dtype.

    The values of a parameter depend on the seed and its name alone: chunk i of its entries, in
    memory order, has a generator of its own. So policies agree bitwise, in whatever order and on
    however many cores they draw.
    """

    seed: int
    device: torch.device
    dtype: torch.dtype
    recipes: Mapping[str, Recipe] = field(default_factory=dict)

    def new(self, parameter: ParameterProgram) -> Tensor:
        """A fresh tensor with the values of `parameter`.

        Raises:
            MeasureError: if it has neither a distribution to draw from nor a record.
        """
        if not is_drawn_alone(parameter):
            if parameter.name not in self.recipes:
                raise MeasureError(
                    f"{parameter.name} must have a distribution that can be drawn from, got "
                    f"{parameter.distribution}."
                )
            return self.replayed(parameter.name).to(self.dtype)
        out = self.entries(parameter.name, 0, parameter.distribution, parameter.shape)
        return out.to(self.dtype)

    def replayed(self, name: str) -> Tensor:
        """The values of a parameter or buffer that must be replayed, in its own dtype.

        Copies, tensors scaled by a statistic of their own, projections.
        """
        recipe = self.recipes[name]

        def draw(name: str, node: int, shape: tuple[int, ...], law: Distribution) -> Tensor:
            on_cpu = replace(self, device=torch.device("cpu"))
            out = torch.empty(shape, dtype=torch.float32)
            on_cpu._fill(out, name, node, law)
            return out

        values = recipe.values(draw, lambda name, node: seed_of(self.seed, name, node))
        return values.to(self.device)

    def into(self, parameter: ParameterProgram, out: Tensor) -> None:
        """Write the values of `parameter` over `out`, which has its shape and the run's dtype."""
        if out.dtype == torch.float32 and is_drawn_alone(parameter):
            self._fill(out, parameter.name, 0, parameter.distribution)
        else:
            out.copy_(self.new(parameter))

    def entries(self, name: str, node: int, law: Distribution, shape: tuple[int, ...]) -> Tensor:
        """Independent float32 entries from a law that can be drawn from, named as a parameter's."""
        out = torch.empty(shape, device=self.device, dtype=torch.float32)
        self._fill(out, name, node, law)
        return out

    def normal_columns(self, name: str, node: int, shape: tuple[int, int]) -> Tensor:
        """Independent standard normal numbers, stripes of columns with a generator each.

        Shape:
            result: `shape`.
        """
        rows, columns = shape
        out = torch.empty(columns, rows, device=self.device)
        self._fill_stripes(out, name, node, 0)
        return out.T

    def times_normal(self, name: str, node: int, x: Tensor, columns: int) -> Tensor:
        """The product of `x` with the numbers of `normal_columns`, which are never there at once.

        Shape:
            x: (t, r); result: (t, columns).
        """
        out = torch.empty(len(x), columns, device=self.device)
        stripe = _stripe_of(x.shape[1], self.device)
        together = max(_SCRATCH[self.device.type] // (stripe * x.shape[1]), 1) * stripe
        rows = min(together, columns)
        scratch = _scratch.of(self.device, rows * x.shape[1]).view(rows, x.shape[1])
        for start in range(0, columns, together):
            part = scratch[: min(together, columns - start)]
            self._fill_stripes(part, name, node, start // stripe)
            torch.mm(x, part.T, out=out[:, start : start + len(part)])
        return out

    def _fill_stripes(self, out: Tensor, name: str, node: int, first: int) -> None:
        """Draw rows in place, stripe by stripe, from stripe number `first` on; (columns, r)."""
        parts = out.split(_stripe_of(out.shape[1], out.device))

        def fill(index: int) -> None:
            generator = torch.Generator(device=self.device)
            generator.manual_seed(seed_of(self.seed, name, node, first + index))
            parts[index].normal_(generator=generator)

        self._all(fill, len(parts))

    def _all(self, fill: Callable[[int], None], count: int) -> None:
        if self.device.type == "cpu" and count > 1:
            list(_pool().map(fill, range(count)))
        else:
            for index in range(count):
                fill(index)

    def _fill(self, out: Tensor, name: str, node: int, law: Distribution) -> None:
        """Draw float32 values in place, chunk by chunk."""
        chunks = _chunks(out, law)

        def fill(index: int) -> None:
            generator = torch.Generator(device=self.device)
            generator.manual_seed(seed_of(self.seed, name, node, index))
            _fill(*chunks[index], generator)

        self._all(fill, len(chunks))


def is_drawn_alone(parameter: ParameterProgram) -> bool:
    """Whether its entries can be drawn without a look at other parameters or at a record."""
    return is_drawable(parameter.distribution) and not parameter.is_entangled


def is_drawable(law: Distribution) -> bool:
    """Whether independent draws make it: anything else needs the record of how it was made."""
    return all(map(is_iid, row_blocks(law)))


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads that draw: torch's generators use one core each and release the GIL."""
    return ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="gptinit-draw")


def _chunks(out: Tensor, distribution: Distribution) -> list[tuple[Tensor, Distribution]]:
    """The entries of `out` in memory order, in chunks that have one distribution each."""
    if isinstance(distribution, Piecewise):
        parts = out.split([rows for rows, _ in distribution.pieces])
        pieces = [piece for _, piece in distribution.pieces]
        return [c for part, d in zip(parts, pieces, strict=True) for c in _chunks(part, d)]
    return [(chunk, distribution) for chunk in out.view(-1).split(_CHUNK[out.device.type])]


def _fill(flat: Tensor, distribution: Distribution, generator: torch.Generator) -> None:
    match distribution:
        case Normal(mean=mean, std=std):
            flat.normal_(mean, std, generator=generator)
        case TruncatedNormal():
            _fill_truncated(flat, distribution, generator)
        case Uniform(low=low, high=high):
            flat.uniform_(low, high, generator=generator)
        case Constant(value=value):
            flat.fill_(value)
        case _:
            raise AssertionError(distribution)  # _chunks split row blocks; see is_drawable


def _fill_truncated(
    flat: Tensor, distribution: TruncatedNormal, generator: torch.Generator
) -> None:
    """Draw normals and redraw those outside the bounds, until none is."""
    if distribution.scale == 0:
        flat.fill_(distribution.loc)
        return
    flat.normal_(distribution.loc, distribution.scale, generator=generator)
    outside = _outside(flat, distribution)
    while outside.numel():
        again = torch.empty(outside.numel(), device=flat.device)
        again.normal_(distribution.loc, distribution.scale, generator=generator)
        flat[outside] = again
        outside = outside[_outside(again, distribution)]


def _outside(values: Tensor, distribution: TruncatedNormal) -> Tensor:
    beyond = (values < distribution.low) | (values > distribution.high)
    return beyond.nonzero().squeeze(1)
