"""One parameter that is never drawn: its matrices, and what a run needs to know of it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, NoReturn

import torch
from torch import Tensor

from gptinit.facts.algebra import is_iid
from gptinit.facts.distributions import (
    Copy,
    Distribution,
    Orthogonal,
    Piecewise,
    TruncatedNormal,
    Uniform,
)
from gptinit.results.program import ParameterProgram
from gptinit.weights.draws import Draws, seed_of
from gptinit.weights.lazy.gaussian import GaussianMatrix
from gptinit.weights.lazy.haar import HaarMatrix
from gptinit.weights.lazy.matrix import DrawnMatrix, LazyMatrix
from gptinit.weights.lazy.tiles import Rectangle, Tile, Tiles, rectangle
from gptinit.weights.policy import SquareSums
from gptinit.weights.tensor import WeightTensor

__all__ = ["LazyParameter", "is_lazy_law"]

_THIRD_MOMENT_UNIFORM = 3 * math.sqrt(3) / 4
"""E|w|^3 / std^3 of a uniform distribution around 0."""

_BERRY_ESSEEN = 0.5600
"""Shevtsova 2010, "An Improvement of Convergence Rate Estimates in the Lyapunov Theorem"."""


_SAMPLE = 1 << 16
"""Entries by which the sum of squares of more is drawn."""


def is_lazy_law(law: Distribution) -> bool:
    """Whether a matrix of this distribution can stay undrawn."""
    if isinstance(law, Piecewise):
        return all(
            piece.block is not None if isinstance(piece, Copy) else is_iid(piece)
            for _, piece in law.pieces
        )
    return is_iid(law) or isinstance(law, Orthogonal)


@dataclass(slots=True)
class _Numbers:
    """Random numbers of one rectangle: the same again for a new object."""

    draws: Draws
    name: str
    law: Distribution
    count: int = 0

    def normals(self, shape: tuple[int, int]) -> Tensor:
        """Independent standard normal numbers, float32."""
        self.count += 1
        return self.draws.normal_columns(self.name, self.count, shape)

    def times(self, x: Tensor, width: int) -> tuple[Tensor, Callable[[], Tensor]]:
        """The product of x with independent standard normal numbers, and how to have those again.

        Shape:
            x: (t, r); results: (t, width), (r, width).
        """
        self.count += 1
        again = partial(self.draws.normal_columns, self.name, self.count, (x.shape[1], width))
        return self.draws.times_normal(self.name, self.count, x, width), again

    def entries(self, shape: tuple[int, int]) -> Tensor:
        """Entries from the true distribution, float32."""
        return self._next(self.law, shape)

    def chi_square(self, degrees: int) -> Tensor:
        """A chi-square number, ()."""
        seed = seed_of(self.draws.seed, f"{self.name} chi-square", self.count)
        generator = torch.Generator().manual_seed(seed)
        half = torch.full((), degrees / 2, dtype=torch.float64)
        drawn = 2 * torch._standard_gamma(half, generator=generator)
        return drawn.float().to(self.draws.device)

    def square_sum(self, count: int) -> Tensor:
        """Sum of the squares of so many entries, (); from a sample where they are many."""
        expected = self.law.std**2 + self.law.mean**2
        sample = min(count, _SAMPLE)
        surplus = (self.entries((1, sample)).square() - expected).sum()
        return count * expected + surplus * math.sqrt(count / sample)

    def _next(self, law: Distribution, shape: tuple[int, int]) -> Tensor:
        self.count += 1
        return self.draws.entries(self.name, self.count, law, shape)


@dataclass(slots=True, eq=False)
class LazyParameter:
    """The owner of a lazy weight, shared by parameters that are copies of it.

    Attributes:
        parameter: its program.
        draws: of this seed.
        rules: what operators do with it: (operator, arguments, keywords) to the result.
        give_up: called with an operator that has no rule: does not return.
        requery: called by a query after it has been forgotten: does not return.
        blocks: paths of the blocks that hold it or a copy.
        distance: largest distance in law of a product from a normal one (Berry-Esseen), () or None.
        is_forgotten: whether what was known has been dropped.
        is_kept: whether later queries need what earlier ones revealed.
        keeps_uses: whether the products taken now will have a backward pass.
        open_uses: products without a backward pass yet, by the name of the parameter.
    """

    parameter: ParameterProgram
    draws: Draws
    rules: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
    give_up: Callable[["LazyParameter", str], NoReturn]
    requery: Callable[["LazyParameter"], NoReturn]
    blocks: set[str] = field(default_factory=set)
    distance: Tensor | None = None
    is_forgotten: bool = False
    is_kept: bool = False
    keeps_uses: bool = True
    open_uses: dict[str, int] = field(default_factory=dict)
    _tiles: Tiles | None = None
    _row_length: int = 0

    @property
    def engine(self) -> str:
        """The policy."""
        return "lazy"

    def operate(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of an operator that is no view."""
        return self.rules(func, args, kwargs)

    @property
    def tiles(self) -> Tiles:
        """Its matrices; `areas` or `whole_rows` must have been called."""
        assert self._tiles is not None
        return self._tiles

    @property
    def is_touched(self) -> bool:
        """Whether anything is known."""
        return self._tiles is not None

    def forget(self) -> None:
        """Drop what is known; equal queries get equal responses again."""
        self.is_forgotten = self.is_forgotten or self.is_touched
        self._tiles, self._row_length = None, 0
        self.open_uses.clear()

    def square_sums(self, name: str) -> SquareSums | None:
        """Of the gradient of the parameter `name`; None where not every product had one."""
        if self.open_uses.get(name, 1):
            return None
        found = [t.moments[name].square().sum() for t in self.tiles if name in t.moments]
        return SquareSums(
            gradient=torch.stack(found).sum(),
            weight=torch.stack([_square_sum(tile) for tile in self.tiles]).sum(),
        )

    def areas(self, weight: WeightTensor) -> list[Rectangle] | None:
        """Where a weight lies: one matrix, or several of a batch; None if in no rectangles.

        Shape:
            weight: (a, b) or (N, a, b).
        """
        place = weight.place
        sizes, strides, offset = place.shape, place.stride(), place.storage_offset()
        if not self._row_length:
            self._begin(self._length_of(tuple(sizes[-2:]), strides[-2:]))
        count, step = (1, 0) if place.dim() == 2 else (sizes[0], strides[0])
        found = [
            rectangle(sizes[-2:], strides[-2:], int(offset + i * step), self._row_length)
            for i in range(count)
        ]
        areas = [area for area in found if area is not None]
        return areas if len(areas) == count else None

    def whole_rows(self) -> int:
        """How many entries of the first dimension there are; makes them rows."""
        shape = self.parameter.shape
        if not self._row_length:
            self._begin(math.prod(shape[1:]))
        return shape[0]

    @property
    def has_rows(self) -> bool:
        """Whether an entry of the first dimension is a row of its matrices."""
        return self._row_length == math.prod(self.parameter.shape[1:])

    def note_distance(self, x: Tensor) -> None:
        """Keep how far products with `x` can be from normal where the entries are not."""
        rho = _third_moment(self.parameter.distribution)
        if rho is None or not len(x):
            return
        size = x.abs()
        spread = size.square().sum(1).clamp_min(1e-30)
        bound = (size.pow(3).sum(1) / spread**1.5).amax() * (_BERRY_ESSEEN * rho)
        self.distance = bound if self.distance is None else torch.maximum(self.distance, bound)

    def _length_of(self, size: tuple[int, ...], stride: tuple[int, ...]) -> int:
        """Columns of its matrices: a product of last dimensions that suits the first view."""
        shape = self.parameter.shape
        if len(shape) == 2:
            return shape[1]
        down = max((s for n, s in zip(size, stride, strict=True) if n > 1), default=shape[-1])
        lengths = [math.prod(shape[i:]) for i in range(1, len(shape))]
        return next((n for n in lengths if n <= down and down % n == 0), shape[-1])

    def _begin(self, row_length: int) -> None:
        self._row_length = row_length
        self._tiles = Tiles(list(self._first_tiles()), self._numbers)

    def _first_tiles(self) -> Iterator[Tile]:
        """One tile a distribution; blocks of rows that repeat others share their matrix."""
        law, shape = self.parameter.distribution, self.parameter.shape
        height = self.parameter.numel // self._row_length
        if not isinstance(law, Piecewise):
            area = Rectangle(range(height), range(self._row_length))
            yield self._tile(area, law)
            return
        start = 0
        made: list[Tile] = []
        for rows, piece in law.pieces:
            stop = start + rows * height // shape[0]
            area = Rectangle(range(start, stop), range(self._row_length))
            if isinstance(piece, Copy):
                assert piece.block is not None  # is_lazy_law: copies of other tensors are drawn
                source = made[piece.block]
                source.is_whole = True
                tile = Tile(area, source.matrix, source.randomness, is_whole=True)
            else:
                tile = self._tile(area, piece)
            made.append(tile)
            start = stop
        yield from made

    def _tile(self, area: Rectangle, law: Distribution) -> Tile:
        numbers = self._numbers(area, law)
        shape, device = (len(area.rows), len(area.columns)), self.draws.device
        matrix: LazyMatrix
        if isinstance(law, Orthogonal):
            matrix = HaarMatrix(shape, gain=law.gain, randomness=numbers, device=device)
            return Tile(area, matrix, numbers)
        matrix = GaussianMatrix(
            shape,
            mean=law.mean,
            std=law.std,
            randomness=numbers,
            device=device,
            defers=not self.is_kept and not torch.is_grad_enabled(),
        )
        return Tile(area, matrix, numbers)

    def _numbers(self, area: Rectangle, law: Distribution | None = None) -> _Numbers:
        """Where the numbers of a rectangle come from."""
        if law is None:
            law = self.parameter.distribution
            if isinstance(law, Piecewise):
                row = area.rows.start * self._row_length
                law = _piece_at(law, row // math.prod(self.parameter.shape[1:]))
        return _Numbers(self.draws, f"{self.parameter.name} lazy {area.key}", law)


def _square_sum(tile: Tile) -> Tensor:
    numbers = tile.randomness
    assert isinstance(numbers, _Numbers)  # made here
    if _third_moment(numbers.law) is None or isinstance(tile.matrix, DrawnMatrix):
        return tile.matrix.square_sum()
    return numbers.square_sum(math.prod(tile.matrix.shape))


def _piece_at(law: Piecewise, row: int) -> Distribution:
    """The distribution of a row."""
    for rows, piece in law.pieces:
        if row < rows:
            return piece
        row -= rows
    raise AssertionError(row)  # rows of the pieces add up to the parameter's


def _third_moment(law: Distribution) -> float | None:
    """The largest E|w - mean|^3 / std^3 of the entries; None where they are normal or constant."""
    match law:
        case Piecewise(pieces=pieces):
            found = [_third_moment(piece) for _, piece in pieces]
            return max((m for m in found if m is not None), default=None)
        case Uniform():
            return _THIRD_MOMENT_UNIFORM
        case TruncatedNormal(scale=scale) if scale:
            return _truncated_third_moment(law)
    return None


@cache
def _truncated_third_moment(law: TruncatedNormal) -> float:
    """E|w - mean|^3 / std^3, by a sum over 4096 points: cut on one side it exceeds a normal's."""
    low, high = (law.loc + law.scale * z for z in (-9, 9))
    x = torch.linspace(max(low, law.low), min(high, law.high), 4096, dtype=torch.float64)
    density = ((x - law.loc) / law.scale).square().mul(-0.5).exp()
    third = ((x - law.mean).abs().pow(3) * density).sum() / density.sum()
    return float(third) / law.std**3
